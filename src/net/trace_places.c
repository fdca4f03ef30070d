#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "kern/netlink.h"
#include "kern/nft.h"
#include "kern/nft_rule.h"
#include "net/node_internal.h"
#include "net/router_internal.h"
#include "net/rules_internal.h"
#include "net/trace_internal.h"

/*
 * Where a trace looks: in the node, and in its routers.  All of these that can be are made ready,
 * for what becomes of the probe is what is asked.
 */

enum {
	FIRST = -500, /* before fragments are put together, before anything is tracked */
	LAST = 500,   /* after translation */
	LIST_ATTEMPTS = 20,
	TCP_FLAGS_AT = 13,
	ICMP_ID_AT = 4,
	INNER_IPV4_AT = 8, /* of an ICMP error: the packet that it is about */
	INNER_IPV4_PORTS = 8 + 20,
	INNER_IPV6_PORTS = 8 + 40,
	ADVERT_TARGET_AT = 8,
	ARP_OPERATION_AT = 6,
	ARP_SENDER_AT = 14,
};

/* ---- places ---- */

static bool has_place(const struct trace_places *places, const char *router)
{
	for (size_t i = 1; i < places->count; i++)
		if (strcmp(places->list[i].router, router) == 0)
			return true;
	return false;
}

static int take_link(const struct link *link, void *data)
{
	struct trace_places *places = data;
	struct trace_place *place;

	if (!name_is_of_router(places->net->prefix, link->name) || !name_is_uid(link->alias) ||
	    link->peer_nsid < 0)
		return 0;
	if (has_place(places, link->alias) || places->count == TRACE_PLACES_MAX)
		return 0;
	place = &places->list[places->count++];
	*place = (struct trace_place){ .nsid = link->peer_nsid, .netns_fd = -1 };
	snprintf(place->router, sizeof(place->router), "%.32s", link->alias);
	return 0;
}

static int open_inside(struct net *net, void *data, struct error *err)
{
	struct trace_place *place = data;
	int r = nft_new(&place->nft);

	(void) net;
	return r < 0 ? error_set(err, r, "cannot open nftables of a router") : 0;
}

static void place_close(struct trace_place *place)
{
	nft_free(place->nft);
	fd_close(place->netns_fd);
	place->nft = NULL;
	place->netns_fd = -1;
}

/* Routers come and go: one that cannot be entered is left out. */
static void open_routers(struct trace_places *places)
{
	size_t kept = 1;

	for (size_t i = 1; i < places->count; i++) {
		struct trace_place place = places->list[i];

		place.netns_fd = router_space_open(places->net, place.router);
		if (place.netns_fd < 0 ||
		    router_space_run(places->net, place.netns_fd, open_inside, &place, NULL) < 0) {
			place_close(&place);
			continue;
		}
		places->list[kept++] = place;
	}
	places->count = kept;
}

static int find_routers(struct trace_places *places, struct error *err)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	int r = netlink_open(NETLINK_ROUTE, &nl);

	if (r == 0) {
		r = -EINTR;
		for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
			places->count = 1;
			r = link_list(nl, "veth", take_link, places);
		}
	}
	if (r == 0)
		r = link_nsid(nl, places->net->self_netns_fd, &places->own_nsid);
	return r < 0 ? error_set(err, r, "cannot list interfaces") : 0;
}

int trace_places_open(struct trace_places *places, struct net *net, struct error *err)
{
	struct trace_place *node = &places->list[0];
	int r;

	*places = (struct trace_places){
		.net = net, .count = 1, .events_fd = -1, .own_nsid = NFT_TRACE_HERE
	};
	*node = (struct trace_place){ .nsid = NFT_TRACE_HERE, .netns_fd = -1 };
	r = nft_trace_open(&places->events_fd);
	if (r < 0)
		return error_say(err, -EOPNOTSUPP,
				 "this kernel does not tell of traced packets (%s); a trace "
				 "without --live needs nothing of it",
				 strerror(-r));
	r = nft_new(&node->nft);
	if (r < 0)
		return error_set(err, r, "cannot open nftables");
	r = find_routers(places, err);
	if (r == 0)
		open_routers(places);
	return r;
}

