#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "codec/uri.h"
#include "model/trace_request.h"

/* `brume network trace`: the way of a packet, hop by hop, and where it ends. */

struct trace_options {
	const char *from, *to, *proto;
	bool live;
};

#define TRACE(member) offsetof(struct trace_options, member)

static const struct option_def trace_options[] = {
	{ 0, "from", "INSTANCE[.NETWORK]", OPTION_STRING, TRACE(from),
	  "who sends; with a network: as its address there", COMPLETE_INSTANCE },
	{ 0, "to", "NAME|ADDRESS[:PORT]", OPTION_STRING, TRACE(to),
	  "INSTANCE, INSTANCE.NETWORK, an address, [IPv6]:PORT", COMPLETE_INSTANCE },
	{ 0, "proto", "PROTOCOL", OPTION_STRING, TRACE(proto),
	  "tcp (default with a port), udp or icmp (default without)", COMPLETE_PROTOCOL },
	{ 0, "live", NULL, OPTION_FLAG, TRACE(live),
	  "send one, too, and show what the kernel does with it" },
	{},
};

static const struct column trace_columns[] = {
	{ .title = "HOP", .right = true },
	{ .title = "KIND" },
	{ .title = "NAME" },
	{ .title = "VERDICT" },
	{ .title = "TEXT" },
	{},
};

/* "10.0.0.1 -> 10.0.0.2:80"; a source that is not known is the node's own. */
static void put_packet(struct strbuf *out, const json_t *packet)
{
	const char *source = resource_text(packet, "source");
	const char *destination = resource_text(packet, "destination");
	int64_t port = resource_int(packet, "port", 0);
	bool six = destination && strchr(destination, ':') && port;

	human_text(out, source ? source : "the node");
	strbuf_puts(out, six ? " -> [" : " -> ");
	human_text(out, destination ? destination : "?");
	if (six)
		strbuf_puts(out, "]");
	if (port)
		strbuf_printf(out, ":%lld", (long long) port);
}

static const char *mark_of(const json_t *hop)
{
	const char *verdict = resource_text(hop, "verdict");

	return verdict && strcmp(verdict, "dropped") == 0 ? "X" : " ";
}

static void put_hop(struct strbuf *out, const json_t *hop, size_t number)
{
	const char *kind = resource_text(hop, "kind"), *text = resource_text(hop, "text");

	strbuf_printf(out, "%s%3zu  %-9s  ", mark_of(hop), number, kind ? kind : "?");
	human_text(out, text ? text : "");
	strbuf_puts(out, "\n");
	if (!resource_at(hop, "before"))
		return;
	strbuf_printf(out, "%*s", 17, "");
	put_packet(out, resource_at(hop, "before"));
	strbuf_puts(out, "  becomes  ");
	put_packet(out, resource_at(hop, "after"));
	strbuf_puts(out, "\n");
}

static void put_verdict(struct strbuf *out, const json_t *trace)
{
	static const char *const words[][2] = {
		{ "delivered", "delivered: it arrives" },
		{ "leaves", "leaves: what happens beyond is not brume's" },
		{ "dropped", "dropped: it ends at the hop that is marked X" },
		{ "unreachable", "unreachable: no answer will come" },
	};
	const char *verdict = resource_text(trace, "verdict");
	const char *advice = resource_text(trace, "advice");

	for (size_t i = 0; verdict && i < ARRAY_COUNT(words); i++)
		if (strcmp(words[i][0], verdict) == 0)
			strbuf_printf(out, "%s\n", words[i][1]);
	if (advice) {
		strbuf_puts(out, "try: ");
		human_text(out, advice);
		strbuf_puts(out, "\n");
	}
}

static bool is_telling(const json_t *step)
{
	const char *verdict = resource_text(step, "verdict");

	return verdict && (strcmp(verdict, "accept") == 0 || strcmp(verdict, "drop") == 0);
}

/* `most`: of a long name the beginning is enough. */
static void put_cell(struct strbuf *out, const char *text, int width, int most)
{
	AUTO(strbuf_done) struct strbuf harmless = {};

	human_text(&harmless, text ? text : "-");
	strbuf_printf(out, "%-*.*s  ", width, most, strbuf_str(&harmless));
}

