#include "kern/route_table.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "kern/netlink.h"
#include "kern/route_mark.h"

static struct nlmsghdr *begin_line(struct netlink *nl, uint16_t type, uint16_t flags,
				   const struct route_line *line)
{
	struct nlmsghdr *message = netlink_begin(nl, type, flags);
	struct rtmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->rtm_family = (uint8_t) line->to.family;
	header->rtm_dst_len = line->to.prefix;
	header->rtm_table = RT_TABLE_MAIN;
	header->rtm_protocol = line->marked ? ROUTE_MARK_PROTOCOL : RTPROT_STATIC;
	/* The scope of a deletion is any. */
	header->rtm_scope = type == RTM_DELROUTE ? RT_SCOPE_NOWHERE
			    : line->via.family   ? RT_SCOPE_UNIVERSE
						 : RT_SCOPE_LINK;
	header->rtm_type = type == RTM_DELROUTE ? RTN_UNSPEC : RTN_UNICAST;
	if (line->to.prefix > 0)
		mnl_attr_put(message, RTA_DST, route_ip_size(&line->to), line->to.bytes);
	if (line->via.family)
		mnl_attr_put(message, RTA_GATEWAY, route_ip_size(&line->via), line->via.bytes);
	if (line->link_index)
		mnl_attr_put_u32(message, RTA_OIF, (uint32_t) line->link_index);
	if (line->marked)
		mnl_attr_put_u32(message, RTA_PRIORITY, ROUTE_MARK_METRIC);
	return message;
}

int route_line_add(struct netlink *nl, const struct route_line *line)
{
	return netlink_call(nl, begin_line(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, line));
}

int route_line_delete(struct netlink *nl, const struct route_line *line)
{
	int r = netlink_call(nl, begin_line(nl, RTM_DELROUTE, 0, line));

	return r == -ESRCH ? 0 : r;
}

struct walk {
	int link_index;
	void (*fn)(const struct route_line *line, void *data);
	void *data;
};

static void take_ip(const struct nlattr *attribute, struct route_ip *ip)
{
	if (mnl_attr_get_payload_len(attribute) == route_ip_size(ip))
		memcpy(ip->bytes, mnl_attr_get_payload(attribute), route_ip_size(ip));
}

static int take_line(const struct nlmsghdr *message, void *data)
{
	const struct walk *walk = data;
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);
	struct route_line line = {};
	const struct nlattr *attribute;

	if (message->nlmsg_type != RTM_NEWROUTE ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*header) ||
	    header->rtm_table != RT_TABLE_MAIN || header->rtm_type != RTN_UNICAST ||
	    (header->rtm_protocol != RTPROT_STATIC && header->rtm_protocol != ROUTE_MARK_PROTOCOL))
		return 0;
	line.marked = header->rtm_protocol == ROUTE_MARK_PROTOCOL;
	line.to = (struct route_ip){ .family = header->rtm_family, .prefix = header->rtm_dst_len };
	mnl_attr_for_each(attribute, message, sizeof(*header))
	{
		switch (mnl_attr_get_type(attribute)) {
		case RTA_DST:
			take_ip(attribute, &line.to);
			break;
		case RTA_GATEWAY:
			line.via.family = header->rtm_family;
			line.via.prefix = (uint8_t) (8 * route_ip_size(&line.via));
			take_ip(attribute, &line.via);
			break;
		case RTA_OIF:
			if (mnl_attr_get_payload_len(attribute) == sizeof(uint32_t))
				line.link_index = (int) mnl_attr_get_u32(attribute);
			break;
		default:
			break;
		}
	}
	if (!walk->link_index || line.link_index == walk->link_index)
		walk->fn(&line, walk->data);
	return 0;
}

int route_line_list(struct netlink *nl, int family, int link_index,
		    void (*fn)(const struct route_line *line, void *data), void *data)
{
	struct walk walk = { .link_index = link_index, .fn = fn, .data = data };
	struct nlmsghdr *message = netlink_begin(nl, RTM_GETROUTE, NLM_F_DUMP);
	struct rtmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	/* The kernel looks through those of the link only: a host may have a million others. */
	header->rtm_family = (uint8_t) family;
	if (link_index)
		mnl_attr_put_u32(message, RTA_OIF, (uint32_t) link_index);
	return netlink_query(nl, message, take_line, &walk);
}

int route_set_proxy(struct netlink *nl, int link_index, const struct route_ip *ip, bool on)
{
	struct nlmsghdr *message = netlink_begin(nl, on ? RTM_NEWNEIGH : RTM_DELNEIGH,
						 on ? NLM_F_CREATE | NLM_F_REPLACE : 0);
	struct ndmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	int r;

	header->ndm_family = (uint8_t) ip->family;
	header->ndm_ifindex = link_index;
	header->ndm_state = NUD_PERMANENT;
	header->ndm_flags = NTF_PROXY;
	mnl_attr_put(message, NDA_DST, route_ip_size(ip), ip->bytes);
	r = netlink_call(nl, message);
	return !on && (r == -ENOENT || r == -ESRCH) ? 0 : r;
}
