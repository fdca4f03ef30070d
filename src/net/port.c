#include "net/port.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/strv.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "kern/route_table.h"
#include "net/address.h"
#include "net/count_internal.h"
#include "net/dhcp_internal.h"
#include "net/dns_internal.h"
#include "net/guard.h"
#include "net/limit_internal.h"
#include "net/network_internal.h"
#include "net/node_internal.h"
#include "net/port_internal.h"

enum { LOOPBACK_INDEX = 1 };

static int plan_address(const char *text, const struct route_ip *subnet,
			const struct route_ip *gateway, struct route_ip *ret, struct error *err)
{
	struct route_ip ip;

	if (!text || !text[0])
		return 0;
	if (address_parse(text, &ip) < 0 || !subnet->family || !address_is_host(subnet, &ip))
		return error_say(err, -EINVAL, "address '%.64s': is not in the network's subnet",
				 text);
	ip.prefix = subnet->prefix;
	if (address_equal(&ip, gateway))
		return error_say(err, -EINVAL, "address '%.64s': is the network's gateway", text);
	*ret = ip;
	return 0;
}

/* The router's address, where the node is not the gateway. */
static int plan_gateway(const char *text, const struct route_ip *subnet,
			const struct route_ip *gateway, struct route_ip *ret, struct error *err)
{
	*ret = *gateway;
	if (gateway->family || !text || !text[0])
		return 0;
	if (address_parse(text, ret) < 0 || !subnet->family || !address_is_host(subnet, ret))
		return error_say(err, -EINVAL, "router '%.64s': is not in the network's subnet",
				 text);
	ret->prefix = subnet->prefix;
	return 0;
}

int port_plan(const struct port_spec *spec, struct port_plan *ret, struct error *err)
{
	struct port_plan plan = { .interface = spec->interface ? spec->interface : "eth0",
				  .leads_out = spec->leads_out };
	uint8_t bridge_mac[LINK_MAC_SIZE];
	int r = network_plan(spec->network, &plan.network, err);

	if (r < 0)
		return r;
	if (!name_is_uid(spec->uid))
		return error_say(err, -EINVAL, "port uid '%.40s': must be 1 to 32 of 0-9 and a-f",
				 spec->uid ? spec->uid : "");
	if (!name_is_interface(plan.interface))
		return error_say(err, -EINVAL,
				 "interface '%.40s': must be 1 to 15 letters and digits",
				 plan.interface);
	if (!name_is_label(spec->name))
		return error_say(err, -EINVAL,
				 "name '%.64s': must be 1 to 63 letters, digits and '-'",
				 spec->name ? spec->name : "");
	r = plan_gateway(spec->router4, &plan.network.subnet4, &plan.network.gateway4,
			 &plan.gateway4, err);
	if (r == 0)
		r = plan_gateway(spec->router6, &plan.network.subnet6, &plan.network.gateway6,
				 &plan.gateway6, err);
	if (r == 0)
		r = plan_address(spec->ipv4, &plan.network.subnet4, &plan.gateway4, &plan.ipv4,
				 err);
	if (r == 0)
		r = plan_address(spec->ipv6, &plan.network.subnet6, &plan.gateway6, &plan.ipv6,
				 err);
	if (r < 0)
		return r;
	name_mac(spec->uid, plan.mac);
	if (spec->mac && spec->mac[0] && name_parse_mac(spec->mac, plan.mac) < 0)
		return error_say(err, -EINVAL,
				 "mac '%.32s': must be a unicast address like 02:00:5e:10:00:01",
				 spec->mac);
	name_mac(spec->network->uid, bridge_mac);
	if (memcmp(plan.mac, bridge_mac, sizeof(bridge_mac)) == 0)
		return error_say(err, -EINVAL, "mac '%.32s': is that of the network's gateway",
				 spec->mac);
	*ret = plan;
	return 0;
}