void trace_places_close(struct trace_places *places)
{
	for (size_t i = 0; i < places->count; i++)
		place_close(&places->list[i]);
	fd_close(places->events_fd);
	places->events_fd = -1;
	places->count = 0;
}

int trace_places_find(const struct trace_places *places, int nsid)
{
	if (nsid == NFT_TRACE_HERE || nsid == places->own_nsid)
		return 0;
	for (size_t i = 1; i < places->count; i++)
		if (places->list[i].nsid == nsid)
			return (int) i;
	return -1;
}

struct naming {
	uint32_t index;
	char *name;
};

static int name_interface(struct net *net, void *data, struct error *err)
{
	struct naming *naming = data;

	(void) net;
	(void) err;
	naming->name[0] = '\0';
	(void) if_indextoname(naming->index, naming->name);
	return 0;
}

void trace_places_interface(struct trace_places *places, int place, uint32_t index,
			    char ret[IF_NAMESIZE])
{
	struct naming naming = { .index = index, .name = ret };

	ret[0] = '\0';
	if (index == 0)
		return;
	if (place == 0)
		(void) name_interface(places->net, &naming, NULL);
	else
		(void) router_space_run(places->net, places->list[place].netns_fd, name_interface,
					&naming, NULL);
}

/* ---- rules ---- */

static void match_name(struct nft_rule *rule, uint32_t key, const char *name)
{
	char padded[IF_NAMESIZE] = "";

	snprintf(padded, sizeof(padded), "%s", name);
	nft_rule_meta(rule, key, NFT_REG_1);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, padded, sizeof(padded));
}

/* What begins so: all links of routers of one kind. */
static void match_begin(struct nft_rule *rule, const struct net *net, char kind)
{
	char begin[IF_NAMESIZE];
	int size = snprintf(begin, sizeof(begin), "%s%c", net->prefix, kind);

	nft_rule_meta(rule, NFT_META_IIFNAME, NFT_REG_1);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, begin, (size_t) size);
}

static void match_meta(struct nft_rule *rule, uint32_t key, const void *value, size_t size)
{
	nft_rule_meta(rule, key, NFT_REG_1);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, value, size);
}

static void match_bytes(struct nft_rule *rule, uint32_t header, uint32_t at, const void *value,
			uint32_t size)
{
	nft_rule_payload(rule, header, at, size, NFT_REG_1);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, value, size);
}

static void match_port(struct nft_rule *rule, uint32_t at, uint16_t port)
{
	uint16_t bytes = htons(port);

	match_bytes(rule, NFT_PAYLOAD_TRANSPORT_HEADER, at, &bytes, sizeof(bytes));
}

static void match_ethertype(struct nft_rule *rule, uint16_t type)
{
	uint16_t bytes = htons(type);

	match_meta(rule, NFT_META_PROTOCOL, &bytes, sizeof(bytes));
}

static void match_address(struct nft_rule *rule, bool source, const struct route_ip *ip)
{
	uint32_t at = ip->family == AF_INET ? (source ? 12 : 16) : (source ? 8 : 24);

	match_bytes(rule, NFT_PAYLOAD_NETWORK_HEADER, at, ip->bytes, (uint32_t) route_ip_size(ip));
}

