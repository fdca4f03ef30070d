/*
 * brume router: what joins networks - made, looked at, deleted.  router_change.c changes them.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "cli/batch.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "model/meta.h"

struct router_options {
	char **networks, **labels;
	bool uplink, no_uplink, no_nat, advertise;
};

#define ROUTER(member) offsetof(struct router_options, member)

static const struct option_def create_options[] = {
	{ 0, "network", "NAME", OPTION_LIST, ROUTER(networks),
	  "an isolated network to join, as its gateway", COMPLETE_NETWORK },
	{ 0, "uplink", NULL, OPTION_FLAG, ROUTER(uplink), "it leads outside (default)" },
	{ 0, "no-uplink", NULL, OPTION_FLAG, ROUTER(no_uplink),
	  "it joins networks with each other only" },
	{ 0, "no-nat", NULL, OPTION_FLAG, ROUTER(no_nat),
	  "outside with the networks' own addresses, for those who have a route" },
	{ 0, "advertise", NULL, OPTION_FLAG, ROUTER(advertise),
	  "the node's BGP daemon tells its peers of what others reach it by" },
	{ 'l', "label", "KEY=VALUE", OPTION_LIST, ROUTER(labels), "a label" },
	{},
};

static int create_build(const struct router_options *options, const char *name, json_t *body,
			struct error *err)
{
	json_t *networks = json_object(), *labels = json_object();
	AUTO(strv_free) char **all = NULL;
	int r = name_check(name, "name", err);

	json_object_set_new(body, "name", json_string(name));
	json_object_set_new(body, "networks", networks);
	json_object_set_new(body, "labels", labels);
	if (r == 0 && options->no_uplink &&
	    (options->uplink || options->no_nat || options->advertise))
		r = error_say(err, -EINVAL, "--no-uplink goes without %s",
			      options->uplink   ? "--uplink"
			      : options->no_nat ? "--no-nat"
						: "--advertise");
	if (options->advertise)
		json_object_set_new(body, "advertise", json_true());
	json_object_set_new(body, "uplink", json_boolean(!options->no_uplink));
	json_object_set_new(body, "nat", json_boolean(!options->no_nat));
	for (char **p = options->networks; p && *p && r == 0; p++) {
		r = name_check(*p, "--network", err);
		if (r == 0)
			json_object_set_new(networks, *p, json_object());
	}
	for (char **p = options->labels; p && *p; p++) {
		const char *value = strchr(*p, '=');
		AUTO(free)
		char *key = value ? mem_strndup(*p, (size_t) (value - *p)) : mem_strdup(*p);

		strv_env_set(&all, key, value ? value + 1 : "");
		json_object_set_new(labels, key, json_string(value ? value + 1 : ""));
	}
	return r < 0 ? r : labels_check(all, err);
}

static int create_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	AUTO(json_decref) json_t *body = json_object();
	AUTO(json_decref) json_t *operation = NULL, *router = NULL;
	const char *name = arguments->words[0];
	AUTO(free) char *title = mem_printf("creating router %s", name);
	int r = create_build(userdata, name, body, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	r = cli_request(cli, "POST", "/routers", body, &operation, err);
	if (r == 0)
		r = wait_operation(cli, title, operation, NULL, err);
	if (r == 0)
		r = listing_get(cli, "routers", name, &router, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, router);
	else if (cli->style.format == FORMAT_TABLE && !cli->options.quiet)
		fprintf(cli->out, "%s is ready\n", name);
	else
		fprintf(cli->out, "%s\n", name);
	return 0;
}

static const char *outside(const json_t *router)
{
	if (!json_is_true(resource_at(router, "spec.uplink")))
		return "no";
	return json_is_true(resource_at(router, "spec.nat")) ? "nat" : "routed";
}

/* "a 10.1.0.1, b 10.2.0.1" */
static void put_networks(struct strbuf *out, const json_t *router)
{
	json_t *networks = (json_t *) resource_at(router, "spec.networks"), *value;
	const char *key;

	json_object_foreach(networks, key, value)
	{
		const char *ipv4 = resource_text(value, "ipv4"),
			   *ipv6 = resource_text(value, "ipv6");

		strbuf_printf(out, "%s%s%s%s", out->size ? ", " : "", key, ipv4 || ipv6 ? " " : "",
			      ipv4   ? ipv4
			      : ipv6 ? ipv6
				     : "");
	}
}

static const struct column columns[] = {
	{ .title = "NAME" },     { .title = "STATE", .state = true },
	{ .title = "OUTSIDE" },  { .title = "NETWORKS" },
	{ .title = "FLOATING" }, {},
};

static void row(struct cli *cli, struct table *table, const json_t *router)
{
	AUTO(strbuf_done) struct strbuf networks = {}, floating = {};
	json_t *value;
	const char *key;

	(void) cli;
	put_networks(&networks, router);
	json_object_foreach((json_t *) resource_at(router, "spec.floating"), key, value)
		strbuf_printf(&floating, "%s%s", floating.size ? ", " : "", key);
	table_cell(table, resource_text(router, "meta.name"));
	table_cell(table, resource_text(router, "status.state"));
	table_cell(table, outside(router));
	table_cell(table, strbuf_str(&networks));
	table_cell(table, strbuf_str(&floating));
}

