#include "kern/nft_flow.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "kern/netlink.h"

enum {
	FLOWS_SIZE_MAX = 8 * 1024 * 1024,
	/* From the kernel's net/netfilter/nf_internals.h: which parts of the tuple count. */
	FILTER_PROTO_NUM = 1 << 3,
	FILTER_SRC_PORT = 1 << 4,
	FILTER_DST_PORT = 1 << 5,
};

static void put_header(struct nlmsghdr *message, uint8_t family)
{
	struct nfgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->nfgen_family = family;
	header->version = NFNETLINK_V0;
}

/* The flow's first packet, as far as the filter looks at it. */
static void put_flow(struct nlmsghdr *message, uint8_t protocol, uint16_t port)
{
	struct nlattr *tuple = mnl_attr_nest_start(message, CTA_TUPLE_ORIG);
	struct nlattr *part = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);

	mnl_attr_put_u8(message, CTA_PROTO_NUM, protocol);
	mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, htons(port));
	mnl_attr_nest_end(message, part);
	mnl_attr_nest_end(message, tuple);
	part = mnl_attr_nest_start(message, CTA_FILTER);
	mnl_attr_put_u32(message, CTA_FILTER_ORIG_FLAGS, FILTER_PROTO_NUM | FILTER_DST_PORT);
	mnl_attr_put_u32(message, CTA_FILTER_REPLY_FLAGS, 0);
	mnl_attr_nest_end(message, part);
}

/* Original tuples of flows, one after the other as the kernel wrote them. */
static int take_flow(const struct nlmsghdr *message, void *data)
{
	struct strbuf *tuples = data;
	const struct nlattr *attribute;

	if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg) ||
	    tuples->size > FLOWS_SIZE_MAX)
		return 0;
	mnl_attr_for_each(attribute, message,
			  sizeof(struct nfgenmsg)) if (mnl_attr_get_type(attribute) ==
						       CTA_TUPLE_ORIG)
		strbuf_append(tuples, attribute, MNL_ALIGN(attribute->nla_len));
	return 0;
}

static int delete_flow(struct netlink *nl, uint8_t family, const struct nlattr *tuple)
{
	struct nlmsghdr *message =
		netlink_begin(nl, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0);

	put_header(message, family);
	if (!mnl_attr_put_check(message, NETLINK_MESSAGE_MAX, CTA_TUPLE_ORIG | NLA_F_NESTED,
				mnl_attr_get_payload_len(tuple), mnl_attr_get_payload(tuple)))
		return -EMSGSIZE;
	return netlink_call(nl, message);
}

/* Lists the flows by the kernel's filter; what passes it is for the caller to see. */
static int dump(struct netlink *nl, int family, uint8_t protocol, uint16_t port,
		netlink_answer_fn answer, void *data)
{
	/* Only newer kernels can delete by filter; all that have nft can list by it. */
	struct nlmsghdr *message =
		netlink_begin(nl, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP);

	put_header(message, (uint8_t) family);
	put_flow(message, protocol, port);
	return netlink_query(nl, message, answer, data);
}

static int delete_all(struct netlink *nl, int family, const struct strbuf *tuples)
{
	int r = 0;

	for (size_t at = 0; at < tuples->size && r == 0;) {
		const struct nlattr *tuple = (const void *) (tuples->data + at);

		at += MNL_ALIGN(tuple->nla_len);
		r = delete_flow(nl, (uint8_t) family, tuple);
		if (r == -ENOENT)
			r = 0; /* it ended by itself */
	}
	return r;
}

int nft_flow_forget(struct netlink *nl, int family, uint8_t protocol, uint16_t port)
{
	AUTO(strbuf_done) struct strbuf tuples = {};
	int r = dump(nl, family, protocol, port, take_flow, &tuples);

	return r < 0 ? r : delete_all(nl, family, &tuples);
}

/* ---- looking at flows ---- */

struct look {
	uint8_t protocol;
	uint16_t port;
	bool (*fn)(const struct nft_flow *flow, void *data);
	void *data;
	struct strbuf tuples; /* of those to be forgotten */
};

/* One direction of a flow. */
struct tuple {
	uint8_t source[16], destination[16];
	uint8_t protocol;
	uint16_t source_port, destination_port;
};

static void copy(const struct nlattr *attribute, void *to, size_t size)
{
	size_t given = mnl_attr_get_payload_len(attribute);

	memcpy(to, mnl_attr_get_payload(attribute), given < size ? given : size);
}

static uint16_t get_port(const struct nlattr *attribute)
{
	uint16_t port = 0;

	copy(attribute, &port, sizeof(port));
	return ntohs(port);
}

static void take_part(const struct nlattr *part, struct tuple *tuple)
{
	bool addresses = mnl_attr_get_type(part) == CTA_TUPLE_IP;
	const struct nlattr *attribute;

	if (!addresses && mnl_attr_get_type(part) != CTA_TUPLE_PROTO)
		return;
	mnl_attr_for_each_nested(attribute, part)
	{
		uint16_t type = mnl_attr_get_type(attribute);

		if (addresses && (type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC))
			copy(attribute, tuple->source, sizeof(tuple->source));
		else if (addresses && (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST))
			copy(attribute, tuple->destination, sizeof(tuple->destination));
		else if (!addresses && type == CTA_PROTO_NUM)
			copy(attribute, &tuple->protocol, 1);
		else if (!addresses && (type == CTA_PROTO_SRC_PORT || type == CTA_PROTO_ICMP_ID ||
					type == CTA_PROTO_ICMPV6_ID))
			tuple->source_port = get_port(attribute);
		else if (!addresses && type == CTA_PROTO_DST_PORT)
			tuple->destination_port = get_port(attribute);
	}
}

