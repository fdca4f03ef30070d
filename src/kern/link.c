#include "kern/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "kern/netlink.h"

/* From linux/if_link.h's enum in6_addr_gen_mode. */
enum { ADDR_GEN_MODE_NONE = 1 };

static struct ifinfomsg *begin(struct netlink *nl, uint16_t type, uint16_t flags,
			       struct nlmsghdr **ret)
{
	*ret = netlink_begin(nl, type, flags);
	return mnl_nlmsg_put_extra_header(*ret, sizeof(struct ifinfomsg));
}

static void copy_text(char *to, size_t size, const struct nlattr *attribute)
{
	if (mnl_attr_validate(attribute, MNL_TYPE_STRING) >= 0)
		snprintf(to, size, "%.*s", (int) mnl_attr_get_payload_len(attribute),
			 mnl_attr_get_str(attribute));
}

static uint32_t get_u32(const struct nlattr *attribute)
{
	return mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t) ? mnl_attr_get_u32(attribute)
								       : 0;
}

static void decode_bridge(const struct nlattr *data, struct link *link)
{
	const struct nlattr *option;

	mnl_attr_for_each_nested(option,
				 data) if (mnl_attr_get_type(option) == IFLA_BR_NF_CALL_IPTABLES &&
					   mnl_attr_get_payload_len(option) == 1) link->filters =
		mnl_attr_get_u8(option) != 0;
}

/* The kind stands before what only that kind has. */
static void decode_info(const struct nlattr *info, struct link *link)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, info)
	{
		if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND)
			copy_text(link->kind, sizeof(link->kind), attribute);
		else if (mnl_attr_get_type(attribute) == IFLA_INFO_DATA &&
			 strcmp(link->kind, "bridge") == 0)
			decode_bridge(attribute, link);
	}
}

static void decode(const struct nlmsghdr *message, struct link *link)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *attribute;

	*link = (struct link){ .peer_nsid = -1 };
	if (message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*info))
		return;
	link->index = info->ifi_index;
	link->flags = info->ifi_flags;
	mnl_attr_for_each(attribute, message, sizeof(*info))
	{
		switch (mnl_attr_get_type(attribute)) {
		case IFLA_IFNAME:
			copy_text(link->name, sizeof(link->name), attribute);
			break;
		case IFLA_IFALIAS:
			copy_text(link->alias, sizeof(link->alias), attribute);
			break;
		case IFLA_MASTER:
			link->master = (int) get_u32(attribute);
			break;
		case IFLA_MTU:
			link->mtu = get_u32(attribute);
			break;
		case IFLA_LINK:
			link->peer_index = (int) get_u32(attribute);
			break;
		case IFLA_LINK_NETNSID:
			link->peer_nsid = (int) get_u32(attribute);
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(attribute) == LINK_MAC_SIZE)
				memcpy(link->mac, mnl_attr_get_payload(attribute), LINK_MAC_SIZE);
			break;
		case IFLA_LINKINFO:
			decode_info(attribute, link);
			break;
		default:
			break;
		}
	}
}

int link_decode(const struct nlmsghdr *message, struct link *ret)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(message);

	if (message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*info))
		return -EINVAL;
	if (info->ifi_family != AF_UNSPEC)
		return -EPROTO;
	decode(message, ret);
	return 0;
}

static int take_link(const struct nlmsghdr *message, void *data)
{
	if (message->nlmsg_type == RTM_NEWLINK)
		decode(message, data);
	return 0;
}

/* By name, or by index when there is none. */
static int find(struct netlink *nl, const char *name, int index, struct link *ret)
{
	struct link link = {};
	struct nlmsghdr *message;
	int r;

	begin(nl, RTM_GETLINK, 0, &message)->ifi_index = index;
	if (name)
		mnl_attr_put_strz(message, IFLA_IFNAME, name);
	mnl_attr_put_u32(message, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	r = netlink_query(nl, message, take_link, &link);
	if (r < 0)
		return r;
	if (link.index <= 0)
		return -ENODEV;
	*ret = link;
	return 0;
}

int link_find(struct netlink *nl, const char *name, struct link *ret)
{
	return find(nl, name, 0, ret);
}

int link_find_index(struct netlink *nl, int index, struct link *ret)
{
	return find(nl, NULL, index, ret);
}

static int take_counters(const struct nlmsghdr *message, void *data)
{
	struct link_counters *counters = data;
	const struct nlattr *attribute;
	struct rtnl_link_stats64 stats;

	if (message->nlmsg_type != RTM_NEWLINK ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct ifinfomsg))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct ifinfomsg))
	{
		size_t size = mnl_attr_get_payload_len(attribute);

		if (mnl_attr_get_type(attribute) != IFLA_STATS64)
			continue;
		stats = (struct rtnl_link_stats64){};
		memcpy(&stats, mnl_attr_get_payload(attribute),
		       size < sizeof(stats) ? size : sizeof(stats));
		*counters = (struct link_counters){ .rx_bytes = stats.rx_bytes,
						    .rx_packets = stats.rx_packets,
						    .rx_dropped = stats.rx_dropped,
						    .tx_bytes = stats.tx_bytes,
						    .tx_packets = stats.tx_packets,
						    .tx_dropped = stats.tx_dropped };
	}
	return 0;
}

