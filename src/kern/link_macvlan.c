#include "kern/link_macvlan.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "kern/link.h"
#include "kern/netlink.h"

int link_add_macvlan(struct netlink *nl, const char *name, const struct link_macvlan *macvlan)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info, *options;

	mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	mnl_attr_put_u32(message, IFLA_LINK, (uint32_t) macvlan->lower);
	mnl_attr_put(message, IFLA_ADDRESS, LINK_MAC_SIZE, macvlan->mac);
	if (macvlan->mtu)
		mnl_attr_put_u32(message, IFLA_MTU, macvlan->mtu);
	if (macvlan->netns_fd >= 0)
		mnl_attr_put_u32(message, IFLA_NET_NS_FD, (uint32_t) macvlan->netns_fd);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, macvlan->tap ? "macvtap" : "macvlan");
	options = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put_u32(message, IFLA_MACVLAN_MODE, macvlan->mode);
	mnl_attr_nest_end(message, options);
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}

struct found {
	bool kind, known;
	uint32_t mode;
};

static bool is_macvlan(const struct nlattr *kind)
{
	return mnl_attr_validate(kind, MNL_TYPE_STRING) >= 0 &&
	       (strncmp(mnl_attr_get_str(kind), "macvlan", mnl_attr_get_payload_len(kind)) == 0 ||
		strncmp(mnl_attr_get_str(kind), "macvtap", mnl_attr_get_payload_len(kind)) == 0);
}

static void take_info(struct found *found, const struct nlattr *info)
{
	const struct nlattr *part, *option;

	mnl_attr_for_each_nested(part, info)
	{
		if (mnl_attr_get_type(part) == IFLA_INFO_KIND)
			found->kind = is_macvlan(part);
		if (mnl_attr_get_type(part) != IFLA_INFO_DATA)
			continue;
		mnl_attr_for_each_nested(option, part)
		{
			if (mnl_attr_get_type(option) != IFLA_MACVLAN_MODE ||
			    mnl_attr_get_payload_len(option) != sizeof(uint32_t))
				continue;
			found->mode = mnl_attr_get_u32(option);
			found->known = true;
		}
	}
}

static int take_link(const struct nlmsghdr *message, void *data)
{
	const struct nlattr *attribute;

	if (message->nlmsg_type != RTM_NEWLINK ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct ifinfomsg))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct ifinfomsg))
	{
		if (mnl_attr_get_type(attribute) == IFLA_LINKINFO)
			take_info(data, attribute);
	}
	return 0;
}

int link_read_macvlan(struct netlink *nl, const char *name, uint32_t *ret_mode)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_GETLINK, 0);
	struct found found = {};
	int r;

	mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	mnl_attr_put_u32(message, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	r = netlink_query(nl, message, take_link, &found);
	if (r < 0)
		return r;
	if (!found.kind || !found.known)
		return -ENODEV;
	*ret_mode = found.mode;
	return 0;
}
