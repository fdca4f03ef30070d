#include "agent/flow_table.h"

#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "kern/conntrack.h"
#include "model/network.h"
#include "model/port.h"
#include "net/flow.h"

enum {
	NAME_SIZE = 64,
	/* Who has gone is remembered for a day, as many as this. */
	GONE_MAX = 4096,
	GONE_MAX_MS = 24 * 60 * 60 * 1000,
	/* An attachment is heard of at most that much later than its first packet. */
	HEARD_LATE_MS = 10000,
	NS_PER_MS = 1000000,
};

struct flow_network {
	UT_hash_handle hh;
	char uid[UID_SIZE];
	char project[NAME_SIZE];
	struct subnet ipv4, ipv6;
	uint16_t zone;
	bool isolated;
};

struct flow_router {
	UT_hash_handle hh;
	char uid[UID_SIZE];
	char name[NAME_SIZE];
	char **networks; /* uids */
};

struct party_key {
	char network_uid[UID_SIZE];
	struct ip ip;
};

/* Who has, or had, an address. */
struct party {
	struct party *next; /* of the same address, at other times */
	char instance_uid[UID_SIZE];
	char instance[NAME_SIZE];
	int64_t since_ms, until_ms; /* 0: still */
};

struct place {
	UT_hash_handle hh;
	struct party_key key;
	struct party *parties;
};

struct flow_table {
	struct flow_network *networks;
	struct flow_router *routers;
	struct place *places;
	size_t gone;
};

struct flow_table *flow_table_new(void)
{
	return mem_new0(struct flow_table);
}

static void place_free(struct place *place)
{
	while (place->parties) {
		struct party *party = place->parties;

		place->parties = party->next;
		free(party);
	}
	free(place);
}

void flow_table_free(struct flow_table *table)
{
	struct flow_network *network, *next_network;
	struct flow_router *router, *next_router;
	struct place *place, *next_place;

	if (!table)
		return;
	HASH_ITER(hh, table->networks, network, next_network)
	{
		HASH_DEL(table->networks, network);
		free(network);
	}
	HASH_ITER(hh, table->routers, router, next_router)
	{
		HASH_DEL(table->routers, router);
		strv_free(router->networks);
		free(router);
	}
	HASH_ITER(hh, table->places, place, next_place)
	{
		HASH_DEL(table->places, place);
		place_free(place);
	}
	free(table);
}

void flow_table_add_network(struct flow_table *table, const struct network *network, uint16_t zone)
{
	struct flow_network *added = mem_new0(struct flow_network);

	memcpy(added->uid, network->meta.uid, sizeof(added->uid));
	snprintf(added->project, sizeof(added->project), "%s", network->meta.project);
	added->ipv4 = network->spec.ipv4;
	added->ipv6 = network->spec.ipv6;
	added->isolated = network->spec.isolated;
	added->zone = zone;
	HASH_ADD_STR(table->networks, uid, added);
}

void flow_table_add_router(struct flow_table *table, const char *uid, const char *name,
			   char *const *network_uids)
{
	struct flow_router *added = mem_new0(struct flow_router);

	snprintf(added->uid, sizeof(added->uid), "%s", uid);
	snprintf(added->name, sizeof(added->name), "%s", name);
	added->networks = strv_copy(network_uids);
	HASH_ADD_STR(table->routers, uid, added);
}

/* ---- who has which address */

static struct place *find_place(const struct flow_table *table, const struct party_key *key)
{
	struct place *place;

	HASH_FIND(hh, table->places, key, sizeof(*key), place);
	return place;
}

static struct party *add_party(struct flow_table *table, const struct party_key *key)
{
	struct place *place = find_place(table, key);
	struct party *party = mem_new0(struct party);

	if (!place) {
		place = mem_new0(struct place);
		place->key = *key;
		HASH_ADD(hh, table->places, key, sizeof(place->key), place);
	}
	party->next = place->parties;
	place->parties = party;
	return party;
}

static void add_address(struct flow_table *table, const char *instance_uid, const char *name,
			int64_t created_ms, const char *network_uid, const char *address)
{
	struct party_key key = {};
	struct party *party;

	if (!address[0] || ip_parse(address, &key.ip) < 0)
		return;
	snprintf(key.network_uid, sizeof(key.network_uid), "%s", network_uid);
	party = add_party(table, &key);
	party->since_ms = created_ms;
	snprintf(party->instance_uid, sizeof(party->instance_uid), "%s", instance_uid);
	snprintf(party->instance, sizeof(party->instance), "%s", name);
}

