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
#include "cli/network_graph.h"
#include "cli/number.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "model/request.h"

enum { NETWORK_MTU_MIN = 1280, NETWORK_MTU_MAX = 65535 };

struct network_options {
	const char *subnet, *ipv4, *ipv6, *dns_domain, *mtu, *driver, *mode, *uplink;
	char **labels, **gateways, **ranges;
	bool nat, routed, no_nat, isolated, dhcp, advertise, flow_log;
};

#define NETWORK(member) offsetof(struct network_options, member)

static const struct option_def network_options[] = {
	{ 0, "subnet", "SUBNET", OPTION_STRING, NETWORK(subnet),
	  "like 10.91.0.0/24; without any, one of each family is chosen" },
	{ 0, "ipv4", "SUBNET", OPTION_STRING, NETWORK(ipv4), "the same" },
	{ 0, "ipv6", "SUBNET", OPTION_STRING, NETWORK(ipv6),
	  "like fd12:3456::/64; alone: a network without IPv4" },
	{ 0, "nat", NULL, OPTION_FLAG, NETWORK(nat),
	  "out to the world with the node's addresses (default)" },
	{ 0, "routed", NULL, OPTION_FLAG, NETWORK(routed),
	  "in and out with its own addresses, for those who have a route" },
	{ 0, "no-nat", NULL, OPTION_FLAG, NETWORK(no_nat), "the same as --routed" },
	{ 0, "isolated", NULL, OPTION_FLAG, NETWORK(isolated),
	  "nothing leads in or out; its subnet may be another network's, too" },
	{ 0, "driver", "DRIVER", OPTION_STRING, NETWORK(driver),
	  "bridge (default), macvlan, physical, ovs", COMPLETE_DRIVER },
	{ 0, "mode", "MODE", OPTION_STRING, NETWORK(mode),
	  "of macvlan: bridge (default), private, vepa, passthru", COMPLETE_MODE },
	{ 0, "uplink", "INTERFACE", OPTION_STRING, NETWORK(uplink),
	  "of the node: where macvlans are on; a bridge, for physical and ovs" },
	{ 0, "gateway", "ADDRESS", OPTION_LIST, NETWORK(gateways),
	  "of the LAN behind the uplink, or none; else its first address" },
	{ 0, "range", "FIRST-LAST", OPTION_LIST, NETWORK(ranges),
	  "addresses to choose from; else all of the subnet" },
	{ 0, "dns-domain", "NAME", OPTION_STRING, NETWORK(dns_domain),
	  "a second domain of its instances, instead of brume.internal" },
	{ 0, "dhcp", NULL, OPTION_FLAG, NETWORK(dhcp),
	  "give each port its addresses by DHCP, too, and nobody else any" },
	{ 0, "advertise", NULL, OPTION_FLAG, NETWORK(advertise),
	  "of a routed one: the node's BGP daemon tells its peers the way to it" },
	{ 0, "flow-log", NULL, OPTION_FLAG, NETWORK(flow_log),
	  "put down who talks with whom: brume network flows" },
	{ 0, "mtu", "BYTES", OPTION_STRING, NETWORK(mtu),
	  "largest packet, from 1280 on; else 1500, or what a tunnel or the uplink leaves" },
	{ 'l', "label", "KEY=VALUE", OPTION_LIST, NETWORK(labels), "a label" },
	{},
};

/* One of NULL-terminated `names`; the error names them all. */
static int network_word(const char *text, const char *option, const char *const *names,
			unsigned int *ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf all = {};

	for (unsigned int i = 0; names[i]; i++) {
		if (strcmp(names[i], text) == 0) {
			*ret = i;
			return 0;
		}
		strbuf_printf(&all, "%s%s", i ? ", " : "", names[i]);
	}
	return error_say(err, -EINVAL, "%s: \"%.32s\" must be one of %s", option, text,
			 strbuf_str(&all));
}

static int network_gateway(struct network_spec *spec, const char *text, struct error *err)
{
	struct ip ip;

	if (strcmp(text, "none") == 0) {
		spec->gateway4 = spec->gateway6 = (struct ip){};
		return 0;
	}
	if (ip_parse(text, &ip) < 0)
		return error_say(err, -EINVAL, "--gateway: \"%.64s\" is not an IP address", text);
	if (!subnet_contains(ip.family == 4 ? &spec->ipv4 : &spec->ipv6, &ip))
		return error_say(err, -EINVAL, "--gateway: %s is not an address of the subnet",
				 text);
	*(ip.family == 4 ? &spec->gateway4 : &spec->gateway6) = ip;
	return 0;
}