int link_read_counters(struct netlink *nl, const char *name, struct link_counters *ret)
{
	struct link_counters counters = {};
	struct nlmsghdr *message;
	int r;

	begin(nl, RTM_GETLINK, 0, &message);
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	r = netlink_query(nl, message, take_counters, &counters);
	if (r < 0)
		return r;
	*ret = counters;
	return 0;
}

struct walk {
	const char *kind;
	int (*fn)(const struct link *link, void *data);
	void *data;
};

static int take_listed(const struct nlmsghdr *message, void *data)
{
	const struct walk *walk = data;
	struct link link;

	if (message->nlmsg_type != RTM_NEWLINK)
		return 0;
	decode(message, &link);
	return !walk->kind || strcmp(link.kind, walk->kind) == 0 ? walk->fn(&link, walk->data) : 0;
}

int link_list(struct netlink *nl, const char *kind, int (*fn)(const struct link *link, void *data),
	      void *data)
{
	struct walk walk = { .kind = kind, .fn = fn, .data = data };
	struct nlmsghdr *message;
	struct nlattr *info;

	begin(nl, RTM_GETLINK, NLM_F_DUMP, &message);
	mnl_attr_put_u32(message, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	if (kind) {
		info = mnl_attr_nest_start(message, IFLA_LINKINFO);
		mnl_attr_put_strz(message, IFLA_INFO_KIND, kind);
		mnl_attr_nest_end(message, info);
	}
	return netlink_query(nl, message, take_listed, &walk);
}

int link_add_bridge(struct netlink *nl, const char *name, const uint8_t mac[LINK_MAC_SIZE])
{
	struct nlmsghdr *message;
	struct nlattr *info, *options;

	begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message);
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	mnl_attr_put(message, IFLA_ADDRESS, LINK_MAC_SIZE, mac);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
	options = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put_u32(message, IFLA_BR_STP_STATE, 0);
	mnl_attr_put_u32(message, IFLA_BR_FORWARD_DELAY, 0);
	mnl_attr_put_u8(message, IFLA_BR_MCAST_SNOOPING, 0);
	mnl_attr_nest_end(message, options);
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}

int link_guard_bridge(struct netlink *nl, int index, bool filter)
{
	const struct br_boolopt_multi options_on = { .optval = 1 << BR_BOOLOPT_NO_LL_LEARN,
						     .optmask = 1 << BR_BOOLOPT_NO_LL_LEARN };
	struct nlmsghdr *message;
	struct nlattr *info, *options;

	begin(nl, RTM_NEWLINK, 0, &message)->ifi_index = index;
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
	options = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put(message, IFLA_BR_MULTI_BOOLOPT, sizeof(options_on), &options_on);
	if (filter) {
		mnl_attr_put_u8(message, IFLA_BR_NF_CALL_IPTABLES, 1);
		mnl_attr_put_u8(message, IFLA_BR_NF_CALL_IP6TABLES, 1);
	}
	mnl_attr_nest_end(message, options);
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}

int link_filter_bridge(struct netlink *nl, int index, bool on)
{
	struct nlmsghdr *message;
	struct nlattr *info, *options;

	begin(nl, RTM_NEWLINK, 0, &message)->ifi_index = index;
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
	options = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put_u8(message, IFLA_BR_NF_CALL_IPTABLES, on);
	mnl_attr_put_u8(message, IFLA_BR_NF_CALL_IP6TABLES, on);
	mnl_attr_nest_end(message, options);
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}

