#include "agent/terminal_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "kern/sock.h"

static void close_socket(struct terminal_socket *socket)
{
	socket->source = sd_event_source_disable_unref(socket->source);
	fd_close(TAKE_FD(socket->fd));
}

static int on_ready(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	(void) source;
	(void) fd;
	(void) revents;
	terminal_socket_look(data);
	return 0;
}

static int watch(struct terminal_socket *socket, struct error *err)
{
	int r = sd_event_add_io(socket->event, &socket->source, socket->fd, EPOLLIN, on_ready,
				socket);

	return r < 0 ? error_set(err, r, "watch %s", socket->path) : 0;
}

int terminal_socket_open(struct terminal_socket *socket, sd_event *event, char *path,
			 struct error *err)
{
	socket->event = event;
	socket->path = path;
	socket->fd = sock_listen(path, SOCK_STREAM, 0600);
	if (socket->fd < 0)
		return error_set(err, socket->fd, "listen on %s", path);
	return watch(socket, err);
}

static void accept_peer(struct terminal_socket *socket)
{
	int peer = sock_accept(socket->fd);
	struct error err = {};

	if (peer < 0)
		return;
	close_socket(socket);
	socket->fd = peer;
	socket->connected = true;
	if (watch(socket, &err) < 0)
		log_error("terminal: %s", err.msg);
}

/* brume-oci connects, then sends the terminal: one descriptor after the other is looked at. */
void terminal_socket_look(struct terminal_socket *socket)
{
	int fds[SOCK_FDS_MAX];
	size_t count = 0;
	char buffer[4096];
	ssize_t n;

	if (socket->fd >= 0 && !socket->connected)
		accept_peer(socket);
	if (socket->fd < 0 || !socket->connected)
		return;
	n = sock_recv(socket->fd, buffer, sizeof(buffer), fds, &count);
	if (n == -EAGAIN)
		return;
	close_socket(socket);
	while (n >= 0 && count > 1)
		close(fds[--count]);
	if (n >= 0 && count > 0)
		socket->take(socket->data, fds[0]);
}

void terminal_socket_done(struct terminal_socket *socket)
{
	close_socket(socket);
	if (socket->path)
		unlink(socket->path);
	free(TAKE_PTR(socket->path));
}
