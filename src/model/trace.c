#include "model/trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "model/trace_internal.h"

static const char *const verdict_names[] = { "delivered", "dropped", "leaves", "unreachable" };
static const char *const hop_verdict_names[] = { "passes", "dropped", "translated" };
static const char *const hop_kind_names[] = {
	[TRACE_INTERFACE] = "interface", [TRACE_BRIDGE] = "bridge",     [TRACE_GUARD] = "guard",
	[TRACE_GROUP] = "group",         [TRACE_ROUTER] = "router",     [TRACE_NAT] = "nat",
	[TRACE_FORWARD] = "forward",     [TRACE_BALANCER] = "balancer", [TRACE_WALL] = "wall",
	[TRACE_TUNNEL] = "tunnel",       [TRACE_UPLINK] = "uplink",     [TRACE_NODE] = "node",
	[TRACE_INSTANCE] = "instance",
};

/* ---- what a trace is made of */

void trace_done(struct trace *trace)
{
	for (size_t i = 0; i < trace->hop_count; i++) {
		free(trace->hops[i].name);
		free(trace->hops[i].text);
		free(trace->hops[i].group);
	}
	free(trace->hops);
	free(trace->advice);
	*trace = (struct trace){};
}

static struct trace_hop *add_hop(struct walk *walk, enum trace_hop_kind kind,
				 enum trace_hop_verdict verdict, const char *name,
				 const char *format, va_list args)
	__attribute__((format(printf, 5, 0)));

static struct trace_hop *add_hop(struct walk *walk, enum trace_hop_kind kind,
				 enum trace_hop_verdict verdict, const char *name,
				 const char *format, va_list args)
{
	struct trace *trace = walk->trace;
	struct trace_hop *hop;
	char *text = NULL;

	if (vasprintf(&text, format, args) < 0)
		abort();
	trace->hops = mem_realloc(trace->hops, trace->hop_count + 1, sizeof(*trace->hops));
	hop = &trace->hops[trace->hop_count++];
	*hop = (struct trace_hop){
		.kind = kind, .verdict = verdict, .name = mem_strdup(name), .text = text
	};
	return hop;
}

struct trace_hop *walk_hop(struct walk *walk, enum trace_hop_kind kind,
			   enum trace_hop_verdict verdict, const char *name, const char *format,
			   ...)
{
	struct trace_hop *hop;
	va_list args;

	va_start(args, format);
	hop = add_hop(walk, kind, verdict, name, format, args);
	va_end(args);
	return hop;
}

void walk_translate(struct walk *walk, enum trace_hop_kind kind, const char *name,
		    const struct trace_packet *before, const char *format, ...)
{
	struct trace_hop *hop;
	va_list args;

	va_start(args, format);
	hop = add_hop(walk, kind, TRACE_TRANSLATED, name, format, args);
	va_end(args);
	hop->before = *before;
	hop->after = walk->packet;
}

void walk_end(struct walk *walk, enum trace_verdict verdict)
{
	walk->place = WALK_END;
	walk->trace->verdict = verdict;
}

void walk_advise(struct walk *walk, const char *format, ...)
{
	const char *project = walk->world->project;
	bool other = strcmp(project, "default") != 0;
	char *text = NULL;
	va_list args;
	int r;

	va_start(args, format);
	r = vasprintf(&text, format, args);
	va_end(args);
	if (r < 0)
		abort();
	free(walk->trace->advice);
	walk->trace->advice =
		mem_printf("brume %s%s%s", text, other ? " --project " : "", other ? project : "");
	free(text);
}

bool walk_is_ours(const struct walk *walk, const struct meta *meta)
{
	return strcmp(meta->project, walk->world->project) == 0;
}

const char *walk_name(const struct walk *walk, const struct meta *meta)
{
	return walk_is_ours(walk, meta) ? meta->name : "(of another project)";
}

void packet_format(const struct trace_packet *packet, char ret[SECURITY_TEXT_SIZE])
{
	const char *protocol = trace_protocol_names[packet->protocol];

	if (packet->port)
		snprintf(ret, SECURITY_TEXT_SIZE, "%s:%u", protocol, packet->port);
	else
		snprintf(ret, SECURITY_TEXT_SIZE, "%s", protocol);
}

/* ---- who is asked for */

static bool is_one_host(const struct ip *ip)
{
	static const char *const others[] = { "0.0.0.0/8", "224.0.0.0/3", "::/128", "fe80::/10",
					      "ff00::/8" };
	struct subnet range;

	for (size_t i = 0; i < ARRAY_COUNT(others); i++)
		if (subnet_parse(others[i], 0, "", &range, NULL) == 0 &&
		    subnet_contains(&range, ip))
			return false;
	return true;
}

