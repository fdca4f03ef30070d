#include "net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "kern/netlink.h"
#include "net/address.h"
#include "net/node_internal.h"
#include "net/port_internal.h"

enum { HEADER_BYTES = 12 };

/* Left over from an earlier run, whose monitor is just ending. */
static int remove_old(struct net *net, const char *name, const char *uid, struct error *err)
{
	struct link link;
	int r = link_find(net->nl, name, &link);

	if (r == -ENODEV)
		return 0;
	if (r == 0 &&
	    (strcmp(link.kind, "tun") != 0 || (link.alias[0] && strcmp(link.alias, uid) != 0)))
		return error_say(err, -EEXIST, "interface %s exists and does not belong to port %s",
				 name, uid);
	if (r == 0)
		r = link_delete(net->nl, link.index);
	return r < 0 && r != -ENODEV ? error_set(err, r, "cannot remove the old interface %s%s",
						 name, net_detail(net->nl))
				     : 0;
}

static int make(const char *name, int *ret_fd, struct error *err)
{
	AUTO(fd_close) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int size = HEADER_BYTES;

	if (fd < 0)
		return error_set(err, -errno, "cannot open /dev/net/tun");
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return error_set(err, -errno, "cannot make the tap device %s", name);
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
		return error_set(err, -errno, "cannot set up the tap device %s", name);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* On the bridge, up, and known as the instance's. */
static int join(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		struct error *err)
{
	char name[IF_NAMESIZE];
	struct link_change change = { .alias = spec->uid, .no_link_local = net->ipv6, .up = true };
	struct link bridge, tap;
	int r = port_find_bridge(net, spec, plan, &bridge, err);

	if (r < 0)
		return r;
	change.mtu = port_outside_mtu(plan, &bridge);
	name_veth(net->prefix, spec->uid, name);
	r = link_find(net->nl, name, &tap);
	if (r < 0)
		return error_set(err, r, "the machine's interface %s%s", name, net_detail(net->nl));
	r = port_join(net, &tap, &bridge, err);
	if (r == 0)
		r = port_measure(net, spec, plan, &bridge, &tap, err);
	if (r < 0)
		return r;
	/* Only a port of a bridge can have this. */
	change.hairpin = port_needs_hairpin(net, plan);
	r = link_set(net->nl, tap.index, &change);
	if (r == 0)
		r = link_settle(net->nl, name);
	if (r == 0 && bridge.index)
		r = link_settle(net->nl, bridge.name);
	return r < 0 ? error_set(err, r, "cannot set up interface %s%s", name, net_detail(net->nl))
		     : 0;
}

static void put_address(const struct route_ip *ip, char *ret, size_t size)
{
	char text[ADDRESS_TEXT_SIZE];

	if (ip->family)
		snprintf(ret, size, "%s/%u", address_text(ip, text), ip->prefix);
}

static int make_tap(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		    int *ret_fd, struct error *err)
{
	AUTO(fd_close) int fd = -1;
	char name[IF_NAMESIZE];
	int r;

	name_veth(net->prefix, spec->uid, name);
	net_lock(net);
	r = remove_old(net, name, spec->uid, err);
	if (r == 0)
		r = make(name, &fd, err);
	if (r == 0)
		r = join(net, spec, plan, err);
	net_unlock(net);
	if (r == 0 && plan->network.driver.kind == DRIVER_OVS)
		r = driver_join_ovs(net, spec, &plan->network.driver, err);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

static void describe(const struct port_plan *plan, struct tap_facts *ret)
{
	*ret = (struct tap_facts){ .mtu = (uint16_t) plan->network.mtu };
	memcpy(ret->mac, plan->mac, sizeof(ret->mac));
	put_address(&plan->ipv4, ret->ipv4, sizeof(ret->ipv4));
	put_address(&plan->ipv6, ret->ipv6, sizeof(ret->ipv6));
}

int tap_describe(const struct port_spec *spec, struct tap_facts *ret, struct error *err)
{
	struct port_plan plan;
	int r = port_plan(spec, &plan, err);

	if (r == 0)
		describe(&plan, ret);
	return r;
}

int tap_open(struct net *net, const struct port_spec *spec, int *ret_fd, struct tap_facts *ret,
	     struct error *err)
{
	struct port_plan plan;
	int fd = -1, r = port_plan(spec, &plan, err);

	if (r == 0)
		r = port_guard(net, spec, &plan, err);
	if (r < 0)
		return r;
	r = plan.network.driver.kind == DRIVER_MACVLAN
		    ? macvlan_open_tap(net, spec, &plan, &fd, err)
		    : make_tap(net, spec, &plan, &fd, err);
	if (r < 0)
		return r;
	describe(&plan, ret);
	*ret_fd = fd;
	return 0;
}

int tap_attach(struct net *net, const struct port_spec *spec, struct error *err)
{
	struct port_plan plan;
	int r = port_plan(spec, &plan, err);

	if (r == 0)
		r = port_guard(net, spec, &plan, err);
	if (r < 0)
		return r;
	if (plan.network.driver.kind == DRIVER_MACVLAN)
		return macvlan_attach_tap(net, spec, &plan, err);
	net_lock(net);
	r = join(net, spec, &plan, err);
	net_unlock(net);
	if (r == 0 && plan.network.driver.kind == DRIVER_OVS)
		r = driver_join_ovs(net, spec, &plan.network.driver, err);
	if (r < 0)
		return r;
	return port_publish_name(net, spec, &plan, err);
}
