#include "kern/route_mark.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "kern/netlink.h"
#include "kern/rtnl_watch.h"

static struct rtmsg *begin_anchor(struct netlink *nl, uint16_t type, uint16_t flags, int family,
				  struct nlmsghdr **ret)
{
	struct nlmsghdr *message = netlink_begin(nl, type, flags);
	struct rtmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->rtm_family = (uint8_t) family;
	header->rtm_table = RT_TABLE_MAIN;
	header->rtm_protocol = ROUTE_MARK_PROTOCOL;
	header->rtm_type = RTN_BLACKHOLE;
	*ret = message;
	return header;
}

static int change(struct netlink *nl, uint16_t type, uint16_t flags, const struct route_ip *to)
{
	struct nlmsghdr *message;
	struct rtmsg *header = begin_anchor(nl, type, flags, to->family, &message);

	header->rtm_dst_len = to->prefix;
	header->rtm_scope = type == RTM_DELROUTE ? RT_SCOPE_NOWHERE : RT_SCOPE_UNIVERSE;
	mnl_attr_put(message, RTA_DST, route_ip_size(to), to->bytes);
	mnl_attr_put_u32(message, RTA_PRIORITY, ROUTE_MARK_ANCHOR_METRIC);
	return netlink_call(nl, message);
}

int route_mark_add(struct netlink *nl, const struct route_ip *to)
{
	/* Not replaced: who watches hears of a change only when there is one. */
	int r = change(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, to);

	if (r == -EEXIST)
		return 0;
	return r < 0 ? r : 1;
}

int route_mark_delete(struct netlink *nl, const struct route_ip *to)
{
	int r = change(nl, RTM_DELROUTE, 0, to);

	return r == -ESRCH ? 0 : r;
}

struct walk {
	void (*fn)(const struct route_ip *to, void *data);
	void *data;
};

static int take_anchor(const struct nlmsghdr *message, void *data)
{
	const struct walk *walk = data;
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);
	struct route_ip to = {};
	uint32_t metric = 0;
	const struct nlattr *attribute;

	if (message->nlmsg_type != RTM_NEWROUTE ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*header) ||
	    header->rtm_table != RT_TABLE_MAIN || header->rtm_protocol != ROUTE_MARK_PROTOCOL ||
	    header->rtm_type != RTN_BLACKHOLE)
		return 0;
	to.family = header->rtm_family;
	to.prefix = header->rtm_dst_len;
	mnl_attr_for_each(attribute, message, sizeof(*header))
	{
		uint16_t type = mnl_attr_get_type(attribute);
		size_t size = mnl_attr_get_payload_len(attribute);

		if (type == RTA_DST && size == route_ip_size(&to))
			memcpy(to.bytes, mnl_attr_get_payload(attribute), size);
		else if (type == RTA_PRIORITY && size == sizeof(metric))
			metric = mnl_attr_get_u32(attribute);
	}
	if (metric == ROUTE_MARK_ANCHOR_METRIC)
		walk->fn(&to, walk->data);
	return 0;
}

int route_mark_list(struct netlink *nl, int family,
		    void (*fn)(const struct route_ip *to, void *data), void *data)
{
	struct walk walk = { .fn = fn, .data = data };
	struct nlmsghdr *message;
	int r;

	(void) begin_anchor(nl, RTM_GETROUTE, NLM_F_DUMP, family, &message);
	r = netlink_query(nl, message, take_anchor, &walk);
	/* A namespace that never had a route has no table for them. */
	return r == -ENOENT ? 0 : r;
}

int route_mark_watch(void)
{
	/* Of each message its protocol decides. */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS,
			 MNL_NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_protocol)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ROUTE_MARK_PROTOCOL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	return rtnl_watch(RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE, code, ARRAY_COUNT(code));
}
