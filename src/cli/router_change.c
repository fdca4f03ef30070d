/*
 * brume router attach, detach, route, floating, forward: each is a merge patch of one entry.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/choice.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "codec/uri.h"
#include "model/router.h"

/* What an entry is called in errors, and where it is. */
struct list {
	const char *path;   /* "spec.routes" */
	const char *member; /* "routes" */
	const char *what;   /* "route" */
};

static const struct list networks = { "spec.networks", "networks", "network" };
static const struct list routes = { "spec.routes", "routes", "route" };
static const struct list floating = { "spec.floating", "floating", "floating address" };
static const struct list forwards = { "spec.forwards", "forwards", "forward" };

static int send_patch(struct cli *cli, const char *name, const json_t *patch, const char *done,
		      const char *key, struct error *err)
{
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = mem_printf("/routers/%s", escaped);
	AUTO(free) char *title = mem_printf("changing router %s", name);
	AUTO(json_decref) json_t *operation = NULL, *router = NULL;
	int r = cli_request(cli, "PATCH", path, patch, &operation, err);

	if (r == 0)
		r = wait_operation(cli, title, operation, NULL, err);
	if (r == 0 && cli->style.format == FORMAT_JSON)
		r = listing_get(cli, "routers", name, &router, err);
	if (r < 0)
		return r;
	if (router)
		cli_print_json(cli, router);
	else if (cli->options.quiet)
		fprintf(cli->out, "%s\n", name);
	else
		fprintf(cli->out, "%s: %s %s\n", name, done, key);
	return 0;
}

/* `value` is handed over; NULL takes the entry away.  One that is there already is not replaced. */
static int change(struct cli *cli, const char *name, const struct list *list, const char *key,
		  json_t *value, const char *done, struct error *err)
{
	AUTO(json_decref) json_t *router = NULL, *patch = json_object();
	json_t *entry = json_object();
	bool add = value != NULL;
	const json_t *there;
	int r;

	json_object_set_new(entry, key, add ? value : json_null());
	json_object_set_new(patch, list->member, entry);
	r = listing_get(cli, "routers", name, &router, err);
	if (r < 0)
		return r;
	there = json_object_get(resource_at(router, list->path), key);
	if (add && there)
		return error_say(err, -EEXIST, "router \"%s\" has %s %s already", name, list->what,
				 key);
	if (!add && !there)
		return error_say(err, -ENOENT, "router \"%s\" has no %s %s", name, list->what, key);
	return send_patch(cli, name, patch, done, key, err);
}

/* ---- the router itself */

struct update_options {
	bool advertise, no_advertise, nat, no_nat, uplink, no_uplink;
};

#define UPDATE(member) offsetof(struct update_options, member)

static const struct option_def update_options[] = {
	{ 0, "uplink", NULL, OPTION_FLAG, UPDATE(uplink), "it leads outside" },
	{ 0, "no-uplink", NULL, OPTION_FLAG, UPDATE(no_uplink),
	  "it joins networks with each other only" },
	{ 0, "nat", NULL, OPTION_FLAG, UPDATE(nat), "outside with its own address" },
	{ 0, "no-nat", NULL, OPTION_FLAG, UPDATE(no_nat),
	  "outside with the networks' own addresses, for those who have a route" },
	{ 0, "advertise", NULL, OPTION_FLAG, UPDATE(advertise),
	  "the node's BGP daemon tells its peers of what others reach it by" },
	{ 0, "no-advertise", NULL, OPTION_FLAG, UPDATE(no_advertise), "it tells them no more" },
	{},
};