void flow_table_add_port(struct flow_table *table, const char *instance_uid, const char *name,
			 int64_t created_ms, const struct port *port)
{
	add_address(table, instance_uid, name, created_ms, port->network_uid, port->ipv4);
	add_address(table, instance_uid, name, created_ms, port->network_uid, port->ipv6);
}

static struct party *find_same(const struct place *place, const struct party *like)
{
	struct party *party;

	for (party = place ? place->parties : NULL; party; party = party->next)
		if (!party->until_ms && strcmp(party->instance_uid, like->instance_uid) == 0)
			return party;
	return NULL;
}

static void take_over_gone(struct flow_table *table, const struct party_key *key,
			   const struct party *before, int64_t now_ms)
{
	struct party *party;

	if (table->gone >= GONE_MAX ||
	    (before->until_ms && before->until_ms < now_ms - GONE_MAX_MS))
		return;
	party = add_party(table, key);
	*party = (struct party){ .next = party->next,
				 .since_ms = before->since_ms,
				 .until_ms = before->until_ms ? before->until_ms : now_ms };
	memcpy(party->instance_uid, before->instance_uid, sizeof(party->instance_uid));
	memcpy(party->instance, before->instance, sizeof(party->instance));
	table->gone++;
}

void flow_table_follow(struct flow_table *table, const struct flow_table *before, int64_t now_ms)
{
	struct place *place, *next;

	HASH_ITER(hh, table->places, place, next)
	{
		const struct place *old = before ? find_place(before, &place->key) : NULL;

		for (struct party *party = place->parties; before && party; party = party->next) {
			const struct party *same = find_same(old, party);

			if (same)
				party->since_ms = same->since_ms;
			else if (party->since_ms < now_ms - HEARD_LATE_MS)
				party->since_ms = now_ms - HEARD_LATE_MS;
		}
	}
	if (!before)
		return;
	for (place = before->places; place; place = place->hh.next)
		for (const struct party *party = place->parties; party; party = party->next)
			if (party->until_ms || !find_same(find_place(table, &place->key), party))
				take_over_gone(table, &place->key, party, now_ms);
}

/* `start_ms` 0: not known, whoever has it now. */
static const struct party *find_party(const struct flow_table *table, const char *network_uid,
				      const struct ip *ip, int64_t start_ms)
{
	struct party_key key = { .ip = *ip };
	const struct place *place;

	snprintf(key.network_uid, sizeof(key.network_uid), "%s", network_uid);
	place = find_place(table, &key);
	for (const struct party *party = place ? place->parties : NULL; party;
	     party = party->next) {
		if (start_ms == 0 ? !party->until_ms
				  : party->since_ms <= start_ms &&
					    (!party->until_ms || start_ms <= party->until_ms))
			return party;
	}
	return NULL;
}

/* ---- which networks */

static struct ip ip_of(const struct conntrack_flow *flow, const uint8_t *bytes)
{
	struct ip ip = { .family = flow->family == AF_INET ? 4 : 6 };

	memcpy(ip.bytes, bytes, ip.family == 4 ? 4 : 16);
	return ip;
}

static bool has_address(const struct flow_network *network, const struct ip *ip)
{
	const struct subnet *subnet = ip->family == 4 ? &network->ipv4 : &network->ipv6;

	return subnet->base.family && subnet_contains(subnet, ip);
}

/* By any of the four: before and after translation. */
static bool is_among(const struct flow_network *network, const struct conntrack_flow *flow)
{
	const uint8_t *const all[] = { flow->there.source, flow->there.destination,
				       flow->back.source, flow->back.destination };

	for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
		struct ip ip = ip_of(flow, all[i]);

		if (has_address(network, &ip))
			return true;
	}
	return false;
}

static const struct flow_router *find_router(const struct flow_table *table, const char *uid)
{
	const struct flow_router *router;

	HASH_FIND_STR(table->routers, uid, router);
	return router;
}

static const struct flow_network *find_network(const struct flow_table *table, const char *uid)
{
	const struct flow_network *network;

	HASH_FIND_STR(table->networks, uid, network);
	return network;
}

