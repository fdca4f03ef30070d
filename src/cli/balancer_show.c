/*
 * brume balancer list and show.
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli/balancer.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/resource.h"

void balancer_put_listens(struct strbuf *out, const json_t *balancer)
{
	const json_t *one;
	size_t i;

	json_array_foreach(resource_at(balancer, "spec.listen"), i, one)
	{
		const char *address = resource_text(one, "address");
		const char *protocol = resource_text(one, "protocol");

		strbuf_puts(out, i > 0 ? ", " : "");
		if (address)
			strbuf_printf(out, strchr(address, ':') ? "[%s]:" : "%s:", address);
		strbuf_printf(out, "%lld->%lld", (long long) resource_int(one, "port", 0),
			      (long long) resource_int(one, "target_port", 0));
		if (protocol && strcmp(protocol, "tcp") != 0)
			strbuf_printf(out, "/%s", protocol);
	}
}

void balancer_put_vip(struct strbuf *out, const json_t *balancer)
{
	const char *ipv4 = resource_text(balancer, "spec.vip.ipv4");
	const char *ipv6 = resource_text(balancer, "spec.vip.ipv6");

	strbuf_printf(out, "%s%s%s", ipv4 ? ipv4 : "", ipv4 && ipv6 ? ", " : "", ipv6 ? ipv6 : "");
}

/* How many members take connections, of how many. */
void balancer_put_up(struct strbuf *out, const json_t *balancer)
{
	const json_t *list = resource_at(balancer, "status.members"), *one;
	size_t up = 0, i;

	json_array_foreach(list, i, one)
	{
		const char *health = resource_text(one, "health");

		up += !json_is_true(resource_at(one, "draining")) && health &&
		      (strcmp(health, "none") == 0 || strcmp(health, "healthy") == 0);
	}
	strbuf_printf(out, "%zu/%zu", up, json_array_size(list));
}

/* ---- list ---- */

static const struct column balancer_columns[] = {
	{ .title = "NAME" },      { .title = "STATE", .state = true },
	{ .title = "LISTEN" },    { .title = "VIP", .wide = true },
	{ .title = "MEMBERS" },   { .title = "SELECTOR", .elastic = true },
	{ .title = "ALGORITHM" }, {},
};

static void balancer_row(struct cli *cli, struct table *table, const json_t *balancer)
{
	AUTO(strbuf_done) struct strbuf listens = {}, vip = {}, up = {};

	(void) cli;
	balancer_put_listens(&listens, balancer);
	balancer_put_vip(&vip, balancer);
	balancer_put_up(&up, balancer);
	table_cell(table, resource_text(balancer, "meta.name"));
	table_cell(table, resource_text(balancer, "status.state"));
	table_cell(table, strbuf_str(&listens));
	table_cell(table, vip.size > 0 ? strbuf_str(&vip) : NULL);
	table_cell(table, strbuf_str(&up));
	table_cell(table, resource_text(balancer, "spec.selector"));
	table_cell(table, resource_text(balancer, "spec.algorithm"));
}

static int list_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	(void) userdata;
	(void) arguments;
	return listing_print(cli, "/balancers?recursion=1", balancer_columns, balancer_row, false,
			     err);
}

/* ---- show ---- */

static void put_check(struct strbuf *out, const json_t *balancer)
{
	const char *type = resource_text(balancer, "spec.check.type");
	const char *path = resource_text(balancer, "spec.check.path");
	int64_t port = resource_int(balancer, "spec.check.port", 0);

	strbuf_puts(out, type ? type : "none");
	if (!type || strcmp(type, "none") == 0)
		return;
	if (port)
		strbuf_printf(out, ":%lld", (long long) port);
	strbuf_printf(out, "%s%s, every %lld ms, rise %lld, fall %lld", path ? " " : "",
		      path ? path : "",
		      (long long) resource_int(balancer, "spec.check.interval_ms", 0),
		      (long long) resource_int(balancer, "spec.check.rise", 0),
		      (long long) resource_int(balancer, "spec.check.fall", 0));
}

static void put_members(struct strbuf *out, const json_t *balancer)
{
	const json_t *one;
	size_t i;

	json_array_foreach(resource_at(balancer, "status.members"), i, one)
	{
		AUTO(strbuf_done) struct strbuf text = {};
		const char *name = resource_text(one, "instance"), *why = resource_text(one, "why");
		const char *health = resource_text(one, "health");
		const char *address = resource_text(one, "address");
		int64_t connections = resource_int(one, "connections", -1);

		strbuf_printf(&text, "%s %s", name ? name : "?", address ? address : "");
		if (health && strcmp(health, "none") != 0)
			strbuf_printf(&text, " %s", health);
		if (json_is_true(resource_at(one, "drained")))
			strbuf_puts(&text, " drained");
		else if (json_is_true(resource_at(one, "draining")))
			strbuf_puts(&text, " draining");
		if (connections >= 0)
			strbuf_printf(&text, " %lld connections", (long long) connections);
		if (why)
			strbuf_printf(&text, " (%s)", why);
		listing_fact(out, i == 0 ? "members" : "", strbuf_str(&text));
	}
}

static int show_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	AUTO(strbuf_done) struct strbuf out = {}, listens = {}, vip = {}, check = {};
	AUTO(json_decref) json_t *balancer = NULL;
	AUTO(free) char *drain = NULL;
	int r = listing_get(cli, "balancers", arguments->words[0], &balancer, err);

	(void) userdata;
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, balancer);
		return 0;
	}
	balancer_put_listens(&listens, balancer);
	balancer_put_vip(&vip, balancer);
	put_check(&check, balancer);
	drain = mem_printf("%lld s", (long long) resource_int(balancer, "spec.drain_s", 0));
	listing_fact(&out, "name", resource_name(balancer));
	listing_fact(&out, "uid", resource_text(balancer, "meta.uid"));
	listing_fact(&out, "project", resource_text(balancer, "meta.project"));
	listing_fact(&out, "state", resource_text(balancer, "status.state"));
	listing_fact(&out, "error", resource_text(balancer, "status.error"));
	listing_fact_time(&out, "created", balancer, "meta.created");
	listing_fact(&out, "listens at", strbuf_str(&listens));
	listing_fact(&out, "vip", strbuf_str(&vip));
	listing_fact(&out, "network", resource_text(balancer, "spec.network"));
	listing_fact(&out, "selector", resource_text(balancer, "spec.selector"));
	listing_fact(&out, "algorithm", resource_text(balancer, "spec.algorithm"));
	listing_fact(&out, "check", strbuf_str(&check));
	listing_fact(&out, "drain", drain);
	put_members(&out, balancer);
	listing_fact_map(&out, "labels", resource_at(balancer, "meta.labels"));
	listing_print_facts(cli, &out);
	return 0;
}

const struct verb balancer_verb_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "",
	.summary = "List the load balancers",
	.run = list_run,
};

const struct verb balancer_verb_show = {
	.name = "show",
	.alias = "info",
	.synopsis = "NAME",
	.summary = "Show all about a load balancer, and its members",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_BALANCER,
	.run = show_run,
};
