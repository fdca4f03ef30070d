/*
 * tests/integration/net_driver.c - calls src/net/ for the tests, without the daemons.
 *
 *	net-driver PREFIX RUN_FOLDER
 *
 * Reads commands, one a line, words apart by one space, "-" for an empty one; answers each with one
 * line: "ok ..." or "error ERRNO message".  Runs in the network namespace that it was started in.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "net/balance.h"
#include "net/count.h"
#include "net/group.h"
#include "net/guard.h"
#include "net/name.h"
#include "net/network.h"
#include "net/node.h"
#include "net/observe.h"
#include "net/port.h"
#include "net/publish.h"
#include "net/router.h"
#include "net/tap.h"
#include "net/trace.h"

enum { WORDS_MAX = 64, LINE_SIZE = 65536 };

struct driver {
	struct net *net;
	char *words[WORDS_MAX];
	size_t count;
	uint32_t vni; /* see do_tunnel() */
	uint16_t udp_port;
	char *local;
	char **remotes;
	uint32_t mtu;                            /* of the network that was made last */
	char *driver, *mode, *uplink, *gateway4; /* see do_via() */
	int tap_fd;
	char *zone, *project; /* see do_zone() */
	bool gre, dhcp;
	struct limit_spec limits;
};

static const char *word(const struct driver *driver, size_t i)
{
	return i < driver->count && strcmp(driver->words[i], "-") != 0 ? driver->words[i] : "";
}

static struct bridge_spec network_words(const struct driver *driver, size_t at)
{
	return (struct bridge_spec){ .uid = word(driver, at),
				     .driver = driver->driver,
				     .mode = driver->mode,
				     .uplink = driver->uplink,
				     .gateway4 = driver->gateway4,
				     .ipv4 = word(driver, at + 1),
				     .ipv6 = word(driver, at + 2),
				     .nat = strcmp(word(driver, at + 3), "nat") == 0,
				     .isolated = strcmp(word(driver, at + 3), "isolated") == 0,
				     .mtu = (uint32_t) atoi(word(driver, at + 4)),
				     .dns_domain = word(driver, at + 5),
				     .zone = driver->zone,
				     .project = driver->project,
				     .dhcp = driver->dhcp,
				     .tunnel = { .gre = driver->gre,
						 .vni = driver->vni,
						 .port = driver->udp_port,
						 .local = driver->local,
						 .remotes = driver->remotes } };
}

static void print_strv(const char *name, char **strv)
{
	printf(" %s=", name);
	for (size_t i = 0; i < strv_count(strv); i++)
		printf("%s%s", i ? "," : "", strv[i]);
}

/* tunnel VNI|gre:KEY PORT LOCAL REMOTE..: of the networks that are made from here on; VNI 0: none
 */
static int do_tunnel(struct driver *driver, struct error *err)
{
	(void) err;
	strv_free(driver->remotes);
	free(driver->local);
	driver->remotes = NULL;
	driver->gre = strncmp(word(driver, 1), "gre:", 4) == 0;
	driver->vni = (uint32_t) strtoul(word(driver, 1) + (driver->gre ? 4 : 0), NULL, 10);
	driver->udp_port = (uint16_t) atoi(word(driver, 2));
	driver->local = mem_strdup(word(driver, 3));
	for (size_t i = 4; i < driver->count; i++)
		strv_append(&driver->remotes, word(driver, i));
	return 0;
}

/* via DRIVER MODE UPLINK GATEWAY4: networks from here on */
static int do_via(struct driver *driver, struct error *err)
{
	(void) err;
	mem_replace(&driver->driver, word(driver, 1));
	mem_replace(&driver->mode, word(driver, 2));
	mem_replace(&driver->uplink, word(driver, 3));
	mem_replace(&driver->gateway4, word(driver, 4));
	return 0;
}

/* zone ZONE PROJECT dhcp|-: of the networks from here on */
static int do_zone(struct driver *driver, struct error *err)
{
	(void) err;
	mem_replace(&driver->zone, word(driver, 1));
	mem_replace(&driver->project, word(driver, 2));
	driver->dhcp = strcmp(word(driver, 3), "dhcp") == 0;
	return 0;
}

