#include "net/driver_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/link_macvlan.h"
#include "kern/netlink.h"
#include "net/node_internal.h"
#include "net/port_internal.h"

enum { HEADER_BYTES = 12, LIST_ATTEMPTS = 20 };

static int explain(struct net *net, int r, const struct link *lower, const struct port_plan *plan,
		   struct error *err)
{
	if (r == -EINVAL && plan->network.driver.mode == MACVLAN_MODE_PASSTHRU)
		return error_say(err, -EBUSY,
				 "uplink %s has a macvlan already: mode passthru takes one port "
				 "only, and shares with nobody",
				 lower->name);
	if (r == -EINVAL)
		return error_say(err, -EBUSY,
				 "uplink %s carries no macvlan now: one in mode passthru has it to "
				 "itself, or its mtu is smaller than %u",
				 lower->name, plan->network.mtu);
	if (r == -EBUSY)
		return error_say(err, r, "uplink %s is taken by another user of its frames",
				 lower->name);
	if (r == -EOPNOTSUPP)
		return error_say(err, r, "this kernel has no macvlan (modules macvlan, macvtap)");
	return error_set(err, r, "cannot make a macvlan on uplink %s%s", lower->name,
			 net_detail(net->nl));
}

/* ---- inside ---- */

/* An interface inside, and the namespace of the node as it is numbered there. */
struct view {
	struct netlink *nl;
	int nsid; /* -1: no interface there leads to the node */
};

static int view_open(struct net *net, struct view *ret, struct error *err)
{
	int r = netlink_open(NETLINK_ROUTE, &ret->nl);

	if (r == 0)
		r = link_nsid(ret->nl, net->self_netns_fd, &ret->nsid);
	return r < 0 ? error_set(err, r, "cannot look at the instance's interfaces") : 0;
}

static void view_done_autop(struct view *view)
{
	netlink_free(view->nl);
}

/* Nothing that is made inside leads out of it. */
static bool is_ours(const struct view *view, const struct link *link)
{
	return strcmp(link->kind, "macvlan") == 0 && view->nsid >= 0 &&
	       link->peer_nsid == view->nsid;
}

/*
 * What a start, or a port of this name that lost its uplink, has left: kept when it is as wanted,
 * else it goes.  *ret_there: nothing has to be made.
 */
static int look_inside(struct net *net, const char *temporary, const struct port_plan *plan,
		       const struct link *lower, bool *ret_there, struct error *err)
{
	AUTO(view_done) struct view view = {};
	uint32_t mode = 0;
	struct link link;
	int r = view_open(net, &view, err);

	if (r < 0)
		return r;
	r = link_find(view.nl, temporary, &link);
	if (r == 0)
		r = link_delete(view.nl, link.index);
	if (r < 0 && r != -ENODEV)
		return error_set(err, r, "cannot remove the old interface %s%s", temporary,
				 net_detail(view.nl));
	r = link_find(view.nl, plan->interface, &link);
	if (r == -ENODEV)
		return 0;
	if (r == 0 && !is_ours(&view, &link))
		return error_say(err, -EEXIST, "the instance has an interface %s of its own",
				 plan->interface);
	if (r == 0)
		r = link_read_macvlan(view.nl, plan->interface, &mode);
	if (r == 0 && link.peer_index == lower->index && mode == plan->network.driver.mode) {
		*ret_there = true;
		return 0;
	}
	if (r == 0)
		r = link_delete(view.nl, link.index);
	return r < 0 && r != -ENODEV ? error_set(err, r, "cannot remove the old interface %s%s",
						 plan->interface, net_detail(view.nl))
				     : 0;
}

static int rename_inside(const char *temporary, const struct port_plan *plan, struct error *err)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	struct link link;
	int r = netlink_open(NETLINK_ROUTE, &nl);

	if (r == 0)
		r = link_find(nl, temporary, &link);
	if (r == 0)
		r = link_set(nl, link.index, &(struct link_change){ .name = plan->interface });
	return r < 0 ? error_set(err, r, "cannot call the interface %s", plan->interface) : 0;
}

static int add_inside(struct net *net, const char *temporary, const struct port_plan *plan,
		      const struct link *lower, int netns_fd, struct error *err)
{
	int r;

	NET_LOCKED(net);
	r = link_add_macvlan(net->nl, temporary,
			     &(struct link_macvlan){ .lower = lower->index,
						     .mode = plan->network.driver.mode,
						     .mtu = plan->network.mtu,
						     .mac = plan->mac,
						     .netns_fd = netns_fd });
	return r < 0 ? explain(net, r, lower, plan, err) : 0;
}

/*
 * It is born with a name that nobody has on either side: the kernel looks for it in the node's
 * namespace as well, which may have an eth0 of its own.
 */
int macvlan_ensure(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		   int netns_fd, struct error *err)
{
	char temporary[IF_NAMESIZE];
	struct link lower;
	bool there = false;
	int r;

	name_veth(net->prefix, spec->uid, temporary);
	net_lock(net);
	r = driver_find_uplink(net, &plan->network.driver, &lower, err);
	net_unlock(net);
	if (r == 0)
		r = port_enter(netns_fd, spec->uid, err);
	if (r < 0)
		return r;
	r = look_inside(net, temporary, plan, &lower, &there, err);
	port_leave(net);
	if (r < 0 || there)
		return r;
	r = add_inside(net, temporary, plan, &lower, netns_fd, err);
	if (r == 0)
		r = port_enter(netns_fd, spec->uid, err);
	if (r < 0)
		return r;
	r = rename_inside(temporary, plan, err);
	port_leave(net);
	return r;
}

/* The names of interfaces inside that are the port's, whatever its instance has made of them. */
struct search {
	struct view view;
	const char *interface;
	uint8_t mac[LINK_MAC_SIZE];
	char **names;
};

