#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/log_follow.h"
#include "cli/log_range.h"
#include "cli/logline.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "codec/uri.h"

struct logs_options {
	const char *tail, *since, *until;
	bool follow, timestamps, out_only, err_only;
};

#define LOGS(member) offsetof(struct logs_options, member)

static const struct option_def logs_options[] = {
	{ 'f', "follow", NULL, OPTION_FLAG, LOGS(follow), "go on with what comes, until Ctrl-C" },
	{ 'n', "tail", "COUNT", OPTION_STRING, LOGS(tail), "only the last lines" },
	{ 0, "since", "TIME", OPTION_STRING, LOGS(since),
	  "only lines from then on: 10m (ago), 2026-11-21T01:30:00Z, 2026-11-21" },
	{ 0, "until", "TIME", OPTION_STRING, LOGS(until), "only lines up to then" },
	{ 't', "timestamps", NULL, OPTION_FLAG, LOGS(timestamps), "when each line was written" },
	{ 0, "stdout", NULL, OPTION_FLAG, LOGS(out_only), "only its standard output" },
	{ 0, "stderr", NULL, OPTION_FLAG, LOGS(err_only), "only its error output" },
	{},
};

struct logs {
	struct cli *cli;
	struct logline_printer printer;
};

static int show(void *userdata, char channel, const char *data, size_t size, struct error *err)
{
	struct logs *logs = userdata;
	bool is_err = channel == STREAM_ERR;
	int r;

	if (logs->cli->style.format == FORMAT_JSON)
		r = logline_print(&logs->printer, logs->cli->out, is_err, data, size);
	else
		r = terminal_write(fileno(is_err ? logs->cli->err : logs->cli->out), data, size);
	return r < 0 ? error_set(err, r, "cannot write the lines") : 0;
}

static char *path_of(const struct cli *cli, const struct logs_options *options,
		     const char *instance)
{
	AUTO(free) char *name = uri_encode(instance);
	bool both = options->out_only == options->err_only;

	return mem_printf("/instances/%s/logs?follow=%d&timestamps=%d&stdout=%d&stderr=%d", name,
			  options->follow, options->timestamps || cli->style.format == FORMAT_JSON,
			  both || options->out_only, both || options->err_only);
}

static int logs_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	const struct logs_options *options = userdata;
	const struct log_range range = { options->tail, options->since, options->until };
	struct logs logs = { .cli = cli };
	AUTO(free) char *path = path_of(cli, options, arguments->words[0]);
	AUTO(free) char *query = NULL;
	int r = log_range_query(&range, cli->clock, &query, err);

	if (r == 0 && (cli->style.format == FORMAT_CSV || cli->style.format == FORMAT_PLAIN))
		return cli_usage(cli, err, "lines are shown as they are, or with --format json");
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	r = log_follow(cli, &(struct log_source){ path, query, show, &logs }, err);
	logline_printer_done(&logs.printer);
	return r;
}

const struct verb verb_logs = {
	.name = "logs",
	.synopsis = "[-f] [-n COUNT] [--since TIME] [--until TIME] [-t] [--stdout|--stderr] NAME",
	.summary = "Show what an instance has written to its output and error output",
	.help = "Rotated files are read as one.  With -f it goes on over rotations and restarts of "
		"the\n"
		"instance, and after a restart of the server where it was: no line is lost or "
		"doubled.\n"
		"With --format json one object a line: time, stream, line.\n\n"
		"Examples:\n  brume logs web\n  brume logs -f -n 20 web\n"
		"  brume logs --since 10m --stderr web\n"
		"  brume logs --since 2026-11-21 --until 2026-11-22 -t web\n"
		"  brume logs --format json web\n"
		"  brume logs web 2>/dev/null            only its standard output\n",
	.options = logs_options,
	.options_size = sizeof(struct logs_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_INSTANCE,
	.run = logs_run,
};
