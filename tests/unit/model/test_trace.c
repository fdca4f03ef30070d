#include "model_test.h"

#include <stdio.h>

#include "base/strbuf.h"
#include "base/strv.h"
#include "model/trace.h"

/* The way of a packet: a world of networks, and who reaches whom in it by which way. */

enum { MAX = 24 };

struct fixture {
	struct trace_world world;
	const struct network *networks[MAX];
	const struct instance *instances[MAX];
	const struct security_group *groups[MAX];
	const struct router *routers[MAX];
	const struct balancer *balancers[MAX];
};

static void name_it(struct meta *meta, const char *kind, const char *project, const char *name)
{
	meta->name = mem_strdup(name);
	meta->project = mem_strdup(project);
	snprintf(meta->uid, sizeof(meta->uid), "%s-%s", kind, name);
}

/* The gateways are the first addresses. */
static struct network *add_network(struct fixture *f, const char *name, const char *ipv4,
				   const char *ipv6)
{
	struct network *network = mem_new0(struct network);

	name_it(&network->meta, "n", "default", name);
	network_spec_init(&network->spec);
	if (ipv4)
		assert_int_equal(subnet_parse(ipv4, 4, "", &network->spec.ipv4, NULL), 0);
	if (ipv6)
		assert_int_equal(subnet_parse(ipv6, 6, "", &network->spec.ipv6, NULL), 0);
	if (ipv4)
		subnet_nth(&network->spec.ipv4, 1, &network->spec.gateway4);
	if (ipv6)
		subnet_nth(&network->spec.ipv6, 1, &network->spec.gateway6);
	network->status.state = NETWORK_READY;
	f->networks[f->world.network_count++] = network;
	return network;
}

static struct network *add_isolated(struct fixture *f, const char *name, const char *ipv4,
				    const char *ipv6)
{
	struct network *network = add_network(f, name, ipv4, ipv6);

	network->spec.nat = false;
	network->spec.isolated = true;
	return network;
}

static struct security_group *add_group(struct fixture *f, const char *name)
{
	struct security_group *group = mem_new0(struct security_group);

	name_it(&group->meta, "g", "default", name);
	f->groups[f->world.group_count++] = group;
	return group;
}

/* `peer`: a subnet, "@GROUP", or NULL. */
static void add_rule(struct security_group *group, bool ingress, const char *what, const char *peer)
{
	struct security_rules *rules = ingress ? &group->spec.ingress : &group->spec.egress;
	struct security_rule rule = {};

	assert_int_equal(security_rule_parse(what, &rule, NULL), 0);
	if (peer && peer[0] == '@') {
		snprintf(rule.group, sizeof(rule.group), "%s", peer + 1);
		snprintf(rule.group_uid, sizeof(rule.group_uid), "g-%s", peer + 1);
	} else if (peer) {
		snprintf(rule.cidr, sizeof(rule.cidr), "%s", peer);
	}
	rules->list = mem_realloc(rules->list, rules->count + 1, sizeof(rule));
	rules->list[rules->count++] = rule;
	if (!ingress)
		group->spec.egress_limited = true;
}

static struct instance *add_instance(struct fixture *f, const char *name)
{
	struct instance *instance = mem_new0(struct instance);

	name_it(&instance->meta, "i", "default", name);
	instance_spec_init(&instance->spec);
	instance_status_init(&instance->status);
	instance->status.state = INSTANCE_RUNNING;
	f->instances[f->world.instance_count++] = instance;
	return instance;
}

static struct port *join(struct instance *instance, const char *network, const char *ipv4,
			 const char *ipv6, const char *group)
{
	struct port port = {};
	AUTO(free) char *uid = mem_printf("g-%s", group ? group : "");

	snprintf(port.network, sizeof(port.network), "%s", network);
	snprintf(port.network_uid, sizeof(port.network_uid), "n-%s", network);
	snprintf(port.uid, sizeof(port.uid), "p-%s-%s", instance->meta.name, network);
	snprintf(port.interface, sizeof(port.interface), "eth%zu", instance->spec.port_count);
	snprintf(port.ipv4, sizeof(port.ipv4), "%s", ipv4 ? ipv4 : "");
	snprintf(port.ipv6, sizeof(port.ipv6), "%s", ipv6 ? ipv6 : "");
	if (group)
		strv_append(&port.group_uids, uid);
	ports_append(&instance->spec.ports, &instance->spec.port_count, &port);
	return &instance->spec.ports[instance->spec.port_count - 1];
}

static struct instance *add_simple(struct fixture *f, const char *name, const char *network,
				   const char *ipv4, const char *ipv6, const char *group)
{
	struct instance *instance = add_instance(f, name);

	join(instance, network, ipv4, ipv6, group);
	return instance;
}

static void publish(struct instance *instance, const char *text)
{
	struct instance_spec *spec = &instance->spec;

	spec->publish = mem_realloc(spec->publish, spec->publish_count + 1, sizeof(*spec->publish));
	assert_int_equal(publish_parse(text, &spec->publish[spec->publish_count++], NULL), 0);
}

static struct router *add_router(struct fixture *f, const char *name, const char *transit)
{
	struct router *router = mem_new0(struct router);

	name_it(&router->meta, "r", "default", name);
	router_spec_init(&router->spec);
	router->spec.networks = mem_new0_array(struct router_network, MAX);
	router->spec.routes = mem_new0_array(struct router_route, MAX);
	router->spec.floating = mem_new0_array(struct router_floating, MAX);
	router->spec.forwards = mem_new0_array(struct router_forward, MAX);
	router->spec.uplink = transit != NULL;
	if (transit)
		assert_int_equal(ip_parse(transit, &router->spec.transit), 0);
	router->status.state = ROUTER_READY;
	f->routers[f->world.router_count++] = router;
	return router;
}