int port_check(const struct port_spec *spec, struct error *err)
{
	struct port_plan plan;

	return port_plan(spec, &plan, err);
}

/* Whether `netns_fd` is the namespace that we live in: moving an interface there would be a
 * mistake. */
static int check_foreign(const struct net *net, int netns_fd, struct error *err)
{
	struct stat theirs, ours;

	if (fstat(netns_fd, &theirs) < 0 || fstat(net->self_netns_fd, &ours) < 0)
		return error_set(err, -errno, "cannot look at the instance's network namespace");
	if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino)
		return error_say(err, -EINVAL,
				 "the instance has no network namespace of its own to connect");
	return 0;
}

/*
 * A veth of our name that is there already: kept when its other end is in this namespace.  Else it
 * is left over from an earlier start, whose namespace is just being taken apart, and goes.
 */
static int reuse_or_remove(struct net *net, const struct port_spec *spec, int netns_fd,
			   struct link *veth, bool *ret_reused, struct error *err)
{
	int nsid = -1, r;

	*ret_reused = false;
	if (strcmp(veth->kind, "veth") != 0 ||
	    (veth->alias[0] && strcmp(veth->alias, spec->uid) != 0))
		return error_say(err, -EEXIST, "interface %s exists and does not belong to port %s",
				 veth->name, spec->uid);
	r = link_nsid(net->nl, netns_fd, &nsid);
	if (r < 0)
		return error_set(err, r, "cannot identify the instance's network namespace%s",
				 net_detail(net->nl));
	if (nsid >= 0 && veth->peer_nsid == nsid) {
		*ret_reused = true;
		return 0;
	}
	r = link_delete(net->nl, veth->index);
	if (r < 0 && r != -ENODEV)
		return error_set(err, r, "cannot remove the old interface %s%s", veth->name,
				 net_detail(net->nl));
	return 0;
}

/*
 * With br_netfilter frames are translated while they are bridged, and an instance that uses its own
 * published port gets its frame back from the port it came from.  Only then: a port that sends back
 * returns broadcasts to their sender too, unless it is guarded.
 */
bool port_needs_hairpin(const struct net *net, const struct port_plan *plan)
{
	return net->filter && plan->network.driver.kind == DRIVER_BRIDGE;
}

int port_find_bridge(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		     struct link *ret, struct error *err)
{
	const struct driver_plan *driver = &plan->network.driver;
	char name[IF_NAMESIZE];
	int r;

	if (driver->kind == DRIVER_PHYSICAL)
		return driver_find_uplink(net, driver, ret, err);
	if (driver->kind == DRIVER_OVS) {
		if (!driver->uplink[0] || link_find(net->nl, driver->uplink, ret) < 0)
			*ret = (struct link){ .name = "Open vSwitch" };
		ret->index = 0;
		return 0;
	}
	name_bridge(net->prefix, spec->network->uid, name);
	r = link_find(net->nl, name, ret);
	return r < 0 ? error_set(err, r, "network %s has no bridge %s%s", spec->network->uid, name,
				 net_detail(net->nl))
		     : 0;
}

uint32_t port_outside_mtu(const struct port_plan *plan, const struct link *bridge)
{
	bool foreign = plan->network.driver.uplink[0] && bridge->mtu >= plan->network.mtu;

	return foreign ? bridge->mtu : plan->network.mtu;
}

int port_guard(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
	       struct error *err)
{
	const struct driver_plan *driver = &plan->network.driver;
	char interface[IF_NAMESIZE], bridge[IF_NAMESIZE];

