#include "net/driver_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "kern/netlink.h"
#include "net/network_internal.h"
#include "net/node_internal.h"
#include "net/ovs_internal.h"
#include "net/port.h"

enum { MTU_DEFAULT = 1500, MTU_MIN4 = 576, MTU_MIN6 = 1280 };

static const char *const driver_names[] = {
	[DRIVER_BRIDGE] = "bridge",
	[DRIVER_MACVLAN] = "macvlan",
	[DRIVER_PHYSICAL] = "physical",
	[DRIVER_OVS] = "ovs",
};

static const struct {
	const char *name;
	uint32_t value;
} modes[] = {
	{ "bridge", MACVLAN_MODE_BRIDGE },
	{ "private", MACVLAN_MODE_PRIVATE },
	{ "vepa", MACVLAN_MODE_VEPA },
	{ "passthru", MACVLAN_MODE_PASSTHRU },
};

static bool is_given(const char *text)
{
	return text && text[0];
}

static bool is_interface(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";

	return strnlen(text, IF_NAMESIZE) < IF_NAMESIZE && text[0] != '.' &&
	       text[strspn(text, allowed)] == '\0';
}

static int plan_mode(const char *mode, struct driver_plan *plan, struct error *err)
{
	if (plan->kind != DRIVER_MACVLAN)
		return is_given(mode)
			       ? error_say(err, -EINVAL,
					   "mode '%.32s': only driver macvlan has modes", mode)
			       : 0;
	for (size_t i = 0; i < ARRAY_COUNT(modes); i++)
		if (strcmp(is_given(mode) ? mode : "bridge", modes[i].name) == 0) {
			plan->mode = modes[i].value;
			return 0;
		}
	return error_say(err, -EINVAL, "mode '%.32s': must be private, vepa, bridge or passthru",
			 mode);
}

int driver_plan(const struct bridge_spec *spec, struct driver_plan *ret, struct error *err)
{
	struct driver_plan plan = { .uplink = is_given(spec->uplink) ? spec->uplink : "" };
	const char *name = is_given(spec->driver) ? spec->driver : "bridge";
	size_t kind = 0;
	int r;

	while (kind < ARRAY_COUNT(driver_names) && strcmp(driver_names[kind], name) != 0)
		kind++;
	if (kind == ARRAY_COUNT(driver_names))
		return error_say(err, -EINVAL,
				 "driver '%.32s': must be bridge, macvlan, physical or ovs", name);
	plan.kind = kind;
	r = plan_mode(spec->mode, &plan, err);
	if (r < 0)
		return r;
	if (!is_interface(plan.uplink))
		return error_say(err, -EINVAL, "uplink '%.32s': is not the name of an interface",
				 plan.uplink);
	if (plan.kind == DRIVER_BRIDGE && plan.uplink[0])
		return error_say(err, -EINVAL, "uplink '%s': driver bridge has none", plan.uplink);
	if ((plan.kind == DRIVER_MACVLAN || plan.kind == DRIVER_PHYSICAL) && !plan.uplink[0])
		return error_say(err, -EINVAL, "driver %s needs an uplink", name);
	if (plan.kind != DRIVER_BRIDGE && (spec->nat || spec->isolated || spec->tunnel.vni))
		return error_say(
			err, -EINVAL,
			"driver %s has no address translation, isolation or tunnels; driver "
			"bridge has",
			name);
	*ret = plan;
	return 0;
}

/* ---- uplinks ---- */

static int check_physical(const struct link *uplink, struct error *err)
{
	if (strcmp(uplink->kind, "bridge") == 0)
		return 0;
	if (strcmp(uplink->kind, "openvswitch") == 0)
		return error_say(err, -EINVAL,
				 "uplink %s is a bridge of Open vSwitch: use driver ovs",
				 uplink->name);
	return error_say(err, -EINVAL,
			 "uplink %s is not a bridge, which driver physical needs; for a plain "
			 "interface use driver macvlan",
			 uplink->name);
}

static int check_macvlan(const struct link *uplink, struct error *err)
{
	if (uplink->flags & IFF_LOOPBACK)
		return error_say(err, -EINVAL, "uplink %s leads nowhere", uplink->name);
	if (strcmp(uplink->kind, "macvlan") == 0 || strcmp(uplink->kind, "macvtap") == 0)
		return error_say(err, -EINVAL,
				 "uplink %s is a macvlan itself: name the interface below it",
				 uplink->name);
	if (uplink->master)
		return error_say(err, -EBUSY,
				 "uplink %s is a port of a bridge or a bond, which has it to "
				 "itself; name that, or use driver physical with the bridge",
				 uplink->name);
	return 0;
}

int driver_find_uplink(struct net *net, const struct driver_plan *plan, struct link *ret,
		       struct error *err)
{
	const char *name = plan->uplink;
	int r;

	if (name_of_bridge(net->prefix, name) || name_of_veth(net->prefix, name) ||
	    name_of_tunnel(net->prefix, name))
		return error_say(err, -EINVAL, "uplink %s is brume's own, and leads nowhere else",
				 name);
	r = link_find(net->nl, name, ret);
	if (r == -ENODEV)
		return error_say(err, r, "uplink %s: the node has no such interface (any more)",
				 name);
	if (r < 0)
		return error_set(err, r, "cannot look for uplink %s%s", name, net_detail(net->nl));
	r = plan->kind == DRIVER_PHYSICAL ? check_physical(ret, err) : check_macvlan(ret, err);
	if (r < 0)
		return r;
	if (!(ret->flags & IFF_UP))
		return error_say(err, -ENETDOWN,
				 "uplink %s is down; 'ip link set %s up' turns it on", name, name);
	return 0;
}