/* What the sender chose: its port, or the echo's id, and that it is the first packet. */
static void match_sender(struct nft_rule *rule, const struct nft_flow_ends *ends)
{
	static const uint8_t flags = TH_SYN | TH_ACK | TH_RST | TH_FIN, syn = TH_SYN;
	bool icmp = ends->protocol == IPPROTO_ICMP || ends->protocol == IPPROTO_ICMPV6;

	match_meta(rule, NFT_META_L4PROTO, &ends->protocol, 1);
	if (icmp) {
		uint8_t echo = ends->protocol == IPPROTO_ICMP ? ICMP_ECHO : ICMP6_ECHO_REQUEST;

		match_bytes(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, &echo, 1);
		match_port(rule, ICMP_ID_AT, ends->source_port);
		return;
	}
	match_port(rule, 0, ends->source_port);
	if (ends->protocol != IPPROTO_TCP)
		return;
	nft_rule_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_AT, 1, NFT_REG_1);
	nft_rule_mask(rule, NFT_REG_1, &flags, 1);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, &syn, 1);
}

/* The first that is said back to this sender, by whomever. */
static void match_answer(struct nft_rule *rule, const struct nft_flow_ends *ends)
{
	static const uint8_t flags = TH_SYN | TH_RST, none = 0;
	bool icmp = ends->protocol == IPPROTO_ICMP || ends->protocol == IPPROTO_ICMPV6;

	match_meta(rule, NFT_META_L4PROTO, &ends->protocol, 1);
	if (icmp) {
		uint8_t echo = ends->protocol == IPPROTO_ICMP ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;

		match_bytes(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, &echo, 1);
		match_port(rule, ICMP_ID_AT, ends->source_port);
		return;
	}
	match_port(rule, 2, ends->source_port);
	if (ends->protocol != IPPROTO_TCP)
		return;
	nft_rule_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_AT, 1, NFT_REG_1);
	nft_rule_mask(rule, NFT_REG_1, &flags, 1);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_NEQ, &none, 1);
}

/* The probe as it was sent. */
static void match_probe(struct nft_rule *rule, const struct nft_flow_ends *ends)
{
	match_ethertype(rule, ends->source.family == AF_INET ? ETH_P_IP : ETH_P_IPV6);
	match_address(rule, true, &ends->source);
	match_address(rule, false, &ends->destination);
	match_sender(rule, ends);
	if (ends->destination_port)
		match_port(rule, 2, ends->destination_port);
}

static void add_rule(struct nft *nft, struct nft_batch *batch, uint8_t family, const char *chain,
		     struct nft_rule *rule)
{
	static const uint8_t on = 1;
	const void *data;
	size_t size;

	nft_rule_constant(rule, &on, sizeof(on), NFT_REG_1);
	nft_rule_meta_set(rule, NFT_META_NFTRACE, NFT_REG_1);
	data = nft_rule_data(rule, &size);
	nft_batch_add_rule(nft, batch, family, chain, data, size, "");
}

static void add_hook(struct nft *nft, struct nft_batch *batch, uint8_t family, const char *chain,
		     uint32_t hook, int32_t priority)
{
	nft_batch_add_hook(nft, batch, family, chain,
			   &(struct nft_place){ .hook = hook, .priority = priority });
}

/* ---- where the probe begins ---- */

static bool is_device(const struct trace_port *port)
{
	return strcmp(port->driver, "ovs") == 0 || strcmp(port->driver, "macvlan") == 0;
}

/* A driver whose frames do not pass a bridge is seen at the interface. */
static void put_device_gate(const struct trace_places *places, struct nft_batch *batch,
			    const struct trace_plan *plan, const struct trace_port *port, size_t i)
{
	bool macvlan = strcmp(port->driver, "macvlan") == 0;
	struct nft *nft = places->list[0].nft;
	char device[IF_NAMESIZE], chain[sizeof(TRACE_GATE) + 4];
	struct nft_place place = { .hook = macvlan ? NF_NETDEV_EGRESS : NF_NETDEV_INGRESS,
				   .priority = FIRST,
				   .device = device };
	struct nft_rule rule;

	if (macvlan)
		snprintf(device, sizeof(device), "%s", port->uplink);
	else
		name_veth(places->net->prefix, port->uid, device);
	snprintf(chain, sizeof(chain), TRACE_GATE "%zu", i);
	nft_batch_add_hook(nft, batch, NFPROTO_NETDEV, chain, &place);
	nft_rule_init(&rule);
	match_probe(&rule, &plan->ends);
	add_rule(nft, batch, NFPROTO_NETDEV, chain, &rule);
}

