#include "cli/graph.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "cli/resource.h"

static const char *text_or(const char *text, const char *otherwise)
{
	return text && *text ? text : otherwise;
}

/* "A, B" of two that may be absent. */
static char *both(const char *one, const char *two)
{
	one = text_or(one, "");
	two = text_or(two, "");
	return mem_printf("%s%s%s", one, *one && *two ? ", " : "", two);
}

/* ---- networks ---- */

static char *kind_of(const json_t *network)
{
	const char *driver = resource_text(network, "spec.driver");
	const char *uplink = resource_text(network, "spec.uplink");

	if (driver && strcmp(driver, "bridge") != 0)
		return mem_printf("%s%s%s", driver, uplink ? " on " : "", uplink ? uplink : "");
	if (json_is_true(resource_at(network, "spec.isolated")))
		return mem_strdup("isolated");
	return mem_strdup(json_is_true(resource_at(network, "spec.nat")) ? "nat" : "routed");
}

static char *tunnel_of(const json_t *network)
{
	const json_t *tunnel = resource_at(network, "spec.tunnel"), *value;
	const char *kind = resource_text(tunnel, "kind"), *peer;
	AUTO(strbuf_done) struct strbuf out = {};
	size_t count = 0;

	if (!tunnel)
		return NULL;
	strbuf_printf(&out, "%s %lld", kind && strcmp(kind, "gre") == 0 ? "GRE" : "VXLAN",
		      (long long) resource_int(tunnel, "vni", resource_int(tunnel, "key", 0)));
	json_object_foreach((json_t *) resource_at(tunnel, "peers"), peer, value)
		strbuf_printf(&out, "%s%s", count++ > 0 ? ", " : " to ", peer);
	return strbuf_take(&out);
}

static void add_network(struct graph *graph, char *name, char *kind, char *subnets, char *tunnel)
{
	graph->networks =
		mem_realloc(graph->networks, graph->network_count + 1, sizeof(*graph->networks));
	graph->networks[graph->network_count++] = (struct graph_network){
		.name = name, .kind = kind, .subnets = subnets, .tunnel = tunnel
	};
}

/* Its number, or 0: the outside is nobody's network. */
static size_t find_network(const struct graph *graph, const char *name)
{
	for (size_t i = 1; name && i < graph->network_count; i++)
		if (strcmp(graph->networks[i].name, name) == 0)
			return i;
	return 0;
}

/* ---- things ---- */

/* Takes the thing over. */
static void add_thing(struct graph *graph, struct graph_thing thing)
{
	graph->things = mem_realloc(graph->things, graph->thing_count + 1, sizeof(*graph->things));
	graph->things[graph->thing_count++] = thing;
}

static void add_link(struct graph_thing *thing, size_t network, char *label)
{
	size_t at = thing->link_count;

	thing->links = mem_realloc(thing->links, at + 1, sizeof(*thing->links));
	while (at > 0 && thing->links[at - 1].network > network) {
		thing->links[at] = thing->links[at - 1];
		at--;
	}
	thing->links[at] = (struct graph_link){ .network = network, .label = label };
	thing->link_count++;
}

static void thing_done(struct graph_thing *thing)
{
	for (size_t i = 0; i < thing->link_count; i++)
		free(thing->links[i].label);
	free(thing->links);
	free(thing->name);
	free(thing->detail);
}

/* The node, as what leads out of this network. */
static void add_gateway(struct graph *graph, size_t number, const json_t *network)
{
	const char *uplink = resource_text(network, "spec.uplink");
	struct graph_thing node = {
		.type = GRAPH_NODE,
		.name = uplink ? mem_printf("uplink %s", uplink)
			       : mem_printf("node %s",
					    text_or(resource_text(network, "spec.node"), "")),
		.detail = mem_strdup(""),
	};

	add_link(&node, 0, mem_strdup(""));
	add_link(&node, number,
		 both(resource_text(network, "spec.gateway4"),
		      resource_text(network, "spec.gateway6")));
	add_thing(graph, node);
}

/* "203.0.113.7 = db, 8443/tcp = web:443" */
static void put_translations(struct strbuf *out, const json_t *entries)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) entries, key, value)
	{
		int64_t port = resource_int(value, "port", 0);

		strbuf_printf(out, "%s%s = %s", out->size > 0 ? ", " : "", key,
			      text_or(resource_text(value, "instance"),
				      text_or(resource_text(value, "address"), "nobody")));
		if (port > 0)
			strbuf_printf(out, ":%lld", (long long) port);
	}
}

