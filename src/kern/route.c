#include "kern/route.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "kern/netlink.h"

enum { AWAIT_MS = 1000 };

static struct nlmsghdr *begin_address(struct netlink *nl, uint16_t type, uint16_t flags,
				      int link_index, const struct route_ip *ip)
{
	struct nlmsghdr *message = netlink_begin(nl, type, flags);
	struct ifaddrmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->ifa_family = (uint8_t) ip->family;
	header->ifa_prefixlen = ip->prefix;
	header->ifa_index = (uint32_t) link_index;
	header->ifa_scope = RT_SCOPE_UNIVERSE;
	if (ip->family == AF_INET6)
		header->ifa_flags = IFA_F_NODAD;
	mnl_attr_put(message, IFA_LOCAL, route_ip_size(ip), ip->bytes);
	mnl_attr_put(message, IFA_ADDRESS, route_ip_size(ip), ip->bytes);
	if (ip->metric)
		mnl_attr_put_u32(message, IFA_RT_PRIORITY, ip->metric);
	return message;
}

int route_add_address(struct netlink *nl, int link_index, const struct route_ip *ip)
{
	struct nlmsghdr *message =
		begin_address(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link_index, ip);
	int r;

	if (ip->family == AF_INET) {
		struct in_addr broadcast;

		memcpy(&broadcast, ip->bytes, sizeof(broadcast));
		if (ip->prefix < 31) {
			broadcast.s_addr |= htonl((uint32_t) (0xffffffffULL >> ip->prefix));
			mnl_attr_put(message, IFA_BROADCAST, sizeof(broadcast), &broadcast);
		}
	}
	r = netlink_call(nl, message);
	if (r == -EEXIST)
		return 0;
	return r < 0 ? r : 1;
}

int route_add_alias(struct netlink *nl, int link_index, const struct route_ip *ip)
{
	struct nlmsghdr *message =
		begin_address(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link_index, ip);
	/* Deprecated; one of IPv4 is chosen by routes only, and none names this. */
	struct ifa_cacheinfo lifetime = { .ifa_prefered = 0, .ifa_valid = UINT32_MAX };
	int r;

	if (ip->family == AF_INET6)
		mnl_attr_put(message, IFA_CACHEINFO, sizeof(lifetime), &lifetime);
	r = netlink_call(nl, message);
	if (r == -EEXIST)
		return 0;
	return r < 0 ? r : 1;
}

int route_delete_address(struct netlink *nl, int link_index, const struct route_ip *ip)
{
	return netlink_call(nl, begin_address(nl, RTM_DELADDR, 0, link_index, ip));
}

struct walk {
	int link_index;
	void (*fn)(int link_index, const struct route_ip *ip, void *data);
	void *data;
};

static int take_address(const struct nlmsghdr *message, void *data)
{
	const struct walk *walk = data;
	const struct ifaddrmsg *header = mnl_nlmsg_get_payload(message);
	struct route_ip ip = {};
	const struct nlattr *attribute;

	if (message->nlmsg_type != RTM_NEWADDR ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*header) ||
	    (walk->link_index && (int) header->ifa_index != walk->link_index))
		return 0;
	if (header->ifa_family == AF_INET6 && header->ifa_scope == RT_SCOPE_LINK)
		return 0;
	ip.family = header->ifa_family;
	ip.prefix = header->ifa_prefixlen;
	mnl_attr_for_each(attribute, message, sizeof(*header))
	{
		uint16_t type = mnl_attr_get_type(attribute);

		if ((type == (ip.family == AF_INET ? IFA_LOCAL : IFA_ADDRESS)) &&
		    mnl_attr_get_payload_len(attribute) == route_ip_size(&ip))
			memcpy(ip.bytes, mnl_attr_get_payload(attribute), route_ip_size(&ip));
		else if (type == IFA_RT_PRIORITY &&
			 mnl_attr_get_payload_len(attribute) == sizeof(uint32_t))
			ip.metric = mnl_attr_get_u32(attribute);
	}
	walk->fn((int) header->ifa_index, &ip, walk->data);
	return 0;
}

