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
#include "kern/conntrack.h"
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

static bool tcp_is_live(uint8_t state)
{
	return state >= TCP_CONNTRACK_SYN_SENT && state <= TCP_CONNTRACK_CLOSE_WAIT;
}

/* As the kernel wrote it, to be given back to it. */
static const struct nlattr *find_original(const struct nlmsghdr *message)
{
	const struct nlattr *attribute;

	mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attribute) == CTA_TUPLE_ORIG)
			return attribute;
	}
	return NULL;
}

static int take_look(const struct nlmsghdr *message, void *data)
{
	struct look *look = data;
	struct conntrack_flow seen;
	struct nft_flow flow;

	/* Older kernels know no filter. */
	if (conntrack_decode(message, message->nlmsg_len, &seen) < 0 ||
	    seen.protocol != look->protocol || seen.there.destination_port != look->port)
		return 0;
	flow.live = look->protocol != IPPROTO_TCP ||
		    (seen.has_tcp_state && tcp_is_live(seen.tcp_state));
	memcpy(flow.to, seen.there.destination, sizeof(flow.to));
	memcpy(flow.from, seen.back.source, sizeof(flow.from));
	flow.from_port = seen.back.source_port;
	if (look->fn(&flow, look->data) && look->tuples.size < FLOWS_SIZE_MAX) {
		const struct nlattr *original = find_original(message);

		strbuf_append(&look->tuples, original, MNL_ALIGN(original->nla_len));
	}
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

static uint16_t source_port(const struct conntrack_way *way)
{
	return way->icmp_id ? way->icmp_id : way->source_port;
}

static bool is_first(const struct conntrack_flow *flow, const struct nft_flow_ends *ends)
{
	size_t size = route_ip_size(&ends->source);

	return flow->protocol == ends->protocol && flow->family == ends->source.family &&
	       source_port(&flow->there) == ends->source_port &&
	       flow->there.destination_port == ends->destination_port &&
	       memcmp(flow->there.source, ends->source.bytes, size) == 0 &&
	       memcmp(flow->there.destination, ends->destination.bytes, size) == 0;
}

static int take_search(const struct nlmsghdr *message, void *data)
{
	struct search *search = data;
	struct conntrack_flow flow;

	if (search->found || conntrack_decode(message, message->nlmsg_len, &flow) < 0 ||
	    !is_first(&flow, search->first))
		return 0;
	search->found = true;
	search->reply = (struct nft_flow_ends){ .source = search->first->source,
						.destination = search->first->source,
						.protocol = flow.protocol,
						.source_port = source_port(&flow.back),
						.destination_port = flow.back.destination_port };
	memcpy(search->reply.source.bytes, flow.back.source, sizeof(flow.back.source));
	memcpy(search->reply.destination.bytes, flow.back.destination,
	       sizeof(flow.back.destination));
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