/* `all`: also one that joins nothing yet. */
static void add_router(struct graph *graph, const json_t *router, bool all)
{
	AUTO(strbuf_done) struct strbuf detail = {};
	struct graph_thing thing = { .type = GRAPH_ROUTER };
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) resource_at(router, "spec.networks"), name, value)
	{
		size_t number = find_network(graph, name);

		if (number > 0)
			add_link(&thing, number,
				 both(resource_text(value, "ipv4"), resource_text(value, "ipv6")));
	}
	if (thing.link_count == 0 && !all)
		return;
	if (json_is_true(resource_at(router, "spec.uplink"))) {
		bool nat = json_is_true(resource_at(router, "spec.nat"));

		add_link(&thing, 0, mem_strdup(nat ? "nat" : "routed"));
	}
	put_translations(&detail, resource_at(router, "spec.floating"));
	put_translations(&detail, resource_at(router, "spec.forwards"));
	thing.name = mem_strdup(resource_name(router));
	thing.detail = strbuf_take(&detail);
	add_thing(graph, thing);
}

static void add_instance(struct graph *graph, const json_t *instance)
{
	const char *state = resource_text(instance, "status.state");
	AUTO(strbuf_done) struct strbuf detail = {};
	struct graph_thing thing = { .type = GRAPH_INSTANCE };
	const json_t *port;
	size_t i;

	json_array_foreach(resource_at(instance, "spec.ports"), i, port)
	{
		size_t number = find_network(graph, resource_text(port, "network"));
		AUTO(free)
		char *addresses = both(resource_text(port, "ipv4"), resource_text(port, "ipv6"));

		if (number > 0 && !json_is_true(resource_at(port, "leaving")))
			add_link(&thing, number,
				 mem_printf("%s  %s",
					    text_or(resource_text(port, "interface"), "eth?"),
					    addresses));
	}
	if (thing.link_count == 0)
		return;
	resource_put_ports(&detail, instance);
	if (state && strcmp(state, "running") != 0)
		strbuf_printf(&detail, "%s(%s)", detail.size > 0 ? " " : "", state);
	thing.name = mem_strdup(resource_name(instance));
	thing.detail = strbuf_take(&detail);
	add_thing(graph, thing);
}

struct graph *graph_new(const json_t *networks, const json_t *instances, const json_t *routers,
			char *const *only)
{
	struct graph *graph = mem_new0(struct graph);
	const json_t *one;
	size_t i;

	add_network(graph, mem_strdup("outside"), mem_strdup(""), mem_strdup(""), NULL);
	json_array_foreach(networks, i, one)
	{
		AUTO(free) char *kind = kind_of(one);

		if (only && !strv_contains(only, resource_name(one)))
			continue;
		add_network(graph, mem_strdup(resource_name(one)), mem_strdup(kind),
			    both(resource_text(one, "spec.ipv4"), resource_text(one, "spec.ipv6")),
			    tunnel_of(one));
		if (strcmp(kind, "isolated") != 0)
			add_gateway(graph, graph->network_count - 1, one);
	}
	json_array_foreach(routers, i, one) add_router(graph, one, !only);
	json_array_foreach(instances, i, one) add_instance(graph, one);
	return graph;
}

void graph_free(struct graph *graph)
{
	if (!graph)
		return;
	for (size_t i = 0; i < graph->network_count; i++) {
		free(graph->networks[i].name);
		free(graph->networks[i].kind);
		free(graph->networks[i].subnets);
		free(graph->networks[i].tunnel);
	}
	for (size_t i = 0; i < graph->thing_count; i++)
		thing_done(&graph->things[i]);
	free(graph->networks);
	free(graph->things);
	free(graph);
}

/* ---- the tree ---- */

struct tree {
	const struct graph *graph;
	struct strbuf *out;
	bool *drawn; /* by network: where it stands is said once, so that circles end */
};

static const struct graph_link *link_to(const struct graph_thing *thing, size_t network)
{
	for (size_t i = 0; i < thing->link_count; i++)
		if (thing->links[i].network == network)
			return &thing->links[i];
	return NULL;
}

static void put_branch(const struct tree *tree, const char *indent, bool last)
{
	if (indent)
		strbuf_printf(tree->out, "%s%s ", indent, last ? "└─" : "├─");
}

/* What stands below a line that began with `indent`. */
static char *deeper(const char *indent, bool last)
{
	return indent ? mem_printf("%s%s", indent, last ? "   " : "│  ") : mem_strdup("");
}

static void put_network(struct tree *tree, size_t number, const char *via, const char *indent,
			bool last, size_t parent);