static int update_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct update_options *options = userdata;
	AUTO(json_decref) json_t *patch = json_object();
	int r = choice_put(cli, patch, "uplink", options->uplink, options->no_uplink, err);

	if (r == 0)
		r = choice_put(cli, patch, "nat", options->nat, options->no_nat, err);
	if (r == 0)
		r = choice_put(cli, patch, "advertise", options->advertise, options->no_advertise,
			       err);
	if (r < 0)
		return r;
	if (json_object_size(patch) == 0)
		return cli_usage(cli, err, "say --[no-]uplink, --[no-]nat or --[no-]advertise");
	if (options->advertise || options->no_advertise)
		return send_patch(cli, arguments->words[0], patch,
				  options->advertise ? "is" : "is not", "announced", err);
	return send_patch(cli, arguments->words[0], patch, "leads outside:",
			  options->no_uplink ? "no"
			  : options->no_nat  ? "routed"
			  : options->nat     ? "nat"
					     : "yes",
			  err);
}

const struct verb verb_router_update = {
	.name = "update",
	.synopsis = "OPTIONS NAME",
	.summary =
		"Say how a router leads outside, and whether others are told of what leads to it",
	.help = "Announced are its floating addresses and, without nat, its networks.  Which ones "
		"may "
		"be\nannounced is said by the node's policy.\n\n"
		"Examples:\n  brume router update border --no-nat\n"
		"  brume router update border --advertise\n"
		"  brume router update border --no-advertise\n",
	.options = update_options,
	.options_size = sizeof(struct update_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_ROUTER,
	.run = update_run,
};

/* ---- networks */

struct attach_options {
	const char *address, *address6;
};

#define ATTACH(member) offsetof(struct attach_options, member)

static const struct option_def attach_options[] = {
	{ 0, "address", "ADDRESS", OPTION_STRING, ATTACH(address),
	  "of the router there; else the network's first, its gateway" },
	{ 0, "address6", "ADDRESS", OPTION_STRING, ATTACH(address6), "the IPv6 one" },
	{},
};

/* The first option may be of either family. */
static int put_address(json_t *value, const char *option, const char *text, bool ipv4,
		       struct error *err)
{
	char canonical[IP_TEXT_SIZE];
	struct ip ip;

	if (!text)
		return 0;
	if (ip_parse(text, &ip) < 0 || (ip.family == 4 && !ipv4))
		return error_say(err, -EINVAL, "%s: \"%.64s\" is not an %s address", option, text,
				 ipv4 ? "IP" : "IPv6");
	ip_format(&ip, canonical);
	json_put_string(value, ip.family == 4 ? "ipv4" : "ipv6", canonical);
	return 0;
}

static int attach_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct attach_options *options = userdata;
	json_t *value = json_object();
	int r = put_address(value, "--address", options->address, true, err);

	if (r == 0)
		r = put_address(value, "--address6", options->address6, false, err);
	if (r < 0) {
		json_decref(value);
		cli->usage = true;
		return r;
	}
	return change(cli, arguments->words[0], &networks, arguments->words[1], value, "joins",
		      err);
}

static int detach_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	(void) userdata;
	return change(cli, arguments->words[0], &networks, arguments->words[1], NULL, "has left",
		      err);
}

const struct verb verb_router_attach = {
	.name = "attach",
	.synopsis = "[OPTIONS] ROUTER NETWORK",
	.summary = "Let a router join one more network",
	.help = "Examples:\n  brume router attach border backend\n"
		"  brume router attach other between --address 10.9.0.2\n",
	.options = attach_options,
	.options_size = sizeof(struct attach_options),
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_ROUTER,
	.completion2 = COMPLETE_NETWORK,
	.run = attach_run,
};

const struct verb verb_router_detach = {
	.name = "detach",
	.synopsis = "ROUTER NETWORK",
	.summary = "Let it leave a network",
	.help = "Example:\n  brume router detach border backend\n",
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_ROUTER,
	.completion2 = COMPLETE_NETWORK,
	.run = detach_run,
};

/* ---- routes */

static int subnet_key(struct cli *cli, const char *text, char ret[SUBNET_TEXT_SIZE],
		      struct error *err)
{
	struct subnet subnet;
	int r = subnet_parse(text, 0, "route", &subnet, err);

