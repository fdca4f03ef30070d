#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/log_range.h"
#include "cli/logline.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "client/client.h"
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
	struct stream_pieces pieces;
	struct logline_printer printer;
	struct stream_retry retry;
	bool json;
	int exit_code;
};

static int logs_piece(void *userdata, char channel, const char *data, size_t size,
		      struct error *err)
{
	struct logs *logs = userdata;
	int r;

	logs->retry.tries = 0;
	if (logs->json)
		return logline_print(&logs->printer, logs->cli->out, channel == STREAM_ERR, data,
				     size);
	r = terminal_write(fileno(channel == STREAM_ERR ? logs->cli->err : logs->cli->out), data,
			   size);
	return r < 0 ? error_set(err, r, "cannot write the lines") : 0;
}

static int logs_message(void *userdata, bool text, const char *data, size_t size, struct error *err)
{
	struct logs *logs = userdata;
	int r;

	if (!text) {
		stream_pieces_add(&logs->pieces, data, size);
		return 0;
	}
	r = stream_pieces_control(&logs->pieces, logs->cli, data, size, logs_piece, logs, err);
	return r < 0 ? r : stream_control(data, size, &logs->exit_code, err);
}

static char *logs_path(const struct logs *logs, const struct logs_options *options,
		       const char *name, const char *range)
{
	bool both = options->out_only == options->err_only;

	return mem_printf("/instances/%s/logs?follow=%d&timestamps=%d&stdout=%d&stderr=%d&cursors=1"
			  "%s%s",
			  name, options->follow, options->timestamps || logs->json,
			  both || options->out_only, both || options->err_only,
			  logs->pieces.cursor ? "&cursor=" : range,
			  logs->pieces.cursor ? logs->pieces.cursor : "");
}

/* One connection's worth.  1 after Ctrl-C, 0 when the server has ended it, -errno. */
static int logs_connect(struct logs *logs, struct client *client, const char *path,
			struct error *err)
{
	AUTO(websocket_free) struct websocket *websocket = NULL;
	int r = client_open_websocket(client, path, &websocket, err);

	if (r < 0)
		return r;
	logs->retry.connected = true;
	logs->cli->hint[0] = '\0';
	websocket_set_handler(websocket, logs_message, logs);
	r = stream_follow(websocket, err);
	if (r == 0 && logs->exit_code < 0)
		return error_say(err, -ECONNRESET, "the server closed the stream before its end");
	return r < 0 ? r : stream_pieces_flush(&logs->pieces, logs_piece, logs, err);
}

static int logs_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	const struct logs_options *options = userdata;
	AUTO(free) char *name = uri_encode(arguments->words[0]);
	AUTO(free) char *range = NULL;
	struct logs logs = { .cli = cli,
			     .exit_code = -1,
			     .json = cli->style.format == FORMAT_JSON };
	struct client *client = NULL;
	/* Said once, afterwards the cursor goes on. */
	int r = log_range_query(
		&(struct log_range){ options->tail, options->since, options->until }, cli->clock,
		&range, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	r = cli_connect(cli, &client, err);
	while (r == 0) {
		AUTO(free) char *path = logs_path(&logs, options, name, range);

		r = logs_connect(&logs, client, path, err);
		/* A server that was never there is an error at once. */
		if (r < 0 && (logs.pieces.cursor || logs.retry.connected) &&
		    stream_retry(&logs.retry, client, r)) {
			stream_pieces_drop(&logs.pieces);
			r = 0;
			continue;
		}
		if (r < 0)
			cli_failed(cli, path, r);
		break;
	}
	stream_pieces_done(&logs.pieces);
	logline_printer_done(&logs.printer);
	return r < 0 ? r : 0;
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