static void leg(struct router *router, const char *network, const char *ipv4, const char *ipv6)
{
	struct router_network *joined = &router->spec.networks[router->spec.network_count++];

	snprintf(joined->network, sizeof(joined->network), "%s", network);
	snprintf(joined->uid, sizeof(joined->uid), "n-%s", network);
	snprintf(joined->ipv4, sizeof(joined->ipv4), "%s", ipv4);
	snprintf(joined->ipv6, sizeof(joined->ipv6), "%s", ipv6 ? ipv6 : "");
}

static void route(struct router *router, const char *to, const char *via)
{
	struct router_route *line = &router->spec.routes[router->spec.route_count++];

	assert_int_equal(subnet_parse(to, 0, "", &line->to, NULL), 0);
	assert_int_equal(ip_parse(via, &line->via), 0);
}

static void floats(struct router *router, const char *address, const char *target)
{
	struct router_floating *floating = &router->spec.floating[router->spec.floating_count++];

	assert_int_equal(ip_parse(address, &floating->address), 0);
	if (target)
		assert_int_equal(ip_parse(target, &floating->target.ipv4), 0);
}

static void forwards(struct router *router, const char *text, const char *target)
{
	struct router_forward *forward = &router->spec.forwards[router->spec.forward_count++];

	assert_int_equal(router_forward_parse(text, forward, NULL), 0);
	assert_int_equal(ip_parse(target, &forward->target.ipv4), 0);
}

static struct balancer *add_balancer(struct fixture *f, const char *name, const char *network)
{
	struct balancer *balancer = mem_new0(struct balancer);

	name_it(&balancer->meta, "b", "default", name);
	balancer_spec_init(&balancer->spec);
	snprintf(balancer->spec.network_uid, UID_SIZE, "n-%s", network);
	f->balancers[f->world.balancer_count++] = balancer;
	return balancer;
}

static void listens(struct balancer *balancer, const char *text)
{
	struct balancer_spec *spec = &balancer->spec;

	spec->listens = mem_realloc(spec->listens, spec->listen_count + 1, sizeof(*spec->listens));
	assert_int_equal(balancer_listen_parse(text, &spec->listens[spec->listen_count++], NULL),
			 0);
}

static void member(struct balancer *balancer, const char *instance, const char *ipv4,
		   enum health_state health)
{
	struct balancer_spec *spec = &balancer->spec;
	struct balancer_status *status = &balancer->status;
	struct balancer_member *one;
	struct balancer_member_status *state;

	spec->members = mem_realloc(spec->members, spec->member_count + 1, sizeof(*spec->members));
	one = &spec->members[spec->member_count++];
	*one = (struct balancer_member){};
	snprintf(one->uid, sizeof(one->uid), "i-%s", instance);
	snprintf(one->instance, sizeof(one->instance), "%s", instance);
	snprintf(one->ipv4, sizeof(one->ipv4), "%s", ipv4);
	status->members =
		mem_realloc(status->members, status->member_count + 1, sizeof(*status->members));
	state = &status->members[status->member_count++];
	*state = (struct balancer_member_status){ .health = health };
	snprintf(state->instance, sizeof(state->instance), "%s", instance);
}

/* ---- the world */

static void make_networks(struct fixture *f)
{
	struct network *network;

	add_network(f, "default", "10.90.0.0/24", "fd90::/64");
	network = add_network(f, "routed", "10.73.0.0/24", NULL);
	network->spec.nat = false;
	network = add_network(f, "dhcp", "10.74.0.0/24", NULL);
	network->spec.dhcp = true;
	add_isolated(f, "a", "10.81.0.0/24", "fd81::/64");
	add_isolated(f, "b", "10.82.0.0/24", NULL);
	add_isolated(f, "c", "10.83.0.0/24", NULL);
	add_isolated(f, "d", "10.84.0.0/24", NULL);
	add_isolated(f, "lonely", "10.85.0.0/24", NULL);
	network = add_isolated(f, "far", "10.86.0.0/24", NULL);
	network->spec.tunnel.vni = 77;
	strv_append(&network->spec.tunnel.peers, "192.0.2.7");
	network = add_network(f, "broken", "10.87.0.0/24", NULL);
	network->status.state = NETWORK_FAILED;
	network->status.error = mem_strdup("no such thing");
	network = add_network(f, "theirs", "10.99.0.0/24", NULL);
	mem_replace(&network->meta.project, "other");
	network = add_network(f, "lan", "192.168.1.0/24", NULL);
	network->spec.driver = NETWORK_DRIVER_MACVLAN;
	network->spec.mode = MACVLAN_PRIVATE;
	network->spec.uplink = mem_strdup("eth1");
	network = add_network(f, "office", "192.168.2.0/24", NULL);
	network->spec.driver = NETWORK_DRIVER_PHYSICAL;
	network->spec.uplink = mem_strdup("br0");
	network = add_network(f, "switch", "192.168.3.0/24", NULL);
	network->spec.driver = NETWORK_DRIVER_OVS;
	network->spec.gateway4 = (struct ip){};
}

static void make_groups(struct fixture *f)
{
	struct security_group *group = add_group(f, "default");

	add_rule(group, true, "any", "@default");
	group = add_group(f, "web");
	add_rule(group, true, "icmp", "10.90.0.0/24");
	add_rule(group, true, "tcp:80-81", NULL);
	group = add_group(f, "db");
	add_rule(group, true, "tcp:5432", "@web");
	add_rule(group, false, "udp:53", NULL);
	add_rule(group, false, "tcp:80", "@web");
	add_group(f, "shut");
	group = add_group(f, "open");
	add_rule(group, true, "any", NULL);
	group = add_group(f, "secret");
	mem_replace(&group->meta.project, "other");
}

