#include "net/tunnel_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/netlink.h"
#include "net/address.h"
#include "net/node_internal.h"
#include "net/rules_internal.h"

/* Ethernet, VXLAN, UDP and IP around each frame; or GRE with its key. */
enum {
	OVERHEAD4 = 14 + 8 + 8 + 20,
	OVERHEAD6 = 14 + 8 + 8 + 40,
	OVERHEAD_GRE4 = 14 + 8 + 20,
	OVERHEAD_GRE6 = 14 + 8 + 40,
	LIST_ATTEMPTS = 20,
};

static int plan_remotes(const struct tunnel_spec *spec, struct tunnel_plan *plan, struct error *err)
{
	for (size_t i = 0; spec->remotes && spec->remotes[i]; i++) {
		struct route_ip remote;

		if (i == TUNNEL_REMOTES_MAX)
			return error_say(err, -EINVAL, "a network has at most %d peers",
					 TUNNEL_REMOTES_MAX);
		if (address_parse(spec->remotes[i], &remote) < 0)
			return error_say(err, -EINVAL, "peer '%.64s': must be an IP address",
					 spec->remotes[i]);
		if (i > 0 && remote.family != plan->remotes[0].family)
			return error_say(
				err, -EINVAL,
				"peer '%.64s': all peers of a network must be IPv4, or all IPv6",
				spec->remotes[i]);
		plan->remotes[plan->remote_count++] = remote;
	}
	return 0;
}

static int plan_gre(const struct tunnel_spec *spec, struct tunnel_plan *ret, struct error *err)
{
	struct tunnel_plan plan = { .gre_key = spec->vni };
	int r = plan_remotes(spec, &plan, err);

	if (r < 0)
		return r;
	if (spec->local && spec->local[0] &&
	    (address_parse(spec->local, &plan.gre_local) < 0 ||
	     (plan.remote_count > 0 && plan.gre_local.family != plan.remotes[0].family)))
		return error_say(err, -EINVAL,
				 "tunnel address '%.64s': must be an IP address of the peers' kind",
				 spec->local);
	if (spec->port)
		return error_say(err, -EINVAL, "port %u: GRE has no ports", spec->port);
	*ret = plan;
	return 0;
}

int tunnel_plan(const struct tunnel_spec *spec, struct tunnel_plan *ret, struct error *err)
{
	struct tunnel_plan plan = { .vxlan = { .vni = spec->vni,
					       .port = spec->port ? spec->port
								  : TUNNEL_PORT_DEFAULT,
					       .learning = true } };
	int r;

	if (spec->vni == 0) {
		*ret = (struct tunnel_plan){};
		return 0;
	}
	if (spec->gre)
		return plan_gre(spec, ret, err);
	if (spec->vni > LINK_VNI_MAX)
		return error_say(err, -EINVAL, "vni %u: must be 1 to %d", spec->vni, LINK_VNI_MAX);
	r = plan_remotes(spec, &plan, err);
	if (r < 0)
		return r;
	if (plan.remote_count > 0)
		plan.vxlan.ipv6 = plan.remotes[0].family == AF_INET6;
	if (spec->local && spec->local[0]) {
		if (address_parse(spec->local, &plan.vxlan.local) < 0 ||
		    (plan.remote_count > 0 && plan.vxlan.local.family != plan.remotes[0].family))
			return error_say(
				err, -EINVAL,
				"tunnel address '%.64s': must be an IP address of the peers' kind",
				spec->local);
		plan.vxlan.ipv6 = plan.vxlan.local.family == AF_INET6;
	}
	*ret = plan;
	return 0;
}

int tunnel_read_mtu(struct net *net, const struct tunnel_plan *plan, uint32_t *ret,
		    struct error *err)
{
	bool ipv6 = plan->remote_count > 0 && plan->remotes[0].family == AF_INET6;
	uint32_t overhead = plan->gre_key ? (ipv6 ? OVERHEAD_GRE6 : OVERHEAD_GRE4)
			    : ipv6        ? OVERHEAD6
					  : OVERHEAD4;
	uint32_t mtu = NETWORK_MTU_MAX;
	char text[ADDRESS_TEXT_SIZE];

	for (size_t i = 0; i < plan->remote_count; i++) {
		struct route_way way;
		struct link link;
		uint32_t inside;
		int r = route_look_up(net->nl, &plan->remotes[i], &way);

		if (r == 0)
			r = link_find_index(net->nl, way.link_index, &link);
		if (r < 0)
			return error_set(err, r, "there is no way to peer %s%s",
					 address_text(&plan->remotes[i], text),
					 net_detail(net->nl));
		inside = way.mtu && way.mtu < link.mtu ? way.mtu : link.mtu;
		inside = inside > overhead ? inside - overhead : 0;
		mtu = inside < mtu ? inside : mtu;
	}
	*ret = mtu;
	return 0;
}

static bool is_same(const struct link_vxlan *a, const struct link_vxlan *b)
{
	return a->vni == b->vni && a->port == b->port && a->ipv6 == b->ipv6 &&
	       a->learning == b->learning && address_equal(&a->local, &b->local);
}

static int remove_device(struct net *net, const struct link *device, struct error *err)
{
	int r = link_delete(net->nl, device->index);

	return r < 0 && r != -ENODEV ? error_set(err, r, "cannot remove interface %s%s",
						 device->name, net_detail(net->nl))
				     : 0;
}

