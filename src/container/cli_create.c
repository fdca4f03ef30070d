#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "codec/oci_spec.h"
#include "container/cli_criu.h"
#include "container/cli_internal.h"
#include "container/launch.h"
#include "container/lifecycle.h"
#include "container/process.h"
#include "container/rootless.h"
#include "container/self.h"

enum {
	OPT_CONSOLE = CLI_CRIU_LAST,
	OPT_PID_FILE,
	OPT_NO_PIVOT,
	OPT_PRESERVE,
	OPT_NO_KEYRING,
	OPT_ROOTFS_FD,
	OPT_PIDFD_SOCKET,
	OPT_KEEP,
	OPT_NO_SUBREAPER,
	OPT_CONSOLE_FD,
};

/*
 * Restoring is making, too.  We never leave children to be adopted, so runc's choice about that is
 * no choice here.
 */
#define MAKE_OPTIONS                                                                               \
	{ "bundle", required_argument, NULL, 'b' },                                                \
		{ "console-socket", required_argument, NULL, OPT_CONSOLE },                        \
		{ "pid-file", required_argument, NULL, OPT_PID_FILE },                             \
		{ "detach", no_argument, NULL, 'd' },                                              \
		{ "no-pivot", no_argument, NULL, OPT_NO_PIVOT },                                   \
		{ "rootfs-fd", required_argument, NULL, OPT_ROOTFS_FD },                           \
		{ "console-fd", required_argument, NULL, OPT_CONSOLE_FD },                         \
		{ "pidfd-socket", required_argument, NULL, OPT_PIDFD_SOCKET },                     \
		{ "keep", no_argument, NULL, OPT_KEEP },                                           \
	{                                                                                          \
		"no-subreaper", no_argument, NULL, OPT_NO_SUBREAPER                                \
	}

static const struct option longs[] = {
	MAKE_OPTIONS,
	{ "preserve-fds", required_argument, NULL, OPT_PRESERVE },
	{ "no-new-keyring", no_argument, NULL, OPT_NO_KEYRING },
	{},
};

static const struct option restore_longs[] = {
	MAKE_OPTIONS,
	CLI_CRIU_OPTIONS,
	CLI_CRIU_RESTORE_OPTIONS,
	{},
};

struct words {
	struct launch_options launch;
	struct criu_options criu;
	bool detach;
	bool keep;
	int preserve;
};

static int read_number(const struct runtime_options *options, const char *name, int *ret)
{
	int value = cli_number(optarg);

	if (value < 0)
		return cli_usage(options, "--%s: \"%s\" is not a number", name, optarg);
	*ret = value;
	return 0;
}

/* 0 to go on, or an exit code. */
static int read_words(const struct runtime_options *options, int argc, char **argv,
		      struct words *words)
{
	const struct option *known = words->launch.restore ? restore_longs : longs;
	int c, r = 0;

	while (r == 0 && (c = cli_option(options, argc, argv, "+b:d", known)) != -1) {
		switch (c) {
		case 'b':
			words->launch.bundle = optarg;
			break;
		case 'd':
			words->detach = true;
			break;
		case OPT_CONSOLE:
			words->launch.console_socket = optarg;
			break;
		case OPT_PID_FILE:
			words->launch.pid_file = optarg;
			break;
		case OPT_NO_PIVOT:
			words->launch.no_pivot = true;
			break;
		case OPT_PRESERVE:
			r = read_number(options, "preserve-fds", &words->preserve);
			break;
		case OPT_NO_KEYRING:
			words->launch.no_new_keyring = true;
			break;
		case OPT_ROOTFS_FD:
			r = read_number(options, "rootfs-fd", &words->launch.rootfs_fd);
			break;
		case OPT_CONSOLE_FD:
			r = read_number(options, "console-fd", &words->launch.console_fd);
			break;
		case OPT_PIDFD_SOCKET:
			words->launch.pidfd_socket = optarg;
			break;
		case OPT_KEEP:
			words->keep = true;
			break;
		case OPT_NO_SUBREAPER:
			break;
		default:
			r = words->launch.restore
				    ? cli_criu_option(options, argv[0], c, &words->criu)
				    : CLI_USAGE;
		}
	}
	if (r > 0)
		return r;
	words->launch.root = options->root;
	words->launch.id = cli_only_word(options, argc, argv, "container id");
	return words->launch.id ? 0 : CLI_USAGE;
}

