#pragma once
/*
 * net/balance_text_internal.h - the text of the balancers' nft table, and the names in it.
 *
 * Used by balance.c; apart from it so that a person can read the rules in one place.  Pure
 * functions.  The table of two balancers with a member each:
 *
 *	table inet brume-b {
 *		map any { type inet_proto . inet_service : verdict;
 *			  elements = { tcp . 80 comment "UID" : jump b-UID-tcp-80-any } }
 *		map m4-UID { typeof numgen inc mod 2 : ip daddr; elements = { 0 : 10.90.0.2 } }
 *		chain b-UID-tcp-80-any {
 *			meta nfproto ipv4 meta l4proto tcp dnat ip to numgen inc mod 1 map @m4-UID :
 *8080 meta l4proto tcp reject with tcp reset
 *			...
 *		}
 *		chain prerouting { ... vmap @any ... }
 *	}
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "kern/route.h"
#include "net/balance_plan.h"

/* The maps and sets that all balancers share. */
enum balance_set {
	BALANCE_ANY,   /* (protocol, port): on every address of the node */
	BALANCE_NODE4, /* (address, protocol, port): on one of them */
	BALANCE_NODE6,
	BALANCE_VIP4, /* (bridge, address, protocol, port): on a balancer's own, from its network */
	BALANCE_VIP6,
	BALANCE_FAR4, /* (address, protocol, port): likewise, from outside, of routed networks */
	BALANCE_FAR6,
	BALANCE_OWN4, /* (address, protocol, port): likewise, from the node itself */
	BALANCE_OWN6,
	BALANCE_VIPS4, /* (address) */
	BALANCE_VIPS6,
	BALANCE_HOME4, /* (bridge, address): whose pings are answered */
	BALANCE_HOME6,
	BALANCE_SET_COUNT,
};

enum { BALANCE_KEY_MAX = 48, BALANCE_CHAIN_SIZE = 96 };

/* An element as the kernel has its key: parts on 4-byte borders. */
struct balance_element {
	enum balance_set set;
	uint8_t key_size;
	uint8_t key[BALANCE_KEY_MAX];
	char chain[BALANCE_CHAIN_SIZE]; /* where a map leads; "" of a set */
};

/* A listen, checked. */
struct balance_place {
	uint8_t protocol;
	uint16_t port, target_port;
	bool vip;
	bool fresh;              /* the kernel does not have it yet */
	struct route_ip address; /* family 0: every one */
};

const char *balance_set_name(enum balance_set set);
bool balance_set_is_ipv6(enum balance_set set);

/* Fills the key of an element; `bridge`, `ip` and `place` as far as its set wants them. */
void balance_element_make(struct balance_element *element, enum balance_set set, const char *bridge,
			  const struct route_ip *ip, const struct balance_place *place);

/* "chain b-UID-tcp-80-any": the name depends on the place alone. */
void balance_chain_name(const char *uid, const struct balance_place *place,
			char ret[BALANCE_CHAIN_SIZE]);

/* The chains with hooks, all their rules, and the empty sets: may be run at any time. */
void balance_put_skeleton(struct strbuf *script, const char *prefix, bool ipv6);

/* "add element inet PREFIX-b ..." or "delete element ..."; without `uid` there is no comment. */
void balance_put_element(struct strbuf *script, const char *prefix, bool add,
			 const struct balance_element *element, const char *uid);

/* What is chosen from: the slots of one family. */
struct balance_choice {
	const struct route_ip *members;
	const uint16_t *slots;
	size_t slot_count;
};

/* The map of one family, filled anew. */
void balance_put_map(struct strbuf *script, const char *prefix, const char *uid, bool ipv6,
		     const struct balance_choice *choice);

/* One place's chain, filled anew. */
void balance_put_chain(struct strbuf *script, const char *prefix, const char *uid,
		       const struct balance_place *place, enum balance_algorithm algorithm,
		       size_t slots4, size_t slots6);
