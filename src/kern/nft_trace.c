#include "kern/nft_trace.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "kern/netlink.h"
#include "kern/nft.h"

enum {
	RECEIVE_BUFFER = 4 * 1024 * 1024,
	MESSAGE_MAX = 8192,
	READ_MAX = 1024, /* messages in one call */
	IPV4_SIZE = 20,
	IPV6_SIZE = 40,
	ARP_SIZE = 28,
	ETHERNET_SIZE = 14,
	TCP_FLAGS_AT = 13,
	ICMP_ID_AT = 4,
};

int nft_trace_open(int *ret_fd)
{
	AUTO(fd_close)
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK,
				       .nl_groups = 1U << (NFNLGRP_NFTRACE - 1) };
	int on = 1, size = RECEIVE_BUFFER;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on)) < 0)
		return -errno;
	/* A comfort: with less of it, less of a busy trace is seen, and that is told. */
	(void) setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* ---- decoding ---- */

static void take_ip(const uint8_t *header, size_t size, struct nft_trace_packet *ret)
{
	unsigned int version = size > 0 ? header[0] >> 4 : 0;

	if (version == 4 && size >= IPV4_SIZE) {
		bool first = !(header[6] & 0x1f) && !header[7];

		ret->source = (struct route_ip){ .family = AF_INET, .prefix = 32 };
		ret->destination = ret->source;
		memcpy(ret->source.bytes, header + 12, 4);
		memcpy(ret->destination.bytes, header + 16, 4);
		/* A later fragment has no ports, whatever stands there. */
		ret->protocol = first ? header[9] : 0;
	} else if (version == 6 && size >= IPV6_SIZE) {
		ret->source = (struct route_ip){ .family = AF_INET6, .prefix = 128 };
		ret->destination = ret->source;
		memcpy(ret->source.bytes, header + 8, 16);
		memcpy(ret->destination.bytes, header + 24, 16);
		ret->protocol = header[6];
	}
}

/* An answer or a question about IPv4 on Ethernet. */
static void take_arp(const uint8_t *header, size_t size, struct nft_trace_packet *ret)
{
	static const uint8_t begin[] = { 0, 1, 8, 0, 6, 4 };

	if (size < ARP_SIZE || memcmp(header, begin, sizeof(begin)) != 0)
		return;
	ret->arp = true;
	ret->source = (struct route_ip){ .family = AF_INET, .prefix = 32 };
	ret->destination = ret->source;
	memcpy(ret->source.bytes, header + 14, 4);
	memcpy(ret->destination.bytes, header + 24, 4);
	/* On its way out of an interface a frame is told without its own header. */
	ret->has_mac = true;
	memcpy(ret->mac, header + 8, LINK_MAC_SIZE);
}

static uint16_t get_16(const uint8_t *bytes)
{
	return (uint16_t) (bytes[0] << 8 | bytes[1]);
}

static void take_transport(const uint8_t *header, size_t size, struct nft_trace_packet *ret)
{
	bool icmp = ret->protocol == IPPROTO_ICMP, icmp6 = ret->protocol == IPPROTO_ICMPV6;

	if ((ret->protocol == IPPROTO_TCP || ret->protocol == IPPROTO_UDP) && size >= 4) {
		ret->source_port = get_16(header);
		ret->destination_port = get_16(header + 2);
		if (ret->protocol == IPPROTO_TCP && size > TCP_FLAGS_AT)
			ret->tcp_flags = header[TCP_FLAGS_AT];
	} else if ((icmp || icmp6) && size >= ICMP_ID_AT + 2) {
		ret->icmp_type = header[0];
		ret->icmp_code = header[1];
		if (icmp ? header[0] == ICMP_ECHO || header[0] == ICMP_ECHOREPLY
			 : header[0] == ICMP6_ECHO_REQUEST || header[0] == ICMP6_ECHO_REPLY)
			ret->source_port = get_16(header + ICMP_ID_AT);
	}
}

static void get_name(const struct nlattr *attribute, char ret[NFT_TRACE_NAME_SIZE])
{
	const char *text = mnl_attr_get_payload(attribute);
	size_t size = strnlen(text, mnl_attr_get_payload_len(attribute));

	size = size < NFT_TRACE_NAME_SIZE ? size : NFT_TRACE_NAME_SIZE - 1;
	memcpy(ret, text, size);
	ret[size] = '\0';
}

static void take_verdict(const struct nlattr *nest, struct nft_trace_event *ret)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, nest)
	{
		if (mnl_attr_get_type(attribute) == NFTA_VERDICT_CODE)
			ret->verdict = (int) netlink_be32(attribute);
		else if (mnl_attr_get_type(attribute) == NFTA_VERDICT_CHAIN)
			get_name(attribute, ret->to);
	}
	/* Those that end the way of a packet may carry more above: a queue's number, a reason. */
	if (ret->verdict > 0)
		ret->verdict &= NF_VERDICT_MASK;
}

