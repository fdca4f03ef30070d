#include "net/balance.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "kern/nft.h"
#include "kern/nft_flow.h"
#include "net/address.h"
#include "net/balance_internal.h"
#include "net/balance_text_internal.h"
#include "net/node_internal.h"
#include "net/publish_internal.h"
#include "net/rules_internal.h"

enum { LIST_ATTEMPTS = 20, TABLE_SIZE = NAME_PREFIX_MAX + 3 };

/* A balance_spec that was checked, with all that it takes of its own. */
struct plan {
	bool routed;
	char bridge[IF_NAMESIZE];
	struct route_ip vip4, vip6; /* family 0 = none */
	enum balance_algorithm algorithm;
	struct balance_place *places;
	size_t place_count;
	struct route_ip *members4, *members6;
	uint16_t *slots4, *slots6;
	size_t slot_count4, slot_count6;
};

struct entry {
	char uid[NAME_UID_MAX + 1];
	struct plan plan;
	bool known; /* what the kernel has of it is what `plan` says */
	UT_hash_handle hh;
};

struct balance {
	struct entry *entries; /* that were wanted in this life */
	bool skeleton;         /* the table is there as this version wants it */
	uint64_t fingerprint;  /* of the table after our last change */
};

static void plan_done(struct plan *plan)
{
	free(plan->places);
	free(plan->members4);
	free(plan->members6);
	free(plan->slots4);
	free(plan->slots6);
	*plan = (struct plan){};
}
static inline void plan_done_autop(struct plan *plan)
{
	plan_done(plan);
}

static void entry_free(struct balance *balance, struct entry *entry)
{
	HASH_DEL(balance->entries, entry);
	plan_done(&entry->plan);
	free(entry);
}

struct balance *balance_new(void)
{
	return mem_new0(struct balance);
}

void balance_free(struct balance *balance)
{
	struct entry *entry, *next;

	if (!balance)
		return;
	HASH_ITER(hh, balance->entries, entry, next)
	{
		entry_free(balance, entry);
	}
	free(balance);
}

/* ---- what is wanted ---- */

static int parse_ip(const char *text, int family, const char *what, struct route_ip *ret,
		    struct error *err)
{
	if (!text || !text[0])
		return 0;
	if (address_parse(text, ret) < 0 || (family && ret->family != family))
		return error_say(err, -EINVAL, "%s '%.64s': must be an %s address", what, text,
				 family == AF_INET    ? "IPv4"
				 : family == AF_INET6 ? "IPv6"
						      : "IP");
	return 0;
}

static int parse_place(const struct balance_listen *listen, struct balance_place *ret,
		       struct error *err)
{
	struct balance_place place = { .port = listen->port,
				       .target_port = listen->target_port,
				       .vip = listen->vip };
	int r = parse_ip(listen->address, 0, "address", &place.address, err);

	if (r < 0)
		return r;
	if (!listen->protocol ||
	    (strcmp(listen->protocol, "tcp") != 0 && strcmp(listen->protocol, "udp") != 0))
		return error_say(err, -EINVAL, "protocol '%.16s': must be tcp or udp",
				 listen->protocol ? listen->protocol : "");
	if (listen->port == 0 || listen->target_port == 0)
		return error_say(err, -EINVAL, "a balancer's port must be 1 to 65535");
	if (listen->vip && place.address.family)
		return error_say(err, -EINVAL, "address '%.64s': the balancer's own was asked for",
				 listen->address);
	place.protocol = listen->protocol[0] == 't' ? IPPROTO_TCP : IPPROTO_UDP;
	*ret = place;
	return 0;
}

static int parse_places(const struct balance_spec *spec, struct plan *plan, struct error *err)
{
	if (spec->listen_count == 0 || spec->listen_count > BALANCE_LISTEN_MAX)
		return error_say(err, -EINVAL, "a balancer listens at 1 to %d ports",
				 BALANCE_LISTEN_MAX);
	plan->places = mem_new0_array(struct balance_place, spec->listen_count);
	plan->place_count = spec->listen_count;
	for (size_t i = 0; i < spec->listen_count; i++) {
		int r = parse_place(&spec->listens[i], &plan->places[i], err);

		if (r < 0)
			return r;
		if (plan->places[i].vip && !plan->vip4.family && !plan->vip6.family)
			return error_say(err, -EINVAL, "the balancer has no address of its own");
	}
	return 0;
}