/* Of several ports: the one on the network that was named, else one on a network of the sender's.
 */
static const struct port *choose_port(const struct walk *walk, const struct instance *to,
				      const char *network)
{
	const struct port *first = NULL;

	for (size_t i = 0; i < to->spec.port_count; i++) {
		const struct port *port = &to->spec.ports[i];

		if (port->leaving || (network && strcmp(port->network, network) != 0))
			continue;
		if (network ||
		    ports_find(walk->from->spec.ports, walk->from->spec.port_count, port->network))
			return port;
		first = first ? first : port;
	}
	return first;
}

static bool has_family(const struct instance *instance, unsigned int family)
{
	for (size_t i = 0; i < instance->spec.port_count; i++)
		if (port_address(&instance->spec.ports[i], family).family)
			return true;
	return false;
}

static struct ip choose_family(const struct walk *walk, const struct ip *ipv4,
			       const struct ip *ipv6)
{
	bool four = ipv4->family && (has_family(walk->from, 4) || !ipv6->family);

	return four ? *ipv4 : *ipv6;
}

/* What stands behind the first dot is a network, with or without its project. */
static int network_part(const struct walk *walk, const char *rest, char **ret, struct error *err)
{
	const char *dot = strchr(rest, '.');
	AUTO(free) char *zone = mem_printf("%s.internal", walk->world->project);

	for (size_t i = 0; i < walk->from->spec.port_count; i++) {
		const struct port *port = &walk->from->spec.ports[i];
		const struct network *network = look_network(walk->world, port->network_uid);

		if (network && network->spec.dns_domain &&
		    strcmp(network->spec.dns_domain, rest) == 0) {
			*ret = mem_strdup(port->network);
			return 0;
		}
	}
	if (dot && strcmp(dot + 1, zone) != 0)
		return error_say(err, -EINVAL,
				 "to: \"%.64s\" is no network of project \"%s\"; names of others "
				 "are not known here, give an address",
				 rest, walk->world->project);
	*ret = dot ? mem_strndup(rest, (size_t) (dot - rest)) : mem_strdup(rest);
	return 0;
}

static const struct balancer *find_vip(const struct walk *walk, const char *name)
{
	for (size_t i = 0; i < walk->world->balancer_count; i++) {
		const struct balancer *balancer = walk->world->balancers[i];

		if (walk_is_ours(walk, &balancer->meta) && balancer->spec.vip &&
		    strcmp(balancer->meta.name, name) == 0)
			return balancer;
	}
	return NULL;
}

static int find_named(struct walk *walk, const char *text, struct ip *ret, struct error *err)
{
	const char *dot = strchr(text, '.');
	AUTO(free) char *name = dot ? mem_strndup(text, (size_t) (dot - text)) : mem_strdup(text);
	AUTO(free) char *network = NULL;
	const struct instance *instance = look_instance(walk->world, walk->world->project, name);
	const struct balancer *balancer = dot ? NULL : find_vip(walk, name);
	struct ip ipv4 = {}, ipv6 = {};
	const struct port *port;

	if (!instance && balancer) {
		(void) ip_parse(balancer->spec.vip4, &ipv4);
		(void) ip_parse(balancer->spec.vip6, &ipv6);
		*ret = choose_family(walk, &ipv4, &ipv6);
		return 0;
	}
	if (!instance)
		return error_say(err, -ENOENT,
				 "to: \"%.64s\" is neither an address nor an instance, or a "
				 "balancer with an address of its own, in project \"%s\"",
				 text, walk->world->project);
	if (dot && dot[1]) {
		int r = network_part(walk, dot + 1, &network, err);

		if (r < 0)
			return r;
	}
	port = choose_port(walk, instance, network);
	if (!port)
		return error_say(err, -ENOENT, "to: instance \"%s\" is not on %s%s", name,
				 network ? "network " : "any network", network ? network : "");
	ipv4 = port_address(port, 4);
	ipv6 = port_address(port, 6);
	*ret = choose_family(walk, &ipv4, &ipv6);
	walk->meant = instance;
	return 0;
}

