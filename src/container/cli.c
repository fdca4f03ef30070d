#include "container/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/oci_spec.h"
#include "container/cli_internal.h"
#include "container/console.h"
#include "container/rootless.h"
#include "kern/pidfd.h"

static const struct cli_verb *const verbs[] = {
	&cli_create, &cli_start, &cli_run,    &cli_exec,       &cli_state,    &cli_list,
	&cli_kill,   &cli_pause, &cli_resume, &cli_delete,     &cli_features, &cli_update,
	&cli_events, &cli_ps,    &cli_spec,   &cli_checkpoint, &cli_restore,
};

/* ---- errors ---- */

static void write_log(const struct runtime_options *options, const char *message)
{
	char now[CLOCK_RFC3339_SIZE];
	AUTO(strbuf_done) struct strbuf line = {};
	AUTO(fd_close) int fd = -1;

	if (options->log_json) {
		AUTO(json_decref) json_t *object = json_object();
		AUTO(free) char *copy = mem_strdup(message);
		AUTO(free) char *text = NULL;
		json_t *value = json_string(message);

		/* A name that is not UTF-8 must not cost the whole message. */
		for (char *p = copy; !value && *p; p++)
			*p = *p & 0x80 ? '?' : *p;
		value = value ? value : json_string(copy);
		clock_format_rfc3339(clock_realtime_ms(clock_system()), now);
		json_put_string(object, "level", "error");
		json_object_set_new(object, "msg", value);
		json_put_string(object, "time", now);
		text = json_text(object);
		strbuf_printf(&line, "%s\n", text);
	} else {
		strbuf_printf(&line, "brume-oci: %s\n", message);
	}
	if (options->log)
		fd = open(options->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
	if (fd >= 0 && write(fd, line.data, line.size) < 0)
		fprintf(stderr, "brume-oci: --log %s: %s\n", options->log, strerror(errno));
	if (options->log_json && !options->log)
		fputs(line.data, stderr);
	else
		fprintf(stderr, "brume-oci: %s\n", message);
}

int cli_fail(const struct runtime_options *options, const struct error *err)
{
	write_log(options, err->msg[0] ? err->msg : strerror(-err->code));
	return CLI_FAILED;
}

int cli_usage(const struct runtime_options *options, const char *fmt, ...)
{
	char message[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	write_log(options, message);
	return CLI_USAGE;
}

/* ---- options ---- */

int cli_option(const struct runtime_options *runtime, int argc, char **argv, const char *shorts,
	       const struct option *longs)
{
	int c;

	opterr = 0;
	c = getopt_long(argc, argv, shorts, longs, NULL);

	if (c == '?')
		cli_usage(runtime, "%s: unknown option or missing value: %s; see --help", argv[0],
			  optind > 0 && argv[optind - 1] ? argv[optind - 1] : "");
	return c;
}

const char *cli_only_word(const struct runtime_options *options, int argc, char **argv,
			  const char *what)
{
	if (argc - optind == 1)
		return argv[optind];
	cli_usage(options,
		  argc == optind ? "%s: %s is missing; see --help" : "%s: one %s only; see --help",
		  argv[0], what);
	return NULL;
}

int cli_number(const char *text)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 0 || value > 1 << 20)
		return -EINVAL;
	return (int) value;
}

char *cli_absolute(const char *path)
{
	AUTO(free) char *cwd = NULL;

	if (!path || path[0] == '/')
		return mem_strdup(path);
	cwd = getcwd(NULL, 0);
	return mem_printf("%s/%s", cwd ? cwd : "", path);
}