/* The members of one family, and the slots of its map. */
static int parse_members(const struct balance_spec *spec, int family, struct route_ip **ret,
			 uint16_t **ret_slots, size_t *ret_slot_count, struct error *err)
{
	AUTO(free)
	struct balance_share *shares = mem_new0_array(struct balance_share, spec->member_count + 1);
	AUTO(free)
	struct route_ip *members = mem_new0_array(struct route_ip, spec->member_count + 1);
	AUTO(free) uint16_t *slots = mem_new0_array(uint16_t, BALANCE_SLOTS_MAX);
	size_t count = 0;

	for (size_t i = 0; i < spec->member_count; i++) {
		const struct balance_member *member = &spec->members[i];
		int r = parse_ip(family == AF_INET ? member->ipv4 : member->ipv6, family, "member",
				 &members[count], err);

		if (r < 0)
			return r;
		if (!members[count].family)
			continue;
		shares[count].hash =
			balance_hash(members[count].bytes, route_ip_size(&members[count]));
		shares[count++].connections = member->connections;
	}
	*ret_slot_count = balance_fill(spec->algorithm, shares, count, slots);
	*ret = TAKE_PTR(members);
	*ret_slots = TAKE_PTR(slots);
	return 0;
}

static int plan_make(const struct balance_spec *spec, const char *prefix, bool ipv6,
		     struct plan *plan, struct error *err)
{
	int r = 0;

	if (!name_is_uid(spec->uid) || !name_is_uid(spec->network_uid))
		return error_say(err, -EINVAL, "a balancer's uid must be 1 to 32 of 0-9 and a-f");
	if (spec->member_count > BALANCE_MEMBER_MAX)
		return error_say(err, -E2BIG, "a balancer has %d members at most",
				 BALANCE_MEMBER_MAX);
	plan->routed = spec->routed;
	plan->algorithm = spec->algorithm;
	name_bridge(prefix, spec->network_uid, plan->bridge);
	r = parse_ip(spec->vip4, AF_INET, "vip", &plan->vip4, err);
	if (r == 0)
		r = parse_ip(spec->vip6, AF_INET6, "vip", &plan->vip6, err);
	if (r == 0)
		r = parse_places(spec, plan, err);
	if (r == 0)
		r = parse_members(spec, AF_INET, &plan->members4, &plan->slots4, &plan->slot_count4,
				  err);
	if (r == 0 && ipv6)
		r = parse_members(spec, AF_INET6, &plan->members6, &plan->slots6,
				  &plan->slot_count6, err);
	return r;
}

int balance_check(const struct balance_spec *spec, struct error *err)
{
	AUTO(plan_done) struct plan plan = {};

	return plan_make(spec, "check", true, &plan, err);
}

static bool same_place(const struct balance_place *a, const struct balance_place *b)
{
	return a->protocol == b->protocol && a->port == b->port &&
	       a->target_port == b->target_port && a->vip == b->vip &&
	       address_equal(&a->address, &b->address);
}

/* Whether the same elements and chains belong to both. */
static bool same_places(const struct plan *a, const struct plan *b)
{
	if (a->place_count != b->place_count || a->routed != b->routed ||
	    strcmp(a->bridge, b->bridge) != 0 || !address_equal(&a->vip4, &b->vip4) ||
	    !address_equal(&a->vip6, &b->vip6))
		return false;
	for (size_t i = 0; i < a->place_count; i++)
		if (!same_place(&a->places[i], &b->places[i]))
			return false;
	return true;
}

/* ---- what the kernel has ---- */

static void table_name(const struct net *net, char ret[TABLE_SIZE])
{
	snprintf(ret, TABLE_SIZE, "%s-b", net->prefix);
}

/* Elements of the shared sets: those of one balancer, or of all (uid NULL). */
struct elements {
	const char *uid;
	enum balance_set set;
	struct balance_element *list;
	size_t count;
};

static void elements_done_autop(struct elements *elements)
{
	free(elements->list);
}

static struct balance_element *elements_add(struct elements *elements)
{
	elements->list = mem_realloc(elements->list, elements->count + 1, sizeof(*elements->list));
	return &elements->list[elements->count++];
}

