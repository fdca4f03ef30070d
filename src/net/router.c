#include "net/router.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/netlink.h"
#include "kern/nft.h"
#include "net/address.h"
#include "net/guard_internal.h"
#include "net/publish.h"
#include "net/router_internal.h"
#include "net/rules_internal.h"

enum { LIST_ATTEMPTS = 20 };

/* ---- links, seen from the node */

static bool is_wanted(const struct router_plan *plan, const char *name)
{
	if (plan && plan->uplink && strcmp(plan->outside, name) == 0)
		return true;
	for (size_t i = 0; plan && i < plan->leg_count; i++)
		if (strcmp(plan->legs[i].outside, name) == 0)
			return true;
	return false;
}

struct strays {
	const char *prefix, *uid;
	const struct router_plan *plan;
	char **names;
};

static int take_stray(const struct link *link, void *data)
{
	struct strays *strays = data;

	if (name_is_of_router(strays->prefix, link->name) &&
	    strcmp(link->alias, strays->uid) == 0 && !is_wanted(strays->plan, link->name))
		strv_append(&strays->names, link->name);
	return 0;
}

static int remove_link(struct net *net, const char *name, struct error *err)
{
	struct link link;
	int r = link_find(net->nl, name, &link);

	if (r == 0)
		r = link_delete(net->nl, link.index);
	if (r < 0 && r != -ENODEV)
		return error_set(err, r, "cannot remove interface %s%s", name, net_detail(net->nl));
	return guard_set_stranger(net, name, NULL, err);
}

/* `plan` NULL: all of them. */
static int remove_strays(struct net *net, const char *uid, const struct router_plan *plan,
			 struct error *err)
{
	struct strays strays = { .prefix = net->prefix, .uid = uid, .plan = plan };
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		strv_free(strays.names);
		strays.names = NULL;
		r = link_list(net->nl, "veth", take_stray, &strays);
	}
	if (r < 0)
		r = error_set(err, r, "cannot list interfaces%s", net_detail(net->nl));
	for (size_t i = 0; i < strv_count(strays.names) && r == 0; i++)
		r = remove_link(net, strays.names[i], err);
	strv_free(strays.names);
	return r;
}

/* Finds the veth of that name, or makes it; one that leads elsewhere is of an earlier namespace. */
static int ensure_veth(struct net *net, const struct router_ensure_data *ensure,
		       const struct link_veth *veth, struct link *ret, struct error *err)
{
	int nsid = -1, r = link_find(net->nl, veth->name, ret);

	if (r == 0 && (strcmp(ret->kind, "veth") != 0 ||
		       (ret->alias[0] && strcmp(ret->alias, ensure->plan->uid) != 0)))
		return error_say(err, -EEXIST,
				 "interface %s exists and does not belong to router %s", veth->name,
				 ensure->plan->uid);
	if (r == 0) {
		r = link_nsid(net->nl, ensure->netns_fd, &nsid);
		if (r == 0 && nsid >= 0 && ret->peer_nsid == nsid)
			return 0;
		if (r == 0)
			r = link_delete(net->nl, ret->index);
	}
	if (r < 0 && r != -ENODEV)
		return error_set(err, r, "cannot look for interface %s%s", veth->name,
				 net_detail(net->nl));
	r = link_add_veth(net->nl, veth);
	if (r == 0)
		r = link_find(net->nl, veth->name, ret);
	return r < 0 ? error_set(err, r, "cannot create interface %s%s", veth->name,
				 net_detail(net->nl))
		     : 0;
}