/* Whose address it is, as far as the project knows. */
static const struct instance *find_meant(const struct walk *walk, const struct ip *ip)
{
	for (size_t i = 0; i < walk->world->instance_count; i++) {
		const struct instance *instance = walk->world->instances[i];

		for (size_t k = 0;
		     walk_is_ours(walk, &instance->meta) && k < instance->spec.port_count; k++) {
			const struct port *port = &instance->spec.ports[k];
			const struct network *network =
				look_network(walk->world, port->network_uid);
			struct ip own = port_address(port, ip->family);

			if (ip_equal(&own, ip) && network &&
			    network->spec.driver == NETWORK_DRIVER_BRIDGE)
				return instance;
		}
	}
	return NULL;
}

static int find_destination(struct walk *walk, const char *text, struct error *err)
{
	struct ip *to = &walk->packet.destination;

	if (ip_parse(text, to) < 0)
		return find_named(walk, text, to, err);
	if (!is_one_host(to))
		return error_say(err, -EINVAL,
				 "to: %s is not the address of one host that routes lead to", text);
	walk->meant = find_meant(walk, to);
	return 0;
}

/* ---- the port that sends */

static bool is_loopback(const struct ip *ip)
{
	static const uint8_t one[16] = { [15] = 1 };

	return ip->family == 4 ? ip->bytes[0] == 127 : memcmp(ip->bytes, one, sizeof(one)) == 0;
}

static bool is_own(const struct instance *instance, const struct ip *ip)
{
	for (size_t i = 0; i < instance->spec.port_count; i++) {
		struct ip own = port_address(&instance->spec.ports[i], ip->family);

		if (own.family && ip_equal(&own, ip))
			return true;
	}
	return is_loopback(ip);
}

/* True when the walk is over before it has begun. */
static bool stays_inside(struct walk *walk)
{
	enum instance_state state = walk->from->status.state;
	const char *name = walk->from->meta.name;

	if (state != INSTANCE_RUNNING) {
		walk_hop(walk, TRACE_INSTANCE, TRACE_HOP_DROPPED, name,
			 "%s is %s: it sends nothing", name, instance_state_name(state));
		walk_end(walk, TRACE_UNREACHABLE);
		if (state == INSTANCE_STOPPED || state == INSTANCE_PAUSED)
			walk_advise(walk, "%s %s", state == INSTANCE_STOPPED ? "start" : "resume",
				    name);
		return true;
	}
	if (!is_own(walk->from, &walk->packet.destination))
		return false;
	walk_hop(walk, TRACE_INTERFACE, TRACE_PASSES, "lo", "%s itself: it never leaves it", name);
	walk_end(walk, TRACE_DELIVERED);
	return true;
}

static void say_no_route(struct walk *walk)
{
	const char *name = walk->from->meta.name;
	const struct ip *to = &walk->packet.destination;
	char text[IP_TEXT_SIZE];

	ip_format(to, text);
	if (!has_family(walk->from, to->family))
		walk_hop(walk, TRACE_INTERFACE, TRACE_HOP_DROPPED, "", "%s has no IPv%u address",
			 name, to->family);
	else
		walk_hop(walk, TRACE_INTERFACE, TRACE_HOP_DROPPED, "",
			 "%s has no route to %s: none of its networks has it, or a gateway", name,
			 text);
	walk_end(walk, TRACE_UNREACHABLE);
	if (walk->meant)
		for (size_t i = 0; i < walk->meant->spec.port_count; i++) {
			struct ip own = port_address(&walk->meant->spec.ports[i], to->family);

			if (ip_equal(&own, to))
				walk_advise(walk, "network attach %s %s",
					    walk->meant->spec.ports[i].network, name);
		}
	else if (has_family(walk->from, to->family))
		walk_advise(walk, "network attach default %s", name);
}

static void say_interface(struct walk *walk, const struct port *port, const struct ip *via)
{
	AUTO(strbuf_done) struct strbuf text = {};
	char address[IP_TEXT_SIZE];

	ip_format(&walk->packet.source, address);
	strbuf_printf(&text, "%s sends by %s, network %s, as %s, ", walk->from->meta.name,
		      port->interface, port->network, address);
	ip_format(via, address);
	if (via->family)
		strbuf_printf(&text, "to its gateway %s", address);
	else
		strbuf_puts(&text, "to a neighbour");
	if (port->limits.egress_bps)
		strbuf_printf(&text, ", %.6g Mbit/s at most",
			      (double) port->limits.egress_bps / 1e6);
	walk_hop(walk, TRACE_INTERFACE, TRACE_PASSES, port->interface, "%s", strbuf_str(&text));
}