static void make_instances(struct fixture *f)
{
	struct instance *instance;

	add_simple(f, "one", "default", "10.90.0.11", "fd90::b", "default");
	add_simple(f, "two", "default", "10.90.0.12", "fd90::c", "default");
	instance = add_simple(f, "web", "default", "10.90.0.13", "fd90::d", "web");
	publish(instance, "8080:80");
	add_simple(f, "db", "default", "10.90.0.14", NULL, "db");
	instance = add_simple(f, "stopped", "default", "10.90.0.15", NULL, "default");
	instance->status.state = INSTANCE_STOPPED;
	publish(instance, "8081:80");
	instance = add_simple(f, "paused", "default", "10.90.0.16", NULL, "default");
	instance->status.state = INSTANCE_PAUSED;
	instance = add_simple(f, "liar", "default", "10.90.0.17", NULL, "default");
	instance->spec.ports[0].spoofing = true;
	instance->spec.ports[0].limits.egress_bps = 5000000;
	instance = add_simple(f, "both", "default", "10.90.0.18", NULL, "default");
	join(instance, "a", "10.81.0.18", NULL, "open");
	add_simple(f, "open", "routed", "10.73.0.5", NULL, "open");
	add_simple(f, "ask", "dhcp", "10.74.0.5", NULL, "default");
	add_simple(f, "ia", "a", "10.81.0.5", "fd81::5", "open");
	add_simple(f, "ia2", "a", "10.81.0.6", NULL, "default");
	add_simple(f, "ib", "b", "10.82.0.5", NULL, "open");
	add_simple(f, "ib2", "b", "10.82.0.6", NULL, "web");
	add_simple(f, "ic", "c", "10.83.0.5", NULL, "open");
	add_simple(f, "id", "d", "10.84.0.5", NULL, "open");
	add_simple(f, "alone", "lonely", "10.85.0.5", NULL, "open");
	add_simple(f, "here", "far", "10.86.0.5", NULL, "open");
	instance = add_simple(f, "foreign", "theirs", "10.99.0.5", NULL, "secret");
	mem_replace(&instance->meta.project, "other");
	publish(instance, "9999:80");
	add_simple(f, "mac", "lan", "192.168.1.5", NULL, NULL);
	instance = add_simple(f, "phys", "office", "192.168.2.5", NULL, NULL);
	join(instance, "lan", "192.168.1.6", NULL, NULL);
	join(instance, "switch", "192.168.3.6", NULL, NULL);
	add_simple(f, "phys2", "office", "192.168.2.7", NULL, NULL);
	add_simple(f, "odd", "broken", "10.87.0.5", NULL, "open");
}

/*
 *	a --- border --- b --- inside --- c	border has an uplink, inside and deep have none
 *	                       c --- deep --- d
 */
static void make_routers(struct fixture *f)
{
	struct router *border = add_router(f, "border", "100.64.0.4");
	struct router *inside = add_router(f, "inside", NULL);
	struct router *deep = add_router(f, "deep", NULL);

	leg(border, "a", "10.81.0.1", "fd81::1");
	leg(border, "b", "10.82.0.1", NULL);
	route(border, "10.83.0.0/24", "10.82.0.2");
	floats(border, "192.0.2.77", "10.81.0.5");
	floats(border, "192.0.2.78", NULL);
	forwards(border, "8088:ib2:80", "10.82.0.6");
	forwards(border, "192.0.2.78:90:ib:80", "10.82.0.5");
	leg(inside, "b", "10.82.0.2", NULL);
	leg(inside, "c", "10.83.0.1", NULL);
	route(inside, "10.84.0.0/24", "10.83.0.2");
	leg(deep, "c", "10.83.0.2", NULL);
	leg(deep, "d", "10.84.0.1", NULL);
}

static void make_balancers(struct fixture *f)
{
	struct balancer *balancer = add_balancer(f, "lb", "default");

	balancer->spec.vip = true;
	snprintf(balancer->spec.vip4, sizeof(balancer->spec.vip4), "10.90.0.200");
	listens(balancer, "vip:80:81");
	listens(balancer, "8000:81");
	member(balancer, "one", "10.90.0.11", HEALTH_UNHEALTHY);
	member(balancer, "web", "10.90.0.13", HEALTH_HEALTHY);
	balancer = add_balancer(f, "nobody", "default");
	listens(balancer, "8001:81");
	member(balancer, "one", "10.90.0.11", HEALTH_STARTING);
}

static int set_up(void **state)
{
	struct fixture *f = mem_new0(struct fixture);

	f->world = (struct trace_world){ .project = "default",
					 .instances = f->instances,
					 .networks = f->networks,
					 .groups = f->groups,
					 .routers = f->routers,
					 .balancers = f->balancers };
	make_networks(f);
	make_groups(f);
	make_instances(f);
	make_routers(f);
	make_balancers(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < MAX; i++) {
		network_free((struct network *) f->networks[i]);
		instance_free((struct instance *) f->instances[i]);
		security_group_free((struct security_group *) f->groups[i]);
		router_free((struct router *) f->routers[i]);
		balancer_free((struct balancer *) f->balancers[i]);
	}
	free(f);
	return 0;
}

/* ---- what is expected, in short */

static const struct instance *find(const struct fixture *f, const char *name)
{
	for (size_t i = 0; i < f->world.instance_count; i++)
		if (strcmp(f->instances[i]->meta.name, name) == 0)
			return f->instances[i];
	fail_msg("no instance %s", name);
	return NULL;
}

