#include "guest/port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "guest/poller.h"

enum { NAME_MAX_SIZE = 64, BUFFER_SIZE = 32 << 10 };

static bool has_name(const char *port, const char *name)
{
	AUTO(free) char *path = mem_printf("/sys/class/virtio-ports/%s/name", port);
	AUTO(free) char *text = NULL;

	if (file_read(AT_FDCWD, path, NAME_MAX_SIZE, &text, NULL) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, name) == 0;
}

int port_open(const char *name, struct error *err)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	AUTO(free) char *path = NULL;
	struct dirent *entry;
	int fd;

	while (dir && !path && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && has_name(entry->d_name, name))
			path = mem_printf("/dev/%s", entry->d_name);
	if (dir)
		closedir(dir);
	if (!path)
		return error_say(err, -ENOENT, "the machine has no port %s", name);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? error_set(err, -errno, "open the port %s", name) : fd;
}

bool port_connected(int fd)
{
	struct pollfd poll_fd = { .fd = fd };

	return poll(&poll_fd, 1, 0) >= 0 && !(poll_fd.revents & POLLHUP);
}

struct pump {
	struct pump_options options;
	struct poller_watch *from_watch, *to_watch;
	bool seen; /* the host has been at the port */
	bool eof, dead;
	size_t start, size; /* of what is in the buffer */
	char buffer[BUFFER_SIZE];
};

static bool write_out(struct pump *pump)
{
	while (pump->size > 0) {
		ssize_t n = write(pump->options.to, pump->buffer + pump->start, pump->size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0) {
			/* A program whose output nobody takes must not stand still for that. */
			pump->dead = pump->options.from_port;
			pump->size = 0;
			return true;
		}
		pump->start += (size_t) n;
		pump->size -= (size_t) n;
	}
	pump->start = 0;
	return true;
}

/* True when something is in the buffer. */
static bool read_in(struct pump *pump)
{
	ssize_t n;

	do
		n = read(pump->options.from, pump->buffer, sizeof(pump->buffer));
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		pump->seen = true;
		pump->size = (size_t) n;
		return true;
	}
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n == 0 && pump->options.from_port && !pump->seen) {
		pump->seen = port_connected(pump->options.from);
		return false;
	}
	/* A terminal whose other end is closed gives EIO. */
	pump->eof = true;
	if (pump->options.at_end) {
		pump->size = strlen(pump->options.at_end);
		memcpy(pump->buffer, pump->options.at_end, pump->size);
		return true;
	}
	return false;
}

bool pump_flush(struct pump *pump)
{
	while (pump->options.from >= 0) {
		if (!write_out(pump))
			return false;
		if (pump->dead || pump->eof || !read_in(pump))
			return true;
	}
	return true;
}

static void pump_run(void *data)
{
	struct pump *pump = data;

	if (!pump_flush(pump) || (!pump->eof && !pump->dead))
		return;
	poller_unwatch(TAKE_PTR(pump->from_watch));
	poller_unwatch(TAKE_PTR(pump->to_watch));
	/* Who reads there hears of the end only by this. */
	fd_close(TAKE_FD(pump->options.from));
	fd_close(TAKE_FD(pump->options.to));
	if (pump->options.ended)
		pump->options.ended(pump->options.data);
}

int pump_new(struct poller *poller, const struct pump_options *options, struct pump **ret,
	     struct error *err)
{
	struct pump *pump = mem_new0(struct pump);
	int r;

	pump->options = *options;
	pump->seen = !options->from_port || port_connected(options->from);
	r = poller_watch_fd(poller, options->from, pump_run, pump, &pump->from_watch);
	if (r == 0)
		r = poller_watch_fd(poller, options->to, pump_run, pump, &pump->to_watch);
	if (r < 0) {
		pump_free(pump);
		return error_set(err, r, "watch a port");
	}
	*ret = pump;
	return 0;
}

void pump_free(struct pump *pump)
{
	if (!pump)
		return;
	poller_unwatch(pump->from_watch);
	poller_unwatch(pump->to_watch);
	fd_close(pump->options.from);
	fd_close(pump->options.to);
	free(pump);
}
