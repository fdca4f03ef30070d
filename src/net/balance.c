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
#include "net/balance_wish_internal.h"
#include "net/node_internal.h"
#include "net/publish_internal.h"
#include "net/rules_internal.h"

struct entry {
	char uid[NAME_UID_MAX + 1];
	struct balance_wish wish;
	bool known; /* what the kernel has of it is what `wish` says */
	UT_hash_handle hh;
};

struct balance {
	struct entry *entries; /* that were wanted in this life */
	bool skeleton;         /* the table is there as this version wants it */
	uint64_t fingerprint;  /* of the table after our last change */
};

static void entry_free(struct balance *balance, struct entry *entry)
{
	HASH_DEL(balance->entries, entry);
	balance_wish_done(&entry->wish);
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

/* ---- whether somebody has changed the table ---- */

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
	char table[BALANCE_TABLE_SIZE], map[8 + NAME_UID_MAX];
	struct entry *entry;
	int r;

	balance_table_name(net, table);
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

static int put_elements(struct net *net, const char *uid, const struct balance_wish *wish,
			struct strbuf *script, struct error *err)
{
	AUTO(balance_elements_done) struct balance_elements there = { .uid = uid }, wanted = {};
	AUTO(free) char *start = mem_printf("b-%s-", uid);
	AUTO(strv_free) char **chains = NULL;
	int r = balance_read_elements(net, &there, err);

	if (r == 0)
		r = balance_read_chains(net, start, &chains, err);
	if (r < 0)
		return r;
	if (wish)
		balance_wish_elements(uid, wish, &wanted);
	for (size_t i = 0; i < there.count; i++)
		if (!balance_elements_have(&wanted, &there.list[i]))
			balance_put_element(script, net->prefix, false, &there.list[i], NULL);
	for (size_t i = 0; i < wanted.count; i++)
		if (!balance_elements_have(&there, &wanted.list[i]))
			balance_put_element(script, net->prefix, true, &wanted.list[i], uid);
	for (size_t i = 0; chains && chains[i]; i++) {
		bool used = false;

		for (size_t k = 0; wish && k < wish->place_count && !used; k++) {
			char name[BALANCE_CHAIN_SIZE];

			balance_chain_name(uid, &wish->places[k], name);
			used = strcmp(name, chains[i]) == 0;
		}
		if (!used)
			strbuf_printf(script,
				      "flush chain inet %s-b %s\ndelete chain inet %s-b %s\n",
				      net->prefix, chains[i], net->prefix, chains[i]);
	}
	return 0;
}

static void put_maps(struct net *net, const char *uid, const struct balance_wish *wish,
		     struct strbuf *script)
{
	balance_put_map(
		script, net->prefix, uid, false,
		&(struct balance_choice){ wish->members4, wish->slots4, wish->slot_count4 });
	if (net->ipv6)
		balance_put_map(script, net->prefix, uid, true,
				&(struct balance_choice){ wish->members6, wish->slots6,
							  wish->slot_count6 });
}

/* The whole balancer, whatever there is of it; `old`: that is in force, NULL = not known. */
static int put_balancer(struct net *net, const char *uid, const struct balance_wish *old,
			const struct balance_wish *wish, struct strbuf *script, struct error *err)
{
	bool same_chains =
		old && balance_wish_same_places(old, wish) && old->algorithm == wish->algorithm &&
		old->slot_count4 == wish->slot_count4 && old->slot_count6 == wish->slot_count6;

	put_maps(net, uid, wish, script);
	for (size_t i = 0; !same_chains && i < wish->place_count; i++)
		balance_put_chain(script, net->prefix, uid, &wish->places[i], wish->algorithm,
				  wish->slot_count4, wish->slot_count6);
	if (old && balance_wish_same_places(old, wish))
		return 0;
	return put_elements(net, uid, wish, script, err);
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
	if (BALANCE_AGAIN(take_fingerprint(net, &net->balance->fingerprint)) < 0)
		net->balance->fingerprint = 0;
	return 0;
}

/* ---- the addresses of balancers ---- */

/* 1: one was missing. */
static int ensure_vips(struct net *net, const struct balance_wish *wish, struct error *err)
{
	const struct route_ip *vips[] = { &wish->vip4, &wish->vip6 };
	char text[ADDRESS_TEXT_SIZE];
	struct link bridge;
	int r, added = 0;

	if (!wish->vip4.family && !wish->vip6.family)
		return 0;
	r = link_find(net->nl, wish->bridge, &bridge);
	if (r < 0)
		return error_set(err, r, "cannot find bridge %s of the balancer's network",
				 wish->bridge);
	for (size_t i = 0; i < ARRAY_COUNT(vips); i++) {
		if (!vips[i]->family)
			continue;
		r = route_add_alias(net->nl, bridge.index, vips[i]);
		if (r < 0)
			return error_set(err, r, "cannot give %s the address %s%s", wish->bridge,
					 address_text(vips[i], text), net_detail(net->nl));
		added |= r;
	}
	return added;
}

int balance_repair_vips(struct net *net, bool *ret_damaged, struct error *err)
{
	struct entry *entry, *next;

	*ret_damaged = false;
	NET_LOCKED(net);
	HASH_ITER(hh, net->balance->entries, entry, next)
	{
		int r = ensure_vips(net, &entry->wish, err);

		/* Whose bridge has gone is made anew with it. */
		if (r < 0 && r != -ENODEV)
			return r;
		*ret_damaged |= r > 0;
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
static int check_free(struct net *net, const char *uid, struct balance_wish *wish,
		      struct error *err)
{
	AUTO(balance_elements_done) struct balance_elements there = { .uid = uid };
	int r = balance_read_elements(net, &there, err);

	for (size_t i = 0; r == 0 && i < wish->place_count; i++) {
		struct balance_place *place = &wish->places[i];
		struct balance_element element;
		enum balance_set set = !place->address.family              ? BALANCE_ANY
				       : place->address.family == AF_INET6 ? BALANCE_NODE6
									   : BALANCE_NODE4;

		if (place->vip)
			continue;
		balance_element_make(&element, set, wish->bridge, &place->address, place);
		place->fresh = !balance_elements_have(&there, &element);
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
static void forget_old_flows(struct net *net, const struct balance_wish *wish)
{
	struct netlink *nl = nft_netlink(rules_nft(net->rules));

	for (size_t i = 0; i < wish->place_count; i++) {
		if (wish->places[i].protocol != IPPROTO_UDP || !wish->places[i].fresh)
			continue;
		(void) nft_flow_forget(nl, AF_INET, IPPROTO_UDP, wish->places[i].port);
		if (net->ipv6)
			(void) nft_flow_forget(nl, AF_INET6, IPPROTO_UDP, wish->places[i].port);
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

static int commit(struct net *net, struct entry *entry, const struct balance_wish *wish,
		  struct error *err)
{
	int r = 0;

	/* A second time from what the kernel says: somebody may have changed it. */
	for (int attempt = 0; attempt < 2; attempt++) {
		AUTO(strbuf_done) struct strbuf script = {};

		if (!net->balance->skeleton)
			balance_put_skeleton(&script, net->prefix, net->ipv6);
		r = put_balancer(net, entry->uid, entry->known ? &entry->wish : NULL, wish, &script,
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
	AUTO(balance_wish_done) struct balance_wish wish = {};
	struct entry *entry;
	int r = balance_wish_make(spec, net->prefix, net->ipv6, &wish, err);

	if (r < 0)
		return r;
	NET_LOCKED(net);
	entry = entry_find_or_new(net->balance, spec->uid);
	if (!entry->known || !balance_wish_same_places(&entry->wish, &wish))
		r = check_free(net, spec->uid, &wish, err);
	if (r == 0)
		r = ensure_vips(net, &wish, err);
	if (r >= 0)
		r = commit(net, entry, &wish, err);
	if (r < 0) {
		/* Nothing of it is in the kernel: there is nothing to be repaired. */
		if (!entry->wish.places)
			entry_free(net->balance, entry);
		return r;
	}
	forget_old_flows(net, &wish);
	balance_wish_done(&entry->wish);
	entry->wish = wish;
	wish = (struct balance_wish){};
	return 0;
}

static int drop_table(struct net *net, struct error *err)
{
	char table[BALANCE_TABLE_SIZE];
	uint32_t generation;
	bool seen = nft_generation(rules_nft(net->rules), &generation) == 0;
	int r;

	balance_table_name(net, table);
	r = nft_delete_table(rules_nft(net->rules), NFPROTO_INET, table);
	net->balance->skeleton = false;
	if (r < 0)
		return error_set(err, r, "cannot delete nft table %s", table);
	if (seen)
		rules_passed(net->rules, generation);
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
	AUTO(balance_elements_done) struct balance_elements there = { .uid = uid };
	struct entry *entry;
	int r;

	if (!name_is_uid(uid))
		return error_say(err, -EINVAL, "a balancer's uid must be 1 to 32 of 0-9 and a-f");
	NET_LOCKED(net);
	r = balance_read_elements(net, &there, err);
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
	if (BALANCE_AGAIN(take_fingerprint(net, &fingerprint)) == 0 &&
	    fingerprint == net->balance->fingerprint)
		return 0;
	*ret_damaged = true;
	balance_put_skeleton(&script, net->prefix, net->ipv6);
	HASH_ITER(hh, net->balance->entries, entry, next)
	{
		if (r == 0)
			r = ensure_vips(net, &entry->wish, err);
		if (r >= 0)
			r = put_balancer(net, entry->uid, NULL, &entry->wish, &script, err);
	}
	return r < 0 ? r : run(net, &script, err);
}