static void put_packet(struct strbuf *out, const struct trace_packet *packet)
{
	char text[IP_TEXT_SIZE];

	ip_format(&packet->source, text);
	strbuf_printf(out, "%s>", text);
	ip_format(&packet->destination, text);
	strbuf_puts(out, text);
	if (packet->port)
		strbuf_printf(out, ":%u", packet->port);
}

/* "interface guard bridge group(web:in:2) instance": X marks where it ends. */
static char *shorten(const struct trace *trace)
{
	AUTO(json_decref) json_t *doc = trace_encode(trace);
	AUTO(strbuf_done) struct strbuf out = {};

	for (size_t i = 0; i < trace->hop_count; i++) {
		const struct trace_hop *hop = &trace->hops[i];

		strbuf_printf(&out, "%s%s%s", i ? " " : "",
			      hop->verdict == TRACE_HOP_DROPPED ? "X" : "",
			      json_string_value(json_object_get(
				      json_array_get(json_object_get(doc, "hops"), i), "kind")));
		if (hop->group)
			strbuf_printf(&out, "(%s:%s:%zu)", hop->group, hop->ingress ? "in" : "out",
				      hop->rule);
		if (hop->verdict == TRACE_TRANSLATED) {
			strbuf_puts(&out, "(");
			put_packet(&out, &hop->after);
			strbuf_puts(&out, ")");
		}
	}
	strbuf_printf(&out, " = %s", json_string_value(json_object_get(doc, "verdict")));
	return strbuf_take(&out);
}

struct expectation {
	const char *from, *to, *protocol, *way;
	const char *advice; /* NULL: none */
	const char *words;  /* in the text of the last hop; NULL: whatever */
};

static int walk(const struct fixture *f, const char *from, const char *to, const char *protocol,
		struct trace *trace, struct error *err)
{
	AUTO(trace_request_free) struct trace_request *request = NULL, *decoded = NULL;
	AUTO(json_decref) json_t *doc = NULL;
	AUTO(free) char *instance = NULL;
	int r = trace_request_parse(from, to, protocol, &instance, &request, err);

	if (r < 0)
		return r;
	/* As it comes over the wire. */
	doc = trace_request_encode(request);
	assert_int_equal(trace_request_decode(doc, &decoded, err), 0);
	return trace_walk(&f->world, find(f, instance), decoded, trace, err);
}

static void check(const struct fixture *f, const struct expectation *expected)
{
	AUTO(trace_done) struct trace trace = {};
	AUTO(free) char *way = NULL;
	struct error err = {};
	const char *text;

	if (walk(f, expected->from, expected->to, expected->protocol, &trace, &err) < 0)
		fail_msg("%s to %s: %s", expected->from, expected->to, err.msg);
	way = shorten(&trace);
	text = trace.hops[trace.hop_count - 1].text;
	if (strcmp(way, expected->way) != 0)
		fail_msg("%s to %s:\n  %s\nnot\n  %s\n%s", expected->from, expected->to, way,
			 expected->way, text);
	if (strcmp(trace.advice ? trace.advice : "", expected->advice ? expected->advice : "") != 0)
		fail_msg("%s to %s: advice \"%s\"", expected->from, expected->to,
			 trace.advice ? trace.advice : "");
	if (expected->words && !strstr(text, expected->words))
		fail_msg("%s to %s: %s", expected->from, expected->to, text);
}

#define CHECK_ALL(state, cases)                                                                    \
	for (size_t i_ = 0; i_ < ARRAY_COUNT(cases); i_++)                                         \
	check(*(state), &(cases)[i_])

