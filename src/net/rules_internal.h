#pragma once
/*
 * net/rules_internal.h - our nft tables: fixed rules, and elements that belong to an owner.
 *
 * There are two tables of our name, in the families inet and bridge.  Their rules never change, but
 * for those of security groups (chains_internal.h); networks, published ports and guarded ports are
 * elements of the sets and maps that the rules look into.  An element's comment is the uid of its
 * owner, so the kernel itself remembers who owns what.  An index of all elements is kept in memory:
 * it makes a change one transaction without a question before it, and is what the table is put back
 * from when somebody else flushed it.
 *
 * Used by the other files of net/.  Threads: under the lock of struct net.  Crash: the index is
 * read from the kernel again.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

struct chains;
struct error;
struct mix;
struct nft;
struct rules;

enum rules_set {
	RULES_BRIDGES,
	RULES_NAT_BRIDGES,
	RULES_ISOLATED,
	RULES_ZONES,
	RULES_SAME,
	RULES_GATEWAYS4,
	RULES_OWN_GATEWAYS4,
	RULES_GATEWAYS6,
	RULES_OWN_GATEWAYS6,
	RULES_SUBNETS4, /* intervals: `value` is the last address, the key has the first */
	RULES_SUBNETS6,
	RULES_TUNNELS, /* UDP port and VNI; then with those who may send to it */
	RULES_TUNNEL_PEERS4,
	RULES_TUNNEL_PEERS6,
	RULES_FLOATING4, /* routers' elements: these, and what networks have */
	RULES_FLOATING6,
	RULES_PUBLISH4, /* from here on: published ports; before: networks */
	RULES_PUBLISH4_ANY,
	RULES_PUBLISH6,
	RULES_PUBLISH6_ANY,
	RULES_PORTS4, /* from here on: guarded ports */
	RULES_PORTS6,
	RULES_MEMBERS4,
	RULES_MEMBERS6,
	RULES_GUARDED, /* from here on: of the table in the family bridge */
	RULES_OWN_MAC,
	RULES_OWN4,
	RULES_OWN6,
	RULES_SELF,
	RULES_COMBINATION,
	RULES_OPEN,
	RULES_SET_COUNT,
};

/*
 * Groups of interfaces (IFLA_GROUP), which rules ask for where a look into a set is too dear:
 * tunnels, which no guard stands at; and what leads to instances, bridges and links to routers.
 */
#define RULES_DEVICES_TUNNEL 1651666296
#define RULES_DEVICES_INSIDE 1651666281

enum rules_group { RULES_OF_NETWORK, RULES_OF_PUBLISH, RULES_OF_GUARD };

enum { RULES_KEY_SIZE = 40, RULES_VALUE_SIZE = 20, RULES_OWNER_SIZE = 33 };

/* Unused bytes are zero; the sizes in use are those of the set. */
struct rules_element {
	uint8_t set; /* enum rules_set */
	uint8_t key[RULES_KEY_SIZE];
	uint8_t value[RULES_VALUE_SIZE];
};

int rules_new(const char *prefix, bool ipv6, struct rules **ret, struct error *err);
void rules_free(struct rules *rules);
DEFINE_AUTO(struct rules *, rules_free)

/* See net_repair(). */
int rules_repair(struct rules *rules, bool *ret_damaged, struct error *err);

/*
 * Makes `wanted` exactly the elements that `owner` has in `group`: one transaction, or nothing.
 * -EADDRINUSE: wanted[*ret_conflict] belongs to another owner, -EEXIST: it is wanted twice; for
 * these two `err` is not set.  `changed` (may be NULL) receives a struct rules_element for each one
 * that was added, replaced (the old one) or removed.
 */
int rules_assign(struct rules *rules, const char *owner, enum rules_group group,
		 const struct rules_element *wanted, size_t count, size_t *ret_conflict,
		 struct strbuf *changed, struct error *err);

/*
 * The same for elements that need chains: `build`, called as often as it is tried, asks for the
 * numbers of groups and combinations and writes the elements, as many as it says in *ret_count.
 */
typedef void (*rules_build_fn)(struct chains *chains, struct rules_element *wanted,
			       size_t *ret_count, void *data);
int rules_assign_built(struct rules *rules, const char *owner, enum rules_group group,
		       struct rules_element *wanted, rules_build_fn build, void *data,
		       size_t *ret_conflict, struct error *err);

/* Changes chains in one transaction: `change` marks what (it may be called again). */
typedef int (*rules_change_fn)(struct chains *chains, void *data);
int rules_change_chains(struct rules *rules, rules_change_fn change, void *data, struct error *err);

/* To look at. */
const struct chains *rules_chains(const struct rules *rules);

/* To remember what no rule shows; nothing is written. */
struct chains *rules_chains_to_change(struct rules *rules);

/* Who shares a bridge with whom; what it says of elements is kept here. */
struct mix *rules_mix(struct rules *rules);

/* Whether the kernel has tables of the family bridge. */
bool rules_has_bridge(const struct rules *rules);

/* The owner of the element with this key (borrowed until the next change), NULL when there is none.
 */
const char *rules_owner(const struct rules *rules, const struct rules_element *element);

/* How many elements a set has. */
size_t rules_count(const struct rules *rules, enum rules_set set);

/* Hands every element, in no order, to `fn`, which must not change anything. */
void rules_each(const struct rules *rules,
		void (*fn)(const char *owner, const struct rules_element *element, void *data),
		void *data);

/* The uids that own something in `group`, sorted; the caller frees (base/strv.h). */
char **rules_owners(const struct rules *rules, enum rules_group group);

/* The number of the ruleset as we know it, 0 when we know nothing.  Needs no lock. */
uint32_t rules_generation(const struct rules *rules);

/*
 * One change of another table of ours was committed; `before` is the number that the ruleset had.
 * When that is the only one, what is known of these tables is still true.
 */
void rules_passed(struct rules *rules, uint32_t before);

/* The socket, for flows. */
struct nft *rules_nft(struct rules *rules);

/* Removes the tables with everything in them. */
int rules_destroy(struct rules *rules, struct error *err);
