#include "client/transport.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
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

enum { CONNECT_TIMEOUT_MS = 10000 };

struct transport {
	int fd;
	int wakeup_fd;
	gnutls_session_t tls; /* NULL for a Unix socket */
	gnutls_certificate_credentials_t credentials;
};

static int transport_wait(struct transport *transport, short events, int timeout_ms,
			  struct error *err)
{
	struct pollfd fds[2] = { { transport->fd, events, 0 },
				 { transport->wakeup_fd, POLLIN, 0 } };
	int n;

	do
		n = poll(fds, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, -errno, "cannot wait for the server");
	if (n == 0)
		return error_say(err, -ETIMEDOUT, "the server does not answer");
	if (fds[1].revents)
		return error_say(err, -EINTR, "interrupted");
	return 0;
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

static int transport_tls_error(int code, struct error *err)
{
	return error_say(err, -EPROTO, "TLS connection failed: %s", gnutls_strerror(code));
}

static int transport_certificate_error(struct transport *transport, const char *host,
				       struct error *err)
{
	gnutls_datum_t words = {};
	unsigned int status = gnutls_session_get_verify_cert_status(transport->tls);
	int r;

	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &words, 0) < 0)
		return error_say(err, -EPROTO, "the certificate of %s is not trusted", host);
	r = error_say(err, -EPROTO, "the certificate of %s is not trusted: %s", host, words.data);
	gnutls_free(words.data);
	return r;
}

static int transport_tls_trust(struct transport *transport, const char *ca_file, struct error *err)
{
	int r = gnutls_certificate_allocate_credentials(&transport->credentials);

	if (r < 0)
		return transport_tls_error(r, err);
	if (!ca_file) {
		r = gnutls_certificate_set_x509_system_trust(transport->credentials);
		return r < 0 ? transport_tls_error(r, err) : 0;
	}
	r = gnutls_certificate_set_x509_trust_file(transport->credentials, ca_file,
						   GNUTLS_X509_FMT_PEM);
	if (r <= 0)
		return error_say(err, -EINVAL, "CA file %s: %s", ca_file,
				 r == 0 ? "it has no certificate in PEM format"
					: gnutls_strerror(r));
	return 0;
}

static int transport_handshake(struct transport *transport, const struct endpoint *endpoint,
			       const char *ca_file, struct error *err)
{
	static const gnutls_datum_t protocol = { (unsigned char *) "http/1.1", 8 };
	int r = transport_tls_trust(transport, ca_file, err);

	if (r < 0)
		return r;
	r = gnutls_init(&transport->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (r < 0)
		return transport_tls_error(r, err);
	gnutls_set_default_priority(transport->tls);
	gnutls_credentials_set(transport->tls, GNUTLS_CRD_CERTIFICATE, transport->credentials);
	gnutls_server_name_set(transport->tls, GNUTLS_NAME_DNS, endpoint->host,
			       strlen(endpoint->host));
	gnutls_alpn_set_protocols(transport->tls, &protocol, 1, 0);
	gnutls_session_set_verify_cert(transport->tls, endpoint->host, 0);
	gnutls_transport_set_int(transport->tls, transport->fd);
	while ((r = gnutls_handshake(transport->tls)) < 0) {
		if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
			return transport_certificate_error(transport, endpoint->host, err);
		if (gnutls_error_is_fatal(r))
			return transport_tls_error(r, err);
		if (r != GNUTLS_E_AGAIN)
			continue;
		r = transport_wait(transport,
				   gnutls_record_get_direction(transport->tls) ? POLLOUT : POLLIN,
				   CONNECT_TIMEOUT_MS, err);
		if (r < 0)
			return r;
	}
	return 0;
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
			r = transport_handshake(transport, endpoint, ca_file, err);
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

ssize_t transport_try_read(struct transport *transport, void *data, size_t size, struct error *err)
{
	ssize_t n;

	if (!transport->tls) {
		do
			n = recv(transport->fd, data, size, MSG_DONTWAIT);
		while (n < 0 && errno == EINTR);
		if (n < 0 && errno != EAGAIN)
			return error_set(err, -errno, "cannot read from the server");
		return n < 0 ? -EAGAIN : n;
	}
	do
		n = gnutls_record_recv(transport->tls, data, size);
	while (n == GNUTLS_E_INTERRUPTED);
	if (n >= 0)
		return n;
	return gnutls_error_is_fatal((int) n) ? transport_tls_error((int) n, err) : -EAGAIN;
}

ssize_t transport_try_write(struct transport *transport, const void *data, size_t size,
			    struct error *err)
{
	ssize_t n;

	if (!transport->tls) {
		do
			n = send(transport->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		while (n < 0 && errno == EINTR);
		if (n < 0 && errno != EAGAIN)
			return error_set(err, -errno, "cannot write to the server");
		return n < 0 ? -EAGAIN : n;
	}
	do
		n = gnutls_record_send(transport->tls, data, size);
	while (n == GNUTLS_E_INTERRUPTED);
	if (n >= 0)
		return n;
	return gnutls_error_is_fatal((int) n) ? transport_tls_error((int) n, err) : -EAGAIN;
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
	return transport->tls && gnutls_record_check_pending(transport->tls) > 0;
}

void transport_free(struct transport *transport)
{
	if (!transport)
		return;
	if (transport->tls)
		gnutls_deinit(transport->tls);
	if (transport->credentials)
		gnutls_certificate_free_credentials(transport->credentials);
	fd_close(transport->fd);
	free(transport);
}