/* network UID IPV4 IPV6 nat|isolated|- MTU DOMAIN -> ok BRIDGE RESTART ARGV.. */
static int do_network(struct driver *driver, struct error *err)
{
	AUTO(bridge_status_done) struct bridge_status status = {};
	struct bridge_spec spec = network_words(driver, 1);
	int r = network_ensure(driver->net, &spec, &status, err);

	if (r < 0)
		return r;
	driver->mtu = status.mtu;
	printf("ok %s %d", status.bridge[0] ? status.bridge : "-", status.dns.restart);
	for (size_t i = 0; i < strv_count(status.dns.argv); i++)
		printf(" %s", status.dns.argv[i]);
	return 1;
}

/* attach PID PORT NAME MAC IPV4 IPV6 (the network's words) [ROUTER4 ROUTER6] */
static int do_attach(struct driver *driver, struct error *err)
{
	struct bridge_spec network = network_words(driver, 7);
	struct port_spec spec = { .network = &network,
				  .uid = word(driver, 2),
				  .name = word(driver, 3),
				  .mac = word(driver, 4),
				  .ipv4 = word(driver, 5),
				  .ipv6 = word(driver, 6),
				  .leads_out = true,
				  .limits = driver->limits,
				  .router4 = word(driver, 13),
				  .router6 = word(driver, 14) };
	AUTO(free) char *path = mem_printf("/proc/%s/ns/net", word(driver, 1));
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, -errno, "%s", path);
	/* Ports know nothing of tunnels and uplinks, only what these leave. */
	if (network.tunnel.vni || (network.driver && network.driver[0]))
		network.mtu = driver->mtu;
	network.tunnel = (struct tunnel_spec){};
	return port_attach(driver->net, &spec, fd, err);
}

/* tap (the words of attach, PID unused): a machine's port, until the next one */
static int do_tap(struct driver *driver, struct error *err)
{
	struct bridge_spec network = network_words(driver, 7);
	struct port_spec spec = { .network = &network,
				  .uid = word(driver, 2),
				  .name = word(driver, 3),
				  .mac = word(driver, 4),
				  .ipv4 = word(driver, 5),
				  .ipv6 = word(driver, 6) };
	struct tap_facts facts;
	int fd = -1, r;

	network.mtu = driver->mtu;
	r = tap_open(driver->net, &spec, &fd, &facts, err);
	if (r < 0)
		return r;
	fd_close(driver->tap_fd);
	driver->tap_fd = fd;
	printf("ok %d", fd);
	return 1;
}

/* remove-inside PID INTERFACE MAC */
static int do_remove_inside(struct driver *driver, struct error *err)
{
	AUTO(free) char *path = mem_printf("/proc/%s/ns/net", word(driver, 1));
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, -errno, "%s", path);
	return port_remove_inside(driver->net, word(driver, 2), word(driver, 3), fd, err);
}

/* limit INGRESS EGRESS BURST: of the ports that are attached from here on */
static int do_limit(struct driver *driver, struct error *err)
{
	(void) err;
	driver->limits = (struct limit_spec){ .ingress_bps = strtoull(word(driver, 1), NULL, 10),
					      .egress_bps = strtoull(word(driver, 2), NULL, 10),
					      .burst_bytes = strtoull(word(driver, 3), NULL, 10) };
	return 0;
}

static void print_way(const struct count_way *way)
{
	printf(",%llu,%llu,%llu,%llu", (unsigned long long) way->inside.bytes,
	       (unsigned long long) way->inside.packets, (unsigned long long) way->outside.bytes,
	       (unsigned long long) way->outside.packets);
}

static void print_count(const char *port_uid, const struct count *count, void *data)
{
	(void) data;
	printf(" %s=%llx", port_uid, (unsigned long long) count->serial);
	print_way(&count->in);
	print_way(&count->out);
}

/* counts NETWORK -> ok PORT=SERIAL,then in inside bytes, packets, outside .., out .. */
static int do_counts(struct driver *driver, struct error *err)
{
	int r;

	printf("ok");
	r = count_each(driver->net, word(driver, 1), print_count, NULL, err);
	return r < 0 ? r : 1;
}