static int choose_mtu(struct network_plan *plan, const char *uplink, uint32_t most,
		      struct error *err)
{
	uint32_t least = plan->subnet6.family ? MTU_MIN6 : MTU_MIN4;

	if (plan->mtu > most)
		return error_say(err, -EMSGSIZE,
				 "mtu %u: uplink %s has %u; ask for that or less, or for none",
				 plan->mtu, uplink, most);
	if (plan->mtu == 0)
		plan->mtu = most;
	if (plan->mtu < least)
		return error_say(err, -EMSGSIZE, "uplink %s has an mtu of %u, and %u are needed",
				 uplink, plan->mtu, least);
	return 0;
}

/* ---- Open vSwitch ---- */

/* RUN/networks/UID/ovs says that the network's ports are to be taken away there, too. */
static bool is_ovs(const struct net *net, const char *network_uid)
{
	AUTO(free) char *path = mem_printf("%s/ovs", network_uid);

	return faccessat(net->networks_dir_fd, path, F_OK, 0) == 0;
}

static int remember_ovs(const struct net *net, const char *network_uid, const char *bridge,
			struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/ovs", network_uid);
	int r;

	if (mkdirat(net->networks_dir_fd, network_uid, 0755) < 0 && errno != EEXIST)
		return error_set(err, -errno, "cannot create %s/%s", net->networks_dir,
				 network_uid);
	if (is_ovs(net, network_uid))
		return 0;
	r = file_write_atomic(net->networks_dir_fd, path, bridge, strlen(bridge), 0644, false);
	return r < 0 ? error_set(err, r, "cannot write %s/%s", net->networks_dir, path) : 0;
}

static void ovs_name(const struct net *net, const char *network_uid, const struct driver_plan *plan,
		     char ret[IF_NAMESIZE])
{
	if (plan->uplink[0])
		memcpy(ret, plan->uplink, strlen(plan->uplink) + 1);
	else
		name_bridge(net->prefix, network_uid, ret);
}

static int ensure_ovs(struct net *net, const struct bridge_spec *spec, struct network_plan *plan,
		      struct bridge_status *ret, struct error *err)
{
	bool own = !plan->driver.uplink[0];
	struct link link;
	int r;

	ovs_name(net, spec->uid, &plan->driver, ret->bridge);
	/* First, so that what is half made is removed. */
	r = remember_ovs(net, spec->uid, ret->bridge, err);
	if (r == 0)
		r = own ? ovs_ensure_bridge(net, ret->bridge, spec->uid, err)
			: ovs_find_bridge(net, ret->bridge, err);
	if (r < 0)
		return r;
	NET_LOCKED(net);
	r = link_find(net->nl, ret->bridge, &link);
	if (r < 0)
		return error_set(err, r, "Open vSwitch has made no interface %s%s", ret->bridge,
				 net_detail(net->nl));
	ret->uplink.index = link.index;
	return choose_mtu(plan, ret->bridge, own ? (plan->mtu ? plan->mtu : MTU_DEFAULT) : link.mtu,
			  err);
}

int driver_join_ovs(struct net *net, const struct port_spec *spec, const struct driver_plan *plan,
		    struct error *err)
{
	char bridge[IF_NAMESIZE], interface[IF_NAMESIZE];

	ovs_name(net, spec->network->uid, plan, bridge);
	name_veth(net->prefix, spec->uid, interface);
	return ovs_ensure_port(net, bridge, interface, spec->network->uid, spec->uid, err);
}

/* ---- any of them ---- */

static int ensure_uplink(struct net *net, struct network_plan *plan, struct bridge_status *ret,
			 struct error *err)
{
	struct link link;
	int r;

	NET_LOCKED(net);
	r = driver_find_uplink(net, &plan->driver, &link, err);
	if (r == 0)
		r = choose_mtu(plan, link.name, link.mtu, err);
	if (r < 0)
		return r;
	ret->uplink = (struct uplink_status){ .index = link.index, .mtu = link.mtu, .up = true };
	if (plan->driver.kind == DRIVER_PHYSICAL)
		memcpy(ret->bridge, link.name, sizeof(link.name));
	return 0;
}

int driver_ensure(struct net *net, const struct bridge_spec *spec, struct network_plan *plan,
		  struct bridge_status *ret, struct error *err)
{
	struct bridge_status status = {};
	int r = plan->driver.kind == DRIVER_OVS ? ensure_ovs(net, spec, plan, &status, err)
						: ensure_uplink(net, plan, &status, err);

	if (r < 0)
		return r;
	status.mtu = plan->mtu;
	*ret = status;
	return 0;
}

int driver_remove(struct net *net, const char *network_uid, struct error *err)
{
	char name[IF_NAMESIZE];

	if (!is_ovs(net, network_uid))
		return 0;
	name_bridge(net->prefix, network_uid, name);
	return ovs_remove_bridge(net, name, err);
}

/* A machine's macvtap does not end with its descriptor. */
static int remove_macvtap(struct net *net, const char *port_uid, struct error *err)
{
	char name[IF_NAMESIZE];
	struct link link;
	int r;

	name_veth(net->prefix, port_uid, name);
	NET_LOCKED(net);
	r = link_find(net->nl, name, &link);
	if (r == 0 && strcmp(link.kind, "macvtap") == 0)
		r = link_delete(net->nl, link.index);
	return r < 0 && r != -ENODEV ? error_set(err, r, "cannot remove interface %s%s", name,
						 net_detail(net->nl))
				     : 0;
}

int driver_detach(struct net *net, const char *network_uid, const char *port_uid, struct error *err)
{
	char name[IF_NAMESIZE];
	int r = remove_macvtap(net, port_uid, err);

	if (r < 0 || !is_ovs(net, network_uid))
		return r;
	name_veth(net->prefix, port_uid, name);
	return ovs_remove_port(net, name, err);
}