static void put_bridge_gate(const struct trace_places *places, struct nft_batch *batch,
			    const struct trace_plan *plan, const struct trace_port *port)
{
	char device[IF_NAMESIZE];
	struct nft_rule rule;

	name_veth(places->net->prefix, port->uid, device);
	nft_rule_init(&rule);
	match_name(&rule, NFT_META_IIFNAME, device);
	match_probe(&rule, &plan->ends);
	add_rule(places->list[0].nft, batch, NFPROTO_BRIDGE, TRACE_GATE, &rule);
}

static void put_gates(const struct trace_places *places, struct nft_batch *batch,
		      const struct trace_plan *plan)
{
	const struct trace_spec *spec = plan->spec;
	struct nft *nft = places->list[0].nft;
	bool devices = false;

	nft_batch_add_own_table(nft, batch, NFPROTO_BRIDGE);
	add_hook(nft, batch, NFPROTO_BRIDGE, TRACE_GATE, NF_INET_PRE_ROUTING, FIRST);
	add_hook(nft, batch, NFPROTO_BRIDGE, TRACE_LEAVE, NF_INET_POST_ROUTING, LAST);
	for (size_t i = 0; i < spec->port_count; i++)
		devices = devices || is_device(&spec->ports[i]);
	if (devices)
		nft_batch_add_own_table(nft, batch, NFPROTO_NETDEV);
	for (size_t i = 0; i < spec->port_count; i++) {
		if (is_device(&spec->ports[i]))
			put_device_gate(places, batch, plan, &spec->ports[i], i);
		else
			put_bridge_gate(places, batch, plan, &spec->ports[i]);
	}
}

/* ---- what comes back to a machine ---- */

/* Where it is seen: bridges tell of what they send by its interface, Open vSwitch does not. */
static uint8_t answer_family(const struct trace_plan *plan)
{
	const struct trace_spec *spec = plan->spec;

	for (size_t i = 0; i < spec->port_count; i++)
		if (strcmp(spec->ports[i].uid, spec->machine->port_uid) == 0 &&
		    is_device(&spec->ports[i]))
			return NFPROTO_NETDEV;
	return NFPROTO_BRIDGE;
}

static void put_answer_hook(struct nft *nft, struct nft_batch *batch, const struct trace_plan *plan)
{
	uint8_t family = answer_family(plan);
	bool bridge = family == NFPROTO_BRIDGE;

	nft_batch_add_hook(nft, batch, family, TRACE_ANSWER,
			   &(struct nft_place){ .hook = bridge ? (uint32_t) NF_INET_POST_ROUTING
							       : (uint32_t) NF_NETDEV_EGRESS,
						.priority = LAST + 1,
						.device = bridge ? NULL : plan->device });
}

static void begin_answer(const struct trace_plan *plan, struct nft_rule *rule, uint16_t ethertype)
{
	nft_rule_init(rule);
	match_name(rule, NFT_META_OIFNAME, plan->device);
	match_ethertype(rule, ethertype);
}

static void put_neighbour(struct nft *nft, struct nft_batch *batch, const struct trace_plan *plan)
{
	static const uint8_t reply[] = { 0, 2 }, advert = 136;
	struct nft_rule rule;

	if (plan->next_hop.family == AF_INET) {
		begin_answer(plan, &rule, ETH_P_ARP);
		match_bytes(&rule, NFT_PAYLOAD_NETWORK_HEADER, ARP_OPERATION_AT, reply,
			    sizeof(reply));
		match_bytes(&rule, NFT_PAYLOAD_NETWORK_HEADER, ARP_SENDER_AT, plan->next_hop.bytes,
			    4);
	} else {
		begin_answer(plan, &rule, ETH_P_IPV6);
		match_meta(&rule, NFT_META_L4PROTO, &(uint8_t){ IPPROTO_ICMPV6 }, 1);
		match_bytes(&rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, &advert, 1);
		match_bytes(&rule, NFT_PAYLOAD_TRANSPORT_HEADER, ADVERT_TARGET_AT,
			    plan->next_hop.bytes, 16);
	}
	add_rule(nft, batch, answer_family(plan), TRACE_ANSWER, &rule);
}