/* What of it depends on the driver; the server says what does not go together. */
static int network_build_driver(const struct network_options *options, struct network_spec *spec,
				struct error *err)
{
	unsigned int driver = 0, mode = MACVLAN_BRIDGED;
	const char *name = options->driver;
	int r = 0;

	if (name)
		r = network_word(strcmp(name, "bridged") == 0 ? "physical" : name, "--driver",
				 network_driver_names, &driver, err);
	if (r == 0 && options->mode)
		r = network_word(options->mode, "--mode", macvlan_mode_names, &mode, err);
	if (r < 0)
		return r;
	spec->driver = driver;
	spec->mode = mode;
	mem_replace(&spec->uplink, options->uplink);
	if (options->mode && driver != NETWORK_DRIVER_MACVLAN)
		return error_say(err, -EINVAL, "--mode: only --driver macvlan has modes");
	if (options->gateways && driver == NETWORK_DRIVER_BRIDGE)
		return error_say(err, -EINVAL,
				 "--gateway: with driver bridge the node is the gateway, by the "
				 "first address of the subnet");
	network_default_gateways(spec);
	for (char **p = options->gateways; r == 0 && p && *p; p++)
		r = network_gateway(spec, *p, err);
	for (char **p = options->ranges; r == 0 && p && *p; p++) {
		bool six = strchr(*p, ':');

		r = ip_range_parse(*p, six ? &spec->ipv6 : &spec->ipv4, "--range",
				   six ? &spec->range6 : &spec->range4, err);
	}
	return r;
}

static int network_build(const struct network_options *options, const char *name,
			 struct network_request *request, struct error *err)
{
	struct network_spec *spec = &request->spec;
	int64_t mtu;
	int r = name_check(name, "name", err);

	mem_replace(&request->name, name);
	if (r == 0 && options->subnet && options->ipv4)
		r = error_say(err, -EINVAL, "--subnet and --ipv4 are the same: give one of them");
	if (r == 0 && options->subnet)
		r = subnet_parse(options->subnet, 4, "--subnet", &spec->ipv4, err);
	if (r == 0 && options->ipv4)
		r = subnet_parse(options->ipv4, 4, "--ipv4", &spec->ipv4, err);
	if (r == 0 && options->ipv6)
		r = subnet_parse(options->ipv6, 6, "--ipv6", &spec->ipv6, err);
	if (r == 0 && options->mtu) {
		r = number_parse(options->mtu, "--mtu", NETWORK_MTU_MIN, NETWORK_MTU_MAX, &mtu,
				 err);
		if (r == 0)
			spec->mtu = (uint32_t) mtu;
	}
	if (r == 0)
		r = network_build_driver(options, spec, err);
	if (r < 0)
		return r;
	if (options->dns_domain)
		mem_replace(&spec->dns_domain, options->dns_domain);
	if (options->nat + (options->routed || options->no_nat) + options->isolated > 1)
		return error_say(err, -EINVAL,
				 "only one of --nat, --routed and --isolated can be given");
	if (options->dns_domain && !options->dns_domain[0])
		return error_say(err, -EINVAL, "--dns-domain: must not be empty");
	if (options->dns_domain && options->isolated)
		return error_say(
			err, -EINVAL,
			"--dns-domain: an isolated network has no name server; the full names "
			"NAME.NETWORK.PROJECT.internal are known on the project's others");
	if (options->dhcp && options->isolated)
		return error_say(err, -EINVAL,
				 "--dhcp: the node has no address on an isolated network to "
				 "answer from");
	if (options->advertise && !options->routed && !options->no_nat)
		return error_say(err, -EINVAL,
				 "--advertise: only a network with --routed has addresses that "
				 "others can be told of");
	spec->advertise = options->advertise;
	spec->dhcp = options->dhcp;
	spec->flow_log = options->flow_log;
	spec->isolated = options->isolated;
	spec->nat = options->nat || (!options->routed && !options->no_nat && !options->isolated &&
				     network_can(spec, NETWORK_CAN_TRANSLATE));
	for (char **p = options->labels; p && *p; p++) {
		const char *value = strchr(*p, '=');
		AUTO(free)
		char *key = value ? mem_strndup(*p, (size_t) (value - *p)) : mem_strdup(*p);

		strv_env_set(&request->labels, key, value ? value + 1 : "");
	}
	return r < 0 ? r : labels_check(request->labels, err);
}