/* What has our name: *ret_index 0 when there is none, or none that can stay. */
static int look_for_device(struct net *net, const char *name, const char *uid,
			   const struct tunnel_plan *plan, int *ret_index, struct error *err)
{
	struct link_vxlan there = {};
	struct link device;
	int r = link_find(net->nl, name, &device);

	*ret_index = 0;
	if (r == -ENODEV)
		return 0;
	if (r < 0)
		return error_set(err, r, "cannot look for interface %s%s", name,
				 net_detail(net->nl));
	if (strcmp(device.kind, "vxlan") != 0 ||
	    (device.alias[0] && strcmp(device.alias, uid) != 0))
		return error_say(err, -EEXIST,
				 "interface %s exists and does not belong to network %s", name,
				 uid);
	r = link_read_vxlan(net->nl, name, &there);
	if (r < 0)
		return error_set(err, r, "cannot look at interface %s%s", name,
				 net_detail(net->nl));
	if (plan->vxlan.vni == 0 || !is_same(&there, &plan->vxlan))
		return remove_device(net, &device, err);
	*ret_index = device.index;
	return 0;
}

static int add_device(struct net *net, const char *name, int bridge_index,
		      const struct tunnel_plan *plan, int *ret_index, struct error *err)
{
	struct link device;
	int r = link_add_vxlan(net->nl, name, bridge_index, &plan->vxlan);

	if (r == -EEXIST)
		return error_say(err, r,
				 "this host has a VXLAN device with vni %u at port %u already: "
				 "choose another",
				 plan->vxlan.vni, plan->vxlan.port);
	if (r == -EOPNOTSUPP)
		return error_say(err, r, "this kernel has no VXLAN (module vxlan)");
	if (r == 0)
		r = link_find(net->nl, name, &device);
	if (r < 0)
		return error_set(err, r, "cannot create interface %s%s", name, net_detail(net->nl));
	*ret_index = device.index;
	return 0;
}

struct lines {
	const struct tunnel_plan *plan;
	bool seen[TUNNEL_REMOTES_MAX];
	struct link_fdb *extra; /* that lead to nobody we know */
	size_t extra_count;
};

static void lines_done_autop(struct lines *lines)
{
	free(lines->extra);
}

static const uint8_t everybody[LINK_MAC_SIZE];

static void look_at_line(const struct link_fdb *line, void *data)
{
	struct lines *lines = data;

	for (size_t i = 0; i < lines->plan->remote_count; i++) {
		if (memcmp(lines->plan->remotes[i].bytes, line->remote.bytes,
			   sizeof(line->remote.bytes)) != 0)
			continue;
		if (memcmp(line->mac, everybody, sizeof(everybody)) == 0)
			lines->seen[i] = true;
		return;
	}
	lines->extra = mem_realloc(lines->extra, lines->extra_count + 1, sizeof(lines->extra[0]));
	lines->extra[lines->extra_count++] = *line;
}

static int ensure_lines(struct net *net, const char *name, int index,
			const struct tunnel_plan *plan, struct error *err)
{
	AUTO(lines_done) struct lines lines = { .plan = plan };
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		lines_done_autop(&lines);
		lines = (struct lines){ .plan = plan };
		r = link_fdb_list(net->nl, index, look_at_line, &lines);
	}
	for (size_t i = 0; i < lines.extra_count && r == 0; i++)
		r = link_fdb_delete(net->nl, index, &lines.extra[i]);
	for (size_t i = 0; i < plan->remote_count && r == 0; i++)
		if (!lines.seen[i])
			r = link_fdb_add(net->nl, index,
					 &(struct link_fdb){ .remote = plan->remotes[i] });
	return r < 0 ? error_set(err, r, "cannot set up the forwarding table of %s%s", name,
				 net_detail(net->nl))
		     : 0;
}

static int ensure_vxlan(struct net *net, const char *network_uid, int bridge_index,
			const struct tunnel_plan *plan, uint32_t mtu, struct error *err)
{
	char name[IF_NAMESIZE];
	int index, r;

	name_tunnel(net->prefix, network_uid, name);
	r = look_for_device(net, name, network_uid, plan, &index, err);
	if (r < 0 || plan->vxlan.vni == 0)
		return r;
	if (!index)
		r = add_device(net, name, bridge_index, plan, &index, err);
	if (r < 0)
		return r;
	/* The table first: a device that is up sends to those who may hear it. */
	r = ensure_lines(net, name, index, plan, err);
	if (r < 0)
		return r;
	r = link_set(net->nl, index,
		     &(struct link_change){ .alias = network_uid,
					    .mtu = mtu,
					    .group = RULES_DEVICES_TUNNEL,
					    .master = bridge_index,
					    .no_link_local = net->ipv6,
					    .up = true });
	return r < 0 ? error_set(err, r, "cannot set up interface %s%s", name, net_detail(net->nl))
		     : 0;
}

int tunnel_ensure(struct net *net, const char *network_uid, int bridge_index,
		  const struct tunnel_plan *plan, uint32_t mtu, struct error *err)
{
	int r = ensure_vxlan(net, network_uid, bridge_index, plan, mtu, err);

	return r < 0 ? r : tunnel_ensure_gre(net, network_uid, bridge_index, plan, mtu, err);
}
