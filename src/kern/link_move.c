#include "kern/link_move.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/ns.h"

enum { REQUEST_MAX = 512, ANSWER_MAX = 32768, ADDRESSES_MAX = 64 };

/* What RTM_NEWADDR needs to make an address again. */
struct address {
	struct ifaddrmsg header;
	struct {
		uint8_t size;
		uint8_t bytes[16];
	} parts[3]; /* IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST */
};

static const unsigned short part_types[] = { IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST };

struct addresses {
	struct address list[ADDRESSES_MAX];
	size_t count;
};

union request {
	struct nlmsghdr header;
	uint8_t bytes[REQUEST_MAX];
};

static int open_socket(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

static int index_of(int fd, const char *name)
{
	struct ifreq request = {};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return ioctl(fd, SIOCGIFINDEX, &request) < 0 ? -errno : request.ifr_ifindex;
}

static void *begin(union request *request, uint16_t type, uint16_t flags, size_t size)
{
	memset(request, 0, sizeof(*request));
	request->header.nlmsg_len = (uint32_t) NLMSG_LENGTH(size);
	request->header.nlmsg_type = type;
	request->header.nlmsg_flags = (uint16_t) (NLM_F_REQUEST | flags);
	request->header.nlmsg_seq = 1;
	return NLMSG_DATA(&request->header);
}

/* The callers' attributes are small: all of them fit. */
static void put(union request *request, unsigned short type, const void *data, size_t size)
{
	size_t at = NLMSG_ALIGN(request->header.nlmsg_len);
	struct rtattr *attribute = (struct rtattr *) (void *) (request->bytes + at);

	attribute->rta_type = type;
	attribute->rta_len = (unsigned short) RTA_LENGTH(size);
	memcpy(RTA_DATA(attribute), data, size);
	request->header.nlmsg_len = (uint32_t) (at + RTA_ALIGN(attribute->rta_len));
}

static ssize_t receive(int fd, void *buffer, size_t size)
{
	ssize_t n;

	do
		n = recv(fd, buffer, size, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Sends, and waits for the acknowledgement. */
static int call(int fd, union request *request)
{
	union request answer;
	const struct nlmsgerr *result = NLMSG_DATA(&answer.header);
	ssize_t n;

	request->header.nlmsg_flags |= NLM_F_ACK;
	if (send(fd, request, request->header.nlmsg_len, 0) < 0)
		return -errno;
	n = receive(fd, &answer, sizeof(answer));
	if (n < 0)
		return (int) n;
	if ((size_t) n < NLMSG_LENGTH(sizeof(*result)) || answer.header.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return result->error;
}

static void take_address(const struct nlmsghdr *message, int index, struct addresses *ret)
{
	const struct ifaddrmsg *header = NLMSG_DATA(message);
	struct address address = { .header = *header };
	uint32_t flags = header->ifa_flags;
	int left = (int) IFA_PAYLOAD(message);

	if ((int) header->ifa_index != index || header->ifa_scope != RT_SCOPE_UNIVERSE ||
	    ret->count == ADDRESSES_MAX)
		return;
	for (const struct rtattr *a = IFA_RTA(header); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFA_FLAGS && RTA_PAYLOAD(a) >= sizeof(flags))
			memcpy(&flags, RTA_DATA(a), sizeof(flags));
		for (size_t i = 0; i < ARRAY_COUNT(part_types); i++) {
			if (a->rta_type != part_types[i] || RTA_PAYLOAD(a) > 16)
				continue;
			address.parts[i].size = (uint8_t) RTA_PAYLOAD(a);
			memcpy(address.parts[i].bytes, RTA_DATA(a), RTA_PAYLOAD(a));
		}
	}
	if (flags & IFA_F_PERMANENT)
		ret->list[ret->count++] = address;
}

static int read_addresses(int fd, int index, struct addresses *ret)
{
	union {
		struct nlmsghdr header;
		uint8_t bytes[ANSWER_MAX];
	} answer;
	union request request;

	begin(&request, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	if (send(fd, &request, request.header.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = receive(fd, &answer, sizeof(answer));
		size_t left = (size_t) n;

		if (n < 0)
			return (int) n;
		for (const struct nlmsghdr *m = &answer.header; NLMSG_OK(m, left);
		     m = NLMSG_NEXT(m, left)) {
			if (m->nlmsg_type == NLMSG_DONE)
				return 0;
			if (m->nlmsg_type == NLMSG_ERROR)
				return -EIO;
			if (m->nlmsg_type == RTM_NEWADDR &&
			    m->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifaddrmsg)))
				take_address(m, index, ret);
		}
	}
}

static int move(int fd, int index, int netns_fd, const char *new_name)
{
	union request request;
	struct ifinfomsg *header = begin(&request, RTM_NEWLINK, 0, sizeof(*header));
	uint32_t ns = (uint32_t) netns_fd;

	header->ifi_index = index;
	put(&request, IFLA_NET_NS_FD, &ns, sizeof(ns));
	put(&request, IFLA_IFNAME, new_name, strlen(new_name) + 1);
	return call(fd, &request);
}

static int add_address(int fd, int index, const struct address *address)
{
	union request request;
	struct ifaddrmsg *header =
		begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*header));

	*header = address->header;
	header->ifa_flags = 0;
	header->ifa_index = (uint32_t) index;
	for (size_t i = 0; i < ARRAY_COUNT(part_types); i++)
		if (address->parts[i].size)
			put(&request, part_types[i], address->parts[i].bytes,
			    address->parts[i].size);
	return call(fd, &request);
}

static int switch_on(int fd, int index)
{
	union request request;
	struct ifinfomsg *header = begin(&request, RTM_NEWLINK, 0, sizeof(*header));

	header->ifi_index = index;
	header->ifi_change = header->ifi_flags = IFF_UP;
	return call(fd, &request);
}

/* A socket that belongs to the other namespace. */
static int open_socket_in(int netns_fd)
{
	AUTO(fd_close) int own = ns_open_own(CLONE_NEWNET);
	int fd;

	if (own < 0)
		return own;
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	fd = open_socket();
	if (setns(own, CLONE_NEWNET) < 0) {
		fd_close(fd);
		return -errno;
	}
	return fd;
}

int link_move(const char *name, int netns_fd, const char *new_name)
{
	AUTO(fd_close) int here = open_socket();
	AUTO(fd_close) int there = open_socket_in(netns_fd);
	struct addresses addresses = {};
	int index, r;

	if (here < 0 || there < 0)
		return here < 0 ? here : there;
	index = index_of(here, name);
	if (index < 0)
		return index;
	r = read_addresses(here, index, &addresses);
	if (r == 0)
		r = move(here, index, netns_fd, new_name);
	if (r < 0)
		return r;
	index = index_of(there, new_name);
	if (index < 0)
		return index;
	for (size_t i = 0; r == 0 && i < addresses.count; i++)
		r = add_address(there, index, &addresses.list[i]);
	return r < 0 ? r : switch_on(there, index);
}
