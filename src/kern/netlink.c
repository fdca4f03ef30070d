#include "kern/netlink.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/mem.h"

enum {
	ANSWER_MAX = 32768,             /* as much as the kernel puts into one part of a list */
	SEND_BUFFER = 64 * 1024 * 1024, /* a whole ruleset is one message */
	ANSWER_TIMEOUT_S = 20, /* the kernel answers before send() returns; this is a seat belt */
};

struct netlink {
	int fd;
	uint32_t seq;
	char detail[160];
	_Alignas(8) char message[NETLINK_MESSAGE_MAX];
	_Alignas(8) char answer[ANSWER_MAX];
};

/* One request in progress. */
struct wait {
	uint32_t first_seq, last_seq;
	netlink_answer_fn answer;
	void *data;
	bool ended;
	bool interrupted;
	int result; /* first error */
};

static void set_option(int fd, int level, int name, int value)
{
	/* All options here are comforts: an old kernel that lacks one gives plainer errors. */
	(void) setsockopt(fd, level, name, &value, sizeof(value));
}

int netlink_open(int protocol, struct netlink **ret)
{
	AUTO(netlink_free) struct netlink *nl = mem_new0(struct netlink);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };

	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (nl->fd < 0)
		return -errno;
	if (bind(nl->fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	if (setsockopt(nl->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	set_option(nl->fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	set_option(nl->fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	set_option(nl->fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
	set_option(nl->fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER);
	*ret = TAKE_PTR(nl);
	return 0;
}

void netlink_free(struct netlink *nl)
{
	if (!nl)
		return;
	fd_close(nl->fd);
	free(nl);
}

uint32_t netlink_next_seq(struct netlink *nl)
{
	if (++nl->seq == 0)
		nl->seq = 1;
	return nl->seq;
}

struct nlmsghdr *netlink_begin(struct netlink *nl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(nl->message);

	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	return message;
}

const char *netlink_detail(const struct netlink *nl)
{
	return nl->detail;
}

static int find_detail(const struct nlattr *attribute, void *data)
{
	struct netlink *nl = data;

	if (mnl_attr_get_type(attribute) == NLMSGERR_ATTR_MSG &&
	    mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
		snprintf(nl->detail, sizeof(nl->detail), "%s", mnl_attr_get_str(attribute));
	return MNL_CB_OK;
}

/* Returns the code of an NLMSG_ERROR and keeps its text. */
static int error_code(struct netlink *nl, const struct nlmsghdr *message)
{
	const struct nlmsgerr *body = mnl_nlmsg_get_payload(message);
	size_t skip = sizeof(*body);

	if (message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*body))
		return -EBADMSG;
	if (body->error && (message->nlmsg_flags & NLM_F_ACK_TLVS)) {
		if (!(message->nlmsg_flags & NLM_F_CAPPED) &&
		    body->msg.nlmsg_len >= MNL_NLMSG_HDRLEN)
			skip += body->msg.nlmsg_len - MNL_NLMSG_HDRLEN;
		if (message->nlmsg_len > MNL_NLMSG_HDRLEN + skip)
			(void) mnl_attr_parse(message, (unsigned int) skip, find_detail, nl);
	}
	return body->error;
}

static void fail(struct wait *wait, int r)
{
	if (wait->result == 0)
		wait->result = r;
}

static void take_message(struct netlink *nl, struct wait *wait, const struct nlmsghdr *message)
{
	if (message->nlmsg_seq - wait->first_seq > wait->last_seq - wait->first_seq)
		return; /* of a request that was given up */
	if (message->nlmsg_flags & NLM_F_DUMP_INTR)
		wait->interrupted = true;
	if (message->nlmsg_type == NLMSG_ERROR) {
		int r = error_code(nl, message);

		if (r < 0)
			fail(wait, r);
		if (message->nlmsg_seq == wait->last_seq ||
		    (r < 0 && message->nlmsg_seq == wait->first_seq))
			wait->ended = true;
		return;
	}
	if (message->nlmsg_type == NLMSG_DONE) {
		int r = message->nlmsg_len >= MNL_NLMSG_HDRLEN + sizeof(int)
				? *(const int *) mnl_nlmsg_get_payload(message)
				: 0;

		if (r < 0)
			fail(wait, r);
		wait->ended = true;
		return;
	}
	if (message->nlmsg_type >= NLMSG_MIN_TYPE && wait->answer && wait->result == 0) {
		int r = wait->answer(message, wait->data);

		if (r < 0)
			fail(wait, r);
	}
}

static int receive(struct netlink *nl, struct wait *wait)
{
	while (!wait->ended) {
		ssize_t size = recv(nl->fd, nl->answer, sizeof(nl->answer), MSG_TRUNC);
		const struct nlmsghdr *message = (const void *) nl->answer;
		int left;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if ((size_t) size > sizeof(nl->answer))
			return -EMSGSIZE;
		for (left = (int) size; mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left))
			take_message(nl, wait, message);
	}
	if (wait->result == 0 && wait->interrupted)
		return -EINTR;
	return wait->result;
}

static int send_all(struct netlink *nl, const void *data, size_t size)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t sent;

	nl->detail[0] = '\0';
	do
		sent = sendto(nl->fd, data, size, 0, (struct sockaddr *) &kernel, sizeof(kernel));
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

int netlink_query(struct netlink *nl, struct nlmsghdr *message, netlink_answer_fn answer,
		  void *data)
{
	struct wait wait = { .answer = answer, .data = data };
	int r;

	if ((message->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		message->nlmsg_flags |= NLM_F_ACK;
	message->nlmsg_seq = wait.first_seq = wait.last_seq = netlink_next_seq(nl);
	r = send_all(nl, message, message->nlmsg_len);
	return r < 0 ? r : receive(nl, &wait);
}

int netlink_call(struct netlink *nl, struct nlmsghdr *message)
{
	return netlink_query(nl, message, NULL, NULL);
}

int netlink_send_batch(struct netlink *nl, const void *data, size_t size, uint32_t first_seq,
		       uint32_t acknowledged_seq)
{
	struct wait wait = { .first_seq = first_seq, .last_seq = acknowledged_seq };
	int r = send_all(nl, data, size);

	if (r == 0)
		r = receive(nl, &wait);
	return r;
}

uint16_t netlink_be16(const struct nlattr *attribute)
{
	uint16_t value = 0;

	if (mnl_attr_get_payload_len(attribute) >= sizeof(value))
		memcpy(&value, mnl_attr_get_payload(attribute), sizeof(value));
	return ntohs(value);
}

uint32_t netlink_be32(const struct nlattr *attribute)
{
	uint32_t value = 0;

	if (mnl_attr_get_payload_len(attribute) >= sizeof(value))
		memcpy(&value, mnl_attr_get_payload(attribute), sizeof(value));
	return ntohl(value);
}

uint64_t netlink_be64(const struct nlattr *attribute)
{
	uint64_t value = 0;

	if (mnl_attr_get_payload_len(attribute) >= sizeof(value))
		memcpy(&value, mnl_attr_get_payload(attribute), sizeof(value));
	return be64toh(value);
}