	if (driver->kind != DRIVER_BRIDGE && strv_count(spec->groups) > 0)
		return error_say(err, -EOPNOTSUPP,
				 "driver %s has no security groups; driver bridge has",
				 spec->network->driver);
	/* Frames of the others pass no bridge where they could be looked at. */
	if (driver->kind == DRIVER_MACVLAN || driver->kind == DRIVER_OVS)
		return 0;
	name_veth(net->prefix, spec->uid, interface);
	name_bridge(net->prefix, spec->network->uid, bridge);
	if (driver->kind == DRIVER_PHYSICAL)
		memcpy(bridge, driver->uplink, strlen(driver->uplink) + 1);
	return guard_set_port(net,
			      &(struct guard_spec){ .port_uid = spec->uid,
						    .interface = interface,
						    .bridge = bridge,
						    .mac = plan->mac,
						    .ipv4 = spec->ipv4,
						    .ipv6 = spec->ipv6,
						    .groups = (const char *const *) spec->groups,
						    .group_count = strv_count(spec->groups),
						    .spoofing = spec->spoofing },
			      err);
}

int port_publish_name(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		      struct error *err)
{
	int r = 0;

	/* There somebody else gives names and addresses. */
	if (plan->network.driver.kind != DRIVER_BRIDGE)
		return 0;
	r = dns_set_name(net, spec->network->uid, spec->uid, spec->name, &plan->network,
			 &plan->ipv4, &plan->ipv6, err);
	return r < 0 || !plan->network.dhcp ? r : dhcp_set_port(net, spec, plan, err);
}

int port_join(struct net *net, const struct link *interface, const struct link *bridge,
	      struct error *err)
{
	int r = 0;

	if (bridge->index && interface->master != bridge->index)
		r = link_set(net->nl, interface->index,
			     &(struct link_change){ .master = bridge->index });
	return r < 0 ? error_set(err, r, "cannot connect interface %s to %s%s", interface->name,
				 bridge->name, net_detail(net->nl))
		     : 0;
}

int port_measure(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		 const struct link *bridge, const struct link *port, struct error *err)
{
	enum driver_kind driver = plan->network.driver.kind;
	uint32_t mtu = bridge->mtu > port->mtu ? bridge->mtu : port->mtu;
	struct error why = {};
	int r = 0;

	/* Open vSwitch sets up the queues of its ports itself; counts lie on bridges of ours. */
	if (driver == DRIVER_OVS)
		return limit_refuse(&spec->limits, spec->network->driver, err);
	if (driver == DRIVER_BRIDGE)
		r = count_ensure(net, &plan->network, bridge, port, spec->uid, &why);
	/* An instance that is not counted is better than none; count_refused() tells. */
	if (r == -EOPNOTSUPP)
		net->count_refused = true;
	else if (r < 0)
		return error_say(err, r, "%s", why.msg);
	return limit_ensure(net, spec->uid, port, mtu, &spec->limits, err);
}

static int ensure_outside(struct net *net, const struct port_spec *spec,
			  const struct port_plan *plan, int netns_fd, struct error *err)
{
	char name[IF_NAMESIZE];
	struct link_change change = { .alias = spec->uid,
				      .no_link_local = net->ipv6,
				      .hairpin = port_needs_hairpin(net, plan),
				      .up = true };
	struct link bridge, veth;
	bool reused = false;
	int r = port_find_bridge(net, spec, plan, &bridge, err);

	if (r < 0)
		return r;
	name_veth(net->prefix, spec->uid, name);
	r = link_find(net->nl, name, &veth);
	if (r == 0)
		r = reuse_or_remove(net, spec, netns_fd, &veth, &reused, err);
	else if (r == -ENODEV)
		r = 0;
	else
		return error_set(err, r, "cannot look for interface %s%s", name,
				 net_detail(net->nl));
	if (r < 0)
		return r;
	if (reused) {
		change.mtu = port_outside_mtu(plan, &bridge);
		r = port_join(net, &veth, &bridge, err);
		if (r < 0)
			return r;
	} else {
		r = link_add_veth(net->nl,
				  &(struct link_veth){ .name = name,
						       .master = bridge.index,
						       .mtu = port_outside_mtu(plan, &bridge),
						       .peer_name = plan->interface,
						       .peer_netns_fd = netns_fd,
						       .peer_mac = plan->mac });
		if (r == 0)
			r = link_find(net->nl, name, &veth);
		if (r < 0)
			return error_set(err, r, "cannot connect port %s to %s%s", spec->uid,
					 bridge.name, net_detail(net->nl));
	}
	r = port_measure(net, spec, plan, &bridge, &veth, err);
	if (r < 0)
		return r;
	r = link_set(net->nl, veth.index, &change);
	return r < 0 ? error_set(err, r, "cannot set up interface %s%s", name, net_detail(net->nl))
		     : 0;
}