static void on_one_network(void **state)
{
	static const struct expectation cases[] = {
		{ "one", "two:80", NULL,
		  "interface guard bridge group(default:out:0) group(default:in:1) instance = "
		  "delivered" },
		{ "one", "two", NULL,
		  "interface guard bridge group(default:out:0) group(default:in:1) instance = "
		  "delivered" },
		{ "one", "fd90::c", NULL,
		  "interface guard bridge group(default:out:0) group(default:in:1) instance = "
		  "delivered" },
		{ "one", "web:81", NULL,
		  "interface guard bridge group(default:out:0) group(web:in:2) instance = "
		  "delivered" },
		{ "one", "web", NULL,
		  "interface guard bridge group(default:out:0) group(web:in:1) instance = "
		  "delivered" },
		{ "one", "[fd90::d]:80", NULL,
		  "interface guard bridge group(default:out:0) group(web:in:2) instance = "
		  "delivered" },
		{ "one", "fd90::d", NULL,
		  "interface guard bridge group(default:out:0) Xgroup(web:in:0) = dropped",
		  "brume group allow web --in icmp --from-group default" },
		{ "one", "web:443", NULL,
		  "interface guard bridge group(default:out:0) Xgroup(web:in:0) = dropped",
		  "brume group allow web --in tcp:443 --from-group default",
		  "no rule of group web, which web is in, lets in tcp:443 from 10.90.0.11" },
		{ "one", "web:80", "udp",
		  "interface guard bridge group(default:out:0) Xgroup(web:in:0) = dropped",
		  "brume group allow web --in udp:80 --from-group default" },
		{ "web", "two:22", NULL,
		  "interface guard bridge group(web:out:0) Xgroup(default:in:0) = dropped",
		  "brume group allow default --in tcp:22 --from-group web" },
		{ "web", "db:5432", NULL,
		  "interface guard bridge group(web:out:0) group(db:in:1) instance = delivered" },
		{ "one", "db:5432", NULL,
		  "interface guard bridge group(default:out:0) Xgroup(db:in:0) = dropped",
		  "brume group allow db --in tcp:5432 --from-group default" },
		{ "db", "web:80", NULL,
		  "interface guard bridge group(db:out:3) group(web:in:2) instance = delivered" },
		{ "db", "one:53", "udp",
		  "interface guard bridge group(db:out:2) Xgroup(default:in:0) = dropped",
		  "brume group allow default --in udp:53 --from-group db" },
		{ "db", "one:80", NULL, "interface guard bridge Xgroup(db:out:0) = dropped",
		  "brume group allow db --out tcp:80 --to-group default", "lets out tcp:80 to" },
		{ "liar", "two:80", NULL,
		  "interface guard bridge group(default:out:0) group(default:in:1) instance = "
		  "delivered" },
		{ "one", "10.90.0.99", NULL, "interface guard Xbridge = unreachable", NULL,
		  "nobody on network default has 10.90.0.99" },
		{ "one", "stopped:80", NULL, "interface guard bridge Xinstance = unreachable",
		  "brume start stopped", "stopped is stopped" },
		{ "one", "paused:80", NULL,
		  "interface guard bridge group(default:out:0) group(default:in:1) instance = "
		  "delivered",
		  NULL, "it is paused" },
		{ "stopped", "one", NULL, "Xinstance = unreachable", "brume start stopped" },
		{ "paused", "one", NULL, "Xinstance = unreachable", "brume resume paused" },
		{ "one", "one:80", NULL, "interface = delivered" },
		{ "one", "127.0.0.1:80", NULL, "interface = delivered" },
		{ "one", "::1", NULL, "interface = delivered" },
		{ "odd", "10.87.0.9", NULL, "interface guard Xbridge = dropped", NULL,
		  "no such thing" },
		{ "here", "10.86.0.77", NULL,
		  "interface guard bridge group(open:out:0) tunnel = leaves", NULL,
		  "VXLAN 77 to its peers 192.0.2.7" },
	};

	CHECK_ALL(state, cases);
}

static void by_the_node(void **state)
{
	static const struct expectation cases[] = {
		{ "one", "203.0.113.1:443", NULL,
		  "interface guard bridge group(default:out:0) nat(>203.0.113.1:443) uplink = "
		  "leaves" },
		{ "open", "203.0.113.1:443", NULL,
		  "interface guard bridge group(open:out:0) uplink = leaves" },
		{ "one", "2001:db8::1", NULL,
		  "interface guard bridge group(default:out:0) nat(>2001:db8::1) uplink = leaves" },
		{ "open", "2001:db8::1", NULL, "Xinterface = unreachable", NULL,
		  "open has no IPv6 address" },
		{ "db", "203.0.113.1:443", NULL,
		  "interface guard bridge Xgroup(db:out:0) = dropped",
		  "brume group allow db --out tcp:443 --to 203.0.113.1/32" },
		{ "one", "open:80", NULL,
		  "interface guard bridge group(default:out:0) Xwall = dropped",
		  "brume network attach routed one", "from default to routed is refused" },
		{ "one", "10.99.0.5:80", NULL,
		  "interface guard bridge group(default:out:0) Xwall = dropped", NULL,
		  "(of another project)" },
		{ "one", "10.90.0.1:53", "udp", "interface guard bridge node = delivered", NULL,
		  "the name server of the network" },
		{ "ask", "10.74.0.1:67", "udp", "interface guard bridge node = delivered", NULL,
		  "the DHCP server" },
		{ "one", "10.90.0.1", NULL, "interface guard bridge node = delivered" },
		{ "one", "10.73.0.1:53", "udp", "interface guard bridge Xwall = dropped", NULL,
		  "a gateway is for its own network" },
		/* Published ports, on the same network through the node, and from another one. */
		{ "one", "10.90.0.1:8080", NULL,
		  "interface guard bridge forward(10.90.0.11>10.90.0.13:80) group(default:out:0) "
		  "nat(10.90.0.1>10.90.0.13:80) bridge group instance = delivered" },
		{ "open", "10.73.0.1:8080", NULL,
		  "interface guard bridge forward(10.73.0.5>10.90.0.13:80) group(open:out:0) "
		  "bridge group instance = delivered" },
		{ "open", "10.90.0.1:8080", NULL,
		  "interface guard bridge forward(10.73.0.5>10.90.0.13:80) group(open:out:0) "
		  "bridge group instance = delivered" },
		{ "web", "10.90.0.1:8080", NULL,
		  "interface guard bridge forward(10.90.0.13>10.90.0.13:80) group(web:out:0) "
		  "nat(10.90.0.1>10.90.0.13:80) bridge group instance = delivered" },
		/* Egress rules about a group know its members there. */
		{ "db", "10.90.0.1:8080", NULL,
		  "interface guard bridge forward(10.90.0.14>10.90.0.13:80) group(db:out:3) "
		  "nat(10.90.0.1>10.90.0.13:80) bridge group instance = delivered" },
		{ "one", "10.90.0.1:8081", NULL, "interface guard bridge node = delivered", NULL,
		  "the node's own" },
		{ "one", "203.0.113.1:8080", NULL,
		  "interface guard bridge group(default:out:0) nat(>203.0.113.1:8080) uplink = "
		  "leaves",
		  NULL, "were it an address of the node itself" },
		{ "one", "10.90.0.1:9999", NULL,
		  "interface guard bridge forward(10.90.0.11>10.99.0.5:80) group(default:out:0) "
		  "bridge group instance = delivered" },
		/* Balancers: the unhealthy member is left out. */
		{ "one", "lb:80", NULL,
		  "interface guard bridge balancer(10.90.0.11>10.90.0.13:81) "
		  "group(default:out:0) nat(10.90.0.1>10.90.0.13:81) bridge group instance = "
		  "delivered" },
		{ "open", "10.73.0.1:8000", NULL,
		  "interface guard bridge balancer(10.73.0.5>10.90.0.13:81) group(open:out:0) "
		  "bridge group instance = delivered" },
		{ "one", "lb", NULL, "interface guard bridge balancer = delivered" },
		{ "one", "lb:22", NULL, "interface guard bridge Xbalancer = dropped",
		  "brume balancer show lb" },
		{ "open", "lb:80", NULL, "interface guard bridge Xbalancer = dropped",
		  "brume balancer show lb" },
		{ "one", "10.90.0.1:8001", NULL, "interface guard bridge Xbalancer = dropped",
		  "brume balancer show nobody", "none of its 1 members" },
	};

	CHECK_ALL(state, cases);
}