/* Sockets that were opened for the program (sd_listen_fds): they come before --preserve-fds. */
static unsigned int listen_fds(void)
{
	const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	int number = count ? cli_number(count) : 0;

	if (number <= 0 || (pid && strtol(pid, NULL, 10) != (long) getpid()))
		return 0;
	return (unsigned int) number;
}

/* Which ids the container has says its bundle; does not return when all is well. */
static int become_root(const char *bundle, struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	AUTO(free) char *path = mem_printf("%s/config.json", bundle);
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, OCI_CONFIG_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "%s", path);
	r = oci_spec_decode(text, size, &spec, err);
	return r < 0 ? error_wrap(err, r, "config.json") : rootless_make(spec, err);
}

static int begin(const struct runtime_options *options, struct words *words, struct launch **ret,
		 struct error *err)
{
	AUTO(free) char *root = cli_absolute(options->root);
	AUTO(free) char *pid_file = cli_absolute(words->launch.pid_file);
	AUTO(free) char *console = cli_absolute(words->launch.console_socket);
	AUTO(free) char *pidfd = cli_absolute(words->launch.pidfd_socket);
	AUTO(free) char *images = cli_absolute(words->criu.image_path);
	AUTO(free) char *work = cli_absolute(words->criu.work_path);
	int r;

