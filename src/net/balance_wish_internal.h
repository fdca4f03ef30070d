#pragma once
/*
 * net/balance_wish_internal.h - what a balancer should be, and what the kernel has of it.
 *
 * balance_wish.c checks a balance_spec and makes elements and slots of it, balance_look.c reads the
 * table, balance.c brings the two together.  With the lock of struct net held, but for
 * balance_wish_make().
 */
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "net/balance.h"
#include "net/balance_text_internal.h"
#include "net/name.h"

struct error;
struct net;

enum { BALANCE_ATTEMPTS = 20, BALANCE_TABLE_SIZE = NAME_PREFIX_MAX + 3 };

/* Calls the kernel again as long as others change what it lists; what is not there is empty. */
#define BALANCE_AGAIN(call)                                                                        \
	({                                                                                         \
		int r_ = -EINTR;                                                                   \
		for (int i_ = 0; i_ < BALANCE_ATTEMPTS && r_ == -EINTR; i_++)                      \
			r_ = (call);                                                               \
		r_ == -ENOENT ? 0 : r_;                                                            \
	})

/* A balance_spec that was checked, with all that it takes of its own. */
struct balance_wish {
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

int balance_wish_make(const struct balance_spec *spec, const char *prefix, bool ipv6,
		      struct balance_wish *wish, struct error *err);
void balance_wish_done(struct balance_wish *wish);
static inline void balance_wish_done_autop(struct balance_wish *wish)
{
	balance_wish_done(wish);
}

/* Whether the same elements and chains belong to both. */
bool balance_wish_same_places(const struct balance_wish *a, const struct balance_wish *b);

/* Elements of the shared sets. */
struct balance_elements {
	const char *uid;      /* of one balancer */
	enum balance_set set; /* that is being read */
	struct balance_element *list;
	size_t count;
};

void balance_elements_done(struct balance_elements *elements);
static inline void balance_elements_done_autop(struct balance_elements *elements)
{
	balance_elements_done(elements);
}
struct balance_element *balance_elements_add(struct balance_elements *elements);
bool balance_elements_have(const struct balance_elements *elements,
			   const struct balance_element *element);

/* Those that lead to the chains of a balancer. */
void balance_wish_elements(const char *uid, const struct balance_wish *wish,
			   struct balance_elements *wanted);

/* ---- balance_look.c */

void balance_table_name(const struct net *net, char ret[BALANCE_TABLE_SIZE]);

/* The elements of the balancer `elements->uid` that there are. */
int balance_read_elements(struct net *net, struct balance_elements *elements, struct error *err);

/* The chains whose names begin with `start`, as a strv. */
int balance_read_chains(struct net *net, const char *start, char ***ret, struct error *err);