static void by_routers(void **state)
{
	static const struct expectation cases[] = {
		{ "ia", "ib:80", NULL,
		  "interface guard bridge group(open:out:0) router bridge group(open:in:1) "
		  "instance = delivered" },
		{ "ia", "ib2:443", NULL,
		  "interface guard bridge group(open:out:0) router bridge Xgroup(web:in:0) = "
		  "dropped",
		  "brume group allow web --in tcp:443 --from 10.81.0.5/32" },
		{ "ia", "203.0.113.1:443", NULL,
		  "interface guard bridge group(open:out:0) router nat(192.0.2.77>203.0.113.1:443) "
		  "uplink = leaves" },
		{ "ia2", "203.0.113.1:443", NULL,
		  "interface guard bridge group(default:out:0) router "
		  "nat(100.64.0.5>203.0.113.1:443) nat(>203.0.113.1:443) uplink = leaves" },
		{ "ia", "2001:db8::1", NULL,
		  "interface guard bridge group(open:out:0) router "
		  "nat(fd62:7275:6d65:6400::5>2001:db8::1) nat(>2001:db8::1) uplink = leaves" },
		{ "ia2", "10.90.0.11:80", NULL,
		  "interface guard bridge group(default:out:0) router "
		  "nat(100.64.0.5>10.90.0.11:80) Xwall = dropped",
		  "brume network attach default ia2" },
		{ "ia2", "10.90.0.1:8080", NULL,
		  "interface guard bridge group(default:out:0) router "
		  "nat(100.64.0.5>10.90.0.1:8080) forward(100.64.0.5>10.90.0.13:80) bridge group "
		  "instance = delivered" },
		{ "ia2", "10.90.0.1:53", "udp",
		  "interface guard bridge group(default:out:0) router "
		  "nat(100.64.0.5>10.90.0.1:53) Xwall = dropped" },
		/* A floating address, from the node, from the router's own networks, from behind
		   it. */
		{ "one", "192.0.2.77:80", NULL,
		  "interface guard bridge group(default:out:0) nat(10.90.0.11>10.81.0.5:80) router "
		  "bridge group(open:in:1) instance = delivered" },
		{ "ib", "192.0.2.77:80", NULL,
		  "interface guard bridge group(open:out:0) nat(10.82.0.5>10.81.0.5:80) router "
		  "bridge group(open:in:1) instance = delivered" },
		{ "ia2", "192.0.2.77:80", NULL,
		  "interface guard bridge group(default:out:0) nat(10.81.0.6>10.81.0.5:80) router "
		  "nat(10.81.0.1>10.81.0.5:80) bridge group(open:in:1) instance = delivered" },
		{ "one", "192.0.2.78:80", NULL,
		  "interface guard bridge group(default:out:0) Xrouter = unreachable", NULL,
		  "leads nowhere on this port" },
		{ "one", "192.0.2.78:90", NULL,
		  "interface guard bridge group(default:out:0) forward(10.90.0.11>10.82.0.5:80) "
		  "router bridge group(open:in:1) instance = delivered" },
		/* A forward of a port of the node is judged by the groups of its target. */
		{ "one", "10.90.0.1:8088", NULL,
		  "interface guard bridge forward(10.90.0.11>100.64.0.5:8088) "
		  "group(default:out:0) forward(10.90.0.11>10.82.0.6:80) router bridge "
		  "group(web:in:2) instance = delivered" },
		{ "ia", "10.81.0.1", NULL,
		  "interface guard bridge group(open:out:0) router = delivered" },
		{ "ia", "10.82.0.1:22", NULL,
		  "interface guard bridge group(open:out:0) Xrouter = unreachable" },
		/* Static routes: c lies behind inside, and has a gateway that knows a only by
		   border. */
		{ "ib", "ic:80", NULL,
		  "interface guard bridge group(open:out:0) router bridge group(open:out:0) router "
		  "bridge group(open:in:1) instance = delivered" },
		{ "ia", "ic:80", NULL,
		  "interface guard bridge group(open:out:0) router bridge Xrouter = dropped",
		  "brume router route add inside 10.81.0.0/24 10.82.0.1",
		  "router inside has no route back to 10.81.0.5 by network b" },
		{ "ic", "203.0.113.1:80", NULL,
		  "interface guard bridge group(open:out:0) Xrouter = unreachable", NULL,
		  "router inside has no route to 203.0.113.1, and no uplink" },
		{ "ic", "ia:80", NULL,
		  "interface guard bridge group(open:out:0) Xrouter = unreachable",
		  "brume router attach inside a" },
		{ "id", "ib:80", NULL,
		  "interface guard bridge group(open:out:0) Xrouter = unreachable",
		  "brume router attach deep b" },
		/* Networks that nothing leads to. */
		{ "alone", "203.0.113.1", NULL, "Xinterface = unreachable",
		  "brume network attach default alone" },
		{ "alone", "one:80", NULL, "Xinterface = unreachable",
		  "brume network attach default alone" },
		{ "one", "alone:80", NULL,
		  "interface guard bridge group(default:out:0) nat(>10.85.0.5:80) Xuplink = "
		  "unreachable",
		  "brume network attach lonely one" },
	};

	CHECK_ALL(state, cases);
}