static void take_element(const struct nft_element *element, void *data)
{
	struct elements *elements = data;
	struct balance_element *added;

	if (elements->uid && strcmp(element->comment, elements->uid) != 0)
		return;
	added = elements_add(elements);
	*added = (struct balance_element){ .set = elements->set, .key_size = element->key_size };
	if (added->key_size > BALANCE_KEY_MAX)
		added->key_size = BALANCE_KEY_MAX;
	memcpy(added->key, element->key, added->key_size);
}

/* Calls the kernel again as long as others change what it lists. */
#define AGAIN(call)                                                                                \
	({                                                                                         \
		int r_ = -EINTR;                                                                   \
		for (int i_ = 0; i_ < LIST_ATTEMPTS && r_ == -EINTR; i_++)                         \
			r_ = (call);                                                               \
		r_ == -ENOENT ? 0 : r_;                                                            \
	})

static int read_elements_once(struct net *net, struct elements *elements)
{
	char table[TABLE_SIZE];
	int r = 0;

	table_name(net, table);
	elements->count = 0;
	for (int i = 0; i < BALANCE_SET_COUNT && (r == 0 || r == -ENOENT); i++) {
		elements->set = (enum balance_set) i;
		r = nft_list(rules_nft(net->rules), NFPROTO_INET, table,
			     balance_set_name(elements->set), take_element, elements);
	}
	return r;
}

static int read_elements(struct net *net, struct elements *elements, struct error *err)
{
	int r = AGAIN(read_elements_once(net, elements));

	return r < 0 ? error_set(err, r, "cannot read nft table %s-b", net->prefix) : 0;
}

struct chain_names {
	const char *start; /* that they begin with */
	char **list;
};

static void take_chain(const char *chain, void *data)
{
	struct chain_names *names = data;

	if (strncmp(chain, names->start, strlen(names->start)) == 0)
		strv_append(&names->list, chain);
}

static int read_chains(struct net *net, const char *start, char ***ret, struct error *err)
{
	struct chain_names names = { .start = start };
	char table[TABLE_SIZE];
	int r = -EINTR;

	table_name(net, table);
	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		strv_free(names.list);
		names.list = NULL;
		r = nft_list_chains(rules_nft(net->rules), NFPROTO_INET, table, take_chain, &names);
	}
	if (r < 0 && r != -ENOENT) {
		strv_free(names.list);
		return error_set(err, r, "cannot read nft table %s", table);
	}
	*ret = names.list;
	return 0;
}

struct print {
	uint64_t sum;
};

static void mix(struct print *print, const void *data, size_t size)
{
	print->sum = print->sum * 31 + balance_hash(data, size);
}

static void print_rule(const struct nft_seen_rule *rule, void *data)
{
	mix(data, rule->chain, strlen(rule->chain));
	mix(data, &rule->hash, sizeof(rule->hash));
}

/* Elements come in the order of a hash table: the sum must not depend on it. */
static void print_element(const struct nft_element *element, void *data)
{
	struct print *print = data;

	print->sum += balance_hash(element->key, element->key_size) ^
		      3 * balance_hash(element->value, element->value_size) ^
		      5 * balance_hash(element->comment, strlen(element->comment));
}

/* A number that is another one when anybody has changed the table. */
static int take_fingerprint(struct net *net, uint64_t *ret)
{
	struct nft *nft = rules_nft(net->rules);
	struct print print = {};
	char table[TABLE_SIZE], map[8 + NAME_UID_MAX];
	struct entry *entry;
	int r;

	table_name(net, table);
	r = nft_list_rules(nft, NFPROTO_INET, table, NULL, print_rule, &print);
	for (int i = 0; r == 0 && i < BALANCE_SET_COUNT; i++)
		if (net->ipv6 || !balance_set_is_ipv6((enum balance_set) i))
			r = nft_list(nft, NFPROTO_INET, table,
				     balance_set_name((enum balance_set) i), print_element, &print);
	for (entry = net->balance->entries; r == 0 && entry; entry = entry->hh.next) {
		snprintf(map, sizeof(map), "m4-%s", entry->uid);
		r = nft_list(nft, NFPROTO_INET, table, map, print_element, &print);
		if (r < 0 || !net->ipv6)
			continue;
		map[1] = '6';
		r = nft_list(nft, NFPROTO_INET, table, map, print_element, &print);
	}
	*ret = print.sum;
	return r;
}

/* ---- the script that changes one balancer ---- */