/* publish INSTANCE IPV4 IPV6 HOST_IP,HOST_PORT,PORT,PROTOCOL.. */
static int do_publish(struct driver *driver, struct error *err)
{
	struct publish_spec specs[WORDS_MAX] = {};
	size_t count = 0;

	for (size_t i = 4; i < driver->count; i++) {
		char *rest = driver->words[i];

		specs[count].host_ip = strsep(&rest, ",");
		specs[count].host_port = (uint16_t) atoi(rest ? strsep(&rest, ",") : "");
		specs[count].port = (uint16_t) atoi(rest ? strsep(&rest, ",") : "");
		specs[count++].protocol = rest;
	}
	return publish_ensure(driver->net, word(driver, 1), word(driver, 2), word(driver, 3), specs,
			      count, err);
}

/* fill COUNT: that many published ports of other instances, as a busy node has them */
static int do_fill(struct driver *driver, struct error *err)
{
	int count = atoi(word(driver, 1));

	for (int i = 0; i < count; i++) {
		AUTO(free) char *uid = mem_printf("f%07x", i);
		AUTO(free) char *ipv4 = mem_printf("10.99.%d.%d", i / 250, i % 250 + 1);
		struct publish_spec spec = { .host_port = (uint16_t) (20000 + i),
					     .port = 80,
					     .protocol = "tcp" };
		int r = publish_ensure(driver->net, uid, ipv4, NULL, &spec, 1, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static void split(const char *list, char ***ret)
{
	AUTO(free) char *copy = mem_strdup(list);
	char *rest = copy, *uid;

	while ((uid = strsep(&rest, ",")))
		if (uid[0])
			strv_append(ret, uid);
}

/* "tcp,80,90,10.0.0.0/8" or "any,0,0,group:UID" */
static void parse_rule(char *words, struct group_rule *ret)
{
	char *rest = words, *peer;

	*ret = (struct group_rule){ .protocol = strsep(&rest, ",") };
	ret->port = (uint16_t) atoi(rest ? strsep(&rest, ",") : "");
	ret->last_port = (uint16_t) atoi(rest ? strsep(&rest, ",") : "");
	peer = rest ? rest : "";
	if (strncmp(peer, "group:", 6) == 0)
		ret->group = peer + 6;
	else
		ret->cidr = peer;
}

/* group UID all|- RULE.. [egress RULE..]: "all" lets everything out */
static int do_group(struct driver *driver, struct error *err)
{
	struct group_rule rules[WORDS_MAX];
	size_t ingress = 0, count = 0;
	bool egress = false;

	for (size_t i = 3; i < driver->count; i++) {
		if (strcmp(driver->words[i], "egress") == 0) {
			egress = true;
			continue;
		}
		parse_rule(driver->words[i], &rules[count++]);
		ingress += !egress;
	}
	return group_ensure(driver->net,
			    &(struct group_spec){ .uid = word(driver, 1),
						  .egress_all = strcmp(word(driver, 2), "all") == 0,
						  .ingress = rules,
						  .ingress_count = ingress,
						  .egress = rules + ingress,
						  .egress_count = count - ingress },
			    err);
}

/* guard PORT INTERFACE BRIDGE MAC IPV4 IPV6 GROUP,.. [spoofing] */
static int do_guard(struct driver *driver, struct error *err)
{
	AUTO(strv_free) char **groups = NULL;
	struct guard_spec spec = { .port_uid = word(driver, 1),
				   .interface = word(driver, 2),
				   .bridge = word(driver, 3),
				   .ipv4 = word(driver, 5),
				   .ipv6 = word(driver, 6),
				   .spoofing = strcmp(word(driver, 8), "spoofing") == 0 };
	uint8_t mac[6];

	split(word(driver, 7), &groups);
	spec.groups = (const char *const *) groups;
	spec.group_count = strv_count(groups);
	spec.mac = mac;
	if (name_parse_mac(word(driver, 4), mac) < 0)
		return error_say(err, -EINVAL, "mac");
	return guard_set_port(driver->net, &spec, err);
}

/* Texts of a balance_spec are the driver's words. */
struct balancer {
	struct balance_spec spec;
	struct balance_listen listens[WORDS_MAX];
	struct balance_member members[BALANCE_MEMBER_MAX + 1];
};

/* UID NETWORK routed|- VIP4 VIP6 rr|lc|sh LISTEN;.. MEMBER;..: a LISTEN is PROTOCOL,ADDRESS,PORT,
 * TARGET (the address may be vip), a MEMBER is IPV4,IPV6,CONNECTIONS */
static void balancer_words(struct driver *driver, struct balancer *ret)
{
	char *listens = driver->count > 7 ? driver->words[7] : NULL;
	char *members = driver->count > 8 ? driver->words[8] : NULL, *one;
	const char *algorithm = word(driver, 6);
	struct balance_spec *spec = &ret->spec;

	*ret = (struct balancer){};
	*spec = (struct balance_spec){ .uid = word(driver, 1),
				       .network_uid = word(driver, 2),
				       .routed = strcmp(word(driver, 3), "routed") == 0,
				       .vip4 = word(driver, 4),
				       .vip6 = word(driver, 5),
				       .listens = ret->listens,
				       .members = ret->members };
	spec->algorithm = strcmp(algorithm, "lc") == 0   ? BALANCE_LEAST_CONNECTIONS
			  : strcmp(algorithm, "sh") == 0 ? BALANCE_SOURCE_HASH
							 : BALANCE_ROUND_ROBIN;
	while ((one = strsep(&listens, ";")) && spec->listen_count < WORDS_MAX) {
		struct balance_listen *listen = &ret->listens[spec->listen_count++];

		listen->protocol = strsep(&one, ",");
		listen->address = one ? strsep(&one, ",") : "";
		listen->port = (uint16_t) atoi(one ? strsep(&one, ",") : "");
		listen->target_port = (uint16_t) atoi(one ? one : "");
		listen->vip = strcmp(listen->address, "vip") == 0;
		if (listen->vip)
			listen->address = NULL;
	}
	while ((one = strsep(&members, ";")) && spec->member_count <= BALANCE_MEMBER_MAX) {
		struct balance_member *member = &ret->members[spec->member_count];

		member->ipv4 = strsep(&one, ",");
		member->ipv6 = one ? strsep(&one, ",") : "";
		member->connections = (uint32_t) atoi(one ? one : "");
		spec->member_count += strcmp(member->ipv4, "-") != 0;
	}
}

static int do_balance(struct driver *driver, struct error *err)
{
	struct balancer balancer;

	balancer_words(driver, &balancer);
	return balance_ensure(driver->net, &balancer.spec, err);
}

static int do_balance_forget(struct driver *driver, struct error *err)
{
	struct balancer balancer;

	balancer_words(driver, &balancer);
	return balance_forget(&balancer.spec, err);
}

/* -> ok N.. of each member */
static int do_balance_count(struct driver *driver, struct error *err)
{
	struct balancer balancer;
	uint32_t counts[BALANCE_MEMBER_MAX + 1];
	int r;

	balancer_words(driver, &balancer);
	r = balance_count(&balancer.spec, counts, err);
	if (r < 0)
		return r;
	printf("ok");
	for (size_t i = 0; i < balancer.spec.member_count; i++)
		printf(" %u", counts[i]);
	return 1;
}

/* UID -> ok ADDRESS.. that get connections */
static int do_balance_members(struct driver *driver, struct error *err)
{
	AUTO(strv_free) char **members = NULL;
	int r = balance_members(driver->net, word(driver, 1), &members, err);

	if (r < 0)
		return r;
	printf("ok");
	for (size_t i = 0; i < strv_count(members); i++)
		printf(" %s", members[i]);
	return 1;
}

static const char *next(char **rest)
{
	const char *part = *rest ? strsep(rest, ",") : NULL;

	return part ? part : "";
}

/*
 * router UID uplink|- nat|- TRANSIT, then any of: leg NETWORK,SUBNET4,SUBNET6,IPV4,IPV6,MTU
 * route TO,VIA  public ADDRESS,TARGET  door ADDRESS,PROTOCOL,PORT,TARGET4,TARGET6,TARGET_PORT
 */
static int do_router(struct driver *driver, struct error *err)
{
	struct router_leg legs[WORDS_MAX];
	struct router_static statics[WORDS_MAX];
	struct router_public publics[WORDS_MAX];
	struct router_door doors[WORDS_MAX];
	struct router_setup setup = { .uid = word(driver, 1),
				      .uplink = strcmp(word(driver, 2), "uplink") == 0,
				      .nat = strcmp(word(driver, 3), "nat") == 0,
				      .transit = word(driver, 4),
				      .legs = legs,
				      .statics = statics,
				      .publics = publics,
				      .doors = doors };

	for (size_t i = 5; i + 1 < driver->count; i += 2) {
		const char *kind = driver->words[i];
		char *rest = driver->words[i + 1];

		if (strcmp(kind, "leg") == 0) {
			struct router_leg *leg = &legs[setup.leg_count++];

			leg->network_uid = next(&rest);
			leg->subnet4 = next(&rest);
			leg->subnet6 = next(&rest);
			leg->ipv4 = next(&rest);
			leg->ipv6 = next(&rest);
			leg->mtu = (uint32_t) atoi(next(&rest));
		} else if (strcmp(kind, "route") == 0) {
			struct router_static *route = &statics[setup.static_count++];

			route->to = next(&rest);
			route->via = next(&rest);
		} else if (strcmp(kind, "public") == 0) {
			struct router_public *public = &publics[setup.public_count++];

			public->address = next(&rest);
			public->target = next(&rest);
		} else {
			struct router_door *door = &doors[setup.door_count++];

			door->address = next(&rest);
			door->protocol = next(&rest);
			door->port = (uint16_t) atoi(next(&rest));
			door->target4 = next(&rest);
			door->target6 = next(&rest);
			door->target_port = (uint16_t) atoi(next(&rest));
		}
	}
	return router_ensure(driver->net, &setup, err);
}

static int do_observe(struct driver *driver, struct error *err)
{
	AUTO(net_observed_done) struct net_observed observed = {};
	int r = net_observe(driver->net, &observed, err);

	if (r < 0)
		return r;
	printf("ok");
	print_strv("networks", observed.networks);
	print_strv("ports", observed.ports);
	print_strv("published", observed.published);
	print_strv("guarded", observed.guarded);
	print_strv("groups", observed.groups);
	print_strv("balancers", observed.balancers);
	print_strv("routers", observed.routers);
	printf(" elements=%zu", observed.elements);
	return 1;
}

/* gc NETWORK,.. INSTANCE,.. GROUP,.. ROUTER,..; ports have the uids of their instances */
static int do_gc(struct driver *driver, struct error *err)
{
	AUTO(strv_free) char **networks = NULL;
	AUTO(strv_free) char **instances = NULL;
	AUTO(strv_free) char **groups = NULL;
	AUTO(strv_free) char **routers = NULL;
	struct net_gc_report report = {};
	struct net_wanted wanted;
	int r;

	split(word(driver, 1), &networks);
	split(word(driver, 2), &instances);
	split(word(driver, 3), &groups);
	split(word(driver, 4), &routers);
	wanted = (struct net_wanted){ .networks = networks,
				      .ports = instances,
				      .instances = instances,
				      .groups = groups,
				      .routers = routers };
	r = net_gc(driver->net, &wanted, &report, err);
	if (r < 0)
		return r;
	printf("ok networks=%zu ports=%zu published=%zu names=%zu guards=%zu groups=%zu "
	       "routers=%zu",
	       report.networks, report.ports, report.published, report.names, report.guards,
	       report.groups, report.routers);
	return 1;
}

static void put_ends(json_t *object, const char *name, const struct nft_flow_ends *ends)
{
	char source[INET6_ADDRSTRLEN] = "", destination[INET6_ADDRSTRLEN] = "";

	if (!ends->source.family)
		return;
	inet_ntop(ends->source.family, ends->source.bytes, source, sizeof(source));
	inet_ntop(ends->source.family, ends->destination.bytes, destination, sizeof(destination));
	json_object_set_new(object, name,
			    json_pack("[s, i, s, i]", source, ends->source_port, destination,
				      ends->destination_port));
}

static json_t *trace_document(const struct trace_result *result)
{
	static const char *const answers[] = { "none", "connected", "refused", "reply",
					       "unreachable" };
	static const char *const kinds[] = { "rule", "policy", "return" };
	json_t *steps = json_array();
	json_t *document =
		json_pack("{s:b, s:s, s:o, s:b, s:i, s:b, s:s, s:s, s:s}", "sent", result->sent,
			  "answer", answers[result->answer], "steps", steps, "truncated",
			  result->truncated, "dropped_by", result->dropped_by, "answer_dropped",
			  result->answer_dropped, "left_router", result->left_router, "left_by",
			  result->left_by, "tracked_router", result->tracked_router);
	char from[INET6_ADDRSTRLEN] = "";

	if (result->answer_from.family)
		inet_ntop(result->answer_from.family, result->answer_from.bytes, from,
			  sizeof(from));
	json_object_set_new(document, "answer_from", json_string(from));
	put_ends(document, "left", &result->left);
	put_ends(document, "tracked", &result->tracked);
	put_ends(document, "reply", &result->tracked_reply);
	for (size_t i = 0; i < result->step_count; i++) {
		const struct trace_step *step = &result->steps[i];
		const struct nft_trace_event *event = &step->event;
		json_t *object =
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:s?, s:s?}",
				  "router", step->router, "family", nft_family_name(event->family),
				  "table", event->table, "chain", event->chain, "hook", step->hook,
				  "kind", kinds[event->kind], "drop", event->verdict == NF_DROP,
				  "to", event->to, "iif", step->iif, "oif", step->oif, "expression",
				  step->expression, "comment", step->comment);

		put_ends(object, "ends", &step->ends);
		json_array_append_new(steps, object);
	}
	return document;
}

/* trace SLOT PID|tap PROTOCOL SOURCE DESTINATION PORT TIMEOUT_MS PORT_UID,DRIVER,UPLINK [MAC SUBNET
 * GATEWAY]: PID "tap": of the machine's port that was opened; -> ok JSON, blanks escaped */
static int do_trace(struct driver *driver, struct error *err)
{
	AUTO(trace_result_done) struct trace_result result = { .dropped_by = -1 };
	AUTO(free) char *path = mem_printf("/proc/%s/ns/net", word(driver, 2));
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *rest = driver->count > 8 ? driver->words[8] : NULL;
	struct trace_port port = { .uid = next(&rest), .driver = next(&rest) };
	pid_t own = getpid();
	struct trace_machine machine = { .pids = &own,
					 .pid_count = 1,
					 .port_uid = port.uid,
					 .mac = word(driver, 9),
					 .subnet = word(driver, 10),
					 .gateway = word(driver, 11) };
	struct trace_spec spec = { .slot = (unsigned int) atoi(word(driver, 1)),
				   .ports = &port,
				   .port_count = 1,
				   .netns_fd = fd,
				   .machine = fd < 0 ? &machine : NULL,
				   .protocol = word(driver, 3),
				   .source = word(driver, 4),
				   .destination = word(driver, 5),
				   .port = (uint16_t) atoi(word(driver, 6)),
				   .timeout_ms = (uint32_t) atoi(word(driver, 7)),
				   .cancel_fd = -1 };
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *text = NULL;
	int r;

	port.uplink = next(&rest);
	r = trace_run(driver->net, &spec, &result, err);
	if (r < 0)
		return r;
	document = trace_document(&result);
	text = json_text(document);
	printf("ok ");
	for (const char *c = text; *c; c++)
		printf(*c == ' ' ? "\\u0020" : "%c", *c);
	return 1;
}

static int do_repair(struct driver *driver, struct error *err)
{
	bool damaged = false;
	int r = net_repair(driver->net, &damaged, err);

	if (r < 0)
		return r;
	printf("ok %s", damaged ? "damaged" : "fine");
	return 1;
}

/* Returns 1 when it printed its own "ok" line. */
static int run(struct driver *driver, struct error *err)
{
	const char *verb = word(driver, 0);

	if (strcmp(verb, "network") == 0)
		return do_network(driver, err);
	if (strcmp(verb, "zone") == 0)
		return do_zone(driver, err);
	if (strcmp(verb, "tunnel") == 0)
		return do_tunnel(driver, err);
	if (strcmp(verb, "via") == 0)
		return do_via(driver, err);
	if (strcmp(verb, "tap") == 0)
		return do_tap(driver, err);
	if (strcmp(verb, "remove-inside") == 0)
		return do_remove_inside(driver, err);
	if (strcmp(verb, "remove-network") == 0)
		return network_remove(driver->net, word(driver, 1), err);
	if (strcmp(verb, "attach") == 0)
		return do_attach(driver, err);
	if (strcmp(verb, "remove-port") == 0)
		return port_remove(driver->net, word(driver, 1), word(driver, 2), err);
	if (strcmp(verb, "detach") == 0)
		return port_detach(driver->net, word(driver, 1), word(driver, 2), err);
	if (strcmp(verb, "limit") == 0)
		return do_limit(driver, err);
	if (strcmp(verb, "counts") == 0)
		return do_counts(driver, err);
	if (strcmp(verb, "forget") == 0)
		return count_forget(driver->net, word(driver, 1), word(driver, 2), err);
	if (strcmp(verb, "publish") == 0)
		return do_publish(driver, err);
	if (strcmp(verb, "unpublish") == 0)
		return publish_remove(driver->net, word(driver, 1), err);
	if (strcmp(verb, "fill") == 0)
		return do_fill(driver, err);
	if (strcmp(verb, "observe") == 0)
		return do_observe(driver, err);
	if (strcmp(verb, "gc") == 0)
		return do_gc(driver, err);
	if (strcmp(verb, "repair") == 0)
		return do_repair(driver, err);
	if (strcmp(verb, "group") == 0)
		return do_group(driver, err);
	if (strcmp(verb, "remove-group") == 0)
		return group_remove(driver->net, word(driver, 1), err);
	if (strcmp(verb, "guard") == 0)
		return do_guard(driver, err);
	if (strcmp(verb, "router") == 0)
		return do_router(driver, err);
	if (strcmp(verb, "remove-router") == 0)
		return router_remove(driver->net, word(driver, 1), err);
	if (strcmp(verb, "unguard") == 0)
		return guard_remove_port(driver->net, word(driver, 1), err);
	if (strcmp(verb, "balance") == 0)
		return do_balance(driver, err);
	if (strcmp(verb, "balance-count") == 0)
		return do_balance_count(driver, err);
	if (strcmp(verb, "balance-forget") == 0)
		return do_balance_forget(driver, err);
	if (strcmp(verb, "balance-members") == 0)
		return do_balance_members(driver, err);
	if (strcmp(verb, "remove-balance") == 0)
		return balance_remove(driver->net, word(driver, 1), err);
	if (strcmp(verb, "trace") == 0)
		return do_trace(driver, err);
	if (strcmp(verb, "destroy") == 0)
		return net_destroy(driver->net, err);
	return error_say(err, -EINVAL, "no such command");
}

int main(int argc, char **argv)
{
	static char line[LINE_SIZE];
	struct driver driver = { .tap_fd = -1 };
	struct error err = {};
	int r;

	if (argc != 3)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	r = net_new(&(struct net_options){ .prefix = argv[1], .run_dir = argv[2] }, &driver.net,
		    &err);
	printf(r < 0 ? "error %d %s\n" : "ok %d%s\n", r < 0 ? -r : 0, err.msg);
	while (r == 0 && fgets(line, sizeof(line), stdin)) {
		char *rest = line;

		line[strcspn(line, "\n")] = '\0';
		driver.count = 0;
		while (rest && driver.count < WORDS_MAX)
			driver.words[driver.count++] = strsep(&rest, " ");
		err = (struct error){};
		r = run(&driver, &err);
		if (r < 0)
			printf("error %d %s\n", -r, err.msg);
		else
			printf(r == 0 ? "ok\n" : "\n");
		r = 0;
	}
	net_free(driver.net);
	return r < 0;
}
