#include "kern/rtnl_watch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "base/cleanup.h"

int rtnl_watch(uint32_t groups, struct sock_filter *code, unsigned short count)
{
	struct sock_fprog program = { .len = count, .filter = code };
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
	AUTO(fd_close)
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ||
	    bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

bool rtnl_watch_read(int fd)
{
	char buffer[256];
	bool any = false;

	for (;;) {
		ssize_t size = recv(fd, buffer, sizeof(buffer), MSG_TRUNC);

		/* ENOBUFS: there were more than fit. */
		if (size >= 0 || errno == ENOBUFS)
			any = true;
		else if (errno != EINTR)
			return any;
	}
}