/* The parts of a packet, as they were cut by the kernel. */
struct headers {
	const uint8_t *link, *network, *transport;
	size_t link_size, network_size, transport_size;
};

static void get_header(const struct nlattr *attribute, const uint8_t **ret, size_t *ret_size)
{
	*ret = mnl_attr_get_payload(attribute);
	*ret_size = mnl_attr_get_payload_len(attribute);
}

static int take_type(uint32_t type, enum nft_trace_kind *ret)
{
	switch (type) {
	case NFT_TRACETYPE_RULE:
		*ret = NFT_TRACE_RULE;
		return 0;
	case NFT_TRACETYPE_POLICY:
		*ret = NFT_TRACE_POLICY;
		return 0;
	case NFT_TRACETYPE_RETURN:
		*ret = NFT_TRACE_RETURN;
		return 0;
	default:
		return -EBADMSG;
	}
}

static int take_attribute(const struct nlattr *attribute, struct nft_trace_event *ret,
			  struct headers *headers)
{
	switch (mnl_attr_get_type(attribute)) {
	case NFTA_TRACE_TABLE:
		get_name(attribute, ret->table);
		return 0;
	case NFTA_TRACE_CHAIN:
		get_name(attribute, ret->chain);
		return 0;
	case NFTA_TRACE_RULE_HANDLE:
		ret->handle = netlink_be64(attribute);
		return 0;
	case NFTA_TRACE_TYPE:
		return take_type(netlink_be32(attribute), &ret->kind);
	case NFTA_TRACE_VERDICT:
		take_verdict(attribute, ret);
		return 0;
	case NFTA_TRACE_POLICY:
		ret->verdict = (int) (netlink_be32(attribute) & NF_VERDICT_MASK);
		return 0;
	case NFTA_TRACE_ID:
		ret->id = netlink_be32(attribute);
		return 0;
	case NFTA_TRACE_MARK:
		ret->mark = netlink_be32(attribute);
		return 0;
	case NFTA_TRACE_IIF:
		ret->iif = netlink_be32(attribute);
		return 0;
	case NFTA_TRACE_OIF:
		ret->oif = netlink_be32(attribute);
		return 0;
	case NFTA_TRACE_LL_HEADER:
		get_header(attribute, &headers->link, &headers->link_size);
		return 0;
	case NFTA_TRACE_NETWORK_HEADER:
		ret->has_packet = true;
		get_header(attribute, &headers->network, &headers->network_size);
		return 0;
	case NFTA_TRACE_TRANSPORT_HEADER:
		get_header(attribute, &headers->transport, &headers->transport_size);
		return 0;
	default:
		return 0;
	}
}

static void take_headers(const struct headers *headers, struct nft_trace_packet *ret)
{
	take_ip(headers->network, headers->network_size, ret);
	if (!ret->source.family)
		take_arp(headers->network, headers->network_size, ret);
	take_transport(headers->transport, headers->transport_size, ret);
	if (headers->link_size < ETHERNET_SIZE)
		return;
	ret->has_mac = true;
	memcpy(ret->mac, headers->link + LINK_MAC_SIZE, LINK_MAC_SIZE);
}

int nft_trace_decode(const void *message, size_t size, struct nft_trace_event *ret)
{
	const struct nlmsghdr *header = message;
	struct nft_trace_event event = { .nsid = NFT_TRACE_HERE, .kind = NFT_TRACE_RULE };
	struct headers headers = {};
	const struct nlattr *attribute;
	bool typed = false;

	/* Attributes are padded: so is the whole. */
	if (size < MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg) || size > MESSAGE_MAX ||
	    header->nlmsg_len > size || header->nlmsg_len % MNL_ALIGNTO != 0 ||
	    header->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg) ||
	    header->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE))
		return -EBADMSG;
	event.family = ((const struct nfgenmsg *) mnl_nlmsg_get_payload(header))->nfgen_family;
	mnl_attr_for_each(attribute, header, sizeof(struct nfgenmsg))
	{
		int r = take_attribute(attribute, &event, &headers);

		if (r < 0)
			return r;
		typed = typed || mnl_attr_get_type(attribute) == NFTA_TRACE_TYPE;
	}
	if (!typed || !event.table[0] || !event.chain[0])
		return -EBADMSG;
	/* Kernels differ in what they call the end of a chain, and a rule that returns. */
	if (event.kind != NFT_TRACE_POLICY)
		event.kind = event.handle ? NFT_TRACE_RULE : NFT_TRACE_RETURN;
	if (event.has_packet)
		take_headers(&headers, &event.packet);
	*ret = event;
	return 0;
}

/* ---- reading ---- */