/* Runs inside the container's namespace. */
static int ensure_peer(struct netlink *nl, const struct port_plan *plan, struct error *err)
{
	struct link_change change = { .mtu = plan->network.mtu, .up = true };
	const char *name = plan->interface;
	struct link peer;
	int r = link_find(nl, name, &peer);

	if (r < 0)
		return error_set(err, r, "the instance has no %s", name);
	/* A router of an outside LAN would give it addresses that we know nothing of. */
	if (plan->network.driver.kind != DRIVER_BRIDGE)
		(void) link_sysctl(AF_INET6, name, "accept_ra", "0");
	if (plan->network.subnet6.family) {
		/* No waiting for duplicates, and no routes from whoever claims to be a router. */
		if (plan->ipv6.family)
			(void) link_sysctl(AF_INET6, name, "disable_ipv6", "0");
		(void) link_sysctl(AF_INET6, name, "accept_dad", "0");
		r = link_sysctl(AF_INET6, name, "accept_ra", "0");
		if (r < 0)
			return error_set(err, r, "cannot configure IPv6 of %s", name);
	}
	if (memcmp(peer.mac, plan->mac, sizeof(peer.mac)) != 0)
		change.mac = plan->mac;
	r = link_set(nl, LOOPBACK_INDEX, &(struct link_change){ .up = true });
	if (r < 0)
		return error_set(err, r, "cannot turn on loopback");
	r = link_set(nl, peer.index, &change);
	if (r < 0)
		return error_set(err, r, "cannot turn on %s%s", name, net_detail(nl));
	return peer.index;
}

struct extra {
	const struct port_plan *plan;
	struct route_ip ip; /* one that is not wanted */
};

static void look_for_extra(int link_index, const struct route_ip *ip, void *data)
{
	struct extra *extra = data;

	(void) link_index;
	if (!address_equal(ip, &extra->plan->ipv4) && !address_equal(ip, &extra->plan->ipv6))
		extra->ip = *ip;
}

/* One at a time, as often as an instance may have been given new addresses while it ran. */
static int remove_old_addresses(struct netlink *nl, int index, const struct port_plan *plan)
{
	for (int i = 0; i < 16; i++) {
		struct extra extra = { .plan = plan };
		int r = route_list_addresses(nl, index, look_for_extra, &extra);

		if (r == -EINTR)
			continue;
		if (r < 0 || !extra.ip.family)
			return r;
		r = route_delete_address(nl, index, &extra.ip);
		if (r < 0)
			return r;
	}
	return 0;
}

static void look_for_default(const struct route_line *line, void *data)
{
	struct route_line *found = data;

	if (line->to.prefix == 0 && line->via.family)
		*found = *line;
}

/* An isolated network's router has gone, or its port does not lead out any more. */
static int forget_default(struct netlink *nl, int index, const struct port_plan *plan, int family)
{
	const struct route_ip *own =
		family == AF_INET ? &plan->network.gateway4 : &plan->network.gateway6;
	struct route_line found = {};
	int r;

	if (own->family)
		return 0;
	do
		r = route_line_list(nl, family, index, look_for_default, &found);
	while (r == -EINTR);
	return r < 0 || !found.to.family ? r : route_line_delete(nl, &found);
}

