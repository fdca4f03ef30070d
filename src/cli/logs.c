#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/number.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "client/client.h"
#include "codec/uri.h"

enum { LOGS_TAIL_MAX = 1000000000, CHANNEL_OUT = 1, CHANNEL_ERR = 2 };

struct logs_options {
	const char *tail;
	bool follow, timestamps;
};

#define LOGS(member) offsetof(struct logs_options, member)

static const struct option_def logs_options[] = {
	{ 'f', "follow", NULL, OPTION_FLAG, LOGS(follow), "go on with what comes, until Ctrl-C" },
	{ 'n', "tail", "COUNT", OPTION_STRING, LOGS(tail), "only the last lines" },
	{ 't', "timestamps", NULL, OPTION_FLAG, LOGS(timestamps), "when each line was written" },
	{},
};

struct logs {
	struct cli *cli;
	int exit_code;
};

static int logs_message(void *userdata, bool text, const char *data, size_t size, struct error *err)
{
	struct logs *logs = userdata;
	int r;

	if (text)
		return stream_control(data, size, &logs->exit_code, err);
	if (size < 1 || (data[0] != CHANNEL_OUT && data[0] != CHANNEL_ERR))
		return 0;
	r = terminal_write(fileno(data[0] == CHANNEL_ERR ? logs->cli->err : logs->cli->out),
			   data + 1, size - 1);
	return r < 0 ? error_set(err, r, "cannot write the lines") : 0;
}

static int logs_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	const struct logs_options *options = userdata;
	AUTO(websocket_free) struct websocket *websocket = NULL;
	AUTO(free) char *name = uri_encode(arguments->words[0]);
	AUTO(free) char *path = NULL;
	struct logs logs = { .cli = cli };
	struct client *client = NULL;
	int64_t tail = -1;
	int r = 0;

	if (options->tail && strcmp(options->tail, "all") != 0)
		r = number_parse(options->tail, "--tail", 0, LOGS_TAIL_MAX, &tail, err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	path = mem_printf("/instances/%s/logs?follow=%d&tail=%lld&timestamps=%d", name,
			  options->follow, (long long) tail, options->timestamps);
	r = cli_connect(cli, &client, err);
	if (r < 0)
		return r;
	r = client_open_websocket(client, path, &websocket, err);
	if (r < 0)
		return cli_failed(cli, path, r);
	websocket_set_handler(websocket, logs_message, &logs);
	r = stream_follow(websocket, err);
	return r < 0 ? r : 0;
}

const struct verb verb_logs = {
	.name = "logs",
	.synopsis = "[-f] [-n COUNT] [-t] NAME",
	.summary = "Show what an instance has written to its output and error output",
	.help = "Examples:\n  brume logs web\n  brume logs -f -n 20 web\n"
		"  brume logs web 2>/dev/null            only its standard output\n",
	.options = logs_options,
	.options_size = sizeof(struct logs_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_INSTANCE,
	.run = logs_run,
};
