#pragma once
/*
 * net/router_internal.h - a checked router_setup in binary form, and what the router's files share.
 *
 *	router_plan.c	checks
 *	router.c	ensure, remove, watch; the links, seen from the node
 *	router_node.c	what else the node does for it
 *	router_inside.c	what is done inside
 *	router_routes.c	routes and addresses as they are to be
 *	router_text.c	the rules inside, as a text
 *	router_space.c	the namespace: how it is held, found and entered
 */
#include <net/if.h>

#include "kern/link.h"
#include "kern/route_table.h"
#include "net/node_internal.h"
#include "net/router.h"

#define ROUTER_UPLINK "uplink"
enum { ROUTER_UPLINK_MTU = 1500, ROUTER_EXTRA_MAX = 64 };

struct router_leg_plan {
	const char *network_uid;
	uint32_t mtu;
	struct route_ip subnet4, subnet6;
	struct route_ip ipv4, ipv6; /* with the subnet's prefix; `family` 0 = none */
	char outside[IF_NAMESIZE], inside[IF_NAMESIZE];
	uint8_t mac[LINK_MAC_SIZE];
};

struct router_static_plan {
	struct route_ip to, via;
	size_t leg;
};

struct router_public_plan {
	struct route_ip address, target; /* `family` 0 = none */
};

struct router_door_plan {
	struct route_ip address; /* `family` 0 = the node's */
	const char *protocol;
	uint16_t port, target_port;
	struct route_ip target4, target6;
};

struct router_plan {
	const char *uid;
	bool uplink, nat, advertise;
	struct route_ip node4, node6, own4, own6; /* the ends of the transit link, /31 and /127 */
	char outside[IF_NAMESIZE];                /* of the transit link */
	struct router_leg_plan legs[ROUTER_LEGS_MAX];
	struct router_static_plan statics[ROUTER_ITEMS_MAX];
	struct router_public_plan publics[ROUTER_ITEMS_MAX];
	struct router_door_plan doors[ROUTER_ITEMS_MAX];
	size_t leg_count, static_count, public_count, door_count;
};

/* `net` NULL: only to check; then there are no names of interfaces. */
int router_plan(const struct net *net, const struct router_setup *setup, struct router_plan *ret,
		struct error *err);

/* The whole ruleset for `nft -f`, which leaves the tables of others alone; the caller frees. */
char *router_text(const char *prefix, const struct router_plan *plan, bool ipv6);

/* Makes the namespace, if it is not there, and opens it. */
int router_space_ensure(struct net *net, const char *uid, struct error *err);

/* Opens it; -ENOENT when there is none. */
int router_space_open(struct net *net, const char *uid);

/* Gives it up; nothing there is fine.  Its folder goes, too. */
int router_space_remove(struct net *net, const char *uid, struct error *err);

/* Runs `fn` inside and comes back. */
int router_space_run(struct net *net, int netns_fd,
		     int (*fn)(struct net *net, void *data, struct error *err), void *data,
		     struct error *err);

/* What stands in RUN/routers/UID/NAME, "" when there is nothing; the caller frees. */
char *router_space_read(struct net *net, const char *uid, const char *name);
int router_space_write(struct net *net, const char *uid, const char *name, const char *text);

/* The uids of all routers that have a folder, as a strv, to which they are added. */
int router_space_list(struct net *net, char ***ret, struct error *err);

/* router_remove() for those who hold the lock. */
int router_remove_locked(struct net *net, const char *uid, struct error *err);

/* What goes through the steps of one router_ensure(). */
struct router_ensure_data {
	const struct router_plan *plan;
	int netns_fd;
	const char *lost; /* an outside end whose other end is not as it was made */
};

/* router_inside.c; for router_space_run(), `data` is a struct router_ensure_data. */
int router_ensure_inside(struct net *net, void *data, struct error *err);

/* router_node.c; all of them with the lock held. */
int router_ensure_elements(struct net *net, const struct router_plan *plan, struct error *err);

/* Routes to it, and ARP for its floating addresses; the link is there. */
int router_ensure_ways(struct net *net, const struct router_plan *plan, struct error *err);

/*
 * Stops answering for what `plan` (NULL: nothing) does not want any more.  Before the elements go,
 * which say what there was: so a crash leaves none behind.
 */
int router_drop_proxies(struct net *net, const char *uid, const struct router_plan *plan,
			struct error *err);

/* A subnet of which the node has an address on another link: what is for it would get lost. */
int router_check_clash(struct net *net, const struct route_ip *subnet, int own_index,
		       struct error *err);

/* Routes as they are to be; what is found beyond them goes. */
struct router_routes {
	struct route_line *wanted;
	bool *found;
	size_t count;
	bool marked; /* those that are asked for from here on */
	struct route_line extra[ROUTER_EXTRA_MAX];
	size_t extra_count;
};

void router_routes_init(struct router_routes *routes, size_t max);
void router_routes_want(struct router_routes *routes, int link_index, const struct route_ip *to,
			const struct route_ip *via);
int router_routes_ensure(struct netlink *nl, int link_index, bool ipv6,
			 struct router_routes *routes, struct error *err);
void router_routes_done(struct router_routes *routes);
static inline void router_routes_done_autop(struct router_routes *routes)
{
	router_routes_done(routes);
}

/* Makes these (`family` 0 = none) the addresses of a link. */
int router_addresses_ensure(struct netlink *nl, int index, const struct route_ip *ipv4,
			    const struct route_ip *ipv6, struct error *err);