static void take_tuple(const struct nlattr *nest, struct tuple *tuple)
{
	const struct nlattr *part;

	mnl_attr_for_each_nested(part, nest)
	{
		take_part(part, tuple);
	}
}

static bool tcp_is_live(const struct nlattr *info)
{
	const struct nlattr *tcp, *attribute;
	uint8_t state = TCP_CONNTRACK_NONE;

	mnl_attr_for_each_nested(tcp, info)
	{
		if (mnl_attr_get_type(tcp) != CTA_PROTOINFO_TCP)
			continue;
		mnl_attr_for_each_nested(attribute, tcp)
		{
			if (mnl_attr_get_type(attribute) == CTA_PROTOINFO_TCP_STATE)
				copy(attribute, &state, sizeof(state));
		}
	}
	return state >= TCP_CONNTRACK_SYN_SENT && state <= TCP_CONNTRACK_CLOSE_WAIT;
}

static int take_look(const struct nlmsghdr *message, void *data)
{
	struct look *look = data;
	struct tuple there = {}, back = {};
	struct nft_flow flow = { .live = look->protocol != IPPROTO_TCP };
	const struct nlattr *attribute, *original = NULL;

	if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg))
	{
		uint16_t type = mnl_attr_get_type(attribute);

		if (type == CTA_TUPLE_ORIG) {
			original = attribute;
			take_tuple(attribute, &there);
		} else if (type == CTA_TUPLE_REPLY) {
			take_tuple(attribute, &back);
		} else if (type == CTA_PROTOINFO && look->protocol == IPPROTO_TCP) {
			flow.live = tcp_is_live(attribute);
		}
	}
	/* Older kernels know no filter. */
	if (!original || there.protocol != look->protocol || there.destination_port != look->port)
		return 0;
	memcpy(flow.to, there.destination, sizeof(flow.to));
	memcpy(flow.from, back.source, sizeof(flow.from));
	flow.from_port = back.source_port;
	if (look->fn(&flow, look->data) && look->tuples.size < FLOWS_SIZE_MAX)
		strbuf_append(&look->tuples, original, MNL_ALIGN(original->nla_len));
	return 0;
}

int nft_flow_each(struct netlink *nl, int family, uint8_t protocol, uint16_t port,
		  bool (*fn)(const struct nft_flow *flow, void *data), void *data)
{
	struct look look = { .protocol = protocol, .port = port, .fn = fn, .data = data };
	int r = dump(nl, family, protocol, port, take_look, &look), r2;

	r2 = delete_all(nl, family, &look.tuples);
	strbuf_done(&look.tuples);
	return r < 0 ? r : r2;
}

/* ---- one flow ---- */

struct search {
	const struct nft_flow_ends *first;
	struct nft_flow_ends reply;
	bool found;
};

static bool tuple_is(const struct tuple *tuple, const struct nft_flow_ends *ends)
{
	size_t size = route_ip_size(&ends->source);

	return tuple->protocol == ends->protocol && tuple->source_port == ends->source_port &&
	       tuple->destination_port == ends->destination_port &&
	       memcmp(tuple->source, ends->source.bytes, size) == 0 &&
	       memcmp(tuple->destination, ends->destination.bytes, size) == 0;
}

static int take_search(const struct nlmsghdr *message, void *data)
{
	struct search *search = data;
	struct tuple there = {}, back = {};
	const struct nlattr *attribute;

	if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attribute) == CTA_TUPLE_ORIG)
			take_tuple(attribute, &there);
		else if (mnl_attr_get_type(attribute) == CTA_TUPLE_REPLY)
			take_tuple(attribute, &back);
	}
	if (search->found || !tuple_is(&there, search->first))
		return 0;
	search->found = true;
	search->reply = (struct nft_flow_ends){ .source = search->first->source,
						.destination = search->first->source,
						.protocol = back.protocol,
						.source_port = back.source_port,
						.destination_port = back.destination_port };
	memcpy(search->reply.source.bytes, back.source, sizeof(back.source));
	memcpy(search->reply.destination.bytes, back.destination, sizeof(back.destination));
	return 0;
}

int nft_flow_find(struct netlink *nl, const struct nft_flow_ends *first,
		  struct nft_flow_ends *ret_reply)
{
	struct search search = { .first = first };
	bool ports = first->protocol == IPPROTO_TCP || first->protocol == IPPROTO_UDP;
	struct nlmsghdr *message =
		netlink_begin(nl, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	struct nlattr *tuple, *part;
	int r;

	put_header(message, (uint8_t) first->source.family);
	/* Not by addresses: the kernel's filter lets those of IPv6 pass that are not alike. */
	tuple = mnl_attr_nest_start(message, CTA_TUPLE_ORIG);
	part = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(message, CTA_PROTO_NUM, first->protocol);
	if (ports) {
		mnl_attr_put_u16(message, CTA_PROTO_SRC_PORT, htons(first->source_port));
		mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, htons(first->destination_port));
	}
	mnl_attr_nest_end(message, part);
	mnl_attr_nest_end(message, tuple);
	part = mnl_attr_nest_start(message, CTA_FILTER);
	mnl_attr_put_u32(message, CTA_FILTER_ORIG_FLAGS,
			 FILTER_PROTO_NUM | (ports ? FILTER_SRC_PORT | FILTER_DST_PORT : 0));
	mnl_attr_put_u32(message, CTA_FILTER_REPLY_FLAGS, 0);
	mnl_attr_nest_end(message, part);
	r = netlink_query(nl, message, take_search, &search);
	if (r < 0)
		return r;
	if (!search.found)
		return -ENOENT;
	*ret_reply = search.reply;
	return 0;
}