static void by_several_networks(void **state)
{
	static const struct expectation cases[] = {
		{ "both", "ia:80", NULL,
		  "interface guard bridge group(open:out:0) group(open:in:1) instance = "
		  "delivered" },
		{ "both", "one:80", NULL,
		  "interface guard bridge group(default:out:0) group(default:in:1) instance = "
		  "delivered" },
		/* The default route is the first network's, so b is looked for outside. */
		{ "both", "ib:80", NULL,
		  "interface guard bridge group(default:out:0) nat(>10.82.0.5:80) Xuplink = "
		  "unreachable",
		  "brume network attach b both" },
		{ "ia", "both:80", NULL,
		  "interface guard bridge group(open:out:0) group(open:in:1) instance = "
		  "delivered" },
		{ "one", "both.a:80", NULL,
		  "interface guard bridge group(default:out:0) nat(>10.81.0.18:80) Xuplink = "
		  "unreachable",
		  "brume network attach a one" },
		{ "one", "both.a.default.internal:80", NULL,
		  "interface guard bridge group(default:out:0) nat(>10.81.0.18:80) Xuplink = "
		  "unreachable",
		  "brume network attach a one" },
		{ "one", "two.brume.internal:80", NULL,
		  "interface guard bridge group(default:out:0) group(default:in:1) instance = "
		  "delivered" },
		{ "both.a", "ia:80", NULL,
		  "interface guard bridge group(open:out:0) group(open:in:1) instance = "
		  "delivered" },
		{ "both.a", "one:80", NULL, "interface Xguard = dropped", NULL,
		  "10.81.0.18 is not an address of eth0" },
		/* The answer would go by the other one, which may not send with that address. */
		{ "ib", "both.a:80", NULL,
		  "interface guard bridge group(open:out:0) router bridge group(open:in:1) "
		  "instance Xinstance = unreachable",
		  NULL, "leads by eth0" },
	};

	CHECK_ALL(state, cases);
}

static void by_other_drivers(void **state)
{
	struct fixture *f = *state;
	static const struct expectation cases[] = {
		{ "mac", "203.0.113.1:80", NULL, "interface uplink = leaves", NULL,
		  "leaves by eth1" },
		{ "mac", "phys.lan", NULL, "interface Xbridge = dropped", NULL, "mode private" },
		{ "phys", "phys2:80", NULL, "interface guard bridge instance = delivered" },
		{ "phys", "192.168.2.200:80", NULL, "interface guard uplink = leaves" },
		{ "phys", "192.168.3.7", NULL, "interface Xbridge = unreachable" },
	};
	static const struct expectation bridged = { "mac", "phys.lan", NULL,
						    "interface instance = delivered" };
	static const struct expectation vepa = { "mac", "phys.lan", NULL,
						 "interface uplink = leaves" };
	struct network *lan = NULL;

	CHECK_ALL(state, cases);
	for (size_t i = 0; i < f->world.network_count; i++)
		if (strcmp(f->networks[i]->meta.name, "lan") == 0)
			lan = (struct network *) f->networks[i];
	assert_non_null(lan);
	lan->spec.mode = MACVLAN_BRIDGED;
	check(f, &bridged);
	lan->spec.mode = MACVLAN_VEPA;
	check(f, &vepa);
}

/* Two routers lead to each other. */
static void check_circle(const struct fixture *f)
{
	AUTO(trace_done) struct trace trace = {};
	struct error err = {};

	assert_int_equal(walk(f, "ib", "10.200.0.1", NULL, &trace, &err), 0);
	assert_int_equal(trace.verdict, TRACE_UNREACHABLE);
	assert_non_null(strstr(trace.hops[trace.hop_count - 1].text, "circle"));
}

/* What is drawn otherwise. */
static void changes(void **state)
{
	struct fixture *f = *state;
	struct router *border = (struct router *) f->routers[0];
	struct router *inside = (struct router *) f->routers[1];
	static const struct expectation back = {
		"ia", "ic:80", NULL,
		"interface guard bridge group(open:out:0) router bridge router bridge "
		"group(open:in:1) instance = delivered"
	};
	static const struct expectation routed = {
		"ia2", "203.0.113.1:443", NULL,
		"interface guard bridge group(default:out:0) router uplink = leaves"
	};
	static const struct expectation walled = {
		"one", "ia2:80", NULL, "interface guard bridge group(default:out:0) Xwall = dropped"
	};
	static const struct expectation failed = { "ia",
						   "203.0.113.1",
						   NULL,
						   "interface guard bridge group(open:out:0) "
						   "Xrouter = dropped",
						   NULL,
						   "out of order" };

	route(inside, "10.81.0.0/24", "10.82.0.1");
	check(f, &back);
	route(border, "10.200.0.0/24", "10.82.0.2");
	route(inside, "10.200.0.0/24", "10.82.0.1");
	check_circle(f);
	border->spec.nat = false;
	check(f, &routed);
	check(f, &walled);
	border->status.state = ROUTER_FAILED;
	border->status.error = mem_strdup("out of order");
	check(f, &failed);
	border->status.error[0] = '\0';
}