	if (r < 0)
		cli->usage = true;
	else
		subnet_format(&subnet, ret);
	return r;
}

static int route_add_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			 struct error *err)
{
	char key[SUBNET_TEXT_SIZE], via[IP_TEXT_SIZE];
	struct ip ip;
	int r = subnet_key(cli, arguments->words[1], key, err);

	(void) userdata;
	if (r < 0)
		return r;
	if (ip_parse(arguments->words[2], &ip) < 0)
		return cli_usage(cli, err, "route: \"%.64s\" is not an IP address",
				 arguments->words[2]);
	ip_format(&ip, via);
	return change(cli, arguments->words[0], &routes, key, json_pack("{s:s}", "via", via),
		      "has a route to", err);
}

static int route_remove_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	char key[SUBNET_TEXT_SIZE];
	int r = subnet_key(cli, arguments->words[1], key, err);

	(void) userdata;
	return r < 0 ? r
		     : change(cli, arguments->words[0], &routes, key, NULL,
			      "has no route any more to", err);
}

static const struct verb verb_route_add = {
	.name = "add",
	.synopsis = "ROUTER SUBNET ADDRESS",
	.summary = "Send what is for a subnet to another router",
	.help = "Example:\n  brume router route add border 10.2.0.0/24 10.9.0.2\n",
	.words_min = 3,
	.words_max = 3,
	.completion = COMPLETE_ROUTER,
	.run = route_add_run,
};

static const struct verb verb_route_remove = {
	.name = "remove",
	.synopsis = "ROUTER SUBNET",
	.summary = "Take a route away",
	.help = "Example:\n  brume router route remove border 10.2.0.0/24\n",
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_ROUTER,
	.run = route_remove_run,
};

static const struct verb *const route_verbs[] = { &verb_route_add, &verb_route_remove, NULL };

const struct verb verb_router_route = {
	.name = "route",
	.synopsis = "VERB ...",
	.summary = "Change a router's static routes",
	.verbs = route_verbs,
};

/* ---- floating addresses */

struct target_options {
	const char *network;
};

static const struct option_def target_options[] = {
	{ 0, "network", "NAME", OPTION_STRING, offsetof(struct target_options, network),
	  "which of the instance's, when the router joins several", COMPLETE_NETWORK },
	{},
};

/* An instance, or an address; NULL: nobody. */
static int put_target(struct cli *cli, json_t *value, const char *text, const char *network,
		      struct error *err)
{
	char address[IP_TEXT_SIZE];
	bool given = false;
	struct ip ip;

	if (text && ip_parse(text, &ip) == 0) {
		ip_format(&ip, address);
		json_put_string(value, "target", address);
	} else if (text) {
		json_put_string(value, "instance", text);
		given = true;
	}
	if (network && !given)
		return cli_usage(cli, err,
				 "--network: says which of an instance's networks, and "
				 "none is named");
	json_put_string(value, "network", network);
	return 0;
}

static int address_key(struct cli *cli, const char *text, char ret[IP_TEXT_SIZE], struct error *err)
{
	struct ip ip;

	if (ip_parse(text, &ip) < 0)
		return cli_usage(cli, err, "floating address: \"%.64s\" is not an IP address",
				 text);
	ip_format(&ip, ret);
	return 0;
}

static int floating_add_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	const struct target_options *options = userdata;
	char key[IP_TEXT_SIZE];
	json_t *value;
	int r = address_key(cli, arguments->words[1], key, err);

	if (r < 0)
		return r;
	value = json_object();
	r = put_target(cli, value, arguments->word_count > 2 ? arguments->words[2] : NULL,
		       options->network, err);
	if (r < 0) {
		json_decref(value);
		return r;
	}
	return change(cli, arguments->words[0], &floating, key, value, "has floating address", err);
}

