#include "kern/link_macvlan.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "kern/link.h"
#include "kern/link_options.h"
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
	bool known;
	uint32_t mode;
};

static void take_option(const struct nlattr *option, void *data)
{
	struct found *found = data;

	if (mnl_attr_get_type(option) != IFLA_MACVLAN_MODE ||
	    mnl_attr_get_payload_len(option) != sizeof(uint32_t))
		return;
	found->mode = mnl_attr_get_u32(option);
	found->known = true;
}

int link_read_macvlan(struct netlink *nl, const char *name, uint32_t *ret_mode)
{
	static const char *const kinds[] = { "macvlan", "macvtap", NULL };
	struct found found = {};
	int r = link_read_options(nl, name, kinds, take_option, &found);

	if (r < 0)
		return r;
	if (!found.known)
		return -ENODEV;
	*ret_mode = found.mode;
	return 0;
}
