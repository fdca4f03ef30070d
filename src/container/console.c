#include "container/console.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "kern/pidfd.h"
#include "kern/sock.h"

int console_connect(const char *path, struct error *err)
{
	int fd = sock_connect(path, SOCK_STREAM);

	return fd < 0 ? error_set(err, fd, "--console-socket %s", path) : fd;
}

int console_send_pidfd(const char *path, int pidfd, struct error *err)
{
	AUTO(fd_close) int fd = sock_connect(path, SOCK_STREAM);
	static const char name[] = "pidfd";
	int r = fd < 0 ? fd : sock_send(fd, name, sizeof(name) - 1, &pidfd, 1);

	return r < 0 ? error_set(err, r, "--pidfd-socket %s", path) : 0;
}

/* One byte with the descriptor; the name is for people who look at it. */
int console_send_master(int socket_fd, int master)
{
	static const char name[] = "/dev/ptmx";

	return sock_send(socket_fd, name, sizeof(name) - 1, &master, 1);
}

/* The container's own multiplexer; what runs there may have put anything in its place. */
static int open_master(struct error *err)
{
	static const char path[] = "/dev/pts/ptmx";
	AUTO(fd_close)
	int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return error_set(err, -errno, "process.terminal: %s (is a devpts mounted there?)",
				 path);
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2) || fs.f_type != DEVPTS_SUPER_MAGIC)
		return error_say(err, -ENODEV, "process.terminal: %s is not that of a devpts",
				 path);
	/* It was for a pipe, on which opening would wait. */
	if (fcntl(fd, F_SETFL, O_RDWR) < 0)
		return error_set(err, -errno, "process.terminal: %s", path);
	return TAKE_FD(fd);
}

int console_make(int socket_fd, uint32_t width, uint32_t height, uid_t owner, int *ret_tty,
		 struct error *err)
{
	AUTO(fd_close) int master = open_master(err);
	AUTO(fd_close) int tty = -1;
	struct winsize size = { .ws_row = (unsigned short) height,
				.ws_col = (unsigned short) width };
	int r, unlock = 0;

	if (master < 0)
		return master;
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return error_set(err, -errno, "process.terminal: unlocking");
	tty = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (tty < 0)
		return error_set(err, -errno, "process.terminal: its other end");
	if ((width || height) && ioctl(master, TIOCSWINSZ, &size) < 0)
		return error_set(err, -errno, "process.consoleSize");
	if (fchown(tty, owner, (gid_t) -1) < 0 && errno != EPERM && errno != EINVAL)
		return error_set(err, -errno, "process.terminal: owner");
	r = console_send_master(socket_fd, master);
	if (r < 0)
		return error_set(err, r, "sending the terminal");
	if (ioctl(tty, TIOCSCTTY, 0) < 0)
		return error_set(err, -errno, "process.terminal: controlling terminal");
	for (int fd = 0; fd < 3; fd++)
		if (dup2(tty, fd) < 0)
			return error_set(err, -errno, "process.terminal: stdio");
	*ret_tty = TAKE_FD(tty);
	return 0;
}

int console_receive(int socket_fd, struct error *err)
{
	struct pollfd poll_fd = { .fd = socket_fd, .events = POLLIN };
	int fds[SOCK_FDS_MAX];
	char name[64];
	size_t count = 0;
	ssize_t n;

	do
		n = poll(&poll_fd, 1, -1);
	while (n < 0 && errno == EINTR);
	n = sock_recv(socket_fd, name, sizeof(name), fds, &count);
	if (n < 0)
		return error_set(err, (int) n, "receiving the terminal");
	for (size_t i = 1; i < count; i++)
		close(fds[i]);
	return count > 0 ? fds[0] : error_say(err, -EPROTO, "the terminal did not come");
}

/* ---- the relay ---- */

struct buffer {
	char data[4096];
	size_t size;
};

static int fill(struct buffer *buffer, int fd)
{
	ssize_t n = read(fd, buffer->data, sizeof(buffer->data));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 1 : -errno;
	buffer->size = (size_t) n;
	return n > 0;
}

static int drain(struct buffer *buffer, int fd)
{
	int r = file_write_all(fd, buffer->data, buffer->size);

	buffer->size = 0;
	return r;
}

static void copy_size(int master)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(master, TIOCSWINSZ, &size);
}

static void handle_signal(int signal_fd, int master, int pidfd)
{
	struct signalfd_siginfo info;

	if (read(signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH)
		copy_size(master);
	else if (info.ssi_signo != SIGCHLD)
		(void) pidfd_send(pidfd, (int) info.ssi_signo);
}

static int relay(int master, int pidfd, int signal_fd)
{
	bool input = true;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = input ? STDIN_FILENO : -1, .events = POLLIN },
			{ .fd = master, .events = POLLIN },
			{ .fd = signal_fd, .events = POLLIN },
			{ .fd = pidfd, .events = POLLIN },
		};
		struct buffer buffer = {};
		int r;

		if (poll(fds, ARRAY_COUNT(fds), -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[2].revents)
			handle_signal(signal_fd, master, pidfd);
		if (fds[0].revents) {
			input = fill(&buffer, STDIN_FILENO) > 0;
			if (buffer.size && drain(&buffer, master) < 0)
				return 0;
		}
		if (fds[1].revents) {
			/* EIO: nobody has the other end any more. */
			r = fill(&buffer, master);
			if (r <= 0)
				return 0;
			r = drain(&buffer, STDOUT_FILENO);
			if (r < 0)
				return r;
		} else if (fds[3].revents) {
			return 0;
		}
	}
}

int console_relay(int master, int pidfd, int signal_fd, struct error *err)
{
	struct termios before, raw;
	bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
	int r;

	if (terminal) {
		raw = before;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
		copy_size(master);
	}
	r = relay(master, pidfd, signal_fd);
	if (terminal)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	return r < 0 ? error_set(err, r, "passing the terminal's bytes") : 0;
}
