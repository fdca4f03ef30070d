#include "kern/link_gre.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/ip6_tunnel.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/cleanup.h"
#include "kern/link_options.h"
#include "kern/netlink.h"

enum { TTL = 64 };

int link_add_gre(struct netlink *nl, const char *name, int master, const struct link_gre *gre)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info, *options;

	mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	mnl_attr_put_u32(message, IFLA_MASTER, (uint32_t) master);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, link_gre_kind(gre->remote.family));
	options = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put_u16(message, IFLA_GRE_IFLAGS, GRE_KEY);
	mnl_attr_put_u16(message, IFLA_GRE_OFLAGS, GRE_KEY);
	mnl_attr_put_u32(message, IFLA_GRE_IKEY, htonl(gre->key));
	mnl_attr_put_u32(message, IFLA_GRE_OKEY, htonl(gre->key));
	if (gre->local.family)
		mnl_attr_put(message, IFLA_GRE_LOCAL, route_ip_size(&gre->local), gre->local.bytes);
	mnl_attr_put(message, IFLA_GRE_REMOTE, route_ip_size(&gre->remote), gre->remote.bytes);
	mnl_attr_put_u8(message, IFLA_GRE_TTL, TTL);
	/* What limits tunnels in tunnels is a header of eight bytes more, which routers may drop.
	 */
	if (gre->remote.family == AF_INET6)
		mnl_attr_put_u32(message, IFLA_GRE_FLAGS, IP6_TNL_F_IGN_ENCAP_LIMIT);
	else
		mnl_attr_put_u8(message, IFLA_GRE_PMTUDISC, 1);
	mnl_attr_nest_end(message, options);
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}

static void take_ip(struct route_ip *ret, const struct nlattr *attribute)
{
	size_t size = mnl_attr_get_payload_len(attribute);
	struct route_ip ip = { .family = size == 16 ? AF_INET6 : AF_INET,
			       .prefix = (uint8_t) (8 * size) };
	static const uint8_t any[16];

	if (size != route_ip_size(&ip) || memcmp(mnl_attr_get_payload(attribute), any, size) == 0)
		return;
	memcpy(ip.bytes, mnl_attr_get_payload(attribute), size);
	*ret = ip;
}

static void take_option(const struct nlattr *option, void *data)
{
	struct link_gre *gre = data;
	uint16_t type = mnl_attr_get_type(option);

	if (type == IFLA_GRE_IKEY && mnl_attr_get_payload_len(option) == sizeof(uint32_t))
		gre->key = ntohl(mnl_attr_get_u32(option));
	else if (type == IFLA_GRE_LOCAL)
		take_ip(&gre->local, option);
	else if (type == IFLA_GRE_REMOTE)
		take_ip(&gre->remote, option);
}

int link_read_gre(struct netlink *nl, const char *name, struct link_gre *ret)
{
	const char *const kinds[] = { link_gre_kind(AF_INET), link_gre_kind(AF_INET6), NULL };
	struct link_gre gre = {};
	int r = link_read_options(nl, name, kinds, take_option, &gre);

	if (r < 0)
		return r;
	if (!gre.remote.family)
		return -ENODEV;
	*ret = gre;
	return 0;
}

int link_split_port(struct netlink *nl, int index)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_NEWLINK, 0);
	struct ifinfomsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	struct nlattr *info, *data;

	header->ifi_index = index;
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_SLAVE_KIND, "bridge");
	data = mnl_attr_nest_start(message, IFLA_INFO_SLAVE_DATA);
	mnl_attr_put_u8(message, IFLA_BRPORT_ISOLATED, 1);
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}