/* The receiver's only way out is another one: no answer comes. */
static void no_way_back(void **state)
{
	struct fixture *f = *state;
	static const struct expectation cases[] = {
		{ "ia", "ic:80", NULL,
		  "interface guard bridge group(open:out:0) router bridge group(open:in:1) "
		  "instance Xinstance = unreachable",
		  NULL, "it has no route to 10.81.0.5" },
	};
	struct router *border = (struct router *) f->routers[0];

	static const struct expectation lost = {
		"ic",
		"ib:80",
		NULL,
		"interface guard bridge group(open:out:0) router bridge group(open:in:1) "
		"instance Xinstance = unreachable",
		NULL,
		"it answers by router border, which does not lead to 10.83.0.5"
	};
	static const struct expectation found = {
		"ic", "ib:80", NULL,
		"interface guard bridge group(open:out:0) router bridge group(open:in:1) "
		"instance = delivered"
	};

	check(f, &found);
	border->spec.route_count = 0;
	check(f, &lost);
	/* border joins c by another address, inside does not any more. */
	leg(border, "c", "10.83.0.9", NULL);
	f->world.router_count = 1;
	check(f, &cases[0]);
	f->world.router_count = 3;
}

static void another_project(void **state)
{
	struct fixture *f = *state;
	static const struct expectation mine = {
		"foreign", "10.99.0.1:9999", NULL,
		"interface guard bridge forward(10.99.0.5>10.99.0.5:80) group(secret:out:0) "
		"nat(10.99.0.1>10.99.0.5:80) bridge group instance = delivered"
	};
	static const struct expectation advised = { "foreign", "10.99.0.9", NULL,
						    "interface guard Xbridge = unreachable" };
	static const struct expectation walled = {
		"foreign", "10.90.0.11:80", NULL,
		"interface guard bridge group(secret:out:0) Xwall = dropped"
	};

	f->world.project = "other";
	check(f, &mine);
	check(f, &advised);
	check(f, &walled);
}

static void what_is_refused(void **state)
{
	static const struct {
		const char *from, *to, *protocol, *words;
		int code;
	} cases[] = {
		{ "one", "nix:80", NULL, "neither an address nor an instance", -ENOENT },
		{ "one", "foreign:80", NULL, "neither an address nor an instance", -ENOENT },
		{ "one", "two.nix:80", NULL, "is not on network nix", -ENOENT },
		{ "one", "two.default.other.internal:80", NULL, "names of others", -EINVAL },
		{ "one.nix", "two:80", NULL, "is not on network \"nix\"", -ENOENT },
		{ "one", "224.0.0.1", NULL, "not the address of one host", -EINVAL },
		{ "one", "255.255.255.255", NULL, "not the address of one host", -EINVAL },
		{ "one", "0.0.0.0", NULL, "not the address of one host", -EINVAL },
		{ "one", "fe80::1", NULL, "not the address of one host", -EINVAL },
		{ "one", "ff02::1", NULL, "not the address of one host", -EINVAL },
		{ "one", "two", "tcp", "goes to a port", -EINVAL },
		{ "one", "two:80", "icmp", "icmp has no ports", -EINVAL },
		{ "one", "two:80", "sctp", "must be tcp, udp or icmp", -EINVAL },
		{ "one", "two:0", NULL, "is not a port", -EINVAL },
		{ "one", "two:65536", NULL, "is not a port", -EINVAL },
		{ "one", "two:", NULL, "is not a port", -EINVAL },
		{ "one", ":80", NULL, "names nobody", -EINVAL },
		{ "one", "two\xff", NULL, "--to: is not UTF-8", -EINVAL },
		{ "one", "[fd90::c", NULL, "is not [ADDRESS]:PORT", -EINVAL },
		{ "one", "[10.0.0.1]:80", NULL, "is not an IPv6 address", -EINVAL },
		{ "one.", "two", NULL, "is not INSTANCE", -EINVAL },
		{ "", "two", NULL, "is not INSTANCE", -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(trace_done) struct trace trace = {};
		struct error err = {};
		int r = walk(*state, cases[i].from, cases[i].to, cases[i].protocol, &trace, &err);

		if (r != cases[i].code || !strstr(err.msg, cases[i].words))
			fail_msg("%s to %s: %d %s", cases[i].from, cases[i].to, r, err.msg);
	}
}

static void bad_requests(void **state)
{
	static const struct {
		const char *json, *words;
	} cases[] = {
		{ "{}", "to: is missing" },
		{ "{'to':''}", "to: is missing" },
		{ "{'to':'x','port':0,'protocol':'tcp'}", "port: tcp goes to a port" },
		{ "{'to':'x','port':65536}", "port" },
		{ "{'to':'x','port':'80'}", "port" },
		{ "{'to':'x','port':80,'protocol':'icmp'}", "icmp has none" },
		{ "{'to':'x','protocol':'sctp'}", "protocol" },
		{ "{'to':'x','nix':1}", "nix: is not known" },
		{ "{'to':1}", "to" },
		{ "[]", "" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(trace_request_free) struct trace_request *request = NULL;
		AUTO(json_decref) json_t *doc = parse(cases[i].json);
		struct error err = {};

		if (trace_request_decode(doc, &request, &err) != -EINVAL ||
		    !strstr(err.msg, cases[i].words))
			fail_msg("%s: %s", cases[i].json, err.msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(on_one_network, set_up, tear_down),
		cmocka_unit_test_setup_teardown(by_the_node, set_up, tear_down),
		cmocka_unit_test_setup_teardown(by_routers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(by_several_networks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(by_other_drivers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_way_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(another_project, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_refused, set_up, tear_down),
		cmocka_unit_test(bad_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
