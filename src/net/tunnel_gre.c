#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/netlink.h"
#include "net/address.h"
#include "net/node_internal.h"
#include "net/rules_internal.h"
#include "net/tunnel_internal.h"

/* The GRE devices of a network, one for each remote. */

enum { LIST_ATTEMPTS = 20 };

struct devices {
	const struct net *net;
	const char *network_uid;
	struct link *list;
	size_t count;
};

static void devices_done_autop(struct devices *devices)
{
	free(devices->list);
}

/* One without an alias was left by a crash; then its name has to say whose it is. */
static bool is_ours(const struct devices *devices, const struct link *link)
{
	const char *part = name_of_gre(devices->net->prefix, link->name);

	return part && strcmp(link->alias[0] ? link->alias : part, devices->network_uid) == 0;
}

static int take_device(const struct link *link, void *data)
{
	struct devices *devices = data;

	if (is_ours(devices, link)) {
		devices->list =
			mem_realloc(devices->list, devices->count + 1, sizeof(devices->list[0]));
		devices->list[devices->count++] = *link;
	}
	return 0;
}

static int list_devices(struct net *net, struct devices *ret, struct error *err)
{
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		ret->count = 0;
		r = link_list(net->nl, link_gre_kind(AF_INET), take_device, ret);
		if (r == 0)
			r = link_list(net->nl, link_gre_kind(AF_INET6), take_device, ret);
	}
	return r < 0 ? error_set(err, r, "cannot list interfaces%s", net_detail(net->nl)) : 0;
}

static void name_device(const struct net *net, const char *network_uid,
			const struct route_ip *remote, char ret[IF_NAMESIZE])
{
	char text[ADDRESS_TEXT_SIZE];

	name_gre(net->prefix, network_uid, address_text(remote, text), ret);
}

static int remove_device(struct net *net, const struct link *device, struct error *err)
{
	int r = link_delete(net->nl, device->index);

	return r < 0 && r != -ENODEV ? error_set(err, r, "cannot remove interface %s%s",
						 device->name, net_detail(net->nl))
				     : 0;
}

static bool is_wanted(const struct net *net, const char *network_uid,
		      const struct tunnel_plan *plan, const char *name)
{
	for (size_t i = 0; plan->gre_key && i < plan->remote_count; i++) {
		char wanted[IF_NAMESIZE];

		name_device(net, network_uid, &plan->remotes[i], wanted);
		if (strcmp(wanted, name) == 0)
			return true;
	}
	return false;
}

static int remove_others(struct net *net, const char *network_uid, const struct tunnel_plan *plan,
			 struct error *err)
{
	AUTO(devices_done) struct devices devices = { .net = net, .network_uid = network_uid };
	int r = list_devices(net, &devices, err);

	for (size_t i = 0; r == 0 && i < devices.count; i++)
		if (!is_wanted(net, network_uid, plan, devices.list[i].name))
			r = remove_device(net, &devices.list[i], err);
	return r;
}

/* What has our name: *ret_index 0 when there is none, or none that can stay. */
static int look_for_device(struct net *net, const char *name, const char *uid,
			   const struct link_gre *wanted, int *ret_index, struct error *err)
{
	struct link_gre there;
	struct link device;
	int r = link_find(net->nl, name, &device);

	*ret_index = 0;
	if (r == -ENODEV)
		return 0;
	if (r < 0)
		return error_set(err, r, "cannot look for interface %s%s", name,
				 net_detail(net->nl));
	if (strcmp(device.kind, link_gre_kind(wanted->remote.family)) != 0 ||
	    (device.alias[0] && strcmp(device.alias, uid) != 0))
		return error_say(err, -EEXIST,
				 "interface %s exists and does not belong to network %s", name,
				 uid);
	r = link_read_gre(net->nl, name, &there);
	if (r < 0)
		return error_set(err, r, "cannot look at interface %s%s", name,
				 net_detail(net->nl));
	if (there.key != wanted->key || !address_equal(&there.local, &wanted->local) ||
	    !address_equal(&there.remote, &wanted->remote))
		return remove_device(net, &device, err);
	*ret_index = device.index;
	return 0;
}

static int add_device(struct net *net, const char *name, int bridge_index,
		      const struct link_gre *gre, int *ret_index, struct error *err)
{
	char text[ADDRESS_TEXT_SIZE];
	struct link device;
	int r = link_add_gre(net->nl, name, bridge_index, gre);

	if (r == -EEXIST)
		return error_say(err, r,
				 "this host has a GRE tunnel to %s with key %u already: choose "
				 "another",
				 address_text(&gre->remote, text), gre->key);
	if (r == -EOPNOTSUPP)
		return error_say(err, r,
				 "this kernel has no GRE tunnels%s (module %s): use --kind vxlan",
				 gre->remote.family == AF_INET6 ? " over IPv6" : "",
				 gre->remote.family == AF_INET6 ? "ip6_gre" : "ip_gre");
	if (r == 0)
		r = link_find(net->nl, name, &device);
	if (r < 0)
		return error_set(err, r, "cannot create interface %s%s", name, net_detail(net->nl));
	*ret_index = device.index;
	return 0;
}

static int ensure_remote(struct net *net, const char *network_uid, int bridge_index,
			 const struct link_gre *gre, uint32_t mtu, struct error *err)
{
	char name[IF_NAMESIZE];
	int index = 0, r;

	name_device(net, network_uid, &gre->remote, name);
	r = look_for_device(net, name, network_uid, gre, &index, err);
	if (r == 0 && !index)
		r = add_device(net, name, bridge_index, gre, &index, err);
	if (r < 0)
		return r;
	/* A port of the bridge first, then one of those that are kept apart, then up. */
	r = link_set(net->nl, index,
		     &(struct link_change){ .alias = network_uid,
					    .mtu = mtu,
					    .group = RULES_DEVICES_TUNNEL,
					    .master = bridge_index,
					    .no_link_local = net->ipv6 });
	if (r == 0)
		r = link_split_port(net->nl, index);
	if (r == 0)
		r = link_set(net->nl, index, &(struct link_change){ .up = true });
	return r < 0 ? error_set(err, r, "cannot set up interface %s%s", name, net_detail(net->nl))
		     : 0;
}

/* Over IPv6 a device without an address of its own sends nothing. */
static int choose_local(struct net *net, struct link_gre *gre, struct error *err)
{
	char text[ADDRESS_TEXT_SIZE];
	struct route_way way;
	int r;

	if (gre->local.family || gre->remote.family != AF_INET6)
		return 0;
	r = route_look_up(net->nl, &gre->remote, &way);
	if (r == 0 && !way.source.family)
		r = -EADDRNOTAVAIL;
	if (r < 0)
		return error_set(err, r, "there is no way to peer %s%s",
				 address_text(&gre->remote, text), net_detail(net->nl));
	gre->local = way.source;
	return 0;
}

int tunnel_ensure_gre(struct net *net, const char *network_uid, int bridge_index,
		      const struct tunnel_plan *plan, uint32_t mtu, struct error *err)
{
	int r = remove_others(net, network_uid, plan, err);

	for (size_t i = 0; r == 0 && plan->gre_key && i < plan->remote_count; i++) {
		struct link_gre gre = { .key = plan->gre_key,
					.local = plan->gre_local,
					.remote = plan->remotes[i] };

		r = choose_local(net, &gre, err);
		if (r == 0)
			r = ensure_remote(net, network_uid, bridge_index, &gre, mtu, err);
	}
	return r;
}
