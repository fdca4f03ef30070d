/*
 * Debian's cloud kernel, by apt: downloaded and checked as apt does it, never installed.
 *
 * The package lists of another architecture are not the node's: they are fetched into the folder of
 * the import and go with it, so that dpkg's architectures stay what they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/kernel_internal.h"

enum { OUTPUT_MAX = 64 << 10 };

struct fetch {
	const char *folder;
	const char *architecture;
	char *package; /* that stands for the newest one */
	struct error *err;
};

static void fetch_done(struct fetch *fetch)
{
	free(fetch->package);
}
static inline void fetch_done_autop(struct fetch *fetch)
{
	fetch_done(fetch);
}

static int failed(struct fetch *fetch)
{
	return error_say(fetch->err, -EIO, "apt-get could not fetch %s", fetch->package);
}

/* Runs it in the folder; what it says goes to `out_fd`, or nowhere.  `argv` is taken. */
static int run(struct fetch *fetch, char **argv, int out_fd)
{
	AUTO(strv_free) char **words = argv;
	char *env[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
			(char *) "DEBIAN_FRONTEND=noninteractive", (char *) "LC_ALL=C", NULL };
	posix_spawn_file_actions_t actions;
	int r, status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < 3; i++)
		if (i == STDOUT_FILENO && out_fd >= 0)
			posix_spawn_file_actions_adddup2(&actions, out_fd, i);
		else
			posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_addchdir_np(&actions, fetch->folder);
	r = posix_spawnp(&pid, words[0], &actions, NULL, words, env);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return error_say(fetch->err, -ENOENT, "%s cannot be started", words[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : failed(fetch);
}

/* -- the node's own architecture ------------------------------------------------------------------
 */

static int fetch_own(struct fetch *fetch)
{
	char **argv = NULL;

	strv_append(&argv, "apt-get");
	strv_append(&argv, "install");
	strv_append(&argv, "--download-only");
	strv_append(&argv, "--reinstall");
	strv_append(&argv, "--no-install-recommends");
	strv_append(&argv, "-qq");
	strv_append(&argv, "-y");
	strv_append(&argv, "-o");
	strv_append_take(&argv, mem_printf("Dir::Cache::archives=%s", fetch->folder));
	strv_append(&argv, "-o");
	strv_append(&argv, "Debug::NoLocking=1");
	strv_append(&argv, fetch->package);
	return run(fetch, argv, -1);
}

/* -- another one --------------------------------------------------------------------------------
 */

/* A command of apt's with lists, cache and packages of its own. */
static char **apart(const struct fetch *fetch, const char *program)
{
	AUTO(strv_free) char **settings = NULL;
	char **argv = NULL;

	strv_append_take(&settings, mem_printf("APT::Architecture=%s", fetch->architecture));
	strv_append_take(&settings, mem_printf("APT::Architectures=%s", fetch->architecture));
	strv_append_take(&settings, mem_printf("Dir::State=%s/apt", fetch->folder));
	strv_append_take(&settings, mem_printf("Dir::State::status=%s/apt/status", fetch->folder));
	strv_append_take(&settings, mem_printf("Dir::Cache=%s/apt/cache", fetch->folder));
	strv_append(&settings, "APT::Sandbox::User=root");
	strv_append(&settings, "Acquire::Languages=none");
	strv_append(&argv, program);
	strv_append(&argv, "-q");
	for (char **setting = settings; *setting; setting++) {
		strv_append(&argv, "-o");
		strv_append(&argv, *setting);
	}
	return argv;
}

static int make_places(struct fetch *fetch)
{
	static const char *const folders[] = { "lists/partial", "cache/archives/partial" };
	AUTO(free) char *status = mem_printf("%s/apt/status", fetch->folder);
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(folders); i++) {
		AUTO(free) char *path = mem_printf("%s/apt/%s", fetch->folder, folders[i]);

		r = file_mkdir_all(path, 0755);
	}
	if (r == 0)
		r = file_write_atomic(AT_FDCWD, status, "", 0, 0644, 0);
	return r < 0 ? error_set(fetch->err, r, "make %s/apt", fetch->folder) : 0;
}

/* "  Depends: linux-image-6.1.0-56-cloud-arm64": what the package stands for today. */
static int find_newest(struct fetch *fetch, char **ret)
{
	static const char key[] = "Depends: linux-image-";
	AUTO(fd_close) int out_fd = memfd_create("apt", MFD_CLOEXEC);
	AUTO(free) char *text = NULL;
	char **argv = apart(fetch, "apt-cache");
	size_t size;
	char *at;
	int r;

	strv_append(&argv, "depends");
	strv_append(&argv, "--important");
	strv_append(&argv, fetch->package);
	r = run(fetch, argv, out_fd);
	if (r < 0)
		return r;
	if (lseek(out_fd, 0, SEEK_SET) < 0 || file_read_fd(out_fd, OUTPUT_MAX, &text, &size) < 0 ||
	    !(at = strstr(text, key)))
		return failed(fetch);
	at += strlen("Depends: ");
	*ret = mem_strndup(at, strcspn(at, " \t\n:"));
	return 0;
}

static int fetch_other(struct fetch *fetch)
{
	AUTO(free) char *newest = NULL;
	char **argv;
	int r = make_places(fetch);

	if (r < 0)
		return r;
	argv = apart(fetch, "apt-get");
	strv_append(&argv, "update");
	/* A source that has nothing for this architecture is no reason to stop. */
	(void) run(fetch, argv, -1);
	r = find_newest(fetch, &newest);
	if (r < 0)
		return r;
	argv = apart(fetch, "apt-get");
	strv_append(&argv, "download");
	strv_append(&argv, newest);
	return run(fetch, argv, -1);
}

int kernel_fetch(const char *folder, const char *architecture, char **ret, struct error *err)
{
	AUTO(fetch_done)
	struct fetch fetch = { .folder = folder,
			       .architecture = architecture,
			       .package = mem_printf("linux-image-cloud-%s", architecture),
			       .err = err };
	AUTO(free) char *partial = mem_printf("%s/partial", folder);
	AUTO(free)
	char *pattern = mem_printf("%s/linux-image-[0-9]*-cloud-%s_*.deb", folder, architecture);
	bool own = strcmp(architecture, kernel_host_architecture()) == 0;
	glob_t found = {};
	int r = mkdir(partial, 0755) < 0 ? error_set(err, -errno, "make %s", partial)
		: own                    ? fetch_own(&fetch)
					 : fetch_other(&fetch);

	if (r < 0)
		return r;
	if (glob(pattern, 0, NULL, &found) == 0)
		*ret = mem_strdup(found.gl_pathv[found.gl_pathc - 1]);
	else
		r = error_say(err, -ENOENT, "apt-get fetched no cloud kernel");
	globfree(&found);
	return r;
}