static int network_create_run(struct cli *cli, const void *userdata,
			      const struct arguments *arguments, struct error *err)
{
	AUTO(network_request_free) struct network_request *request = network_request_new();
	AUTO(json_decref) json_t *body = NULL, *operation = NULL, *network = NULL;
	AUTO(free) char *title = NULL;
	const char *name = arguments->words[0];
	int r = network_build(userdata, name, request, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	body = network_request_encode(request);
	r = cli_request(cli, "POST", "/networks", body, &operation, err);
	if (r < 0)
		return r;
	title = mem_printf("creating network %s", name);
	r = wait_operation(cli, title, operation, NULL, err);
	if (r == 0)
		r = listing_get(cli, "networks", name, &network, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, network);
	} else if (cli->style.format == FORMAT_TABLE && !cli->options.quiet) {
		const char *ipv4 = resource_text(network, "spec.ipv4");
		const char *ipv6 = resource_text(network, "spec.ipv6");

		fprintf(cli->out, "%s is ready  %s%s%s\n", name, ipv4 ? ipv4 : "",
			ipv4 && ipv6 ? ", " : "", ipv6 ? ipv6 : "");
	} else {
		fprintf(cli->out, "%s\n", name);
	}
	return 0;
}

static const struct column network_columns[] = {
	{ .title = "NAME" },
	{ .title = "STATE", .state = true },
	{ .title = "IPV4" },
	{ .title = "IPV6" },
	{ .title = "KIND" },
	{ .title = "BRIDGE" },
	{},
};

static const char *network_kind(const json_t *network)
{
	const char *driver = resource_text(network, "spec.driver");

	if (driver && strcmp(driver, "bridge") != 0)
		return driver;
	if (json_is_true(resource_at(network, "spec.isolated")))
		return "isolated";
	return json_is_true(resource_at(network, "spec.nat")) ? "nat" : "routed";
}

static void network_row(struct cli *cli, struct table *table, const json_t *network)
{
	(void) cli;
	table_cell(table, resource_text(network, "meta.name"));
	table_cell(table, resource_text(network, "status.state"));
	table_cell(table, resource_text(network, "spec.ipv4"));
	table_cell(table, resource_text(network, "spec.ipv6"));
	table_cell(table, network_kind(network));
	table_cell(table, resource_text(network, "status.bridge"));
}

static int network_list_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	(void) userdata;
	(void) arguments;
	return listing_print(cli, "/networks?recursion=1", network_columns, network_row, false,
			     err);
}

struct show_options {
	bool graph, svg;
};

static const struct option_def show_options[] = {
	{ 0, "graph", NULL, OPTION_FLAG, offsetof(struct show_options, graph),
	  "draw these networks, or all: who is on them, what leads outside" },
	{ 0, "svg", NULL, OPTION_FLAG, offsetof(struct show_options, svg),
	  "the drawing as a picture for browsers" },
	{},
};

/* Whom its instances ask, and what they find there. */
static void network_names(struct strbuf *out, const json_t *network)
{
	const char *gateway4 = resource_text(network, "spec.gateway4");
	const char *gateway6 = resource_text(network, "spec.gateway6");
	const char *domain = resource_text(network, "spec.dns_domain");
	const char *project = resource_text(network, "meta.project");
	const char *driver = resource_text(network, "spec.driver");
	bool isolated = json_is_true(resource_at(network, "spec.isolated"));
	AUTO(free)
	char *zone = mem_printf("%s.%s.internal", resource_name(network), project ? project : "");
	AUTO(free)
	char *resolver = mem_printf("%s%s%s", gateway4 ? gateway4 : "",
				    gateway4 && gateway6 ? ", " : "", gateway6 ? gateway6 : "");
	AUTO(free) char *names = mem_printf("NAME.%s", zone);
	AUTO(free) char *search = mem_printf("%s %s", zone, domain ? domain : "");

	/* On the others the node gives no names, nor addresses. */
	if (driver && strcmp(driver, network_driver_names[NETWORK_DRIVER_BRIDGE]) != 0)
		return;
	listing_fact(out, "resolver", isolated ? "none: it is isolated" : resolver);
	listing_fact(out, "names", names);
	if (!isolated) {
		listing_fact(out, "search", search);
		listing_fact(out, "dns domain", domain);
	}
	listing_fact(out, "dhcp", json_is_true(resource_at(network, "spec.dhcp")) ? "yes" : "no");
}

/* "vxlan 77 to 192.0.2.11, 192.0.2.12" */
static void network_tunnel_fact(struct strbuf *out, const json_t *network)
{
	const json_t *tunnel = resource_at(network, "spec.tunnel");
	const char *kind = resource_text(tunnel, "kind"), *peer, *between = " to ";
	AUTO(strbuf_done) struct strbuf text = {};
	json_t *value;

	if (!tunnel)
		return;
	strbuf_printf(&text, "%s %lld", kind ? kind : "vxlan",
		      (long long) resource_int(tunnel, "vni", resource_int(tunnel, "key", 0)));
	json_object_foreach((json_t *) resource_at(tunnel, "peers"), peer, value)
	{
		strbuf_printf(&text, "%s%s", between, peer);
		between = ", ";
	}
	listing_fact(out, "tunnel", strbuf_str(&text));
}