static int list_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	(void) userdata;
	(void) arguments;
	return listing_print(cli, "/routers?recursion=1", columns, row, false, err);
}

/* "web (10.1.0.5)" or "nothing now: web" */
static void put_target(struct strbuf *out, const json_t *value)
{
	const char *instance = resource_text(value, "instance");
	const char *ipv4 = resource_text(value, "ipv4"), *ipv6 = resource_text(value, "ipv6");
	const char *address = ipv4 ? ipv4 : ipv6;

	if (instance && address)
		strbuf_printf(out, "%s (%s)", instance, address);
	else if (instance)
		strbuf_printf(out, "nothing now: %s", instance);
	else
		strbuf_puts(out, address ? address : "forwards only");
}

static void show_entries(struct strbuf *out, const json_t *router, const char *path,
			 const char *title)
{
	json_t *value;
	const char *key;

	json_object_foreach((json_t *) resource_at(router, path), key, value)
	{
		AUTO(strbuf_done) struct strbuf line = {};
		const char *via = resource_text(value, "via");
		int64_t port = resource_int(value, "port", 0);

		strbuf_printf(&line, "%s %s ", key, via ? "via" : "->");
		if (via)
			strbuf_puts(&line, via);
		else
			put_target(&line, value);
		if (port)
			strbuf_printf(&line, " port %lld", (long long) port);
		listing_fact(out, title, strbuf_str(&line));
		title = "";
	}
}

static void show_networks(struct strbuf *out, const json_t *router)
{
	const char *key, *title = "networks";
	json_t *value;

	json_object_foreach((json_t *) resource_at(router, "spec.networks"), key, value)
	{
		AUTO(strbuf_done) struct strbuf line = {};
		const char *ipv4 = resource_text(value, "ipv4"),
			   *ipv6 = resource_text(value, "ipv6");

		strbuf_printf(&line, "%s %s%s%s", key, ipv4 ? ipv4 : "", ipv4 && ipv6 ? ", " : "",
			      ipv6 ? ipv6 : "");
		listing_fact(out, title, strbuf_str(&line));
		title = "";
	}
}

static int show_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	AUTO(json_decref) json_t *router = NULL;
	AUTO(strbuf_done) struct strbuf out = {};
	int r = listing_get(cli, "routers", arguments->words[0], &router, err);

	(void) userdata;
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, router);
		return 0;
	}
	listing_fact(&out, "name", resource_name(router));
	listing_fact(&out, "uid", resource_text(router, "meta.uid"));
	listing_fact(&out, "project", resource_text(router, "meta.project"));
	listing_fact(&out, "state", resource_text(router, "status.state"));
	listing_fact(&out, "error", resource_text(router, "status.error"));
	listing_fact_time(&out, "created", router, "meta.created");
	listing_fact(&out, "outside", outside(router));
	listing_advertised(&out, router);
	show_networks(&out, router);
	show_entries(&out, router, "spec.routes", "routes");
	show_entries(&out, router, "spec.floating", "floating");
	show_entries(&out, router, "spec.forwards", "forwards");
	listing_fact(&out, "node", resource_text(router, "spec.node"));
	listing_fact_map(&out, "labels", resource_at(router, "meta.labels"));
	listing_print_facts(cli, &out);
	return 0;
}

static int delete_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	struct batch batch = {
		.doing = "deleting router",
		.done = "deleted",
		.method = "DELETE",
		.collection = "routers",
		.suffix = "",
	};

	(void) userdata;
	return batch_run(cli, &batch, arguments, err);
}

const struct verb verb_router_create = {
	.name = "create",
	.synopsis = "[OPTIONS] NAME",
	.summary = "Create a router that joins isolated networks",
	.help = "Instances of a joined network have the router as their default gateway, unless "
		"another\nnetwork of theirs comes first.  Their name servers are those that the "
		"node "
		"itself asks,\nor what --dns names at the launch.\n\n"
		"Examples:\n  brume router create inside --network a --network b --no-uplink\n"
		"  brume router create border --network a\n",
	.options = create_options,
	.options_size = sizeof(struct router_options),
	.words_min = 1,
	.words_max = 1,
	.run = create_run,
};

const struct verb verb_router_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "",
	.summary = "List the routers",
	.run = list_run,
};

const struct verb verb_router_show = {
	.name = "show",
	.alias = "info",
	.synopsis = "NAME",
	.summary = "Show all about a router",
	.help = "Example:\n  brume router show border\n",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_ROUTER,
	.run = show_run,
};

const struct verb verb_router_delete = {
	.name = "delete",
	.alias = "rm",
	.synopsis = "NAME...",
	.summary = "Delete routers; what they have joined stays",
	.help = "Example:\n  brume router delete border\n",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_ROUTER,
	.run = delete_run,
};
