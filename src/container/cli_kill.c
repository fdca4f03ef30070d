#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "container/cli_internal.h"
#include "container/lifecycle.h"

/* "9", "KILL", "sigkill", "RTMIN+3" -> a number, or -EINVAL. */
static int signal_number(const char *text)
{
	int number = cli_number(text);

	if (number >= 0)
		return number > 0 && number < NSIG ? number : -EINVAL;
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	if (strncasecmp(text, "RTMIN+", 6) == 0) {
		number = cli_number(text + 6);
		return number >= 0 && SIGRTMIN + number <= SIGRTMAX ? SIGRTMIN + number : -EINVAL;
	}
	for (int i = 1; i < NSIG; i++) {
		const char *name = sigabbrev_np(i);

		if (name && strcasecmp(name, text) == 0)
			return i;
	}
	return -EINVAL;
}

static int kill_verb(const struct runtime_options *options, int argc, char **argv)
{
	static const struct option longs[] = { { "all", no_argument, NULL, 'a' }, {} };
	AUTO(record_free) struct record *record = NULL;
	struct error err = {};
	bool all = false;
	int c, signal = SIGTERM, r;

	while ((c = cli_option(options, argc, argv, "+a", longs)) != -1) {
		if (c != 'a')
			return CLI_USAGE;
		all = true;
	}
	if (argc - optind != 1 && argc - optind != 2)
		return cli_usage(options, "kill: needs a container id and maybe a signal");
	if (argc - optind == 2) {
		signal = signal_number(argv[optind + 1]);
		if (signal < 0)
			return cli_usage(options, "kill: \"%s\" is not a signal like TERM or 15",
					 argv[optind + 1]);
	}
	/* Without the lock: it must reach one whose `start` hangs in a hook. */
	r = record_open(options->root, argv[optind], false, &record, &err);
	if (r == 0)
		r = lifecycle_kill(record, signal, all, &err);
	return r < 0 ? cli_fail(options, &err) : CLI_OK;
}

const struct cli_verb cli_kill = {
	.name = "kill",
	.usage = "[--all] ID [SIGNAL]",
	.help = "send a signal (TERM) to the program, or to all processes",
	.examples = "brume-oci kill box\n"
		    "brume-oci kill --all box KILL",
	.run = kill_verb,
};