/* A bridge is called by the prefix, "-" and a part of the network's uid. */
static void find_prefix(struct walk *walk)
{
	for (size_t i = 0; i < walk->world->network_count; i++) {
		const struct network *network = walk->world->networks[i];
		const char *bridge = network->status.bridge;
		const char *dash = bridge ? strchr(bridge, '-') : NULL;

		if (network->spec.driver != NETWORK_DRIVER_BRIDGE || !dash ||
		    (size_t) (dash - bridge) >= TRACE_PREFIX_SIZE)
			continue;
		memcpy(walk->trace->prefix, bridge, (size_t) (dash - bridge));
		return;
	}
}

static void send_packet(struct walk *walk, const struct port *named)
{
	unsigned int family = walk->packet.destination.family;
	struct ip via;
	const struct port *port =
		look_route(walk->world, walk->from, &walk->packet.destination, &via);

	if (!port || (named && !port_address(named, family).family)) {
		say_no_route(walk);
		return;
	}
	walk->packet.source = port_address(named ? named : port, family);
	walk->trace->sent = walk->packet;
	memcpy(walk->trace->port_uid, (named ? named : port)->uid, UID_SIZE);
	find_prefix(walk);
	say_interface(walk, port, &via);
	walk_to_segment(walk, look_network(walk->world, port->network_uid), WALK_BY_PORT,
			via.family ? &via : &walk->packet.destination);
	walk_guard(walk, port);
}

static void go_on(struct walk *walk)
{
	for (int places = 0; walk->place != WALK_END; places++) {
		if (places == WALK_PLACES_MAX) {
			walk_hop(walk, TRACE_ROUTER, TRACE_HOP_DROPPED, "",
				 "it goes round in a circle until its hop limit ends it");
			walk_end(walk, TRACE_UNREACHABLE);
		} else if (walk->place == WALK_SEGMENT) {
			walk_segment(walk);
		} else if (walk->place == WALK_NODE) {
			walk_node(walk);
		} else {
			walk_router(walk);
		}
	}
}

int trace_walk(const struct trace_world *world, const struct instance *from,
	       const struct trace_request *request, struct trace *ret, struct error *err)
{
	AUTO(trace_done) struct trace trace = {};
	struct walk walk = { .world = world,
			     .from = from,
			     .trace = &trace,
			     .packet = { .protocol = request->protocol, .port = request->port } };
	const struct port *named = NULL;
	int r = find_destination(&walk, request->to, err);

	if (r < 0)
		return r;
	if (request->network) {
		named = ports_find(from->spec.ports, from->spec.port_count, request->network);
		if (!named)
			return error_say(err, -ENOENT,
					 "instance \"%s\" is not on network \"%.64s\"",
					 from->meta.name, request->network);
	}
	if (!stays_inside(&walk)) {
		send_packet(&walk, named);
		go_on(&walk);
	}
	*ret = trace;
	trace = (struct trace){};
	return 0;
}

/* ---- JSON */

static json_t *encode_packet(const struct trace_packet *packet)
{
	json_t *object = json_object();
	char text[IP_TEXT_SIZE];

	ip_format(&packet->source, text);
	json_put_string(object, "source", text);
	ip_format(&packet->destination, text);
	json_put_string(object, "destination", text);
	if (packet->port)
		json_object_set_new(object, "port", json_integer(packet->port));
	return object;
}

static json_t *encode_hop(const struct trace_hop *hop)
{
	json_t *object = json_pack("{s:s, s:s, s:s}", "kind", hop_kind_names[hop->kind], "verdict",
				   hop_verdict_names[hop->verdict], "text", hop->text);

	json_put_string(object, "name", hop->name);
	if (hop->group) {
		json_t *rule = json_pack("{s:s, s:s}", "group", hop->group, "direction",
					 hop->ingress ? "ingress" : "egress");

		if (hop->rule)
			json_object_set_new(rule, "number", json_integer((json_int_t) hop->rule));
		json_object_set_new(object, "rule", rule);
	}
	if (hop->verdict == TRACE_TRANSLATED) {
		json_object_set_new(object, "before", encode_packet(&hop->before));
		json_object_set_new(object, "after", encode_packet(&hop->after));
	}
	return object;
}

json_t *trace_encode(const struct trace *trace)
{
	json_t *hops = json_array();
	json_t *object =
		json_pack("{s:s, s:o}", "verdict", verdict_names[trace->verdict], "hops", hops);

	for (size_t i = 0; i < trace->hop_count; i++)
		json_array_append_new(hops, encode_hop(&trace->hops[i]));
	json_put_string(object, "advice", trace->advice);
	return object;
}
