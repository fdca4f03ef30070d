#include "kern/conntrack.h"

#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "kern/netlink.h"

enum {
	MESSAGE_MAX = 16 * 1024, /* an event is some 300 bytes */
	/* Some ten thousand ends of flows wait in it while their reader is busy. */
	RECEIVE_BUFFER = 8 * 1024 * 1024,
};

/* ---- decoding ---- */

static uint8_t get8(const struct nlattr *attribute)
{
	return mnl_attr_get_payload_len(attribute) >= 1
		       ? *(const uint8_t *) mnl_attr_get_payload(attribute)
		       : 0;
}

static int get_address(const struct nlattr *attribute, uint8_t family, uint8_t *ret)
{
	size_t size = family == AF_INET ? 4 : 16;

	if (mnl_attr_get_payload_len(attribute) != size)
		return -EBADMSG;
	memcpy(ret, mnl_attr_get_payload(attribute), size);
	return 0;
}

static int take_addresses(const struct nlattr *nest, uint8_t family, struct conntrack_way *way)
{
	const struct nlattr *attribute;
	int r = 0, found = 0;

	mnl_attr_for_each_nested(attribute, nest)
	{
		uint16_t type = mnl_attr_get_type(attribute);

		if (type == (family == AF_INET ? CTA_IP_V4_SRC : CTA_IP_V6_SRC))
			r = get_address(attribute, family, way->source);
		else if (type == (family == AF_INET ? CTA_IP_V4_DST : CTA_IP_V6_DST))
			r = get_address(attribute, family, way->destination);
		else
			continue;
		if (r < 0)
			return r;
		found++;
	}
	return found == 2 ? 0 : -EBADMSG;
}

static void take_protocol(const struct nlattr *nest, struct conntrack_flow *flow,
			  struct conntrack_way *way)
{
	const struct nlattr *attribute;
	bool first = way == &flow->there;

	mnl_attr_for_each_nested(attribute, nest)
	{
		switch (mnl_attr_get_type(attribute)) {
		case CTA_PROTO_NUM:
			if (first)
				flow->protocol = get8(attribute);
			break;
		case CTA_PROTO_SRC_PORT:
			way->source_port = netlink_be16(attribute);
			break;
		case CTA_PROTO_DST_PORT:
			way->destination_port = netlink_be16(attribute);
			break;
		case CTA_PROTO_ICMP_TYPE:
		case CTA_PROTO_ICMPV6_TYPE:
			if (first)
				flow->icmp_type = get8(attribute);
			break;
		case CTA_PROTO_ICMP_CODE:
		case CTA_PROTO_ICMPV6_CODE:
			if (first)
				flow->icmp_code = get8(attribute);
			break;
		case CTA_PROTO_ICMP_ID:
		case CTA_PROTO_ICMPV6_ID:
			way->icmp_id = netlink_be16(attribute);
			break;
		default:
			break;
		}
	}
}

static int take_tuple(const struct nlattr *nest, struct conntrack_flow *flow,
		      struct conntrack_way *way)
{
	const struct nlattr *attribute;
	bool addresses = false;
	int r;

	mnl_attr_for_each_nested(attribute, nest)
	{
		if (mnl_attr_get_type(attribute) == CTA_TUPLE_IP) {
			r = take_addresses(attribute, flow->family, way);
			if (r < 0)
				return r;
			addresses = true;
		} else if (mnl_attr_get_type(attribute) == CTA_TUPLE_PROTO) {
			take_protocol(attribute, flow, way);
		}
	}
	return addresses ? 0 : -EBADMSG;
}

static void take_counters(const struct nlattr *nest, struct conntrack_way *way)
{
	const struct nlattr *attribute;

	way->counted = true;
	mnl_attr_for_each_nested(attribute, nest)
	{
		switch (mnl_attr_get_type(attribute)) {
		case CTA_COUNTERS_PACKETS:
			way->packets = netlink_be64(attribute);
			break;
		case CTA_COUNTERS_BYTES:
			way->bytes = netlink_be64(attribute);
			break;
		default:
			break;
		}
	}
}

static void take_times(const struct nlattr *nest, struct conntrack_flow *flow)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, nest)
	{
		if (mnl_attr_get_type(attribute) == CTA_TIMESTAMP_START)
			flow->start_ns = netlink_be64(attribute);
		else if (mnl_attr_get_type(attribute) == CTA_TIMESTAMP_STOP)
			flow->stop_ns = netlink_be64(attribute);
	}
}

static void take_state(const struct nlattr *nest, struct conntrack_flow *flow)
{
	const struct nlattr *tcp, *attribute;

	mnl_attr_for_each_nested(tcp, nest)
	{
		if (mnl_attr_get_type(tcp) != CTA_PROTOINFO_TCP)
			continue;
		mnl_attr_for_each_nested(attribute, tcp)
		{
			if (mnl_attr_get_type(attribute) != CTA_PROTOINFO_TCP_STATE)
				continue;
			flow->has_tcp_state = true;
			flow->tcp_state = get8(attribute);
		}
	}
}