/* From whom the probe was sent to, to who sent it. */
static void put_reply(struct nft *nft, struct nft_batch *batch, const struct trace_plan *plan)
{
	const struct nft_flow_ends *ends = &plan->ends;
	bool ipv4 = ends->source.family == AF_INET;
	struct nft_rule rule;

	begin_answer(plan, &rule, ipv4 ? ETH_P_IP : ETH_P_IPV6);
	match_address(&rule, true, &ends->destination);
	match_address(&rule, false, &ends->source);
	match_meta(&rule, NFT_META_L4PROTO, &ends->protocol, 1);
	if (ends->destination_port) {
		match_port(&rule, 0, ends->destination_port);
		match_port(&rule, 2, ends->source_port);
	} else {
		uint8_t reply = ipv4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;

		match_bytes(&rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, &reply, 1);
		match_port(&rule, ICMP_ID_AT, ends->source_port);
	}
	add_rule(nft, batch, answer_family(plan), TRACE_ANSWER, &rule);
}

/* An ICMP error of anybody about the probe, whose beginning is in it. */
static void put_refusal(struct nft *nft, struct nft_batch *batch, const struct trace_plan *plan)
{
	const struct nft_flow_ends *ends = &plan->ends;
	bool ipv4 = ends->source.family == AF_INET;
	uint32_t size = (uint32_t) route_ip_size(&ends->source);
	uint32_t at = INNER_IPV4_AT + (ipv4 ? 12 : 8);
	uint32_t ports = ipv4 ? INNER_IPV4_PORTS : INNER_IPV6_PORTS;
	uint8_t icmp = ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	uint16_t port = htons(ends->source_port);
	struct nft_rule rule;

	begin_answer(plan, &rule, ipv4 ? ETH_P_IP : ETH_P_IPV6);
	match_meta(&rule, NFT_META_L4PROTO, &icmp, 1);
	match_bytes(&rule, NFT_PAYLOAD_TRANSPORT_HEADER, at, ends->source.bytes, size);
	match_bytes(&rule, NFT_PAYLOAD_TRANSPORT_HEADER, at + size, ends->destination.bytes, size);
	match_bytes(&rule, NFT_PAYLOAD_TRANSPORT_HEADER,
		    ports + (ends->destination_port ? 0 : ICMP_ID_AT), &port, sizeof(port));
	add_rule(nft, batch, answer_family(plan), TRACE_ANSWER, &rule);
}

/* ---- all of it ---- */

/* What has come through a router is known by what the sender chose: its addresses may be others. */
static void put_return(const struct trace_places *places, struct nft_batch *batch,
		       const struct trace_plan *plan)
{
	struct nft *nft = places->list[0].nft;
	struct nft_rule rule;

	nft_rule_init(&rule);
	match_begin(&rule, places->net, 'n');
	match_ethertype(&rule, plan->ends.source.family == AF_INET ? ETH_P_IP : ETH_P_IPV6);
	match_sender(&rule, &plan->ends);
	add_hook(nft, batch, NFPROTO_BRIDGE, TRACE_ENTER, NF_INET_PRE_ROUTING, FIRST);
	add_rule(nft, batch, NFPROTO_BRIDGE, TRACE_ENTER, &rule);
	nft_rule_init(&rule);
	match_ethertype(&rule, plan->ends.source.family == AF_INET ? ETH_P_IP : ETH_P_IPV6);
	match_answer(&rule, &plan->ends);
	add_rule(nft, batch, NFPROTO_BRIDGE, TRACE_ENTER, &rule);
}