void flow_table_match(const struct flow_table *table, const char *router_uid,
		      const struct conntrack_flow *flow, flow_match_fn fn, void *data)
{
	const struct flow_router *router = router_uid ? find_router(table, router_uid) : NULL;
	const struct flow_network *network;

	for (size_t i = 0; router && i < strv_count(router->networks); i++) {
		network = find_network(table, router->networks[i]);
		if (network && is_among(network, flow))
			fn(network, data);
	}
	for (network = router_uid ? NULL : table->networks; network; network = network->hh.next) {
		if (flow->zone != network->zone)
			continue;
		/* A zone is one network's alone. */
		if (network->zone || (!network->isolated && is_among(network, flow)))
			fn(network, data);
	}
}

bool flow_table_joins(const struct flow_table *table, const char *router_uid,
		      const char *network_uid)
{
	const struct flow_router *router = find_router(table, router_uid);

	return router && strv_contains(router->networks, network_uid);
}

const char *flow_network_uid(const struct flow_network *network)
{
	return network->uid;
}

/* ---- the line */

struct view {
	const struct flow_table *table;
	const struct flow_network *network;
	const struct flow_router *router; /* NULL: of the node */
	const struct conntrack_flow *flow;
	int64_t start_ms;
	struct strbuf *line;
};

static const struct party *name_of(const struct view *view, const struct ip *ip)
{
	const struct flow_network *other;
	const struct party *party = find_party(view->table, view->network->uid, ip, view->start_ms);

	for (size_t i = 0; !party && view->router && i < strv_count(view->router->networks); i++)
		party = find_party(view->table, view->router->networks[i], ip, view->start_ms);
	if (party || view->router || view->flow->zone)
		return party;
	for (other = view->table->networks; other && !party; other = other->hh.next)
		if (!other->isolated && strcmp(other->project, view->network->project) == 0 &&
		    has_address(other, ip))
			party = find_party(view->table, other->uid, ip, view->start_ms);
	return party;
}

/* Another project's network, as far as they can be told apart by address. */
static bool is_foreign(const struct view *view, const struct ip *ip)
{
	const struct flow_network *other;

	if (view->router || view->flow->zone)
		return false;
	for (other = view->table->networks; other; other = other->hh.next)
		if (!other->isolated && strcmp(other->project, view->network->project) != 0 &&
		    has_address(other, ip))
			return true;
	return false;
}

struct end {
	struct ip ip;
	uint16_t port;
};

static bool end_equal(const struct end *a, const struct end *b)
{
	return ip_equal(&a->ip, &b->ip) && a->port == b->port;
}

static void put_end(const struct view *view, const char *name, const struct end *end)
{
	char text[IP_TEXT_SIZE];

	ip_format(&end->ip, text);
	strbuf_printf(view->line, "\"%s\":\"%s\"", name, text);
	if (end->port)
		strbuf_printf(view->line, ",\"%s_port\":%u", name, end->port);
}

/* One side of the flow: before translation, after it, and who that is. */
struct side {
	const char *name;
	struct end before, after;
	bool translated;
};

/* What was behind a translation is nothing of this project's when it is another one's. */
static void hide_foreign(const struct view *view, struct side *side, bool destination)
{
	side->translated = !end_equal(&side->before, &side->after);
	if (!side->translated)
		return;
	if (destination && is_foreign(view, &side->after.ip))
		side->translated = false;
	if (!destination && is_foreign(view, &side->before.ip)) {
		side->before = side->after;
		side->translated = false;
	}
}

static void put_instance(const struct view *view, const struct side *side)
{
	const struct party *party = name_of(view, &side->before.ip);

	if (!party && side->translated)
		party = name_of(view, &side->after.ip);
	if (party)
		strbuf_printf(view->line, ",\"%s_instance\":\"%s\",\"%s_instance_uid\":\"%s\"",
			      side->name, party->instance, side->name, party->instance_uid);
}

