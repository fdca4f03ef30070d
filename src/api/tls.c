#include "api/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/conn.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum {
	RECORD_SIZE = 16 * 1024,
	PLAIN_IN_MAX = 64 * 1024,
	PLAIN_OUT_HIGH = 64 * 1024,
	PLAIN_OUT_MAX = 128 * 1024,
	HANDSHAKE_US = 10 * 1000 * 1000,
	LINGER_US = 10 * 1000 * 1000, /* for what is left to send when the server has closed */
};

struct tls {
	sd_event *event;
	struct tls_config config;
	sd_event_source *accept;
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priorities;
	struct session *sessions;
	unsigned int count;
};

struct session {
	struct tls *tls;
	struct session *prev, *next;
	int fd;
	sd_event_source *io;
	sd_event_source *timer; /* of the handshake, later of the end */
	gnutls_session_t gnutls;
	bool established;
	struct conn *plain;
	struct sockaddr_storage address;
	socklen_t address_size;

	struct strbuf out; /* plain bytes that are not encrypted and sent yet */
	size_t out_used;
	bool send_again; /* GnuTLS has a record that the kernel did not take */
	bool plain_full; /* the server takes nothing more now */
	bool plain_closed;
	bool peer_closed;
};

static void session_free(struct session *session)
{
	struct tls *tls = session->tls;

	if (session->prev)
		session->prev->next = session->next;
	else
		tls->sessions = session->next;
	if (session->next)
		session->next->prev = session->prev;
	tls->count--;
	sd_event_source_disable_unref(session->io);
	sd_event_source_disable_unref(session->timer);
	conn_free(session->plain);
	if (session->gnutls)
		gnutls_deinit(session->gnutls);
	fd_close(session->fd);
	strbuf_done(&session->out);
	free(session);
}

static void update_events(struct session *session)
{
	uint32_t events = 0;

	if (!session->established)
		events = gnutls_record_get_direction(session->gnutls) ? EPOLLOUT : EPOLLIN;
	else if (!session->plain_full && !session->peer_closed)
		events = EPOLLIN;
	if (session->send_again)
		events |= EPOLLOUT;
	sd_event_source_set_io_events(session->io, events);
}

static void arm_timer(struct session *session, uint64_t delay_us)
{
	sd_event_source_set_time_relative(session->timer, delay_us);
	sd_event_source_set_enabled(session->timer, SD_EVENT_ONESHOT);
}

/* -- from the server to the client ----------------------------------------------------------------
 */

/* Encrypts and sends what waits.  -errno when the connection is broken. */
static int send_records(struct session *session)
{
	struct strbuf *out = &session->out;

	while (session->send_again || session->out_used < out->size) {
		size_t room = out->size - session->out_used;
		ssize_t n =
			session->send_again
				? gnutls_record_send(session->gnutls, NULL, 0)
				: gnutls_record_send(session->gnutls, out->data + session->out_used,
						     room < RECORD_SIZE ? room : RECORD_SIZE);

		session->send_again = n == GNUTLS_E_AGAIN;
		if (n == GNUTLS_E_AGAIN)
			return 0;
		if (n == GNUTLS_E_INTERRUPTED)
			continue;
		if (n < 0)
			return -EPIPE;
		session->out_used += (size_t) n;
	}
	strbuf_done(out);
	session->out_used = 0;
	return 0;
}

static int on_plain_read(struct conn *conn, struct strbuf *in, void *user)
{
	struct session *session = user;

	strbuf_append(&session->out, in->data, in->size);
	strbuf_consume(in, in->size);
	if (send_records(session) < 0)
		return -EPIPE;
	conn_pause(conn, session->send_again);
	update_events(session);
	return 0;
}

/* The server has closed: what it wrote still goes out, within a while. */
static void on_plain_closed(struct conn *conn, int reason, void *user)
{
	struct session *session = user;

	(void) conn;
	session->plain_closed = true;
	if (reason == 0 && session->send_again) {
		arm_timer(session, LINGER_US);
		return;
	}
	if (reason == 0)
		gnutls_bye(session->gnutls, GNUTLS_SHUT_WR);
	session_free(session);
}

/* -- from the client to the server ----------------------------------------------------------------
 */

static int receive_records(struct session *session)
{
	char data[RECORD_SIZE];

	while (!session->plain_full && !session->peer_closed) {
		ssize_t n = gnutls_record_recv(session->gnutls, data, sizeof(data));

		if (n == GNUTLS_E_AGAIN)
			return 0;
		if (n == GNUTLS_E_INTERRUPTED)
			continue;
		if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION) {
			session->peer_closed = true;
			conn_finish(session->plain);
			return 0;
		}
		/* No renegotiation, no key updates without end: whatever else it is, it ends here.
		 */
		if (n < 0)
			return -EPROTO;
		int r = conn_write(session->plain, data, (size_t) n);
		if (r < 0)
			return r;
		session->plain_full = r == 1;
	}
	return 0;
}

static void on_plain_drained(struct conn *conn, void *user)
{
	struct session *session = user;

	(void) conn;
	session->plain_full = false;
	/* Decrypted bytes may wait inside GnuTLS, where no event tells of them. */
	if (receive_records(session) < 0)
		session_free(session);
	else
		update_events(session);
}

/* -- the connection -------------------------------------------------------------------------------
 */

