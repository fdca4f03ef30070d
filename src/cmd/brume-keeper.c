#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "keeper/keeper.h"

static const char help[] =
	"Usage: brume-keeper [OPTION...]\n"
	"\n"
	"The parent of every instance of a node: starts processes for brume-agentd, writes their\n"
	"logs and remembers how they ended.  Started by brume-agentd or the service manager.\n"
	"\n"
	"  --run DIR      run folder (default /run/brume)\n"
	"  --log LEVELS   for example \"info\" or \"warning,keeper=debug\"\n"
	"  --state DIR, --prefix NAME\n"
	"                 taken so that all daemons have the same options; not needed here\n"
	"  --state-fd N   internal: state handed over by a re-executed keeper\n"
	"  --version, --help\n"
	"\n"
	"SIGHUP or SIGUSR2: execute the binary anew in place, losing nothing.  SIGTERM: end; the\n"
	"jobs go on and the next keeper adopts them.\n";

static int usage(const char *message, const char *what)
{
	fprintf(stderr, "brume-keeper: %s '%s'; see --help\n", message, what);
	return 2;
}

/* The path the binary was started with, for its next execution: after an upgrade the new file. */
static void find_self(char ret[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	const char deleted[] = " (deleted)";

	ret[n < 0 ? 0 : n] = '\0';
	char *end = strstr(ret, deleted);
	if (end && end[sizeof(deleted) - 1] == '\0')
		*end = '\0';
}

int main(int argc, char **argv)
{
	enum { OPT_RUN = 256, OPT_LOG, OPT_STATE_FD, OPT_UNUSED, OPT_VERSION, OPT_HELP };
	static const struct option options[] = { { "run", required_argument, NULL, OPT_RUN },
						 { "log", required_argument, NULL, OPT_LOG },
						 { "state-fd", required_argument, NULL,
						   OPT_STATE_FD },
						 { "state", required_argument, NULL, OPT_UNUSED },
						 { "prefix", required_argument, NULL, OPT_UNUSED },
						 { "version", no_argument, NULL, OPT_VERSION },
						 { "help", no_argument, NULL, OPT_HELP },
						 {} };
	static char self[PATH_MAX];
	struct keeper_options keeper = { .run = "/run/brume", .self = self, .state_fd = -1 };
	struct error err = {};
	int option;

	log_set_program("brume-keeper");
	opterr = 0;
	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case OPT_RUN:
			keeper.run = optarg;
			break;
		case OPT_LOG:
			keeper.levels = optarg;
			if (log_set_levels(optarg) < 0)
				return usage("unknown log levels", optarg);
			break;
		case OPT_STATE_FD:
			keeper.state_fd = atoi(optarg);
			break;
		case OPT_UNUSED:
			break;
		case OPT_VERSION:
			puts("brume-keeper " BRUME_VERSION);
			return 0;
		case OPT_HELP:
			fputs(help, stdout);
			return 0;
		default:
			return usage("unknown option or missing value", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return usage("unexpected argument", argv[optind]);
	if (keeper.run[0] != '/')
		return usage("--run must be an absolute path, not", keeper.run);
	find_self(self);
	if (keeper_run(&keeper, &err) < 0) {
		log_error("%s", err.msg);
		return 1;
	}
	return 0;
}