/* A port of the network's bridge, which no guard stands at: it sends for others, who are judged. */
static int ensure_leg(struct net *net, const struct router_ensure_data *ensure,
		      const struct router_leg_plan *leg, struct error *err)
{
	char bridge_name[IF_NAMESIZE];
	struct link_change change = {
		.alias = ensure->plan->uid, .no_link_local = net->ipv6, .mtu = leg->mtu, .up = true
	};
	struct link bridge, link;
	int r;

	name_bridge(net->prefix, leg->network_uid, bridge_name);
	r = link_find(net->nl, bridge_name, &bridge);
	if (r < 0)
		return error_set(err, r, "network %s has no bridge %s%s", leg->network_uid,
				 bridge_name, net_detail(net->nl));
	r = guard_set_stranger(net, leg->outside, bridge_name, err);
	if (r < 0)
		return r;
	r = ensure_veth(net, ensure,
			&(struct link_veth){ .name = leg->outside,
					     .master = bridge.index,
					     .mtu = leg->mtu,
					     .peer_name = leg->inside,
					     .peer_netns_fd = ensure->netns_fd,
					     .peer_mac = leg->mac },
			&link, err);
	if (r < 0)
		return r;
	if (link.master != bridge.index)
		change.master = bridge.index;
	r = link_set(net->nl, link.index, &change);
	return r < 0 ? error_set(err, r, "cannot set up interface %s%s", leg->outside,
				 net_detail(net->nl))
		     : 0;
}

static int set_uplink_sysctls(const struct net *net, const char *name, struct error *err)
{
	static const struct {
		int family;
		const char *key, *value;
	} sysctls[] = {
		{ AF_INET, "forwarding", "1" },
		/* A forward is reached by 127.0.0.1 as well; the guard chain keeps others out. */
		{ AF_INET, "route_localnet", "1" },
		{ AF_INET6, "disable_ipv6", "0" },
		{ AF_INET6, "forwarding", "1" },
		{ AF_INET6, "accept_ra", "0" },
		{ AF_INET6, "accept_dad", "0" },
	};

	for (size_t i = 0; i < ARRAY_COUNT(sysctls); i++) {
		int r = 0;

		if (sysctls[i].family == AF_INET || net->ipv6)
			r = link_sysctl(sysctls[i].family, name, sysctls[i].key, sysctls[i].value);
		if (r < 0)
			return error_set(err, r, "cannot set %s of %s", sysctls[i].key, name);
	}
	return 0;
}

static int ensure_uplink(struct net *net, const struct router_ensure_data *ensure,
			 struct error *err)
{
	const struct router_plan *plan = ensure->plan;
	uint8_t mac[LINK_MAC_SIZE];
	struct link link;
	int r;

	name_router_mac(plan->uid, ROUTER_UPLINK, mac);
	r = ensure_veth(net, ensure,
			&(struct link_veth){ .name = plan->outside,
					     .mtu = ROUTER_UPLINK_MTU,
					     .peer_name = ROUTER_UPLINK,
					     .peer_netns_fd = ensure->netns_fd,
					     .peer_mac = mac },
			&link, err);
	if (r == 0)
		r = router_check_clash(net, &plan->node4, link.index, err);
	for (size_t i = 0; i < plan->leg_count && !plan->nat && r == 0; i++) {
		r = router_check_clash(net, &plan->legs[i].subnet4, link.index, err);
		if (r == 0)
			r = router_check_clash(net, &plan->legs[i].subnet6, link.index, err);
	}
	if (r == 0)
		r = set_uplink_sysctls(net, plan->outside, err);
	if (r < 0)
		return r;
	r = link_set(net->nl, link.index,
		     &(struct link_change){ .alias = plan->uid,
					    .mtu = ROUTER_UPLINK_MTU,
					    .group = RULES_DEVICES_INSIDE,
					    .up = true });
	if (r < 0)
		return error_set(err, r, "cannot set up interface %s%s", plan->outside,
				 net_detail(net->nl));
	return router_addresses_ensure(net->nl, link.index, &plan->node4, &plan->node6, err);
}

/* ---- all of it */

static int ensure_outside(struct net *net, const struct router_ensure_data *ensure,
			  struct error *err)
{
	const struct router_plan *plan = ensure->plan;
	int r;

	NET_LOCKED(net);
	r = router_drop_proxies(net, plan->uid, plan, err);
	if (r == 0)
		r = router_ensure_elements(net, plan, err);
	if (r == 0)
		r = remove_strays(net, plan->uid, plan, err);
	for (size_t i = 0; i < plan->leg_count && r == 0; i++)
		r = ensure_leg(net, ensure, &plan->legs[i], err);
	return r == 0 && plan->uplink ? ensure_uplink(net, ensure, err) : r;
}

static int ensure_both(struct net *net, struct router_ensure_data *ensure, struct error *err)
{
	int r = ensure_outside(net, ensure, err);

	return r < 0 ? r
		     : router_space_run(net, ensure->netns_fd, router_ensure_inside, ensure, err);
}