/* The handshake is done: the server gets its end of a socket pair. */
static int establish(struct session *session)
{
	static const struct conn_ops ops = { on_plain_read, on_plain_drained, on_plain_closed };
	static const struct conn_limits limits = { PLAIN_IN_MAX, PLAIN_OUT_HIGH, PLAIN_OUT_MAX };
	const struct tls_config *config = &session->tls->config;
	struct error err = {};
	int fds[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	r = conn_new(session->tls->event, fds[0], &limits, &ops, session, &session->plain, &err);
	if (r < 0) {
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	session->established = true;
	sd_event_source_set_enabled(session->timer, SD_EVENT_OFF);
	return config->accepted(fds[1], (struct sockaddr *) &session->address,
				session->address_size, config->user);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct session *session = user;
	int r = 0;

	(void) source;
	(void) fd;
	if (!session->established) {
		r = gnutls_handshake(session->gnutls);
		if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED) {
			update_events(session);
			return 0;
		}
		if (r < 0)
			log_debug("handshake: %s", gnutls_strerror(r));
		r = r < 0 ? -EPROTO : establish(session);
	}
	if (r >= 0 && session->send_again) {
		r = send_records(session);
		if (r >= 0 && !session->send_again && session->plain_closed)
			r = -EPIPE;
		else if (r >= 0 && !session->plain_closed)
			conn_pause(session->plain, session->send_again);
	}
	if (r >= 0 && !session->plain_closed)
		r = receive_records(session);
	if (r < 0 || (session->peer_closed && (revents & (EPOLLHUP | EPOLLERR))))
		session_free(session);
	else
		update_events(session);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
	(void) source;
	(void) usec;
	session_free(user);
	return 0;
}

static int start_gnutls(struct session *session)
{
	static const gnutls_datum_t http = { (unsigned char *) "http/1.1", 8 };
	unsigned int flags = GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL;

	if (gnutls_init(&session->gnutls, flags) < 0 ||
	    gnutls_priority_set(session->gnutls, session->tls->priorities) < 0 ||
	    gnutls_credentials_set(session->gnutls, GNUTLS_CRD_CERTIFICATE,
				   session->tls->credentials) < 0 ||
	    gnutls_alpn_set_protocols(session->gnutls, &http, 1, 0) < 0)
		return -ENOMEM;
	gnutls_transport_set_int(session->gnutls, session->fd);
	return 0;
}

static int on_accept(sd_event_source *source, int listen_fd, uint32_t revents, void *user)
{
	struct tls *tls = user;
	struct session *session;
	struct sockaddr_storage address = {};
	socklen_t size = sizeof(address);
	int one = 1;
	AUTO(fd_close)
	int fd = accept4(listen_fd, (struct sockaddr *) &address, &size,
			 SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void) source;
	(void) revents;
	if (fd < 0 || tls->count >= tls->config.connections_max)
		return 0;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	session = mem_new0(struct session);
	session->tls = tls;
	session->fd = TAKE_FD(fd);
	session->address = address;
	session->address_size = size;
	session->next = tls->sessions;
	if (session->next)
		session->next->prev = session;
	tls->sessions = session;
	tls->count++;
	if (start_gnutls(session) < 0 ||
	    sd_event_add_io(tls->event, &session->io, session->fd, EPOLLIN, on_io, session) < 0 ||
	    sd_event_add_time_relative(tls->event, &session->timer, CLOCK_MONOTONIC, HANDSHAKE_US,
				       100000, on_timer, session) < 0)
		session_free(session);
	return 0;
}

static int load_credentials(struct tls *tls, struct error *err)
{
	const struct tls_config *config = &tls->config;
	gnutls_datum_t cert = { (unsigned char *) config->cert_pem,
				(unsigned int) strlen(config->cert_pem) };
	gnutls_datum_t key = { (unsigned char *) config->key_pem,
			       (unsigned int) strlen(config->key_pem) };
	int r;

	if (gnutls_certificate_allocate_credentials(&tls->credentials) < 0)
		return error_set(err, -ENOMEM, "TLS");
	r = gnutls_certificate_set_x509_key_mem(tls->credentials, &cert, &key, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return error_say(err, -EINVAL, "TLS: certificate and key do not work: %s",
				 gnutls_strerror(r));
	r = gnutls_priority_init(&tls->priorities, "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2",
				 NULL);
	return r < 0 ? error_say(err, -EINVAL, "TLS: %s", gnutls_strerror(r)) : 0;
}

int tls_new(sd_event *event, const struct tls_config *config, struct tls **ret, struct error *err)
{
	AUTO(tls_free) struct tls *tls = mem_new0(struct tls);
	int r;

	tls->event = event;
	tls->config = *config;
	tls->config.fd = -1;
	r = load_credentials(tls, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(event, &tls->accept, config->fd, EPOLLIN, on_accept, tls);
	if (r < 0)
		return error_set(err, r, "TLS");
	sd_event_source_set_enabled(tls->accept, SD_EVENT_OFF);
	tls->config.fd = config->fd;
	tls->config.cert_pem = NULL;
	tls->config.key_pem = NULL;
	*ret = TAKE_PTR(tls);
	return 0;
}

void tls_start(struct tls *tls)
{
	sd_event_source_set_enabled(tls->accept, SD_EVENT_ON);
}

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	while (tls->sessions)
		session_free(tls->sessions);
	sd_event_source_disable_unref(tls->accept);
	fd_close(tls->config.fd);
	if (tls->credentials)
		gnutls_certificate_free_credentials(tls->credentials);
	if (tls->priorities)
		gnutls_priority_deinit(tls->priorities);
	free(tls);
}