static void put_sides(const struct view *view)
{
	const struct conntrack_flow *flow = view->flow;
	struct side from = { .name = "source",
			     .before = { ip_of(flow, flow->there.source), flow->there.source_port },
			     .after = { ip_of(flow, flow->back.destination),
					flow->back.destination_port } };
	struct side to = { .name = "destination",
			   .before = { ip_of(flow, flow->there.destination),
				       flow->there.destination_port },
			   .after = { ip_of(flow, flow->back.source), flow->back.source_port } };

	hide_foreign(view, &from, false);
	hide_foreign(view, &to, true);
	strbuf_puts(view->line, ",");
	put_end(view, "source", &from.before);
	strbuf_puts(view->line, ",");
	put_end(view, "destination", &to.before);
	if (from.translated || to.translated) {
		strbuf_puts(view->line, ",\"translated\":{");
		if (from.translated)
			put_end(view, "source", &from.after);
		if (from.translated && to.translated)
			strbuf_puts(view->line, ",");
		if (to.translated)
			put_end(view, "destination", &to.after);
		strbuf_puts(view->line, "}");
	}
	put_instance(view, &from);
	put_instance(view, &to);
}

static const char *protocol_text(uint8_t protocol, char number[4])
{
	static const struct {
		uint8_t number;
		const char *name;
	} names[] = { { IPPROTO_TCP, "tcp" },        { IPPROTO_UDP, "udp" },
		      { IPPROTO_ICMP, "icmp" },      { IPPROTO_ICMPV6, "icmpv6" },
		      { IPPROTO_SCTP, "sctp" },      { IPPROTO_GRE, "gre" },
		      { IPPROTO_ESP, "esp" },        { IPPROTO_AH, "ah" },
		      { IPPROTO_UDPLITE, "udplite" } };

	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		if (names[i].number == protocol)
			return names[i].name;
	snprintf(number, 4, "%u", protocol);
	return number;
}

static void put_time(struct strbuf *line, const char *name, uint64_t ns)
{
	char text[CLOCK_RFC3339_SIZE];

	if (!ns)
		return;
	clock_format_rfc3339((int64_t) (ns / NS_PER_MS), text);
	strbuf_printf(line, "\"%s\":\"%s\",", name, text);
}

static void put_count(struct strbuf *line, const char *name, const struct conntrack_way *way)
{
	if (way->counted)
		strbuf_printf(line, ",\"%s\":{\"bytes\":%llu,\"packets\":%llu}", name,
			      (unsigned long long) way->bytes, (unsigned long long) way->packets);
}

/* The kernel gives no reasons: what its last state says. */
static const char *reason_of(const struct conntrack_flow *flow)
{
	bool tcp = flow->protocol == IPPROTO_TCP && flow->has_tcp_state;

	if (tcp && flow->tcp_state == TCP_CONNTRACK_CLOSE)
		return "reset";
	if (tcp && (flow->tcp_state == TCP_CONNTRACK_TIME_WAIT ||
		    flow->tcp_state == TCP_CONNTRACK_LAST_ACK))
		return "closed";
	if (flow->left_s > 0)
		return "removed";
	if (flow->protocol == IPPROTO_TCP && !flow->has_tcp_state)
		return "unknown";
	return flow->answered ? "idle" : "unanswered";
}

void flow_table_line(const struct flow_table *table, const struct flow_network *network,
		     const char *router_uid, const struct conntrack_flow *flow,
		     const struct flow_timeouts *timeouts, struct strbuf *line)
{
	struct view view = { .table = table,
			     .network = network,
			     .router = router_uid ? find_router(table, router_uid) : NULL,
			     .flow = flow,
			     .start_ms = (int64_t) (flow->start_ns / NS_PER_MS),
			     .line = line };
	char number[4];

	strbuf_puts(line, "{");
	put_time(line, "start", flow->start_ns);
	put_time(line, "end", timeouts ? flow_last_ns(flow, timeouts) : 0);
	strbuf_printf(line, "\"protocol\":\"%s\"", protocol_text(flow->protocol, number));
	put_sides(&view);
	if (flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6)
		strbuf_printf(line, ",\"icmp_type\":%u,\"icmp_code\":%u", flow->icmp_type,
			      flow->icmp_code);
	put_count(line, "sent", &flow->there);
	put_count(line, "received", &flow->back);
	if (view.router)
		strbuf_printf(line, ",\"router\":\"%s\"", view.router->name);
	if (timeouts)
		strbuf_printf(line, ",\"reason\":\"%s\"}", reason_of(flow));
	else
		strbuf_puts(line, ",\"open\":true}");
}