static void want_element(struct elements *wanted, enum balance_set set, const struct plan *plan,
			 const struct route_ip *ip, const struct balance_place *place,
			 const char *chain)
{
	struct balance_element *element = elements_add(wanted);

	balance_element_make(element, set, plan->bridge, ip, place);
	if (chain)
		memcpy(element->chain, chain, strlen(chain) + 1);
}

static void want_vip(struct elements *wanted, const struct plan *plan, const struct route_ip *vip,
		     const struct balance_place *place, const char *chain)
{
	bool ipv6 = vip->family == AF_INET6;

	if (!vip->family)
		return;
	want_element(wanted, ipv6 ? BALANCE_VIP6 : BALANCE_VIP4, plan, vip, place, chain);
	want_element(wanted, ipv6 ? BALANCE_OWN6 : BALANCE_OWN4, plan, vip, place, chain);
	if (plan->routed)
		want_element(wanted, ipv6 ? BALANCE_FAR6 : BALANCE_FAR4, plan, vip, place, chain);
}

static void want_elements(const char *uid, const struct plan *plan, struct elements *wanted)
{
	const struct route_ip *vips[] = { &plan->vip4, &plan->vip6 };
	char chain[BALANCE_CHAIN_SIZE];

	for (size_t i = 0; i < ARRAY_COUNT(vips); i++) {
		bool ipv6 = vips[i]->family == AF_INET6;

		if (!vips[i]->family)
			continue;
		want_element(wanted, ipv6 ? BALANCE_VIPS6 : BALANCE_VIPS4, plan, vips[i], NULL,
			     NULL);
		want_element(wanted, ipv6 ? BALANCE_HOME6 : BALANCE_HOME4, plan, vips[i], NULL,
			     NULL);
	}
	for (size_t i = 0; i < plan->place_count; i++) {
		const struct balance_place *place = &plan->places[i];

		balance_chain_name(uid, place, chain);
		if (place->vip) {
			want_vip(wanted, plan, &plan->vip4, place, chain);
			want_vip(wanted, plan, &plan->vip6, place, chain);
		} else if (place->address.family) {
			want_element(wanted,
				     place->address.family == AF_INET6 ? BALANCE_NODE6
								       : BALANCE_NODE4,
				     plan, &place->address, place, chain);
		} else {
			want_element(wanted, BALANCE_ANY, plan, NULL, place, chain);
		}
	}
}

static bool has_element(const struct elements *elements, const struct balance_element *element)
{
	for (size_t i = 0; i < elements->count; i++)
		if (elements->list[i].set == element->set &&
		    elements->list[i].key_size == element->key_size &&
		    memcmp(elements->list[i].key, element->key, element->key_size) == 0)
			return true;
	return false;
}

/* Elements that lead to the chains, and chains that nothing leads to any more. */
static int put_elements(struct net *net, const char *uid, const struct plan *plan,
			struct strbuf *script, struct error *err)
{
	AUTO(elements_done) struct elements there = { .uid = uid }, wanted = {};
	AUTO(free) char *start = mem_printf("b-%s-", uid);
	AUTO(strv_free) char **chains = NULL;
	int r = read_elements(net, &there, err);

	if (r == 0)
		r = read_chains(net, start, &chains, err);
	if (r < 0)
		return r;
	if (plan)
		want_elements(uid, plan, &wanted);
	for (size_t i = 0; i < there.count; i++)
		if (!has_element(&wanted, &there.list[i]))
			balance_put_element(script, net->prefix, false, &there.list[i], NULL);
	for (size_t i = 0; i < wanted.count; i++)
		if (!has_element(&there, &wanted.list[i]))
			balance_put_element(script, net->prefix, true, &wanted.list[i], uid);
	for (size_t i = 0; chains && chains[i]; i++) {
		bool used = false;

		for (size_t k = 0; plan && k < plan->place_count && !used; k++) {
			char name[BALANCE_CHAIN_SIZE];

			balance_chain_name(uid, &plan->places[k], name);
			used = strcmp(name, chains[i]) == 0;
		}
		if (!used)
			strbuf_printf(script,
				      "flush chain inet %s-b %s\ndelete chain inet %s-b %s\n",
				      net->prefix, chains[i], net->prefix, chains[i]);
	}
	return 0;
}

