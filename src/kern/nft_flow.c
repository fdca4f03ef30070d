#include "kern/nft_flow.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "kern/netlink.h"

enum {
	FLOWS_SIZE_MAX = 8 * 1024 * 1024,
	/* From the kernel's net/netfilter/nf_internals.h: which parts of the tuple count. */
	FILTER_PROTO_NUM = 1 << 3,
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

int nft_flow_forget(struct netlink *nl, int family, uint8_t protocol, uint16_t port)
{
	AUTO(strbuf_done) struct strbuf tuples = {};
	struct nlmsghdr *message;
	int r;

	/* Only newer kernels can delete by filter; all that have nft can list by it. */
	message = netlink_begin(nl, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	put_header(message, (uint8_t) family);
	put_flow(message, protocol, port);
	r = netlink_query(nl, message, take_flow, &tuples);
	for (size_t at = 0; at < tuples.size && r == 0;) {
		const struct nlattr *tuple = (const void *) (tuples.data + at);

		at += MNL_ALIGN(tuple->nla_len);
		r = delete_flow(nl, (uint8_t) family, tuple);
		if (r == -ENOENT)
			r = 0; /* it ended by itself */
	}
	return r;
}
