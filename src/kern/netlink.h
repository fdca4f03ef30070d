#pragma once
/*
 * kern/netlink.h - one netlink socket: send a request, hear the answer.
 *
 *	struct nlmsghdr *m = netlink_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
 *	mnl_nlmsg_put_extra_header(m, sizeof(struct ifinfomsg)); mnl_attr_put_...(m, ...);
 *	r = netlink_call(nl, m);
 *
 * Attributes are written and read with libmnl.  Used by link, route and nft.  A socket stays in the
 * network namespace that its thread was in when it was opened.  Not thread-safe: the owner of a
 * struct netlink locks.  Answers that belong to no open request are skipped, so an error leaves the
 * socket usable.
 */
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct netlink;

/* Called for each answer; a value < 0 ends the query with it (what is left is read and dropped). */
typedef int (*netlink_answer_fn)(const struct nlmsghdr *message, void *data);

enum { NETLINK_MESSAGE_MAX = 4096 };

/* `protocol` is NETLINK_ROUTE or NETLINK_NETFILTER. */
int netlink_open(int protocol, struct netlink **ret);
void netlink_free(struct netlink *nl);
DEFINE_AUTO(struct netlink *, netlink_free)

/*
 * Begins a request in the socket's own buffer of NETLINK_MESSAGE_MAX bytes, valid until the next
 * call.  NLM_F_REQUEST is added.
 */
struct nlmsghdr *netlink_begin(struct netlink *nl, uint16_t type, uint16_t flags);

/* The number of the next request, for messages that are built elsewhere. */
uint32_t netlink_next_seq(struct netlink *nl);

/* Sends and waits for the acknowledgement: 0 or the kernel's -errno. */
int netlink_call(struct netlink *nl, struct nlmsghdr *message);

/*
 * Sends and hands every answer to `answer`.  With NLM_F_DUMP in the flags until the list is
 * complete
 * (-EINTR when the list changed meanwhile: the caller may begin anew), else until the
 * acknowledgement.
 */
int netlink_query(struct netlink *nl, struct nlmsghdr *message, netlink_answer_fn answer,
		  void *data);

/*
 * Sends an nfnetlink batch whose first and last numbers are given; the last message but one must
 * ask for an acknowledgement, and `acknowledged_seq` is its number.  Returns 0
 * or the first error of any message in it.
 */
int netlink_send_batch(struct netlink *nl, const void *data, size_t size, uint32_t first_seq,
		       uint32_t acknowledged_seq);

/* A number of netfilter's, which sends the high byte first; 0 when the attribute is too short. */
uint16_t netlink_be16(const struct nlattr *attribute);
uint32_t netlink_be32(const struct nlattr *attribute);
uint64_t netlink_be64(const struct nlattr *attribute);

/* What the kernel said about the last error, "" when nothing; borrowed until the next call. */
const char *netlink_detail(const struct netlink *nl);