/* The namespace that a message is about; none is said of our own. */
static int get_nsid(struct msghdr *received)
{
	int nsid = NFT_TRACE_HERE;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(received); part;
	     part = CMSG_NXTHDR(received, part))
		if (part->cmsg_level == SOL_NETLINK && part->cmsg_type == NETLINK_LISTEN_ALL_NSID &&
		    part->cmsg_len >= CMSG_LEN(sizeof(nsid)))
			memcpy(&nsid, CMSG_DATA(part), sizeof(nsid));
	return nsid;
}

int nft_trace_read(int fd, void (*fn)(const struct nft_trace_event *event, void *data), void *data)
{
	_Alignas(8) char buffer[MESSAGE_MAX], control[CMSG_SPACE(64)];
	int result = 0;

	for (int i = 0; i < READ_MAX; i++) {
		struct iovec part = { buffer, sizeof(buffer) };
		struct sockaddr_nl sender = {};
		struct msghdr received = { .msg_name = &sender,
					   .msg_namelen = sizeof(sender),
					   .msg_iov = &part,
					   .msg_iovlen = 1,
					   .msg_control = control,
					   .msg_controllen = sizeof(control) };
		ssize_t size = recvmsg(fd, &received, 0);
		const struct nlmsghdr *message = (const void *) buffer;
		int left, nsid;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == ENOBUFS) {
			result = -ENOBUFS;
			continue;
		}
		if (size < 0)
			return errno == EAGAIN ? result : -errno;
		/* Nobody but the kernel. */
		if (sender.nl_pid != 0 || (received.msg_flags & MSG_TRUNC))
			continue;
		nsid = get_nsid(&received);
		for (left = (int) size; mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left)) {
			struct nft_trace_event event;

			if (nft_trace_decode(message, message->nlmsg_len, &event) < 0)
				continue;
			event.nsid = nsid;
			fn(&event, data);
		}
	}
	return result;
}

/* ---- where chains stand ---- */

struct hook_walk {
	void (*fn)(const struct nft_hook *hook, void *data);
	void *data;
};

static bool get_hook(const struct nlattr *nest, uint32_t *ret)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, nest)
	{
		if (mnl_attr_get_type(attribute) != NFTA_HOOK_HOOKNUM)
			continue;
		*ret = netlink_be32(attribute);
		return true;
	}
	return false;
}

static int take_chain(const struct nlmsghdr *message, void *data)
{
	const struct hook_walk *walk = data;
	const struct nfgenmsg *header = mnl_nlmsg_get_payload(message);
	char table[NFT_TRACE_NAME_SIZE] = "", chain[NFT_TRACE_NAME_SIZE] = "";
	struct nft_hook hook = { .table = table, .chain = chain };
	const struct nlattr *attribute;
	bool has_hook = false;

	if (message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN) ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*header))
		return 0;
	hook.family = header->nfgen_family;
	mnl_attr_for_each(attribute, message, sizeof(*header))
	{
		uint16_t type = mnl_attr_get_type(attribute);

		if (type == NFTA_CHAIN_TABLE)
			get_name(attribute, table);
		else if (type == NFTA_CHAIN_NAME)
			get_name(attribute, chain);
		else if (type == NFTA_CHAIN_HOOK)
			has_hook = get_hook(attribute, &hook.hook);
	}
	if (has_hook)
		walk->fn(&hook, walk->data);
	return 0;
}

int nft_list_hooks(struct nft *nft, void (*fn)(const struct nft_hook *hook, void *data), void *data)
{
	struct hook_walk walk = { .fn = fn, .data = data };
	struct netlink *nl = nft_netlink(nft);
	struct nlmsghdr *message =
		netlink_begin(nl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, NLM_F_DUMP);
	struct nfgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->nfgen_family = NFPROTO_UNSPEC;
	header->version = NFNETLINK_V0;
	return netlink_query(nl, message, take_chain, &walk);
}

const char *nft_hook_name(uint8_t family, uint32_t hook)
{
	static const char *const names[] = { "prerouting", "input",       "forward",
					     "output",     "postrouting", "ingress" };
	static const char *const device_names[] = { "ingress", "egress" };
	static const char *const arp_names[] = { "input", "output", "forward" };

	if (family == NFPROTO_NETDEV)
		return hook < ARRAY_COUNT(device_names) ? device_names[hook] : "?";
	if (family == NFPROTO_ARP)
		return hook < ARRAY_COUNT(arp_names) ? arp_names[hook] : "?";
	return hook < ARRAY_COUNT(names) ? names[hook] : "?";
}

const char *nft_family_name(uint8_t family)
{
	switch (family) {
	case NFPROTO_INET:
		return "inet";
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	case NFPROTO_BRIDGE:
		return "bridge";
	case NFPROTO_NETDEV:
		return "netdev";
	case NFPROTO_ARP:
		return "arp";
	default:
		return "?";
	}
}