/* The ports of the node that lead to doors. */
static int publish_doors(struct net *net, const struct router_plan *plan, struct error *err)
{
	AUTO(free)
	struct publish_spec *specs = mem_new0_array(struct publish_spec, plan->door_count + 1);
	char own4[ADDRESS_TEXT_SIZE] = "", own6[ADDRESS_TEXT_SIZE] = "";
	size_t count = 0;
	bool ipv6 = false;

	for (size_t i = 0; i < plan->door_count; i++) {
		const struct router_door_plan *door = &plan->doors[i];

		if (door->address.family)
			continue;
		specs[count++] = (struct publish_spec){ .host_port = door->port,
							.port = door->port,
							.protocol = door->protocol };
		ipv6 |= door->target6.family != 0;
	}
	if (count == 0)
		return publish_remove(net, plan->uid, err);
	address_text(&plan->own4, own4);
	if (ipv6 && plan->own6.family)
		address_text(&plan->own6, own6);
	return publish_ensure(net, plan->uid, own4, own6, specs, count, err);
}

int router_ensure(struct net *net, const struct router_setup *setup, struct error *err)
{
	AUTO(free) struct router_plan *plan = mem_new0(struct router_plan);
	AUTO(fd_close) int fd = -1;
	struct router_ensure_data ensure = { .plan = plan };
	int r = router_plan(net, setup, plan, err);

	if (r < 0)
		return r;
	fd = router_space_ensure(net, plan->uid, err);
	if (fd < 0)
		return fd;
	ensure.netns_fd = fd;
	r = ensure_both(net, &ensure, err);
	if (ensure.lost) {
		net_lock(net);
		r = remove_link(net, ensure.lost, err);
		net_unlock(net);
		if (r == 0)
			r = ensure_both(net, &ensure, err);
	}
	if (r == 0 && plan->uplink) {
		NET_LOCKED(net);
		r = router_ensure_ways(net, plan, err);
	}
	return r < 0 ? r : publish_doors(net, plan, err);
}

int router_remove_locked(struct net *net, const char *uid, struct error *err)
{
	size_t conflict;
	int r = router_drop_proxies(net, uid, NULL, err);

	if (r == 0)
		r = remove_strays(net, uid, NULL, err);
	if (r == 0)
		r = rules_assign(net->rules, uid, RULES_OF_NETWORK, NULL, 0, &conflict, NULL, err);
	return r < 0 ? r : router_space_remove(net, uid, err);
}

int router_remove(struct net *net, const char *uid, struct error *err)
{
	int r;

	if (!name_is_uid(uid))
		return error_say(err, -EINVAL, "router uid '%.40s': must be 1 to 32 of 0-9 and a-f",
				 uid ? uid : "");
	r = publish_remove(net, uid, err);
	if (r < 0)
		return r;
	NET_LOCKED(net);
	return router_remove_locked(net, uid, err);
}

struct watch {
	int rules_fd, links_fd;
};

static int open_watches(struct net *net, void *data, struct error *err)
{
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK,
					     .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR |
							  RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
							  RTMGRP_IPV6_ROUTE };
	struct watch *watch = data;

	(void) net;
	watch->rules_fd = nft_watch();
	if (watch->rules_fd < 0)
		return error_set(err, watch->rules_fd, "cannot watch a router's rules");
	watch->links_fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (watch->links_fd < 0 ||
	    bind(watch->links_fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
		return error_set(err, -errno, "cannot watch a router's links");
	return 0;
}

int router_watch(struct net *net, const char *uid, int *ret_rules_fd, int *ret_links_fd,
		 struct error *err)
{
	AUTO(fd_close) int fd = router_space_open(net, uid);
	struct watch watch = { -1, -1 };
	int r;

	if (fd < 0)
		return error_set(err, fd, "router %s has no network namespace", uid);
	r = router_space_run(net, fd, open_watches, &watch, err);
	if (r < 0) {
		fd_close(watch.rules_fd);
		fd_close(watch.links_fd);
		return r;
	}
	*ret_rules_fd = watch.rules_fd;
	*ret_links_fd = watch.links_fd;
	return 0;
}