static void put_router(struct tree *tree, const struct graph_thing *router, const char *via,
		       const char *indent, bool last, size_t parent)
{
	AUTO(free) char *below = deeper(indent, last);
	size_t rest = 0;

	put_branch(tree, indent, last);
	strbuf_printf(tree->out, "router %s", router->name);
	if (*via)
		strbuf_printf(tree->out, "  %s", via);
	if (*router->detail)
		strbuf_printf(tree->out, "  %s", router->detail);
	strbuf_puts(tree->out, "\n");
	for (size_t i = 0; i < router->link_count; i++)
		rest += router->links[i].network != 0 && router->links[i].network != parent;
	for (size_t i = 0; i < router->link_count; i++) {
		const struct graph_link *link = &router->links[i];

		if (link->network != 0 && link->network != parent)
			put_network(tree, link->network, link->label, below, --rest == 0,
				    (size_t) (router - tree->graph->things) + 1);
	}
}

/* Whether a thing is told of below this network; `from` (+ 1) is the router that it was reached by.
 */
static bool is_below(const struct graph_thing *thing, size_t position, size_t number, size_t from)
{
	return thing->type != GRAPH_NODE && position + 1 != from && link_to(thing, number) &&
	       !(thing->type == GRAPH_ROUTER && number != 0 && link_to(thing, 0));
}

static void put_things(struct tree *tree, size_t number, const char *indent, size_t from)
{
	const struct graph *graph = tree->graph;
	size_t rest = graph->networks[number].tunnel ? 1 : 0;

	for (size_t i = 0; i < graph->thing_count; i++)
		rest += is_below(&graph->things[i], i, number, from);
	for (size_t i = 0; i < graph->thing_count; i++) {
		const struct graph_thing *thing = &graph->things[i];
		const struct graph_link *link = link_to(thing, number);

		if (!is_below(thing, i, number, from))
			continue;
		rest--;
		if (thing->type == GRAPH_ROUTER) {
			put_router(tree, thing, link->label, indent, rest == 0, number);
			continue;
		}
		put_branch(tree, indent, rest == 0);
		strbuf_printf(tree->out, "%s  %s%s%s\n", thing->name, link->label,
			      *thing->detail ? "  " : "", thing->detail);
	}
	if (graph->networks[number].tunnel) {
		put_branch(tree, indent, true);
		strbuf_printf(tree->out, "tunnel  %s\n", graph->networks[number].tunnel);
	}
}

static void put_network(struct tree *tree, size_t number, const char *via, const char *indent,
			bool last, size_t parent)
{
	const struct graph_network *network = &tree->graph->networks[number];
	AUTO(free) char *below = deeper(indent, last);

	put_branch(tree, indent, last);
	strbuf_printf(tree->out, "%s  %s", network->name, network->kind);
	if (*network->subnets)
		strbuf_printf(tree->out, "  %s", network->subnets);
	if (*via)
		strbuf_printf(tree->out, "  gateway %s", via);
	if (tree->drawn[number]) {
		strbuf_puts(tree->out, "  (see above)\n");
		return;
	}
	tree->drawn[number] = true;
	strbuf_puts(tree->out, "\n");
	put_things(tree, number, below, parent);
}

/* Whether the node leads from there outside, or its driver does. */
static const struct graph_link *way_out(const struct graph *graph, size_t number)
{
	for (size_t i = 0; i < graph->thing_count; i++)
		if (graph->things[i].type == GRAPH_NODE && link_to(&graph->things[i], number))
			return link_to(&graph->things[i], number);
	return NULL;
}

void graph_put_text(const struct graph *graph, struct strbuf *out)
{
	AUTO(free) bool *drawn = mem_new0_array(bool, graph->network_count);
	struct tree tree = { .graph = graph, .out = out, .drawn = drawn };
	size_t rest = 0;

	strbuf_puts(out, "outside\n");
	for (size_t i = 1; i < graph->network_count; i++)
		rest += way_out(graph, i) != NULL;
	for (size_t i = 0; i < graph->thing_count; i++)
		rest += graph->things[i].type == GRAPH_ROUTER && link_to(&graph->things[i], 0);
	for (size_t i = 1; i < graph->network_count; i++) {
		const struct graph_link *link = way_out(graph, i);

		if (link)
			put_network(&tree, i, link->label, "", --rest == 0, 0);
	}
	for (size_t i = 0; i < graph->thing_count; i++) {
		const struct graph_thing *thing = &graph->things[i];

		if (thing->type == GRAPH_ROUTER && link_to(thing, 0))
			put_router(&tree, thing, link_to(thing, 0)->label, "", --rest == 0, 0);
	}
	for (size_t i = 1; i < graph->network_count; i++)
		if (!drawn[i])
			put_network(&tree, i, "", NULL, true, 0);
}