void cli_seal_fds(unsigned int preserve)
{
	close_range(3 + preserve, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* ---- waiting in the foreground ---- */

void cli_block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Signals that mean us alone, or come from our own faults, stay here. */
static void passed_signals(sigset_t *ret)
{
	sigfillset(ret);
	for (size_t i = 0; i < 8; i++) {
		static const int own[] = { SIGCHLD, SIGKILL, SIGSTOP, SIGPIPE,
					   SIGSEGV, SIGBUS,  SIGFPE,  SIGILL };

		sigdelset(ret, own[i]);
	}
}

static int pass_signals(int pidfd, int signal_fd)
{
	for (;;) {
		struct pollfd fds[] = { { .fd = pidfd, .events = POLLIN },
					{ .fd = signal_fd, .events = POLLIN } };
		struct signalfd_siginfo info;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents)
			return 0;
		if (fds[1].revents && read(signal_fd, &info, sizeof(info)) == sizeof(info))
			(void) pidfd_send(pidfd, (int) info.ssi_signo);
	}
}

int cli_wait(int pidfd, int console_fd, int *ret_code, struct error *err)
{
	AUTO(fd_close) int signal_fd = -1;
	AUTO(fd_close) int master = -1;
	siginfo_t info = {};
	sigset_t passed;
	int r = 0;

	passed_signals(&passed);
	signal_fd = signalfd(-1, &passed, SFD_CLOEXEC);
	if (signal_fd < 0)
		return error_set(err, -errno, "signals");
	if (console_fd >= 0) {
		master = console_receive(console_fd, err);
		r = master < 0 ? master : console_relay(master, pidfd, signal_fd, err);
		if (r < 0)
			return r;
	}
	r = pass_signals(pidfd, signal_fd);
	if (r < 0)
		return error_set(err, r, "waiting");
	while (waitid(P_PIDFD, (id_t) pidfd, &info, WEXITED) < 0)
		if (errno != EINTR)
			return error_set(err, -errno, "waiting");
	*ret_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	return 0;
}

/* ---- the program ---- */

static void print_help(void)
{
	printf("usage: brume-oci [options] VERB ...\n\n"
	       "An OCI runtime: makes and runs containers from bundles.\n\n"
	       "options:\n"
	       "  --root DIR           where containers are remembered (default /run/brume-oci;\n"
	       "                       who is not root: $XDG_RUNTIME_DIR/brume-oci)\n"
	       "  --log FILE           where errors are written too\n"
	       "  --log-format FORMAT  text (default) or json\n"
	       "  --log-level LEVEL    error, warning, info or debug; --debug is the last\n"
	       "  --cgroup-manager M   cgroupfs (default), systemd or disabled\n"
	       "  --systemd-cgroup     the same as --cgroup-manager=systemd\n"
	       "  --rootless B         true: do without control groups that may not be made;\n"
	       "                       auto (default): when we are not the machine's root\n"
	       "  --version, --help\n\n"
	       "verbs:\n");
	for (size_t i = 0; i < ARRAY_COUNT(verbs); i++)
		printf("  %-10s %s\n      %s\n", verbs[i]->name, verbs[i]->usage, verbs[i]->help);
}

static void print_version(void)
{
	printf("brume-oci version %s\nspec: " OCI_SPEC_VERSION "\n", BRUME_VERSION);
}

enum {
	OPT_ROOT = 256,
	OPT_LOG,
	OPT_LOG_FORMAT,
	OPT_SYSTEMD,
	OPT_MANAGER,
	OPT_DEBUG,
	OPT_LEVEL,
	OPT_ROOTLESS
};

static const struct option global_options[] = {
	{ "root", required_argument, NULL, OPT_ROOT },
	{ "log", required_argument, NULL, OPT_LOG },
	{ "log-format", required_argument, NULL, OPT_LOG_FORMAT },
	{ "systemd-cgroup", optional_argument, NULL, OPT_SYSTEMD },
	{ "cgroup-manager", required_argument, NULL, OPT_MANAGER },
	{ "debug", optional_argument, NULL, OPT_DEBUG },
	{ "log-level", required_argument, NULL, OPT_LEVEL },
	{ "rootless", required_argument, NULL, OPT_ROOTLESS },
	{ "version", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{},
};

static int read_manager(struct runtime_options *options)
{
	options->no_cgroup = strcmp(optarg, "disabled") == 0;
	options->systemd = strcmp(optarg, "systemd") == 0;
	if (!options->no_cgroup && !options->systemd && strcmp(optarg, "cgroupfs") != 0)
		return cli_usage(options,
				 "--cgroup-manager: \"%s\" is not cgroupfs, systemd or disabled",
				 optarg);
	return 0;
}

/* Go's callers write a switch as --debug=true, too. */
static bool switched_on(void)
{
	return !optarg || strcmp(optarg, "false") != 0;
}

/* Reads the options before the verb.  Returns -1 to go on, or an exit code. */
static int read_globals(struct runtime_options *options, int argc, char **argv)
{
	int c, r;

	while ((c = cli_option(options, argc, argv, "+vh", global_options)) != -1) {
		switch (c) {
		case OPT_ROOT:
			options->root = optarg;
			break;
		case OPT_LOG:
			options->log = optarg;
			break;
		case OPT_LOG_FORMAT:
			if (strcmp(optarg, "json") != 0 && strcmp(optarg, "text") != 0)
				return cli_usage(options,
						 "--log-format: \"%s\" is not text or json",
						 optarg);
			options->log_json = optarg[0] == 'j';
			break;
		case OPT_SYSTEMD:
			options->systemd = switched_on();
			break;
		case OPT_MANAGER:
			r = read_manager(options);
			if (r > 0)
				return r;
			break;
		case OPT_LEVEL:
			if (log_set_levels(strcmp(optarg, "warn") == 0 ? "warning" : optarg) < 0)
				return cli_usage(options,
						 "--log-level: \"%s\" is not error, warning, info "
						 "or debug",
						 optarg);
			break;
		case OPT_ROOTLESS:
			if (strcmp(optarg, "auto") == 0)
				break;
			if (strcmp(optarg, "true") != 0 && strcmp(optarg, "false") != 0)
				return cli_usage(options,
						 "--rootless: \"%s\" is not true, false or auto",
						 optarg);
			options->rootless =
				optarg[0] == 't' ? RUNTIME_ROOTLESS_YES : RUNTIME_ROOTLESS_NO;
			break;
		case OPT_DEBUG:
			(void) log_set_levels(switched_on() ? "debug" : "info");
			break;
		case 'v':
			print_version();
			return CLI_OK;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return CLI_USAGE;
		}
	}
	return -1;
}

static bool wants_help(int argc, char **argv)
{
	return argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
}

static void print_verb_help(const struct cli_verb *verb)
{
	printf("usage: brume-oci [options] %s %s\n\n%s\n\nexamples:\n", verb->name, verb->usage,
	       verb->help);
	for (const char *line = verb->examples; *line;) {
		size_t n = strcspn(line, "\n");

		printf("  %.*s\n", (int) n, line);
		line += n + (line[n] == '\n');
	}
}

/* Where only the user can write: ids of containers are names of folders there. */
static char *default_root(const struct runtime_options *options)
{
	const char *folder = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0 && !options->entered)
		return mem_strdup("/run/brume-oci");
	return folder && folder[0] == '/' ? mem_printf("%s/brume-oci", folder) : NULL;
}

int cli_main(int argc, char **argv)
{
	struct runtime_options options = { .entered = rootless_entered() };
	AUTO(free) char *root = default_root(&options);
	int r;

	log_set_program("brume-oci");
	options.root = root;
	r = read_globals(&options, argc, argv);
	if (r >= 0)
		return r;
	if (optind >= argc)
		return cli_usage(&options, "a verb is missing; see --help");
	argc -= optind;
	argv += optind;
	for (size_t i = 0; i < ARRAY_COUNT(verbs); i++) {
		if (strcmp(verbs[i]->name, argv[0]) != 0)
			continue;
		if (wants_help(argc, argv)) {
			print_verb_help(verbs[i]);
			return CLI_OK;
		}
		if (!options.root && verbs[i] != &cli_spec && verbs[i] != &cli_features)
			return cli_usage(&options, "XDG_RUNTIME_DIR is not set; say with --root "
						   "where containers are to be remembered");
		optind = 0; /* starts again, on the verb's own words */
		return verbs[i]->run(&options, argc, argv);
	}
	if (strcmp(argv[0], "help") == 0) {
		print_help();
		return CLI_OK;
	}
	return cli_usage(&options, "\"%s\" is not a verb; see --help", argv[0]);
}
