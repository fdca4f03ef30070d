#include "client/transport.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.h"
#include "base/mem.h"
#include "client/endpoint.h"
#include "client/tls.h"

enum { CONNECT_TIMEOUT_MS = 10000 };

struct transport {
	int fd;
	int wakeup_fd;
	struct transport_aside *aside; /* or NULL */
	struct tls *tls;               /* NULL for a Unix socket */
};

static int transport_wait(struct transport *transport, short events, int timeout_ms,
			  struct error *err)
{
	struct transport_aside *aside = transport->aside;

	for (;;) {
		struct pollfd fds[] = { { transport->fd, events, 0 },
					{ transport->wakeup_fd, POLLIN, 0 },
					{ aside ? aside->fd : -1, POLLIN, 0 } };
		int n = poll(fds, 3, timeout_ms);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, -errno, "cannot wait for the server");
		if (n == 0)
			return error_say(err, -ETIMEDOUT, "the server does not answer");
		if (fds[1].revents)
			return error_say(err, -EINTR, "interrupted");
		if (fds[2].revents && !aside->fn(aside->userdata))
			aside->fd = -1;
		if (fds[0].revents)
			return 0;
	}
}

static int transport_connect_unix(struct transport *transport, const char *path, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, path, strlen(path) + 1);
	transport->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (transport->fd < 0)
		return error_set(err, -errno, "cannot make a socket");
	if (connect(transport->fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return error_set(err, -errno, "cannot reach brumed at %s", path);
	return 0;
}

static int transport_connect_address(struct transport *transport, const struct addrinfo *address,
				     struct error *err)
{
	int one = 1, failure = 0, r;
	socklen_t size = sizeof(failure);

	transport->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (transport->fd < 0)
		return -errno;
	setsockopt(transport->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(transport->fd, address->ai_addr, address->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		r = transport_wait(transport, POLLOUT, CONNECT_TIMEOUT_MS, err);
		if (r < 0)
			return r;
		if (getsockopt(transport->fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0)
			return -errno;
	}
	return -failure;
}

static int transport_connect_tcp(struct transport *transport, const struct endpoint *endpoint,
				 struct error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list = NULL;
	AUTO(free) char *port = mem_printf("%u", endpoint->port);
	int r = getaddrinfo(endpoint->host, port, &hints, &list);

	if (r != 0)
		return error_say(err, -EHOSTUNREACH, "cannot find the server \"%s\": %s",
				 endpoint->host, gai_strerror(r));
	r = -EHOSTUNREACH;
	for (struct addrinfo *a = list; a; a = a->ai_next) {
		r = transport_connect_address(transport, a, err);
		if (r == 0)
			break;
		fd_close(TAKE_FD(transport->fd));
	}
	freeaddrinfo(list);
	if (r < 0)
		return error_set(err, r, "cannot reach the server %s port %u", endpoint->host,
				 endpoint->port);
	return 0;
}

static int transport_secure(struct transport *transport, const struct endpoint *endpoint,
			    const char *ca_file, struct error *err)
{
	short events;
	int r = tls_new(transport->fd, endpoint->host, ca_file, &transport->tls, err);

	if (r < 0)
		return r;
	while ((r = tls_handshake(transport->tls, &events, err)) == -EAGAIN) {
		r = transport_wait(transport, events, CONNECT_TIMEOUT_MS, err);
		if (r < 0)
			return r;
	}
	return r;
}

int transport_open(const struct endpoint *endpoint, const char *ca_file, struct transport **ret,
		   struct error *err)
{
	AUTO(transport_free) struct transport *transport = mem_new0(struct transport);
	int r;

	transport->fd = -1;
	transport->wakeup_fd = -1;
	if (endpoint->socket_path) {
		r = transport_connect_unix(transport, endpoint->socket_path, err);
	} else {
		r = transport_connect_tcp(transport, endpoint, err);
		if (r == 0)
			r = transport_secure(transport, endpoint, ca_file, err);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(transport);
	return 0;
}

void transport_set_wakeup(struct transport *transport, int fd)
{
	transport->wakeup_fd = fd;
}

void transport_set_aside(struct transport *transport, struct transport_aside *aside)
{
	transport->aside = aside;
}

ssize_t transport_try_read(struct transport *transport, void *data, size_t size, struct error *err)
{
	ssize_t n;

	if (transport->tls)
		return tls_read(transport->tls, data, size, err);
	do
		n = recv(transport->fd, data, size, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		return error_set(err, -errno, "cannot read from the server");
	return n < 0 ? -EAGAIN : n;
}

ssize_t transport_try_write(struct transport *transport, const void *data, size_t size,
			    struct error *err)
{
	ssize_t n;

	if (transport->tls)
		return tls_write(transport->tls, data, size, err);
	do
		n = send(transport->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		return error_set(err, -errno, "cannot write to the server");
	return n < 0 ? -EAGAIN : n;
}

ssize_t transport_read(struct transport *transport, void *data, size_t size, struct error *err)
{
	for (;;) {
		ssize_t n = transport_try_read(transport, data, size, err);

		if (n != -EAGAIN)
			return n;
		n = transport_wait(transport, POLLIN, -1, err);
		if (n < 0)
			return n;
	}
}

int transport_write(struct transport *transport, const void *data, size_t size, struct error *err)
{
	const char *p = data;

	while (size > 0) {
		ssize_t n = transport_try_write(transport, p, size, err);

		if (n == -EAGAIN) {
			n = transport_wait(transport, POLLOUT, -1, err);
			if (n < 0)
				return (int) n;
			continue;
		}
		if (n < 0)
			return (int) n;
		p += n;
		size -= (size_t) n;
	}
	return 0;
}

int transport_fd(const struct transport *transport)
{
	return transport->fd;
}

bool transport_pending(const struct transport *transport)
{
	return transport->tls && tls_pending(transport->tls);
}

void transport_free(struct transport *transport)
{
	if (!transport)
		return;
	tls_free(transport->tls);
	fd_close(transport->fd);
	free(transport);
}
