#include "kern/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"

/*
 * Unix addresses hold 107 bytes.  A longer path is reached through /proc/self/fd of its folder;
 * *ret_dir_fd stays open as long as the address is used.
 */
static int make_address(const char *path, struct sockaddr_un *ret, int *ret_dir_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *slash = strrchr(path, '/');

	if (strlen(path) < sizeof(address.sun_path)) {
		memcpy(address.sun_path, path, strlen(path) + 1);
		*ret = address;
		return 0;
	}
	if (!slash || strlen(slash) > 64)
		return -ENAMETOOLONG;
	AUTO(free) char *folder = mem_strndup(path, (size_t) (slash - path));
	int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	AUTO(free) char *shortened = mem_printf("/proc/self/fd/%d%s", fd, slash);
	memcpy(address.sun_path, shortened, strlen(shortened) + 1);
	*ret_dir_fd = fd;
	*ret = address;
	return 0;
}

int sock_listen(const char *path, int type, mode_t mode)
{
	AUTO(fd_close) int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	AUTO(free) char *fresh = mem_printf("%s.new", path);
	AUTO(fd_close) int dir_fd = -1;
	struct sockaddr_un address;
	int r;

	if (fd < 0)
		return -errno;
	r = make_address(fresh, &address, &dir_fd);
	if (r < 0)
		return r;
	if (unlink(fresh) < 0 && errno != ENOENT)
		return -errno;
	/* It gets its name when it is complete: whoever sees the file can connect. */
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || chmod(fresh, mode) < 0 ||
	    listen(fd, 64) < 0 || rename(fresh, path) < 0) {
		r = -errno;
		unlink(fresh);
		return r;
	}
	return TAKE_FD(fd);
}

int sock_connect(const char *path, int type)
{
	AUTO(fd_close) int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	AUTO(fd_close) int dir_fd = -1;
	struct sockaddr_un address;
	int r;

	if (fd < 0)
		return -errno;
	r = make_address(path, &address, &dir_fd);
	if (r < 0)
		return r;
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int sock_accept(int fd)
{
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return peer < 0 ? -errno : peer;
}

int sock_peer(int fd, uid_t *ret_uid, pid_t *ret_pid)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	*ret_uid = cred.uid;
	*ret_pid = cred.pid;
	return 0;
}

union control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int) * SOCK_FDS_MAX)];
};

int sock_send(int fd, const void *data, size_t size, const int *fds, size_t fd_count)
{
	union control control = {};
	struct iovec iov = { .iov_base = (void *) data, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fd_count > SOCK_FDS_MAX)
		return -E2BIG;
	if (fd_count > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
	}
	do
		n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void take_fds(struct msghdr *msg, int fds[SOCK_FDS_MAX], size_t *count)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(msg); header;
	     header = CMSG_NXTHDR(msg, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
			if (*count < SOCK_FDS_MAX)
				fds[(*count)++] = fd;
			else
				close(fd);
		}
	}
}

static ssize_t receive(int fd, void *data, size_t size, int flags, int fds[SOCK_FDS_MAX],
		       size_t *ret_fd_count)
{
	union control control;
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.space,
			      .msg_controllen = sizeof(control.space) };
	size_t count = 0;
	ssize_t n;

	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | flags);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&msg, fds, &count);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		while (count > 0)
			close(fds[--count]);
		return -EMSGSIZE;
	}
	*ret_fd_count = count;
	return n;
}

ssize_t sock_recv(int fd, void *data, size_t size, int fds[SOCK_FDS_MAX], size_t *ret_fd_count)
{
	return receive(fd, data, size, 0, fds, ret_fd_count);
}

int sock_peek_fd(int fd)
{
	int fds[SOCK_FDS_MAX];
	size_t count = 0;
	char byte;
	ssize_t n = receive(fd, &byte, 1, MSG_PEEK, fds, &count);

	if (n < 0)
		return (int) n;
	while (count > 1)
		close(fds[--count]);
	return count > 0 ? fds[0] : -ENOENT;
}