static void search_done_autop(struct search *search)
{
	netlink_free(search->view.nl);
	strv_free(search->names);
}

static int take_own(const struct link *link, void *data)
{
	struct search *search = data;

	if (is_ours(&search->view, link) &&
	    (strcmp(link->name, search->interface) == 0 ||
	     memcmp(link->mac, search->mac, sizeof(link->mac)) == 0))
		strv_append(&search->names, link->name);
	return 0;
}

static int remove_inside(struct net *net, const char *interface, const char *mac, struct error *err)
{
	AUTO(search_done) struct search search = { .interface = interface };
	int r = view_open(net, &search.view, err);

	if (r < 0)
		return r;
	(void) name_parse_mac(mac, search.mac);
	r = -EINTR;
	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		strv_free(search.names);
		search.names = NULL;
		r = link_list(search.view.nl, "macvlan", take_own, &search);
	}
	for (size_t i = 0; r == 0 && i < strv_count(search.names); i++) {
		struct link link;

		r = link_find(search.view.nl, search.names[i], &link);
		if (r == 0)
			r = link_delete(search.view.nl, link.index);
		if (r == -ENODEV)
			r = 0;
	}
	return r < 0 ? error_set(err, r, "cannot remove the instance's interface %s", interface)
		     : 0;
}

int port_remove_inside(struct net *net, const char *interface, const char *mac, int netns_fd,
		       struct error *err)
{
	int r = port_enter(netns_fd, interface, err);

	if (r < 0)
		return r;
	r = remove_inside(net, interface, mac, err);
	port_leave(net);
	return r;
}

/* ---- machines ---- */

/*
 * devtmpfs shows /dev/tapINDEX, and interfaces of several namespaces may have the same index there:
 * so it is asked whose it is.
 */
static int open_node(const struct link *tap, int *ret_fd, struct error *err)
{
	AUTO(free) char *path = mem_printf("/dev/tap%d", tap->index);
	AUTO(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR }, own = {};
	int size = HEADER_BYTES;

	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		return error_say(err, -ENODEV,
				 "driver macvlan: this host shows no %s, which a virtual machine "
				 "needs there; run it as a container, or use driver bridge",
				 path);
	if (fd < 0)
		return error_set(err, -errno, "cannot open %s", path);
	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 ||
	    ioctl(fd, TUNGETIFF, &own) < 0)
		return error_set(err, -errno, "cannot set up %s", path);
	if (strncmp(own.ifr_name, tap->name, sizeof(own.ifr_name)) != 0)
		return error_say(err, -ENODEV,
				 "driver macvlan: %s belongs to another network namespace of this "
				 "host; run it as a container, or use driver bridge",
				 path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int set_up_tap(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		      struct link *tap, struct error *err)
{
	struct link_change change = {
		.alias = spec->uid, .mtu = plan->network.mtu, .no_link_local = net->ipv6, .up = true
	};
	int r;

	/* One of mode passthru is born with its uplink's. */
	if (memcmp(tap->mac, plan->mac, sizeof(tap->mac)) != 0)
		change.mac = plan->mac;
	r = link_set(net->nl, tap->index, &change);
	return r < 0 ? error_set(err, r, "cannot set up interface %s%s", tap->name,
				 net_detail(net->nl))
		     : 0;
}

/* One of an earlier run goes, even if it is right: its monitor may still be ending. */
static int remake_tap(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		      struct link *ret, struct error *err)
{
	char name[IF_NAMESIZE];
	struct link lower;
	int r;

	name_veth(net->prefix, spec->uid, name);
	r = driver_find_uplink(net, &plan->network.driver, &lower, err);
	if (r < 0)
		return r;
	r = link_find(net->nl, name, ret);
	if (r == 0 && strcmp(ret->kind, "macvtap") != 0)
		return error_say(err, -EEXIST, "interface %s exists and does not belong to port %s",
				 name, spec->uid);
	if (r == 0)
		r = link_delete(net->nl, ret->index);
	if (r < 0 && r != -ENODEV)
		return error_set(err, r, "cannot remove the old interface %s%s", name,
				 net_detail(net->nl));
	r = link_add_macvlan(net->nl, name,
			     &(struct link_macvlan){ .lower = lower.index,
						     .mode = plan->network.driver.mode,
						     .mtu = plan->network.mtu,
						     .mac = plan->mac,
						     .tap = true,
						     .netns_fd = -1 });
	if (r < 0)
		return explain(net, r, &lower, plan, err);
	r = link_find(net->nl, name, ret);
	return r < 0 ? error_set(err, r, "the machine's interface %s%s", name, net_detail(net->nl))
		     : set_up_tap(net, spec, plan, ret, err);
}

int macvlan_open_tap(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		     int *ret_fd, struct error *err)
{
	struct link tap;
	int r;

	NET_LOCKED(net);
	r = remake_tap(net, spec, plan, &tap, err);
	if (r < 0)
		return r;
	r = open_node(&tap, ret_fd, err);
	if (r < 0)
		(void) link_delete(net->nl, tap.index);
	return r;
}

int macvlan_attach_tap(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		       struct error *err)
{
	char name[IF_NAMESIZE];
	struct link tap;
	int r;

	name_veth(net->prefix, spec->uid, name);
	NET_LOCKED(net);
	r = link_find(net->nl, name, &tap);
	if (r == -ENODEV)
		return error_say(err, r,
				 "the machine's interface went with its uplink %s; its next start "
				 "makes another",
				 plan->network.driver.uplink);
	return r < 0 ? error_set(err, r, "the machine's interface %s%s", name, net_detail(net->nl))
		     : set_up_tap(net, spec, plan, &tap, err);
}
