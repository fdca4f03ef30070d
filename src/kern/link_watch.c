#include "kern/link_watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "kern/rtnl_watch.h"

enum { BUFFER_SIZE = 32768 };

int link_watch(void)
{
	AUTO(fd_close)
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

void link_watch_read(int fd, link_watch_fn fn, void *data)
{
	_Alignas(8) char buffer[BUFFER_SIZE];

	for (;;) {
		struct sockaddr_nl from = {};
		socklen_t size_of_from = sizeof(from);
		ssize_t size = recvfrom(fd, buffer, sizeof(buffer), MSG_TRUNC,
					(struct sockaddr *) &from, &size_of_from);
		const struct nlmsghdr *message = (const void *) buffer;
		int left = (int) size;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno != ENOBUFS)
			return;
		if (size < 0 || (size_t) size > sizeof(buffer)) {
			fn(NULL, false, data);
			continue;
		}
		for (; from.nl_pid == 0 && mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left)) {
			struct link link;

			if (message->nlmsg_type != RTM_NEWLINK &&
			    message->nlmsg_type != RTM_DELLINK)
				continue;
			if (link_decode(message, &link) == 0)
				fn(&link, message->nlmsg_type == RTM_DELLINK, data);
		}
	}
}

int link_watch_aliases(void)
{
	/* Of each message its type and the length of the prefix decide. */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELADDR), 0, 4),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS,
			 MNL_NLMSG_HDRLEN + offsetof(struct ifaddrmsg, ifa_prefixlen)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 32, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 128, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	return rtnl_watch(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, code, ARRAY_COUNT(code));
}

int link_watch_queues(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELQDISC), 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELTFILTER), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	return rtnl_watch(RTMGRP_TC, code, ARRAY_COUNT(code));
}
