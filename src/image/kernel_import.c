#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/bzimage.h"
#include "image/kernel.h"
#include "image/kernel_internal.h"

#define PACKAGE "linux-image-cloud-amd64"
#define PACKAGE_FILE "linux-image-[0-9]*-cloud-amd64_*.deb"

/* What a package may unpack to: twice what Debian's largest kernel has. */
enum { PACKAGE_BYTES_MAX = 2000 << 20 };

DEFINE_AUTO(struct archive *, archive_read_free)

/* One that comes into being below a folder of its own. */
struct job {
	const char *dir; /* of the store */
	char *folder;    /* DIR/.new-XXXXXX */
	int fd;
	char *kernel; /* the file that came */
	size_t kernel_size;
	char version[128];
	struct module_table *modules;
	struct error *err;
};

static void job_done(struct job *job)
{
	if (job->folder)
		(void) file_remove_tree(AT_FDCWD, job->folder);
	fd_close(job->fd);
	free(job->folder);
	free(job->kernel);
	module_table_free(job->modules);
}

static inline void job_done_autop(struct job *job)
{
	job_done(job);
}

/* -- a package ------------------------------------------------------------------------------------
 *
 * An ar archive with a compressed tar in it: libarchive reads the one through the other.
 */

struct member {
	struct archive *outer;
	char buffer[64 << 10];
};

static la_ssize_t read_member(struct archive *archive, void *data, const void **ret)
{
	struct member *member = data;
	la_ssize_t n = archive_read_data(member->outer, member->buffer, sizeof(member->buffer));

	if (n < 0)
		archive_set_error(archive, EIO, "%s", archive_error_string(member->outer));
	*ret = member->buffer;
	return n;
}

/* The kernel is kept in memory, modules go to `all`, flat. */
static int take_entry(struct job *job, struct archive *tar, struct archive_entry *entry,
		      uint64_t *total)
{
	const char *name = archive_entry_pathname(entry);
	const char *slash = name ? strrchr(name, '/') : NULL;
	bool kernel = name && strstr(name, "boot/vmlinuz-");
	bool module = slash && strstr(name, "lib/modules/") && strstr(slash, ".ko");
	AUTO(strbuf_done) struct strbuf data = {};
	la_ssize_t n;

	if (archive_entry_filetype(entry) != AE_IFREG || (!kernel && !module))
		return 0;
	for (;;) {
		n = archive_read_data(tar, strbuf_reserve(&data, 64 << 10), 64 << 10);
		if (n < 0)
			return error_say(job->err, -EBADMSG, "the package is damaged: %.200s",
					 archive_error_string(tar));
		if (n == 0)
			break;
		strbuf_grown(&data, (size_t) n);
		*total += (uint64_t) n;
		if (data.size > BZIMAGE_MAX || *total > PACKAGE_BYTES_MAX)
			return error_say(job->err, -EFBIG, "the package is too large");
	}
	if (kernel) {
		free(job->kernel);
		job->kernel_size = data.size;
		job->kernel = strbuf_take(&data);
		return 0;
	}
	AUTO(free) char *path = mem_printf("%s/all/%s", job->folder, slash + 1);
	int r = file_write_atomic(AT_FDCWD, path, data.data, data.size, 0644, 0);

	if (r < 0)
		return error_set(job->err, r, "write %s", path);
	module_table_add(job->modules, path);
	return 0;
}