static void put_maps(struct net *net, const char *uid, const struct plan *plan,
		     struct strbuf *script)
{
	balance_put_map(
		script, net->prefix, uid, false,
		&(struct balance_choice){ plan->members4, plan->slots4, plan->slot_count4 });
	if (net->ipv6)
		balance_put_map(script, net->prefix, uid, true,
				&(struct balance_choice){ plan->members6, plan->slots6,
							  plan->slot_count6 });
}

/* The whole balancer, whatever there is of it; `old`: that is in force, NULL = not known. */
static int put_balancer(struct net *net, const char *uid, const struct plan *old,
			const struct plan *plan, struct strbuf *script, struct error *err)
{
	bool same_chains = old && same_places(old, plan) && old->algorithm == plan->algorithm &&
			   old->slot_count4 == plan->slot_count4 &&
			   old->slot_count6 == plan->slot_count6;

	put_maps(net, uid, plan, script);
	for (size_t i = 0; !same_chains && i < plan->place_count; i++)
		balance_put_chain(script, net->prefix, uid, &plan->places[i], plan->algorithm,
				  plan->slot_count4, plan->slot_count6);
	if (old && same_places(old, plan))
		return 0;
	return put_elements(net, uid, plan, script, err);
}

/* Runs a script about our table, and remembers how that is now. */
static int run(struct net *net, const struct strbuf *script, struct error *err)
{
	uint32_t generation;
	bool seen = nft_generation(rules_nft(net->rules), &generation) == 0;
	int r = nft_run(strbuf_str(script), err);

	if (r < 0)
		return r;
	if (seen)
		rules_passed(net->rules, generation);
	/* When it cannot be taken, the next look finds a difference, and repairs nothing. */
	if (AGAIN(take_fingerprint(net, &net->balance->fingerprint)) < 0)
		net->balance->fingerprint = 0;
	return 0;
}

/* ---- the addresses of balancers ---- */

static int ensure_vips(struct net *net, const struct plan *plan, struct error *err)
{
	const struct route_ip *vips[] = { &plan->vip4, &plan->vip6 };
	char text[ADDRESS_TEXT_SIZE];
	struct link bridge;
	int r;

	if (!plan->vip4.family && !plan->vip6.family)
		return 0;
	r = link_find(net->nl, plan->bridge, &bridge);
	if (r < 0)
		return error_set(err, r, "cannot find bridge %s of the balancer's network",
				 plan->bridge);
	for (size_t i = 0; i < ARRAY_COUNT(vips); i++) {
		if (!vips[i]->family)
			continue;
		r = route_add_alias(net->nl, bridge.index, vips[i]);
		if (r < 0)
			return error_set(err, r, "cannot give %s the address %s%s", plan->bridge,
					 address_text(vips[i], text), net_detail(net->nl));
	}
	return 0;
}

/* `element` is one of HOME4 and HOME6. */
static void remove_vip(struct net *net, const struct balance_element *element)
{
	struct route_ip ip = { .family = balance_set_is_ipv6(element->set) ? AF_INET6 : AF_INET };
	char name[IF_NAMESIZE] = "";
	struct link bridge;

	memcpy(name, element->key, IF_NAMESIZE - 1);
	ip.prefix = (uint8_t) (8 * route_ip_size(&ip));
	memcpy(ip.bytes, element->key + IF_NAMESIZE, route_ip_size(&ip));
	if (link_find(net->nl, name, &bridge) == 0)
		(void) route_delete_address(net->nl, bridge.index, &ip);
}

/* ---- the calls ---- */

static int check_bind(const struct balance_place *place, const struct route_ip *ip,
		      struct error *err)
{
	const char *protocol = place->protocol == IPPROTO_UDP ? "udp" : "tcp";
	char text[ADDRESS_TEXT_SIZE];
	int r = publish_try_bind(ip, place->protocol, place->port);

	if (r == -EADDRINUSE)
		return error_say(err, r,
				 "port %u/%s is in use by a process of the host: choose another",
				 place->port, protocol);
	if (r == -EADDRNOTAVAIL)
		return error_say(err, r, "address '%.64s': is not an address of this host",
				 address_text(ip, text));
	return r < 0 ? error_set(err, r, "cannot listen at port %u/%s", place->port, protocol) : 0;
}

