#include "kern/link_vxlan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/cleanup.h"
#include "kern/link_options.h"
#include "kern/netlink.h"

int link_add_vxlan(struct netlink *nl, const char *name, int master, const struct link_vxlan *vxlan)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info, *options;
	static const uint8_t any6[16];

	mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	mnl_attr_put_u32(message, IFLA_MASTER, (uint32_t) master);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, "vxlan");
	options = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put_u32(message, IFLA_VXLAN_ID, vxlan->vni);
	mnl_attr_put_u16(message, IFLA_VXLAN_PORT, htons(vxlan->port));
	mnl_attr_put_u8(message, IFLA_VXLAN_LEARNING, vxlan->learning);
	if (vxlan->local.family == AF_INET)
		mnl_attr_put(message, IFLA_VXLAN_LOCAL, 4, vxlan->local.bytes);
	else if (vxlan->local.family == AF_INET6)
		mnl_attr_put(message, IFLA_VXLAN_LOCAL6, 16, vxlan->local.bytes);
	else if (vxlan->ipv6)
		/* Nothing else says which family the device's socket has. */
		mnl_attr_put(message, IFLA_VXLAN_LOCAL6, sizeof(any6), any6);
	mnl_attr_nest_end(message, options);
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}

static void take_local(struct link_vxlan *vxlan, const struct nlattr *attribute, int family)
{
	struct route_ip ip = { .family = family };
	static const uint8_t zeros[16];

	if (mnl_attr_get_payload_len(attribute) != route_ip_size(&ip))
		return;
	vxlan->ipv6 = family == AF_INET6;
	memcpy(ip.bytes, mnl_attr_get_payload(attribute), route_ip_size(&ip));
	if (memcmp(ip.bytes, zeros, sizeof(zeros)) != 0)
		vxlan->local = ip;
}

static void take_option(const struct nlattr *option, void *data)
{
	struct link_vxlan *vxlan = data;
	uint16_t type = mnl_attr_get_type(option), size = mnl_attr_get_payload_len(option);

	if (type == IFLA_VXLAN_ID && size == sizeof(uint32_t))
		vxlan->vni = mnl_attr_get_u32(option);
	else if (type == IFLA_VXLAN_PORT && size == sizeof(uint16_t))
		vxlan->port = ntohs(mnl_attr_get_u16(option));
	else if (type == IFLA_VXLAN_LEARNING && size == sizeof(uint8_t))
		vxlan->learning = mnl_attr_get_u8(option);
	else if (type == IFLA_VXLAN_LOCAL)
		take_local(vxlan, option, AF_INET);
	else if (type == IFLA_VXLAN_LOCAL6)
		take_local(vxlan, option, AF_INET6);
}

int link_read_vxlan(struct netlink *nl, const char *name, struct link_vxlan *ret)
{
	static const char *const kinds[] = { "vxlan", NULL };
	struct link_vxlan vxlan = {};
	int r = link_read_options(nl, name, kinds, take_option, &vxlan);

	if (r < 0)
		return r;
	if (!vxlan.vni)
		return -ENODEV;
	*ret = vxlan;
	return 0;
}

static struct nlmsghdr *begin_line(struct netlink *nl, uint16_t type, uint16_t flags, int index,
				   const struct link_fdb *line)
{
	struct nlmsghdr *message = netlink_begin(nl, type, flags);
	struct ndmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->ndm_family = AF_BRIDGE;
	header->ndm_ifindex = index;
	header->ndm_state = NUD_PERMANENT | NUD_NOARP;
	header->ndm_flags = NTF_SELF;
	mnl_attr_put(message, NDA_LLADDR, LINK_MAC_SIZE, line->mac);
	mnl_attr_put(message, NDA_DST, route_ip_size(&line->remote), line->remote.bytes);
	return message;
}

int link_fdb_add(struct netlink *nl, int index, const struct link_fdb *line)
{
	/* Appending: a MAC of zeros leads to many. */
	int r = netlink_call(
		nl, begin_line(nl, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, index, line));

	return r == -EEXIST ? 0 : r;
}

int link_fdb_delete(struct netlink *nl, int index, const struct link_fdb *line)
{
	int r = netlink_call(nl, begin_line(nl, RTM_DELNEIGH, 0, index, line));

	return r == -ENOENT ? 0 : r;
}

struct walk {
	int index;
	void (*fn)(const struct link_fdb *line, void *data);
	void *data;
};

static int take_line(const struct nlmsghdr *message, void *data)
{
	const struct walk *walk = data;
	const struct ndmsg *header = mnl_nlmsg_get_payload(message);
	struct link_fdb line = {};
	const struct nlattr *attribute;
	bool mac = false;

	if (message->nlmsg_type != RTM_NEWNEIGH ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*header) ||
	    header->ndm_ifindex != walk->index || !(header->ndm_flags & NTF_SELF))
		return 0;
	line.permanent = header->ndm_state & NUD_PERMANENT;
	mnl_attr_for_each(attribute, message, sizeof(*header))
	{
		uint16_t size = mnl_attr_get_payload_len(attribute);

		if (mnl_attr_get_type(attribute) == NDA_LLADDR && size == LINK_MAC_SIZE) {
			memcpy(line.mac, mnl_attr_get_payload(attribute), LINK_MAC_SIZE);
			mac = true;
		} else if (mnl_attr_get_type(attribute) == NDA_DST && (size == 4 || size == 16)) {
			line.remote.family = size == 4 ? AF_INET : AF_INET6;
			memcpy(line.remote.bytes, mnl_attr_get_payload(attribute), size);
		}
	}
	if (mac && line.remote.family)
		walk->fn(&line, walk->data);
	return 0;
}

int link_fdb_list(struct netlink *nl, int index,
		  void (*fn)(const struct link_fdb *line, void *data), void *data)
{
	struct walk walk = { .index = index, .fn = fn, .data = data };
	struct nlmsghdr *message = netlink_begin(nl, RTM_GETNEIGH, NLM_F_DUMP);
	struct ndmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->ndm_family = AF_BRIDGE;
	return netlink_query(nl, message, take_line, &walk);
}