	if (words->launch.restore) {
		r = cli_criu_allowed(options, err);
		if (r < 0)
			return r;
	}
	if (geteuid() != 0) {
		r = become_root(words->launch.bundle, err);
		if (r < 0)
			return r;
	}
	r = self_protect(err);
	if (r < 0)
		return r;
	rootless_forget();
	words->launch.listen = listen_fds();
	words->launch.preserve = (unsigned int) words->preserve + words->launch.listen;
	cli_seal_fds(words->launch.preserve);
	/* Also when it is among the preserved ones: the program must not have it. */
	if (words->launch.rootfs_fd >= 0 && fcntl(words->launch.rootfs_fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_set(err, -errno, "--rootfs-fd %d", words->launch.rootfs_fd);
	if (words->launch.console_fd >= 0 &&
	    fcntl(words->launch.console_fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_set(err, -errno, "--console-fd %d", words->launch.console_fd);
	words->launch.root = root;
	words->launch.no_cgroup = options->no_cgroup;
	words->launch.systemd = options->systemd;
	words->launch.rootless = options->rootless;
	words->launch.entered = options->entered;
	words->launch.pid_file = pid_file;
	words->launch.console_socket = console;
	words->launch.pidfd_socket = pidfd;
	words->criu.image_path = images;
	words->criu.work_path = work;
	return launch_create(&words->launch, ret, err);
}

static int create(const struct runtime_options *options, int argc, char **argv)
{
	struct words words = { .launch = { .bundle = ".", .rootfs_fd = -1, .console_fd = -1 } };
	AUTO(launch_free) struct launch *launch = NULL;
	struct error err = {};
	int r = read_words(options, argc, argv, &words);

	if (r > 0)
		return r;
	r = begin(options, &words, &launch, &err);
	if (r >= 0)
		return CLI_OK;
	(void) cli_fail(options, &err);
	return process_exit_code(r);
}

const struct cli_verb cli_create = {
	.name = "create",
	.usage = "[-b BUNDLE] [--console-socket PATH] [--pid-file FILE] [--pidfd-socket PATH] "
		 "[--no-pivot] [--preserve-fds N] [--no-new-keyring] [--rootfs-fd N] [--console-fd "
		 "N] ID",
	.help = "make a container whose program waits for `start`",
	.examples = "brume-oci create --bundle /srv/box --pid-file /run/box.pid box",
	.run = create,
};

/* In the foreground until its end, unless it is to be left alone. */
static int follow(const struct runtime_options *options, const struct words *words,
		  struct launch *launch)
{
	struct error err = {}, late = {};
	int code = 0, r;

	if (words->detach)
		return CLI_OK;
	/* Others may want to kill, pause or look while we wait. */
	record_unlock(launch->record);
	r = cli_wait(launch->pidfd, launch->console_fd, &code, &err);
	if (!words->keep && lifecycle_destroy(launch->record, launch->spec, &late) < 0 && r == 0) {
		r = late.code;
		err = late;
	}
	return r < 0 ? cli_fail(options, &err) : code;
}

static int run(const struct runtime_options *options, int argc, char **argv)
{
	struct words words = {
		.launch = { .bundle = ".", .rootfs_fd = -1, .console_fd = -1, .direct = true }
	};
	AUTO(launch_free) struct launch *launch = NULL;
	struct error err = {};
	int r = read_words(options, argc, argv, &words);

	if (r > 0)
		return r;
	words.launch.foreground = !words.detach;
	if (!words.detach)
		cli_block_signals();
	r = begin(options, &words, &launch, &err);
	if (r < 0) {
		(void) cli_fail(options, &err);
		return process_exit_code(r);
	}
	r = launch_start(launch, &err);
	if (r < 0) {
		(void) lifecycle_destroy(launch->record, launch->spec, NULL);
		(void) cli_fail(options, &err);
		return process_exit_code(r);
	}
	return follow(options, &words, launch);
}

const struct cli_verb cli_run = {
	.name = "run",
	.usage = "[-d] [-b BUNDLE] [--console-socket PATH] [--pid-file FILE] "
		 "[--pidfd-socket PATH] [--no-pivot] [--preserve-fds N] [--no-new-keyring] "
		 "[--rootfs-fd N] [--console-fd N] [--keep] ID",
	.help = "make a container, start it, wait for its end (-d: do not) and take it away",
	.examples = "brume-oci run -b /srv/box box\n"
		    "brume-oci run -d -b /srv/box --console-socket /run/tty.sock box",
	.run = run,
};

static int restore(const struct runtime_options *options, int argc, char **argv)
{
	struct words words = {
		.launch = { .bundle = ".", .rootfs_fd = -1, .console_fd = -1, .direct = true },
		.criu = CLI_CRIU_DEFAULTS,
	};
	AUTO(launch_free) struct launch *launch = NULL;
	struct error err = {};
	int r;

	words.launch.restore = &words.criu;
	r = read_words(options, argc, argv, &words);
	if (r > 0)
		return r;
	words.launch.foreground = !words.detach;
	if (!words.detach)
		cli_block_signals();
	r = begin(options, &words, &launch, &err);
	return r < 0 ? cli_fail(options, &err) : follow(options, &words, launch);
}

const struct cli_verb cli_restore = {
	.name = "restore",
	.usage = "[-d] [-b BUNDLE] [--image-path DIR] [--work-path DIR] [--console-socket PATH] "
		 "[--pid-file FILE] [--pidfd-socket PATH] [--tcp-established] [--tcp-close] "
		 "[--ext-unix-sk] [--shell-job] [--file-locks] [--auto-dedup] "
		 "[--manage-cgroups-mode soft|full|strict|ignore] [--lsm-profile TYPE:NAME] "
		 "[--lsm-mount-context CONTEXT] [--rootfs-fd N] [--console-fd N] [--keep] ID",
	.help = "make a container again from what `checkpoint` has written, and let it go on "
		"(CRIU)",
	.examples = "brume-oci restore -d -b /srv/box --image-path /srv/box.images box",
	.run = restore,
};