static int floating_remove_run(struct cli *cli, const void *userdata,
			       const struct arguments *arguments, struct error *err)
{
	char key[IP_TEXT_SIZE];
	int r = address_key(cli, arguments->words[1], key, err);

	(void) userdata;
	return r < 0 ? r
		     : change(cli, arguments->words[0], &floating, key, NULL,
			      "has no floating address any more:", err);
}

static const struct verb verb_floating_add = {
	.name = "add",
	.synopsis = "[OPTIONS] ROUTER ADDRESS [INSTANCE]",
	.summary = "Give an instance an address of the outside, both ways",
	.help = "The instance is reached by it, and sends with it.  Without an instance it is for "
		"forwards.\nOnly root of the node gives addresses away.\n\n"
		"Example:\n  brume router floating add border 192.0.2.10 web\n",
	.options = target_options,
	.options_size = sizeof(struct target_options),
	.words_min = 2,
	.words_max = 3,
	.completion = COMPLETE_ROUTER,
	.run = floating_add_run,
};

static const struct verb verb_floating_remove = {
	.name = "remove",
	.synopsis = "ROUTER ADDRESS",
	.summary = "Take it away",
	.help = "Example:\n  brume router floating remove border 192.0.2.10\n",
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_ROUTER,
	.run = floating_remove_run,
};

static const struct verb *const floating_verbs[] = { &verb_floating_add, &verb_floating_remove,
						     NULL };

const struct verb verb_router_floating = {
	.name = "floating",
	.synopsis = "VERB ...",
	.summary = "Give instances addresses of the outside, or take them away",
	.verbs = floating_verbs,
};

/* ---- forwards */

static int forward_add_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			   struct error *err)
{
	const struct target_options *options = userdata;
	char key[ROUTER_KEY_SIZE], address[IP_TEXT_SIZE];
	struct router_forward forward;
	json_t *value;
	int r = router_forward_parse(arguments->words[1], &forward, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	router_forward_key(&forward, key);
	ip_format(&forward.target.address, address);
	value = json_pack("{s:i}", "port", (int) forward.target_port);
	r = put_target(cli, value, forward.target.instance[0] ? forward.target.instance : address,
		       options->network, err);
	if (r < 0) {
		json_decref(value);
		return r;
	}
	return change(cli, arguments->words[0], &forwards, key, value, "forwards", err);
}

static int forward_remove_run(struct cli *cli, const void *userdata,
			      const struct arguments *arguments, struct error *err)
{
	char key[ROUTER_KEY_SIZE];
	struct router_forward forward;
	int r = router_forward_key_parse(arguments->words[1], &forward, err);

	(void) userdata;
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	router_forward_key(&forward, key);
	return change(cli, arguments->words[0], &forwards, key, NULL,
		      "does not forward any more:", err);
}

static const struct verb verb_forward_add = {
	.name = "add",
	.synopsis = "[OPTIONS] ROUTER [ADDRESS:]PORT:INSTANCE:PORT[/udp]",
	.summary = "Lead a port of the node, or of a floating address, to an instance",
	.help = "Examples:\n  brume router forward add border 8080:web:80\n"
		"  brume router forward add border 192.0.2.10:53:names:53/udp\n",
	.options = target_options,
	.options_size = sizeof(struct target_options),
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_ROUTER,
	.run = forward_add_run,
};

static const struct verb verb_forward_remove = {
	.name = "remove",
	.synopsis = "ROUTER [ADDRESS:]PORT[/udp]",
	.summary = "Take a forward away",
	.help = "Example:\n  brume router forward remove border 8080\n",
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_ROUTER,
	.run = forward_remove_run,
};

static const struct verb *const forward_verbs[] = { &verb_forward_add, &verb_forward_remove, NULL };

const struct verb verb_router_forward = {
	.name = "forward",
	.synopsis = "VERB ...",
	.summary = "Forward ports through a router",
	.verbs = forward_verbs,
};