/* Where the kernel decided something; the way through chains is in the JSON. */
static void put_steps(struct strbuf *out, const json_t *live)
{
	int64_t dropped = resource_int(live, "dropped_by", -1);
	const json_t *step;
	size_t i;

	json_array_foreach(resource_at(live, "steps"), i, step)
	{
		const char *place = resource_text(step, "place");
		const char *kind = resource_text(step, "kind");
		const char *text = resource_text(step, "text");
		const char *expression = resource_text(step, "expression");

		if (!is_telling(step))
			continue;
		strbuf_printf(out, "%s%3zu  %-6s  ", (int64_t) i == dropped ? "X" : " ", i + 1,
			      place && strcmp(place, "router") == 0 ? "router" : "node");
		put_cell(out, resource_text(step, "family"), 6, 64);
		put_cell(out, resource_text(step, "table"), 10, 64);
		put_cell(out, resource_text(step, "chain"), 12, text ? 12 : 64);
		put_cell(out, resource_text(step, "verdict"), 6, 64);
		if (text || expression)
			human_text(out, text ? text : expression);
		else if (kind && strcmp(kind, "policy") == 0)
			strbuf_puts(out, "by its policy");
		strbuf_puts(out, "\n");
	}
}

static void put_live(struct strbuf *out, const json_t *live)
{
	const char *text = resource_text(live, "text");
	bool agrees = json_is_true(resource_at(live, "agrees"));

	strbuf_puts(out, agrees ? "the kernel agrees: " : "the kernel does NOT agree: ");
	human_text(out, text ? text : "");
	strbuf_puts(out, "\n");
}

static void print_table(struct cli *cli, const json_t *hops)
{
	AUTO(table_free) struct table *table = table_new(trace_columns);
	const json_t *hop;
	size_t i;

	json_array_foreach(hops, i, hop)
	{
		char number[24];

		snprintf(number, sizeof(number), "%zu", i + 1);
		table_cell(table, number);
		table_cell(table, resource_text(hop, "kind"));
		table_cell(table, resource_text(hop, "name"));
		table_cell(table, resource_text(hop, "verdict"));
		table_cell(table, resource_text(hop, "text"));
	}
	table_print(table, cli->out, &cli->style);
}

static void print(struct cli *cli, const json_t *trace)
{
	const json_t *hops = resource_at(trace, "hops"), *live = resource_at(trace, "live"), *hop;
	AUTO(strbuf_done) struct strbuf out = {};
	size_t i;

	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, trace);
		return;
	}
	if (cli->style.format != FORMAT_TABLE) {
		print_table(cli, hops);
		return;
	}
	if (!cli->options.quiet) {
		json_array_foreach(hops, i, hop) put_hop(&out, hop, i + 1);
		if (live)
			strbuf_puts(&out, "in the kernel:\n");
		put_steps(&out, live);
	}
	put_verdict(&out, trace);
	if (live)
		put_live(&out, live);
	fputs(strbuf_str(&out), cli->out);
}

static bool is_good(const json_t *trace)
{
	const char *verdict = resource_text(trace, "verdict");
	bool good =
		verdict && (strcmp(verdict, "delivered") == 0 || strcmp(verdict, "leaves") == 0);

	return good && !json_is_false(resource_at(trace, "live.agrees"));
}

static int trace_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	const struct trace_options *options = userdata;
	AUTO(trace_request_free) struct trace_request *request = NULL;
	AUTO(json_decref) json_t *body = NULL, *trace = NULL;
	AUTO(free) char *instance = NULL, *escaped = NULL, *path = NULL;
	int r;

	(void) arguments;
	if (!options->from || !options->to)
		return cli_usage(cli, err, "%s is missing", options->from ? "--to" : "--from");
	r = trace_request_parse(options->from, options->to, options->proto, &instance, &request,
				err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	request->live = options->live;
	escaped = uri_encode(instance);
	path = mem_printf("/instances/%s/trace", escaped);
	body = trace_request_encode(request);
	r = cli_request(cli, "POST", path, body, &trace, err);
	if (r < 0)
		return r;
	print(cli, trace);
	return is_good(trace) ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct verb verb_network_trace = {
	.name = "trace",
	.synopsis =
		"--from INSTANCE[.NETWORK] --to NAME|ADDRESS[:PORT] [--proto PROTOCOL] [--live]",
	.summary = "Follow a packet from an instance, hop by hop, to where it ends",
	.help = "It is computed from what networks, routers, groups and balancers are to be.  "
		"--live sends a\npacket as well, asks the kernel which rules it met, and says "
		"whether both agree; who drops\nit and is not brume is named.  The first packet "
		"of a connection is meant: answers come back\nby themselves.  Where it is dropped "
		"the last line is a command that opens the way.\nExit code 0: it arrives, or "
		"leaves the node; 1: it does not, or the kernel does not agree.\n\n"
		"Examples:\n  brume network trace --from web --to db:5432\n"
		"  brume network trace --from web --to db:5432 --live\n"
		"  brume network trace --from web.backend --to 10.90.0.7 --proto icmp\n"
		"  brume network trace --from web --to [2001:db8::1]:443\n"
		"  brume network trace --from web --to 192.0.2.1:53 --proto udp -f json\n",
	.options = trace_options,
	.options_size = sizeof(struct trace_options),
	.run = trace_run,
};
