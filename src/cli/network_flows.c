/*
 * brume network flows: who talked with whom on a network.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/flow_text.h"
#include "cli/log_follow.h"
#include "cli/log_range.h"
#include "cli/verb.h"
#include "codec/uri.h"

enum { LINE_MAX_BYTES = 64 * 1024 };

struct flows_options {
	const char *instance, *tail, *since, *until;
	bool follow, open;
};

#define FLOWS(member) offsetof(struct flows_options, member)

static const struct option_def flows_options[] = {
	{ 0, "follow", NULL, OPTION_FLAG, FLOWS(follow), "go on with what ends, until Ctrl-C" },
	{ 0, "open", NULL, OPTION_FLAG, FLOWS(open),
	  "what is open now instead; for networks without a flow log, too" },
	{ 0, "instance", "NAME", OPTION_STRING, FLOWS(instance), "only flows from or to it",
	  COMPLETE_INSTANCE },
	{ 'n', "tail", "COUNT", OPTION_STRING, FLOWS(tail), "only the network's last ones" },
	{ 0, "since", "TIME", OPTION_STRING, FLOWS(since),
	  "only those that ended from then on: 10m (ago), 2026-11-21T01:30:00Z, 2026-11-21" },
	{ 0, "until", "TIME", OPTION_STRING, FLOWS(until), "only those that ended up to then" },
	{},
};

struct flows {
	struct cli *cli;
	const char *instance; /* NULL: all */
	struct strbuf line;   /* begun and not ended */
};

static int print_line(struct flows *flows, struct error *err)
{
	AUTO(json_decref) json_t *line = NULL;
	AUTO(strbuf_done) struct strbuf text = {};
	int r = json_parse(strbuf_str(&flows->line), flows->line.size, LINE_MAX_BYTES, &line, err);

	if (r < 0)
		return error_wrap(err, r, "a line of the flow log is not understood");
	if (!flow_concerns(line, flows->instance))
		return 0;
	if (flows->cli->style.format == FORMAT_JSON)
		strbuf_printf(&text, "%s\n", strbuf_str(&flows->line));
	else
		flow_text(&text, line);
	fputs(strbuf_str(&text), flows->cli->out);
	return 0;
}

static int show(void *userdata, char channel, const char *data, size_t size, struct error *err)
{
	struct flows *flows = userdata;
	const char *end;
	int r = 0;

	(void) channel;
	for (; r == 0 && (end = memchr(data, '\n', size));
	     size -= (size_t) (end + 1 - data), data = end + 1) {
		strbuf_append(&flows->line, data, (size_t) (end - data));
		r = print_line(flows, err);
		strbuf_consume(&flows->line, flows->line.size);
	}
	if (r == 0 && flows->line.size + size > LINE_MAX_BYTES)
		return error_say(err, -EBADMSG, "a line of the flow log has no end");
	strbuf_append(&flows->line, data, size);
	if (r == 0 && fflush(flows->cli->out) != 0)
		r = error_set(err, -errno, "cannot write the lines");
	return r;
}

static int flows_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	const struct flows_options *options = userdata;
	const struct log_range range = { options->tail, options->since, options->until };
	AUTO(free) char *name = uri_encode(arguments->words[0]);
	AUTO(free)
	char *path = mem_printf("/networks/%s/flows?follow=%d&open=%d", name, options->follow,
				options->open);
	AUTO(free) char *query = NULL;
	struct flows flows = { .cli = cli, .instance = options->instance };
	int r = log_range_query(&range, cli->clock, &query, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	if (options->open && (options->follow || range.tail || range.since || range.until))
		return cli_usage(cli, err,
				 "--open: shows what there is now, and goes with --instance only");
	if (cli->style.format == FORMAT_CSV)
		return cli_usage(cli, err, "flows are shown as --format table or json");
	r = log_follow(cli, &(struct log_source){ path, query, show, &flows }, err);
	strbuf_done(&flows.line);
	return r;
}

const struct verb verb_network_flows = {
	.name = "flows",
	.synopsis = "[--follow|--open] [--instance NAME] [-n COUNT] [--since TIME] [--until TIME] "
		    "NETWORK",
	.summary = "Show who talked with whom on a network",
	.help = "A network has a log of it from brume network update --flow-log: a line for "
		"each\nconnection that has ended, with who began it, what addresses were "
		"translated into, how\nmuch went each way, and why it ended.  With --format json "
		"one object a line.\n\n"
		"Examples:\n  brume network flows shop\n"
		"  brume network flows --follow --instance web shop\n"
		"  brume network flows --since 10m -f json shop\n"
		"  brume network flows --open shop\n",
	.options = flows_options,
	.options_size = sizeof(struct flows_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_NETWORK,
	.run = flows_run,
};