/* What we do not have yet must be nobody's. */
static int check_free(struct net *net, const char *uid, struct plan *plan, struct error *err)
{
	AUTO(elements_done) struct elements there = { .uid = uid };
	int r = read_elements(net, &there, err);

	for (size_t i = 0; r == 0 && i < plan->place_count; i++) {
		struct balance_place *place = &plan->places[i];
		struct balance_element element;
		enum balance_set set = !place->address.family              ? BALANCE_ANY
				       : place->address.family == AF_INET6 ? BALANCE_NODE6
									   : BALANCE_NODE4;

		if (place->vip)
			continue;
		balance_element_make(&element, set, plan->bridge, &place->address, place);
		place->fresh = !has_element(&there, &element);
		if (!place->fresh)
			continue;
		if (place->address.family) {
			r = check_bind(place, &place->address, err);
			continue;
		}
		r = check_bind(place, &(struct route_ip){ .family = AF_INET }, err);
		if (r == 0 && net->ipv6)
			r = check_bind(place, &(struct route_ip){ .family = AF_INET6 }, err);
	}
	return r;
}

/* UDP flows that began before anybody listened go nowhere. */
static void forget_old_flows(struct net *net, const struct plan *plan)
{
	struct netlink *nl = nft_netlink(rules_nft(net->rules));

	for (size_t i = 0; i < plan->place_count; i++) {
		if (plan->places[i].protocol != IPPROTO_UDP || !plan->places[i].fresh)
			continue;
		(void) nft_flow_forget(nl, AF_INET, IPPROTO_UDP, plan->places[i].port);
		if (net->ipv6)
			(void) nft_flow_forget(nl, AF_INET6, IPPROTO_UDP, plan->places[i].port);
	}
}

static struct entry *entry_find_or_new(struct balance *balance, const char *uid)
{
	struct entry *entry;

	HASH_FIND_STR(balance->entries, uid, entry);
	if (entry)
		return entry;
	entry = mem_new0(struct entry);
	memcpy(entry->uid, uid, strlen(uid));
	HASH_ADD_STR(balance->entries, uid, entry);
	return entry;
}

static int commit(struct net *net, struct entry *entry, const struct plan *plan, struct error *err)
{
	int r = 0;

	/* A second time from what the kernel says: somebody may have changed it. */
	for (int attempt = 0; attempt < 2; attempt++) {
		AUTO(strbuf_done) struct strbuf script = {};

		if (!net->balance->skeleton)
			balance_put_skeleton(&script, net->prefix, net->ipv6);
		r = put_balancer(net, entry->uid, entry->known ? &entry->plan : NULL, plan, &script,
				 err);
		if (r == 0)
			r = run(net, &script, err);
		net->balance->skeleton = entry->known = r == 0;
		if (r == 0)
			return 0;
	}
	return r;
}

int balance_ensure(struct net *net, const struct balance_spec *spec, struct error *err)
{
	AUTO(plan_done) struct plan plan = {};
	struct entry *entry;
	int r = plan_make(spec, net->prefix, net->ipv6, &plan, err);

	if (r < 0)
		return r;
	NET_LOCKED(net);
	entry = entry_find_or_new(net->balance, spec->uid);
	if (!entry->known || !same_places(&entry->plan, &plan))
		r = check_free(net, spec->uid, &plan, err);
	if (r == 0)
		r = ensure_vips(net, &plan, err);
	if (r == 0)
		r = commit(net, entry, &plan, err);
	if (r < 0) {
		/* Nothing of it is in the kernel: there is nothing to be repaired. */
		if (!entry->plan.places)
			entry_free(net->balance, entry);
		return r;
	}
	forget_old_flows(net, &plan);
	plan_done(&entry->plan);
	entry->plan = plan;
	plan = (struct plan){};
	return 0;
}

static int drop_table(struct net *net, struct error *err)
{
	char table[TABLE_SIZE];
	uint32_t generation;
	bool seen = nft_generation(rules_nft(net->rules), &generation) == 0;
	int r;

	table_name(net, table);
	r = nft_delete_table(rules_nft(net->rules), NFPROTO_INET, table);
	net->balance->skeleton = false;
	if (r < 0)
		return error_set(err, r, "cannot delete nft table %s", table);
	if (seen)
		rules_passed(net->rules, generation);
	return 0;
}