/* Adds what is missing.  Returns 1 when the IPv6 address is new, else 0. */
static int ensure_addresses(struct netlink *nl, int index, const struct port_plan *plan,
			    struct error *err)
{
	/* IPv6 first: the kernel needs a moment for it. */
	const struct route_ip *ips[] = { &plan->ipv6, &plan->ipv4 };
	const struct route_ip *gateways[] = { &plan->gateway6, &plan->gateway4 };
	char text[ADDRESS_TEXT_SIZE];
	int added6 = 0, r = remove_old_addresses(nl, index, plan);

	if (r < 0)
		return error_set(err, r, "cannot remove old addresses%s", net_detail(nl));
	for (size_t i = 0; i < ARRAY_COUNT(ips); i++) {
		if (!ips[i]->family)
			continue;
		r = route_add_address(nl, index, ips[i]);
		if (r < 0)
			return error_set(err, r, "cannot add address %s%s",
					 address_text(ips[i], text), net_detail(nl));
		if (ips[i] == &plan->ipv6)
			added6 = r;
		if (!plan->leads_out || !gateways[i]->family) {
			r = forget_default(nl, index, plan, ips[i]->family);
			if (r < 0)
				return error_set(err, r, "cannot remove the default route%s",
						 net_detail(nl));
			continue;
		}
		r = route_set_default(nl, index, gateways[i]);
		if (r < 0)
			return error_set(err, r, "cannot add the default route by %s%s",
					 address_text(gateways[i], text), net_detail(nl));
	}
	return added6;
}

static int ensure_inside(const struct port_plan *plan, struct error *err)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	AUTO(fd_close) int watch_fd = plan->ipv6.family ? route_watch() : -1;
	int r = netlink_open(NETLINK_ROUTE, &nl), index;

	if (r < 0)
		return error_set(err, r, "cannot open a netlink socket");
	index = ensure_peer(nl, plan, err);
	if (index < 0)
		return index;
	r = ensure_addresses(nl, index, plan, err);
	if (r < 0)
		return r;
	/* Waiting is a courtesy to the first packet; without it that packet may come late. */
	if (r > 0 && watch_fd >= 0)
		(void) route_await(watch_fd, index, &plan->ipv6);
	r = link_settle(nl, plan->interface);
	return r < 0 ? error_set(err, r, "cannot find %s", plan->interface) : 0;
}

/* Both ends are up now: from here on no packet is lost. */
static int settle_outside(struct net *net, const struct port_spec *spec,
			  const struct port_plan *plan, struct error *err)
{
	char veth[IF_NAMESIZE];
	struct link bridge;
	int r;

	name_veth(net->prefix, spec->uid, veth);
	NET_LOCKED(net);
	r = port_find_bridge(net, spec, plan, &bridge, err);
	if (r < 0)
		return r;
	r = link_settle(net->nl, veth);
	if (r == 0 && bridge.index)
		r = link_settle(net->nl, bridge.name);
	return r < 0 ? error_set(err, r, "interfaces %s and %s went away", veth, bridge.name) : 0;
}

int port_enter(int netns_fd, const char *what, struct error *err)
{
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return error_set(err, -errno, "cannot enter the network namespace of port %s",
				 what);
	return 0;
}

void port_leave(struct net *net)
{
	/* This thread has other work afterwards; in the wrong namespace it would do it to a tenant.
	 */
	if (setns(net->self_netns_fd, CLONE_NEWNET) < 0)
		abort();
}

/* The interface exists on both sides. */
static int ensure_interface(struct net *net, const struct port_spec *spec,
			    const struct port_plan *plan, int netns_fd, struct error *err)
{
	int r;

	if (plan->network.driver.kind == DRIVER_MACVLAN)
		return macvlan_ensure(net, spec, plan, netns_fd, err);
	net_lock(net);
	r = ensure_outside(net, spec, plan, netns_fd, err);
	net_unlock(net);
	if (r == 0 && plan->network.driver.kind == DRIVER_OVS)
		r = driver_join_ovs(net, spec, &plan->network.driver, err);
	return r;
}

