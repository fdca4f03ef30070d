#include "kern/link_watch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "kern/link.h"
#include "kern/netlink.h"

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