static int network_info_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	const struct show_options *options = userdata;
	AUTO(json_decref) json_t *network = NULL;
	AUTO(strbuf_done) struct strbuf out = {};
	char mtu_text[24] = "";
	int64_t mtu;
	int r;

	if (options->graph || options->svg)
		return network_graph(cli, arguments->words, options->svg, err);
	if (arguments->word_count != 1)
		return cli_usage(cli, err, "one network is shown at a time; --graph draws several");
	r = listing_get(cli, "networks", arguments->words[0], &network, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, network);
		return 0;
	}
	mtu = resource_int(network, "status.mtu", resource_int(network, "spec.mtu", 0));
	listing_fact(&out, "name", resource_name(network));
	listing_fact(&out, "uid", resource_text(network, "meta.uid"));
	listing_fact(&out, "project", resource_text(network, "meta.project"));
	listing_fact(&out, "state", resource_text(network, "status.state"));
	listing_fact(&out, "error", resource_text(network, "status.error"));
	listing_fact_time(&out, "created", network, "meta.created");
	listing_fact(&out, "ipv4", resource_text(network, "spec.ipv4"));
	listing_fact(&out, "gateway4", resource_text(network, "spec.gateway4"));
	listing_fact(&out, "ipv6", resource_text(network, "spec.ipv6"));
	listing_fact(&out, "gateway6", resource_text(network, "spec.gateway6"));
	listing_fact(&out, "range4", resource_text(network, "spec.range4"));
	listing_fact(&out, "range6", resource_text(network, "spec.range6"));
	listing_fact(&out, "driver", resource_text(network, "spec.driver"));
	listing_fact(&out, "mode", resource_text(network, "spec.mode"));
	listing_fact(&out, "uplink", resource_text(network, "spec.uplink"));
	listing_fact(&out, "kind", network_kind(network));
	if (mtu > 0)
		snprintf(mtu_text, sizeof(mtu_text), "%lld", (long long) mtu);
	listing_fact(&out, "mtu", mtu_text);
	network_tunnel_fact(&out, network);
	listing_advertised(&out, network);
	network_names(&out, network);
	if (json_is_true(resource_at(network, "spec.flow_log")))
		listing_fact(&out, "flow log", "yes");
	listing_fact(&out, "bridge", resource_text(network, "status.bridge"));
	listing_fact(&out, "node", resource_text(network, "spec.node"));
	listing_fact_map(&out, "labels", resource_at(network, "meta.labels"));
	listing_print_facts(cli, &out);
	return 0;
}

static int network_delete_run(struct cli *cli, const void *userdata,
			      const struct arguments *arguments, struct error *err)
{
	struct batch batch = {
		.doing = "deleting network",
		.done = "deleted",
		.method = "DELETE",
		.collection = "networks",
		.suffix = "",
	};

	(void) userdata;
	return batch_run(cli, &batch, arguments, err);
}

const struct verb verb_network_create = {
	.name = "create",
	.synopsis = "[OPTIONS] NAME",
	.summary = "Create a network",
	.help = "Examples:\n  brume network create backend\n"
		"  brume network create lab --subnet 10.91.0.0/24 --routed\n"
		"  brume network create public --subnet 203.0.113.0/28 --routed --advertise\n"
		"  brume network create machines --dhcp --dns-domain machines.example\n"
		"  brume network create inside --isolated --mtu 9000\n"
		"  brume network create shop --flow-log\n"
		"  brume network create lan --driver macvlan --uplink eth1 \\\n"
		"    --subnet 192.168.1.0/24 --range 192.168.1.200-192.168.1.230\n"
		"  brume network create office --driver physical --uplink br0 --subnet "
		"10.2.0.0/16\n",
	.options = network_options,
	.options_size = sizeof(struct network_options),
	.words_min = 1,
	.words_max = 1,
	.run = network_create_run,
};

const struct verb verb_network_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "",
	.summary = "List the networks",
	.run = network_list_run,
};

const struct verb verb_network_info = {
	.name = "info",
	.alias = "show",
	.synopsis = "NAME | --graph [--svg] [NAME...]",
	.summary = "Show all about a network, or draw who is on which",
	.help = "Examples:\n  brume network show backend\n"
		"  brume network show --graph\n"
		"  brume network show --graph --svg >networks.svg\n",
	.options = show_options,
	.options_size = sizeof(struct show_options),
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_NETWORK,
	.run = network_info_run,
};

const struct verb verb_network_delete = {
	.name = "delete",
	.alias = "rm",
	.synopsis = "NAME...",
	.summary = "Delete networks that no instance uses",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_NETWORK,
	.run = network_delete_run,
};