int route_list_addresses(struct netlink *nl, int link_index,
			 void (*fn)(int link_index, const struct route_ip *ip, void *data),
			 void *data)
{
	struct walk walk = { .link_index = link_index, .fn = fn, .data = data };
	struct nlmsghdr *message = netlink_begin(nl, RTM_GETADDR, NLM_F_DUMP);
	struct ifaddrmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->ifa_index = (uint32_t) link_index;
	return netlink_query(nl, message, take_address, &walk);
}

int route_set_default(struct netlink *nl, int link_index, const struct route_ip *gateway)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
	struct rtmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->rtm_family = (uint8_t) gateway->family;
	header->rtm_table = RT_TABLE_MAIN;
	header->rtm_protocol = RTPROT_STATIC;
	header->rtm_scope = RT_SCOPE_UNIVERSE;
	header->rtm_type = RTN_UNICAST;
	mnl_attr_put(message, RTA_GATEWAY, route_ip_size(gateway), gateway->bytes);
	mnl_attr_put_u32(message, RTA_OIF, (uint32_t) link_index);
	return netlink_call(nl, message);
}

static void take_metrics(struct route_way *way, const struct nlattr *metrics)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, metrics)
	{
		if (mnl_attr_get_type(attribute) == RTAX_MTU &&
		    mnl_attr_get_payload_len(attribute) == sizeof(uint32_t))
			way->mtu = mnl_attr_get_u32(attribute);
	}
}

static void take_source(struct route_way *way, const struct nlattr *attribute, int family)
{
	struct route_ip ip = { .family = family };

	ip.prefix = (uint8_t) (8 * route_ip_size(&ip));
	if (mnl_attr_get_payload_len(attribute) != route_ip_size(&ip))
		return;
	memcpy(ip.bytes, mnl_attr_get_payload(attribute), route_ip_size(&ip));
	way->source = ip;
}

static int take_way(const struct nlmsghdr *message, void *data)
{
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);
	struct route_way *way = data;
	const struct nlattr *attribute;

	if (message->nlmsg_type != RTM_NEWROUTE ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct rtmsg))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct rtmsg))
	{
		if (mnl_attr_get_type(attribute) == RTA_OIF &&
		    mnl_attr_get_payload_len(attribute) == sizeof(uint32_t))
			way->link_index = (int) mnl_attr_get_u32(attribute);
		else if (mnl_attr_get_type(attribute) == RTA_METRICS)
			take_metrics(way, attribute);
		else if (mnl_attr_get_type(attribute) == RTA_PREFSRC)
			take_source(way, attribute, header->rtm_family);
	}
	return 0;
}

int route_look_up(struct netlink *nl, const struct route_ip *to, struct route_way *ret)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_GETROUTE, 0);
	struct rtmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	struct route_way way = {};
	int r;

	header->rtm_family = (uint8_t) to->family;
	header->rtm_dst_len = (uint8_t) (8 * route_ip_size(to));
	mnl_attr_put(message, RTA_DST, route_ip_size(to), to->bytes);
	r = netlink_query(nl, message, take_way, &way);
	if (r < 0)
		return r;
	if (!way.link_index)
		return -ENETUNREACH;
	*ret = way;
	return 0;
}

int route_watch(void)
{
	AUTO(fd_close)
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV6_IFADDR };

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

struct awaited {
	const struct route_ip *ip;
	bool seen;
};

static void look_for_awaited(int link_index, const struct route_ip *ip, void *data)
{
	struct awaited *awaited = data;

	(void) link_index;
	if (ip->family == awaited->ip->family &&
	    memcmp(ip->bytes, awaited->ip->bytes, sizeof(ip->bytes)) == 0)
		awaited->seen = true;
}

int route_await(int watch_fd, int link_index, const struct route_ip *ip)
{
	struct awaited awaited = { .ip = ip };
	struct walk walk = { .link_index = link_index, .fn = look_for_awaited, .data = &awaited };
	_Alignas(8) char buffer[8192];

	while (!awaited.seen) {
		struct pollfd watch = { .fd = watch_fd, .events = POLLIN };
		const struct nlmsghdr *message = (const void *) buffer;
		ssize_t size = recv(watch_fd, buffer, sizeof(buffer), 0);
		int left, r;

		if (size < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		for (left = (int) size; mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left))
			take_address(message, &walk);
		if (awaited.seen || size >= 0)
			continue;
		r = poll(&watch, 1, AWAIT_MS);
		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
	return 0;
}