int balance_list(struct net *net, char ***ret, struct error *err)
{
	AUTO(strv_free) char **chains = NULL;
	char **uids = NULL;
	int r = read_chains(net, "b-", &chains, err);

	if (r < 0)
		return r;
	for (size_t i = 0; chains && chains[i]; i++) {
		AUTO(free) char *uid = mem_strndup(chains[i] + 2, strcspn(chains[i] + 2, "-"));

		if (name_is_uid(uid) && !strv_contains(uids, uid))
			strv_append(&uids, uid);
	}
	*ret = uids;
	return 0;
}

static int remove_rules(struct net *net, const char *uid, struct error *err)
{
	AUTO(strbuf_done) struct strbuf script = {};
	AUTO(strv_free) char **uids = NULL;
	int r = balance_list(net, &uids, err);

	if (r < 0 || !strv_contains(uids, uid))
		return r;
	if (strv_count(uids) == 1)
		return drop_table(net, err);
	r = put_elements(net, uid, NULL, &script, err);
	if (r < 0)
		return r;
	for (int family = 4; family <= (net->ipv6 ? 6 : 4); family += 2)
		strbuf_printf(&script, "delete map inet %s-b m%d-%s\n", net->prefix, family, uid);
	return run(net, &script, err);
}

int balance_remove(struct net *net, const char *uid, struct error *err)
{
	AUTO(elements_done) struct elements there = { .uid = uid };
	struct entry *entry;
	int r;

	if (!name_is_uid(uid))
		return error_say(err, -EINVAL, "a balancer's uid must be 1 to 32 of 0-9 and a-f");
	NET_LOCKED(net);
	r = read_elements(net, &there, err);
	if (r < 0)
		return r;
	HASH_FIND_STR(net->balance->entries, uid, entry);
	if (entry)
		entry_free(net->balance, entry);
	r = remove_rules(net, uid, err);
	for (size_t i = 0; r == 0 && i < there.count; i++)
		if (there.list[i].set == BALANCE_HOME4 || there.list[i].set == BALANCE_HOME6)
			remove_vip(net, &there.list[i]);
	return r;
}

int balance_destroy(struct net *net, struct error *err)
{
	struct entry *entry, *next;

	HASH_ITER(hh, net->balance->entries, entry, next)
	{
		entry_free(net->balance, entry);
	}
	return drop_table(net, err);
}

int balance_repair(struct net *net, bool *ret_damaged, struct error *err)
{
	AUTO(strbuf_done) struct strbuf script = {};
	struct entry *entry, *next;
	uint64_t fingerprint = 0;
	int r = 0;

	*ret_damaged = false;
	if (!net->balance->entries)
		return 0;
	if (AGAIN(take_fingerprint(net, &fingerprint)) == 0 &&
	    fingerprint == net->balance->fingerprint)
		return 0;
	*ret_damaged = true;
	balance_put_skeleton(&script, net->prefix, net->ipv6);
	HASH_ITER(hh, net->balance->entries, entry, next)
	{
		if (r == 0)
			r = ensure_vips(net, &entry->plan, err);
		if (r == 0)
			r = put_balancer(net, entry->uid, NULL, &entry->plan, &script, err);
	}
	return r < 0 ? r : run(net, &script, err);
}

static void take_member(const struct nft_element *element, void *data)
{
	char ***list = data;
	char text[ADDRESS_TEXT_SIZE];
	struct route_ip ip = { .family = element->value_size == 16 ? AF_INET6 : AF_INET };

	memcpy(ip.bytes, element->value, route_ip_size(&ip));
	address_text(&ip, text);
	if (!strv_contains(*list, text))
		strv_append(list, text);
}

int balance_members(struct net *net, const char *uid, char ***ret, struct error *err)
{
	char table[TABLE_SIZE], map[8 + NAME_UID_MAX];
	char **list = NULL;
	int r = 0;

	if (!name_is_uid(uid))
		return error_say(err, -EINVAL, "a balancer's uid must be 1 to 32 of 0-9 and a-f");
	NET_LOCKED(net);
	table_name(net, table);
	for (int family = 4; r == 0 && family <= (net->ipv6 ? 6 : 4); family += 2) {
		snprintf(map, sizeof(map), "m%d-%s", family, uid);
		r = AGAIN(nft_list(rules_nft(net->rules), NFPROTO_INET, table, map, take_member,
				   &list));
	}
	if (r < 0) {
		strv_free(list);
		return error_set(err, r, "cannot read nft table %s", table);
	}
	*ret = list;
	return 0;
}