int port_attach(struct net *net, const struct port_spec *spec, int netns_fd, struct error *err)
{
	struct port_plan plan;
	int r = port_plan(spec, &plan, err);

	if (r < 0)
		return r;
	r = check_foreign(net, netns_fd, err);
	if (r == 0)
		r = port_guard(net, spec, &plan, err);
	if (r == 0)
		r = ensure_interface(net, spec, &plan, netns_fd, err);
	if (r == 0)
		r = port_enter(netns_fd, spec->uid, err);
	if (r < 0)
		return r;
	r = ensure_inside(&plan, err);
	port_leave(net);
	if (r < 0)
		return error_wrap(err, r, "port %s", spec->uid);
	if (plan.network.driver.kind != DRIVER_MACVLAN)
		r = settle_outside(net, spec, &plan, err);
	if (r < 0)
		return r;
	return port_publish_name(net, spec, &plan, err);
}

static int check_uids(const char *network_uid, const char *port_uid, struct error *err)
{
	if (name_is_uid(network_uid) && name_is_uid(port_uid))
		return 0;
	return error_say(err, -EINVAL, "uid: must be 1 to 32 of 0-9 and a-f");
}

int port_detach(struct net *net, const char *network_uid, const char *port_uid, struct error *err)
{
	int r = check_uids(network_uid, port_uid, err);

	if (r == 0)
		r = driver_detach(net, network_uid, port_uid, err);
	if (r == 0)
		r = guard_remove_port(net, port_uid, err);
	if (r < 0)
		return r;
	net_lock(net);
	r = limit_remove(net, port_uid, err);
	net_unlock(net);
	return r < 0 ? r : dns_remove_name(net, network_uid, port_uid, err);
}

static int remove_interface(struct net *net, const char *port_uid, struct error *err)
{
	char name[IF_NAMESIZE];
	struct link link;
	int r;

	name_veth(net->prefix, port_uid, name);
	NET_LOCKED(net);
	r = link_find(net->nl, name, &link);
	if (r == 0 && ((strcmp(link.kind, "veth") != 0 && strcmp(link.kind, "tun") != 0 &&
			strcmp(link.kind, "macvtap") != 0) ||
		       (link.alias[0] && strcmp(link.alias, port_uid) != 0)))
		return error_say(err, -EEXIST, "interface %s exists and does not belong to port %s",
				 name, port_uid);
	if (r == 0)
		r = link_delete(net->nl, link.index);
	return r < 0 && r != -ENODEV ? error_set(err, r, "cannot remove interface %s%s", name,
						 net_detail(net->nl))
				     : 0;
}

int port_remove(struct net *net, const char *network_uid, const char *port_uid, struct error *err)
{
	int r = check_uids(network_uid, port_uid, err);

	/* The instance runs: first what could send, then what keeps it from sending. */
	if (r == 0)
		r = remove_interface(net, port_uid, err);
	return r < 0 ? r : port_detach(net, network_uid, port_uid, err);
}

int port_read_counters(struct net *net, const char *port_uid, struct port_counters *ret)
{
	struct link_counters outside;
	char name[IF_NAMESIZE];
	int r;

	name_veth(net->prefix, port_uid, name);
	net_lock(net);
	r = link_read_counters(net->nl, name, &outside);
	net_unlock(net);
	if (r < 0)
		return r;
	/* What our end of the pair receives is what the instance has sent. */
	*ret = (struct port_counters){ .rx_bytes = outside.tx_bytes,
				       .rx_packets = outside.tx_packets,
				       .rx_dropped = outside.tx_dropped,
				       .tx_bytes = outside.rx_bytes,
				       .tx_packets = outside.rx_packets,
				       .tx_dropped = outside.rx_dropped };
	return 0;
}
