#include "cli/terminal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"

/* What terminal_restore() puts back: a process has one terminal. */
static struct termios terminal_saved;
static int terminal_saved_fd = -1;

void terminal_size(int fd, unsigned int *ret_width, unsigned int *ret_height)
{
	struct winsize size = {};
	bool good = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;

	*ret_width = good ? size.ws_col : 80;
	*ret_height = good ? size.ws_row : 24;
}

size_t terminal_width(int fd)
{
	unsigned int width, height;

	terminal_size(fd, &width, &height);
	return width;
}

int terminal_raw(int fd, struct error *err)
{
	static bool registered;
	struct termios raw;

	if (tcgetattr(fd, &terminal_saved) < 0)
		return error_set(err, -errno, "cannot read the settings of the terminal");
	if (!registered)
		atexit(terminal_restore);
	registered = true;
	terminal_saved_fd = fd;
	raw = terminal_saved;
	cfmakeraw(&raw);
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
		return error_set(err, -errno, "cannot change the settings of the terminal");
	return 0;
}

void terminal_restore(void)
{
	if (terminal_saved_fd < 0)
		return;
	tcsetattr(terminal_saved_fd, TCSADRAIN, &terminal_saved);
	terminal_saved_fd = -1;
}

int terminal_write(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size > 0) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd pollfd = { fd, POLLOUT, 0 };

			poll(&pollfd, 1, -1);
			continue;
		}
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			p += n;
			size -= (size_t) n;
		}
	}
	return 0;
}
