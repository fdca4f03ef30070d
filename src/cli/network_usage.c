#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "codec/uri.h"

/* `brume network usage`: what instances have carried on their networks in all their life. */

struct usage_options {
	bool wide;
};

static const struct option_def usage_options[] = {
	{ 'w', "wide", NULL, OPTION_FLAG, offsetof(struct usage_options, wide), "packets, too" },
	{},
};

static const struct column usage_columns[] = {
	{ .title = "INSTANCE", .elastic = true },
	{ .title = "NETWORK", .elastic = true },
	{ .title = "INTERFACE" },
	{ .title = "IN INSIDE", .right = true },
	{ .title = "IN OUTSIDE", .right = true },
	{ .title = "OUT INSIDE", .right = true },
	{ .title = "OUT OUTSIDE", .right = true },
	{ .title = "IN INSIDE PACKETS", .right = true, .wide = true },
	{ .title = "IN OUTSIDE PACKETS", .right = true, .wide = true },
	{ .title = "OUT INSIDE PACKETS", .right = true, .wide = true },
	{ .title = "OUT OUTSIDE PACKETS", .right = true, .wide = true },
	{},
};

static const char *const usage_bytes[] = { "in.inside.bytes", "in.outside.bytes",
					   "out.inside.bytes", "out.outside.bytes" };
static const char *const usage_packets[] = { "in.inside.packets", "in.outside.packets",
					     "out.inside.packets", "out.outside.packets" };

static int by_instance(const void *a, const void *b)
{
	static const char *const keys[] = { "instance", "network", "network_uid" };
	int order = 0;

	for (size_t i = 0; i < ARRAY_COUNT(keys) && order == 0; i++) {
		const char *x = resource_text(*(json_t *const *) a, keys[i]);
		const char *y = resource_text(*(json_t *const *) b, keys[i]);

		order = strcmp(x ? x : "", y ? y : "");
	}
	return order;
}

/* A new reference: the ports in their order. */
static json_t *sorted(const json_t *ports)
{
	size_t count = json_array_size(ports);
	AUTO(free) json_t **list = mem_new0_array(json_t *, count + 1);
	json_t *ordered = json_array();

	for (size_t i = 0; i < count; i++)
		list[i] = json_array_get(ports, i);
	qsort(list, count, sizeof(*list), by_instance);
	for (size_t i = 0; i < count; i++)
		json_array_append(ordered, list[i]);
	return ordered;
}

static void put_number(const struct cli *cli, struct table *table, const json_t *port,
		       const char *path, bool bytes)
{
	uint64_t value = (uint64_t) json_integer_value(resource_at(port, path));
	AUTO(free) char *plain = mem_printf("%llu", (unsigned long long) value);
	char human[HUMAN_SIZE];

	human_bytes(value, human);
	table_cell(table, bytes && cli->style.format == FORMAT_TABLE ? human : plain);
}

static void print(struct cli *cli, const json_t *ports)
{
	AUTO(table_free) struct table *table = table_new(usage_columns);
	const json_t *port;
	size_t i;

	json_array_foreach(ports, i, port)
	{
		table_cell(table, resource_text(port, "instance"));
		table_cell(table, resource_text(port, "network"));
		table_cell(table, resource_text(port, "interface"));
		for (size_t n = 0; n < ARRAY_COUNT(usage_bytes); n++)
			put_number(cli, table, port, usage_bytes[n], true);
		for (size_t n = 0; n < ARRAY_COUNT(usage_packets); n++)
			put_number(cli, table, port, usage_packets[n], false);
	}
	table_print(table, cli->out, &cli->style);
}

/* What a name means is asked of the server: a network, or else an instance. */
static int ask(struct cli *cli, const char *name, json_t **ret, struct error *err)
{
	AUTO(free) char *escaped = name ? uri_encode(name) : NULL;
	AUTO(free) char *network = name ? mem_printf("/usage?network=%s", escaped) : NULL;
	AUTO(free) char *instance = name ? mem_printf("/usage?instance=%s", escaped) : NULL;
	int r;

	if (!name)
		return cli_request(cli, "GET", "/usage", NULL, ret, err);
	r = cli_request(cli, "GET", network, NULL, ret, err);
	if (r != -ENOENT)
		return r;
	cli->hint[0] = '\0';
	r = cli_request(cli, "GET", instance, NULL, ret, err);
	return r == -ENOENT
		       ? error_say(err, r, "there is no network and no instance \"%.64s\"", name)
		       : r;
}

static int usage_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	const struct usage_options *options = userdata;
	const char *name = arguments->word_count > 0 ? arguments->words[0] : NULL;
	AUTO(json_decref) json_t *answer = NULL, *ports = NULL;
	int r = ask(cli, name, &answer, err);

	if (r < 0)
		return r;
	ports = sorted(resource_at(answer, "ports"));
	cli->style.wide = options->wide || cli->style.format != FORMAT_TABLE;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, ports);
	else
		print(cli, ports);
	if (json_is_false(resource_at(answer, "counts")))
		cli_note(cli, "the node's kernel cannot count what instances carry now");
	return 0;
}

const struct verb verb_network_usage = {
	.name = "usage",
	.synopsis = "[-w] [NETWORK | INSTANCE]",
	.summary = "Show what instances have received and sent in all their life",
	.help = "Inside is what was exchanged with addresses of the network itself, outside is all "
		"else: the\ninternet, other networks, published ports.  Sums go on when an "
		"instance "
		"is started again,\nor comes back to a network; they end with the instance.  brume "
		"stats shows the present run.\n\n"
		"Examples:\n  brume network usage\n  brume network usage backend -w\n"
		"  brume network usage web -f json | jq '.[].out.outside.bytes'\n",
	.options = usage_options,
	.options_size = sizeof(struct usage_options),
	.words_max = 1,
	.completion = COMPLETE_NETWORK,
	.run = usage_run,
};
