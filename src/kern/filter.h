#pragma once
/*
 * kern/filter.h - filters of traffic control: programs and redirections that see every packet of an
 * interface.
 *
 * The interface needs a place for them first (qdisc_add_clsact()).  All are of the kind "bpf", so
 * the kernel needs one classifier only.  Used by net/.  One request each over a struct netlink of
 * NETLINK_ROUTE.  Returns 0 or -errno; -ENOENT: no such filter, or the kernel has none.  No state.
 * Threads: as struct netlink.
 */
#include <stdint.h>

struct netlink;

enum { FILTER_NAME_SIZE = 32 };

/* From the node's side: what has come in from the interface, and what is about to leave by it. */
enum filter_way { FILTER_ARRIVING, FILTER_LEAVING };

/* Filters run in the order of their priorities. */
struct filter_place {
	int link_index;
	enum filter_way way;
	uint16_t priority;
	uint16_t protocol; /* ETH_P_ALL, or the only one that it sees; one for each priority */
	uint32_t handle;   /* tells those of one priority apart; not 0 */
};

struct filter {
	char name[FILTER_NAME_SIZE];
	uint32_t program_id; /* 0 = it has none */
	int redirect_index;  /* to this interface; 0 = none */
};

int filter_find(struct netlink *nl, const struct filter_place *place, struct filter *ret);

/*
 * A program of the type BPF_PROG_TYPE_SCHED_CLS, which decides by what it returns
 * (TC_ACT_UNSPEC: the next filter).  What stands at this place is replaced without a gap.
 */
int filter_set_program(struct netlink *nl, const struct filter_place *place, const char *name,
		       int program_fd);

/* Everything leaves by another interface instead.  Replaces likewise. */
int filter_set_redirect(struct netlink *nl, const struct filter_place *place, int to_index);

/* One that is not there is fine. */
int filter_delete(struct netlink *nl, const struct filter_place *place);