static int read_tar(struct job *job, struct archive *outer)
{
	AUTO(archive_read_free) struct archive *tar = archive_read_new();
	AUTO(free) struct member *member = mem_new0(struct member);
	struct archive_entry *entry;
	uint64_t total = 0;
	int r;

	member->outer = outer;
	archive_read_support_format_tar(tar);
	archive_read_support_filter_all(tar);
	if (archive_read_open(tar, member, NULL, read_member, NULL) != ARCHIVE_OK)
		return error_say(job->err, -EBADMSG, "the package is damaged: %.200s",
				 archive_error_string(tar));
	while ((r = archive_read_next_header(tar, &entry)) != ARCHIVE_EOF) {
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return error_say(job->err, -EBADMSG, "the package is damaged: %.200s",
					 archive_error_string(tar));
		r = take_entry(job, tar, entry, &total);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_package(struct job *job, const char *source)
{
	AUTO(archive_read_free) struct archive *outer = archive_read_new();
	struct archive_entry *entry;

	if (mkdirat(job->fd, "all", 0700) < 0)
		return error_set(job->err, -errno, "make %s/all", job->folder);
	archive_read_support_format_ar(outer);
	if (archive_read_open_filename(outer, source, 64 << 10) != ARCHIVE_OK)
		return error_say(job->err, -EBADMSG, "%s: %.200s", source,
				 archive_error_string(outer));
	while (archive_read_next_header(outer, &entry) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(entry);

		if (name && strncmp(name, "data.tar", 8) == 0)
			return read_tar(job, outer);
	}
	return error_say(job->err, -EBADMSG, "%s is not a Debian package", source);
}

/* -- files ------------------------------------------------------------------------------------ */

static int read_kernel(struct job *job, const struct kernel_import *import)
{
	int r = file_read(AT_FDCWD, import->source, BZIMAGE_MAX, &job->kernel, &job->kernel_size);

	if (r < 0)
		return error_set(job->err, r, "read %s", import->source);
	return 0;
}

static void add_modules(struct job *job, const struct kernel_import *import)
{
	AUTO(free)
	char *folder = import->modules && import->modules[0]
			       ? mem_strdup(import->modules)
			       : mem_printf("/lib/modules/%s", job->version);

	module_table_add_tree(job->modules, folder);
}

/* The version of an ELF stands in its text. */
static void find_version(struct job *job, const char *vmlinux, size_t size)
{
	static const char key[] = "Linux version ";
	const char *at = memmem(vmlinux, size, key, strlen(key));
	size_t n = 0;

	if (!at)
		return;
	at += strlen(key);
	while (at + n < vmlinux + size && at[n] > ' ' && at[n] < 0x7f &&
	       n < sizeof(job->version) - 1)
		n++;
	memcpy(job->version, at, n);
	job->version[n] = '\0';
}

static int write_out(struct job *job, const char *name, const void *data, size_t size)
{
	int r = file_write_atomic(job->fd, name, data, size, 0444, 1);

	return r < 0 ? error_set(job->err, r, "write %s/%s", job->folder, name) : 0;
}

static int unwrap(struct job *job, const char *source)
{
	AUTO(free) void *vmlinux = NULL;
	struct bzimage header;
	size_t size;
	int r;

	if (bzimage_is_elf(job->kernel, job->kernel_size)) {
		find_version(job, job->kernel, job->kernel_size);
		return write_out(job, "vmlinux", job->kernel, job->kernel_size);
	}
	r = bzimage_decode(job->kernel, job->kernel_size, &header, job->err);
	if (r == 0)
		r = bzimage_unwrap(job->kernel, job->kernel_size, &vmlinux, &size, job->err);
	if (r < 0)
		return error_wrap(job->err, r, "%s", source);
	snprintf(job->version, sizeof(job->version), "%.*s", (int) strcspn(header.version, " "),
		 header.version);
	r = write_out(job, "vmlinux", vmlinux, size);
	return r < 0 ? r : write_out(job, "bzImage", job->kernel, job->kernel_size);
}

static int finish(struct job *job, const struct kernel_import *import)
{
	AUTO(fd_close) int modules_fd = -1;
	int r = 0;

	if (mkdirat(job->fd, "modules", 0755) < 0)
		return error_set(job->err, -errno, "make %s/modules", job->folder);
	modules_fd = openat(job->fd, "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (modules_fd < 0)
		return error_set(job->err, -errno, "open %s/modules", job->folder);
	r = kernel_modules_copy(job->modules, modules_fd, job->err);
	if (r == 0)
		r = kernel_initramfs_write(job->fd, import->init, job->err);
	(void) file_remove_tree(job->fd, "all");
	return r;
}

static int write_meta(struct job *job, const struct kernel_import *import, const char *name,
		      json_t **ret)
{
	AUTO(free) char *path = mem_printf("%s/vmlinux", job->folder);
	char hex[KERNEL_HEX_SIZE], init[KERNEL_HEX_SIZE], created[CLOCK_RFC3339_SIZE];
	AUTO(json_decref) json_t *meta = NULL;
	AUTO(free) char *text = NULL;
	int r = kernel_file_digest(path, hex, job->err);

	if (r == 0)
		r = kernel_file_digest(import->init, init, job->err);
	if (r < 0)
		return r;
	clock_format_rfc3339(clock_realtime_ms(clock_system()), created);
	meta = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "name", name, "version",
			 job->version, "architecture", "amd64", "source", import->source, "digest",
			 hex, "init_digest", init, "created", created);
	if (!meta)
		return error_say(job->err, -EINVAL, "source: is not valid UTF-8");
	text = json_text(meta);
	r = write_out(job, "meta.json", text, strlen(text));
	if (r == 0)
		*ret = TAKE_PTR(meta);
	return r;
}

static int begin(struct job *job)
{
	glob_t leftovers = {};
	AUTO(free) char *pattern = mem_printf("%s/.new-*", job->dir);
	int r = file_mkdir_all(job->dir, 0755);

	if (r < 0)
		return error_set(job->err, r, "make %s", job->dir);
	if (glob(pattern, GLOB_NOSORT, NULL, &leftovers) == 0)
		for (size_t i = 0; i < leftovers.gl_pathc; i++) {
			struct stat st;

			/* One that is at work is younger. */
			if (stat(leftovers.gl_pathv[i], &st) == 0 &&
			    st.st_mtime < clock_realtime_ms(clock_system()) / 1000 - 3600)
				(void) file_remove_tree(AT_FDCWD, leftovers.gl_pathv[i]);
		}
	globfree(&leftovers);
	job->folder = mem_printf("%s/.new-XXXXXX", job->dir);
	if (!mkdtemp(job->folder) || chmod(job->folder, 0755) < 0)
		return error_set(job->err, -errno, "make %s", job->folder);
	job->fd = open(job->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (job->fd < 0)
		return error_set(job->err, -errno, "open %s", job->folder);
	job->modules = module_table_new();
	return 0;
}

static bool is_package(const char *source)
{
	size_t size = strlen(source);

	return size > 4 && strcmp(source + size - 4, ".deb") == 0;
}

/* Into the store, under its name. */
static int put(struct job *job, const char *name)
{
	AUTO(free) char *path = mem_printf("%s/%s", job->dir, name);

	if (renameat2(AT_FDCWD, job->folder, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
		return error_say(job->err, -errno,
				 "a kernel %s is there already: delete it, or give another name",
				 name);
	free(TAKE_PTR(job->folder));
	return 0;
}

int kernel_import(const char *dir, const struct kernel_import *import, json_t **ret,
		  struct error *err)
{
	AUTO(job_done) struct job job = { .dir = dir, .fd = -1, .err = err };
	AUTO(json_decref) json_t *meta = NULL;
	AUTO(free) char *link = mem_printf("%s/default", dir);
	const char *name;
	int r;

	if (!import->source || import->source[0] != '/')
		return error_say(err, -EINVAL,
				 "source: must be the absolute path of a kernel on the node");
	if (import->name && import->name[0] && (r = kernel_name_check(import->name, err)) < 0)
		return r;
	r = begin(&job);
	if (r == 0)
		r = is_package(import->source) ? read_package(&job, import->source)
					       : read_kernel(&job, import);
	if (r == 0 && !job.kernel)
		r = error_say(err, -EBADMSG, "%s has no boot/vmlinuz-VERSION in it",
			      import->source);
	if (r == 0)
		r = unwrap(&job, import->source);
	if (r < 0)
		return r;
	if (!is_package(import->source))
		add_modules(&job, import);
	name = import->name && import->name[0] ? import->name : job.version;
	r = kernel_name_check(name, err);
	if (r == 0)
		r = finish(&job, import);
	if (r == 0)
		r = write_meta(&job, import, name, &meta);
	if (r == 0)
		r = put(&job, name);
	if (r < 0)
		return r;
	/* The first one; when there is a default already, it stays. */
	(void) !symlink(name, link);
	*ret = TAKE_PTR(meta);
	return 0;
}

/* -- Debian's -----------------------------------------------------------------------------------
 */

static int run_apt(const char *folder, struct error *err)
{
	AUTO(free) char *archives = mem_printf("Dir::Cache::archives=%s", folder);
	char *argv[] = { (char *) "apt-get",
			 (char *) "install",
			 (char *) "--download-only",
			 (char *) "--reinstall",
			 (char *) "--no-install-recommends",
			 (char *) "-qq",
			 (char *) "-y",
			 (char *) "-o",
			 archives,
			 (char *) "-o",
			 (char *) "Debug::NoLocking=1",
			 (char *) PACKAGE,
			 NULL };
	char *env[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
			(char *) "DEBIAN_FRONTEND=noninteractive", (char *) "LC_ALL=C", NULL };
	posix_spawn_file_actions_t actions;
	int r, status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
	r = posix_spawnp(&pid, "apt-get", &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return error_say(err, -ENOENT, "apt-get cannot be started");
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0
		       ? 0
		       : error_say(err, -EIO, "apt-get could not fetch " PACKAGE);
}

int kernel_fetch(const char *folder, char **ret, struct error *err)
{
	AUTO(free) char *partial = mem_printf("%s/partial", folder);
	AUTO(free) char *pattern = mem_printf("%s/" PACKAGE_FILE, folder);
	glob_t found = {};
	int r = mkdir(partial, 0755) < 0 ? error_set(err, -errno, "make %s", partial)
					 : run_apt(folder, err);

	if (r < 0)
		return r;
	if (glob(pattern, 0, NULL, &found) == 0)
		*ret = mem_strdup(found.gl_pathv[found.gl_pathc - 1]);
	else
		r = error_say(err, -ENOENT, "apt-get fetched no cloud kernel");
	globfree(&found);
	return r;
}