int link_add_veth(struct netlink *nl, const struct link_veth *veth)
{
	struct nlmsghdr *message;
	struct nlattr *info, *options, *peer;

	begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message);
	mnl_attr_put_strz(message, IFLA_IFNAME, veth->name);
	if (veth->master)
		mnl_attr_put_u32(message, IFLA_MASTER, (uint32_t) veth->master);
	mnl_attr_put_u32(message, IFLA_MTU, veth->mtu);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, "veth");
	options = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(message, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(message, IFLA_IFNAME, veth->peer_name);
	mnl_attr_put_u32(message, IFLA_NET_NS_FD, (uint32_t) veth->peer_netns_fd);
	mnl_attr_put_u32(message, IFLA_MTU, veth->mtu);
	mnl_attr_put(message, IFLA_ADDRESS, LINK_MAC_SIZE, veth->peer_mac);
	mnl_attr_nest_end(message, peer);
	mnl_attr_nest_end(message, options);
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}

int link_set(struct netlink *nl, int index, const struct link_change *change)
{
	struct nlmsghdr *message;
	struct ifinfomsg *header = begin(nl, RTM_NEWLINK, 0, &message);

	header->ifi_index = index;
	if (change->up || change->down) {
		header->ifi_change = IFF_UP;
		header->ifi_flags = change->up ? IFF_UP : 0;
	}
	if (change->name)
		mnl_attr_put_strz(message, IFLA_IFNAME, change->name);
	if (change->alias)
		mnl_attr_put_strz(message, IFLA_IFALIAS, change->alias);
	if (change->mac)
		mnl_attr_put(message, IFLA_ADDRESS, LINK_MAC_SIZE, change->mac);
	if (change->mtu)
		mnl_attr_put_u32(message, IFLA_MTU, change->mtu);
	if (change->group)
		mnl_attr_put_u32(message, IFLA_GROUP, change->group);
	if (change->master)
		mnl_attr_put_u32(message, IFLA_MASTER, (uint32_t) change->master);
	if (change->no_link_local) {
		struct nlattr *all = mnl_attr_nest_start(message, IFLA_AF_SPEC);
		struct nlattr *ipv6 = mnl_attr_nest_start(message, AF_INET6);

		mnl_attr_put_u8(message, IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(message, ipv6);
		mnl_attr_nest_end(message, all);
	}
	if (change->hairpin) {
		struct nlattr *info = mnl_attr_nest_start(message, IFLA_LINKINFO), *port;

		mnl_attr_put_strz(message, IFLA_INFO_SLAVE_KIND, "bridge");
		port = mnl_attr_nest_start(message, IFLA_INFO_SLAVE_DATA);
		mnl_attr_put_u8(message, IFLA_BRPORT_MODE, 1);
		mnl_attr_nest_end(message, port);
		mnl_attr_nest_end(message, info);
	}
	return netlink_call(nl, message);
}

int link_settle(struct netlink *nl, const char *name)
{
	struct link link;

	/* rtnl_getlink() runs the device's pending link watch before it answers. */
	return link_find(nl, name, &link);
}

int link_delete(struct netlink *nl, int index)
{
	struct nlmsghdr *message;

	begin(nl, RTM_DELLINK, 0, &message)->ifi_index = index;
	return netlink_call(nl, message);
}

static int take_nsid(const struct nlmsghdr *message, void *data)
{
	const struct nlattr *attribute;

	if (message->nlmsg_type != RTM_NEWNSID)
		return 0;
	mnl_attr_for_each(attribute, message,
			  sizeof(struct rtgenmsg)) if (mnl_attr_get_type(attribute) ==
						       NETNSA_NSID) *
		(int *) data = (int) get_u32(attribute);
	return 0;
}

int link_nsid(struct netlink *nl, int netns_fd, int *ret)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_GETNSID, 0);
	struct rtgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	int nsid = -1, r;

	header->rtgen_family = AF_UNSPEC;
	mnl_attr_put_u32(message, NETNSA_FD, (uint32_t) netns_fd);
	r = netlink_query(nl, message, take_nsid, &nsid);
	if (r == 0)
		*ret = nsid;
	return r;
}

int link_sysctl(int family, const char *name, const char *key, const char *value)
{
	AUTO(free)
	char *path =
		mem_printf("/proc/sys/net/ipv%d/conf/%s/%s", family == AF_INET6 ? 6 : 4, name, key);

	return file_write_kernel(AT_FDCWD, path, value);
}