static int take_attribute(const struct nlattr *attribute, struct conntrack_flow *flow,
			  unsigned int *tuples)
{
	switch (mnl_attr_get_type(attribute)) {
	case CTA_TUPLE_ORIG:
		*tuples |= 1;
		return take_tuple(attribute, flow, &flow->there);
	case CTA_TUPLE_REPLY:
		*tuples |= 2;
		return take_tuple(attribute, flow, &flow->back);
	case CTA_ZONE:
		flow->zone = netlink_be16(attribute);
		break;
	case CTA_STATUS:
		flow->answered = netlink_be32(attribute) & IPS_SEEN_REPLY;
		flow->assured = netlink_be32(attribute) & IPS_ASSURED;
		break;
	case CTA_TIMEOUT:
		flow->left_s = netlink_be32(attribute);
		break;
	case CTA_COUNTERS_ORIG:
		take_counters(attribute, &flow->there);
		break;
	case CTA_COUNTERS_REPLY:
		take_counters(attribute, &flow->back);
		break;
	case CTA_TIMESTAMP:
		take_times(attribute, flow);
		break;
	case CTA_PROTOINFO:
		take_state(attribute, flow);
		break;
	default:
		break;
	}
	return 0;
}

int conntrack_decode(const void *data, size_t size, struct conntrack_flow *ret)
{
	const struct nlmsghdr *message = data;
	struct conntrack_flow flow = {};
	const struct nfgenmsg *header;
	const struct nlattr *attribute;
	unsigned int tuples = 0;
	int r = 0;

	/* Attributes are padded: so is the whole. */
	if (size < sizeof(*message) || message->nlmsg_len < sizeof(*message) ||
	    message->nlmsg_len > size || message->nlmsg_len % MNL_ALIGNTO != 0)
		return -EBADMSG;
	if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) &&
	    message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE))
		return -ENOMSG;
	if (message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*header))
		return -EBADMSG;
	header = mnl_nlmsg_get_payload(message);
	flow.family = header->nfgen_family;
	if (flow.family != AF_INET && flow.family != AF_INET6)
		return -ENOMSG;
	mnl_attr_for_each(attribute, message, sizeof(*header))
	{
		r = take_attribute(attribute, &flow, &tuples);
		if (r < 0)
			return r;
	}
	if (tuples != 3)
		return -EBADMSG;
	*ret = flow;
	return 0;
}

/* ---- the kernel ---- */

static void set_option(int fd, int level, int name, int value)
{
	/* Without them more is lost in a flood, and that is told. */
	(void) setsockopt(fd, level, name, &value, sizeof(value));
}

int conntrack_watch(void)
{
	AUTO(fd_close)
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int group = NFNLGRP_CONNTRACK_DESTROY;

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER);
	if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* How many messages this socket had no room for, since it was opened. */
static uint32_t count_drops(int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = {};
	socklen_t size = sizeof(info);

	return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &size) == 0 &&
			       size > SK_MEMINFO_DROPS * sizeof(info[0])
		       ? info[SK_MEMINFO_DROPS]
		       : 0;
}

static void take_messages(const void *buffer, size_t size, conntrack_fn fn, void *data)
{
	const struct nlmsghdr *message = buffer;
	int left = (int) size;

	for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
		struct conntrack_flow flow;

		if (conntrack_decode(message, message->nlmsg_len, &flow) == 0)
			fn(&flow, data);
	}
}

int conntrack_read(int fd, size_t max, conntrack_fn fn, void *data, uint32_t *ret_lost)
{
	_Alignas(8) char buffer[MESSAGE_MAX];
	int more = 1;

	for (size_t i = 0; i < max && more; i++) {
		struct sockaddr_nl from = {};
		socklen_t size_of_from = sizeof(from);
		ssize_t size = recvfrom(fd, buffer, sizeof(buffer), MSG_TRUNC,
					(struct sockaddr *) &from, &size_of_from);

		if (size < 0)
			more = errno == EINTR || errno == ENOBUFS;
		else if ((size_t) size <= sizeof(buffer) && from.nl_pid == 0)
			take_messages(buffer, (size_t) size, fn, data);
	}
	*ret_lost = count_drops(fd);
	return more;
}

struct dump {
	conntrack_fn fn;
	void *data;
};

static int take_dumped(const struct nlmsghdr *message, void *data)
{
	const struct dump *dump = data;
	struct conntrack_flow flow;

	if (conntrack_decode(message, message->nlmsg_len, &flow) == 0)
		dump->fn(&flow, dump->data);
	return 0;
}

int conntrack_dump(struct netlink *nl, conntrack_fn fn, void *data)
{
	struct dump dump = { fn, data };
	struct nlmsghdr *message =
		netlink_begin(nl, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	struct nfgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->nfgen_family = AF_UNSPEC;
	header->version = NFNETLINK_V0;
	return netlink_query(nl, message, take_dumped, &dump);
}
