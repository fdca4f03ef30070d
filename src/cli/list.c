#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"

struct list_options {
	bool wide;
};

static const struct option_def list_options[] = {
	{ 'w', "wide", NULL, OPTION_FLAG, offsetof(struct list_options, wide),
	  "also IPv6, node and exit code" },
	{},
};

static const struct column list_columns[] = {
	{ .title = "NAME" },
	{ .title = "TYPE" },
	{ .title = "STATE", .state = true },
	{ .title = "IMAGE", .elastic = true },
	{ .title = "IPV4" },
	{ .title = "IPV6", .wide = true },
	{ .title = "PORTS", .elastic = true },
	{ .title = "UPTIME", .right = true },
	{ .title = "RESTARTS", .right = true },
	{ .title = "EXIT", .right = true, .wide = true },
	{ .title = "NODE", .wide = true },
	{},
};

static void list_cell_number(struct table *table, const json_t *resource, const char *path)
{
	AUTO(free) char *text = mem_printf("%lld", (long long) resource_int(resource, path, 0));

	table_cell(table, text);
}

/* How long it has been running; nothing for what does not run. */
static void list_cell_uptime(struct cli *cli, struct table *table, const json_t *instance)
{
	const char *started = resource_text(instance, "status.started");
	const char *state = resource_text(instance, "status.state");
	bool runs = state && (strcmp(state, "running") == 0 || strcmp(state, "paused") == 0 ||
			      strcmp(state, "stopping") == 0);
	char text[HUMAN_SIZE];
	int64_t ms;

	if (!runs || !started || clock_parse_rfc3339(started, &ms) < 0) {
		table_cell(table, NULL);
		return;
	}
	human_duration(clock_realtime_ms(cli->clock) - ms, text);
	table_cell(table, text);
}

/* With the result of its health checks, when there are any. */
static void list_cell_state(struct table *table, const json_t *instance)
{
	const char *state = resource_text(instance, "status.state");
	const char *health = resource_text(instance, "status.health.state");
	AUTO(free) char *text = state && health ? mem_printf("%s (%s)", state, health) : NULL;

	table_cell(table, text ? text : state);
}

static void list_row(struct cli *cli, struct table *table, const json_t *instance)
{
	AUTO(strbuf_done) struct strbuf ports = {}, ipv4 = {}, ipv6 = {};

	table_cell(table, resource_text(instance, "meta.name"));
	table_cell(table, resource_text(instance, "spec.type"));
	list_cell_state(table, instance);
	table_cell(table, resource_text(instance, "spec.image"));
	resource_put_addresses(&ipv4, instance, true, false);
	table_cell(table, strbuf_str(&ipv4));
	resource_put_addresses(&ipv6, instance, false, true);
	table_cell(table, strbuf_str(&ipv6));
	resource_put_ports(&ports, instance);
	table_cell(table, strbuf_str(&ports));
	list_cell_uptime(cli, table, instance);
	list_cell_number(table, instance, "status.restarts");
	if (resource_int(instance, "status.exit_code", -1) >= 0)
		list_cell_number(table, instance, "status.exit_code");
	else
		table_cell(table, NULL);
	table_cell(table, resource_text(instance, "spec.node"));
}

static int list_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	const struct list_options *options = userdata;

	(void) arguments;
	return listing_print(cli, "/instances?recursion=1", list_columns, list_row, options->wide,
			     err);
}

const struct verb verb_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "[-w] [-f FORMAT]",
	.summary = "List the instances",
	.help = "Examples:\n"
		"  brume list\n"
		"  brume list -f json | jq '.[].meta.name'\n"
		"  brume list -q | xargs brume stop\n",
	.options = list_options,
	.options_size = sizeof(struct list_options),
	.run = list_run,
};