static void put_inet(const struct trace_places *places, const struct trace_place *place,
		     struct nft_batch *batch, const struct trace_plan *plan)
{
	uint8_t family = plan->ends.source.family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
	struct nft_rule rule;

	nft_batch_add_own_table(place->nft, batch, NFPROTO_INET);
	add_hook(place->nft, batch, NFPROTO_INET, TRACE_ENTER, NF_INET_PRE_ROUTING, FIRST);
	add_hook(place->nft, batch, NFPROTO_INET, TRACE_ARRIVE, NF_INET_LOCAL_IN, LAST);
	add_hook(place->nft, batch, NFPROTO_INET, TRACE_LEAVE, NF_INET_POST_ROUTING, LAST);
	nft_rule_init(&rule);
	if (place == &places->list[0])
		match_begin(&rule, places->net, 'r');
	match_meta(&rule, NFT_META_NFPROTO, &family, sizeof(family));
	match_sender(&rule, &plan->ends);
	add_rule(place->nft, batch, NFPROTO_INET, TRACE_ENTER, &rule);
	nft_rule_init(&rule);
	match_meta(&rule, NFT_META_NFPROTO, &family, sizeof(family));
	match_answer(&rule, &plan->ends);
	add_rule(place->nft, batch, NFPROTO_INET, TRACE_ENTER, &rule);
}

static int switch_on_node(struct trace_places *places, const struct trace_plan *plan,
			  struct error *err)
{
	AUTO(nft_batch_done) struct nft_batch batch = {};
	struct trace_place *node = &places->list[0];
	struct net *net = places->net;
	uint32_t generation;
	bool seen;
	int r;

	nft_batch_begin(node->nft, &batch, plan->table);
	put_gates(places, &batch, plan);
	put_return(places, &batch, plan);
	if (plan->spec->machine) {
		put_answer_hook(node->nft, &batch, plan);
		put_neighbour(node->nft, &batch, plan);
		put_reply(node->nft, &batch, plan);
		put_refusal(node->nft, &batch, plan);
	}
	put_inet(places, node, &batch, plan);
	/* What is known of our tables stays true. */
	NET_LOCKED(net);
	seen = nft_generation(rules_nft(net->rules), &generation) == 0;
	r = nft_batch_commit(node->nft, &batch);
	if (r == 0 && seen)
		rules_passed(net->rules, generation);
	if (r == -EOPNOTSUPP || r == -EAFNOSUPPORT || r == -EINVAL)
		return error_say(err, -EOPNOTSUPP,
				 "this kernel cannot trace here (NF_TABLES_BRIDGE, of drivers ovs "
				 "and macvlan NF_TABLES_NETDEV): %s%s",
				 strerror(-r), net_detail(nft_netlink(node->nft)));
	if (r == -EEXIST || r == -EPERM)
		return error_say(err, -EEXIST, "nft table %s is there already, and not ours",
				 plan->table);
	if (r == -ENOENT || r == -ENODEV)
		return error_say(err, -ENOENT, "an interface of the instance is not there%s",
				 net_detail(nft_netlink(node->nft)));
	return r < 0 ? error_set(err, r, "cannot switch the trace on%s",
				 net_detail(nft_netlink(node->nft)))
		     : 0;
}

int trace_places_switch_on(struct trace_places *places, const struct trace_plan *plan,
			   struct error *err)
{
	int r = switch_on_node(places, plan, err);

	/* One that is just being taken apart has nothing to tell. */
	for (size_t i = 1; r == 0 && i < places->count; i++) {
		AUTO(nft_batch_done) struct nft_batch batch = {};

		nft_batch_begin(places->list[i].nft, &batch, plan->table);
		put_inet(places, &places->list[i], &batch, plan);
		(void) nft_batch_commit(places->list[i].nft, &batch);
	}
	return r;
}
