#include "client/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "client/tls_library.h"

struct tls {
	struct tls_library lib;
	gnutls_session_t session;
	gnutls_certificate_credentials_t credentials;
	char *host;
};

static int tls_error(const struct tls *tls, int code, struct error *err)
{
	return error_say(err, -EPROTO, "TLS connection failed: %s", tls->lib.strerror(code));
}

static int tls_certificate_error(const struct tls *tls, struct error *err)
{
	gnutls_datum_t words = {};
	unsigned int status = tls->lib.session_get_verify_cert_status(tls->session);
	int r;

	if (tls->lib.certificate_verification_status_print(status, GNUTLS_CRT_X509, &words, 0) < 0)
		return error_say(err, -EPROTO, "the certificate of %s is not trusted", tls->host);
	r = error_say(err, -EPROTO, "the certificate of %s is not trusted: %s", tls->host,
		      words.data);
	(*tls->lib.free)(words.data);
	return r;
}

static int tls_trust(struct tls *tls, const char *ca_file, struct error *err)
{
	int r = tls->lib.certificate_allocate_credentials(&tls->credentials);

	if (r < 0)
		return tls_error(tls, r, err);
	if (!ca_file) {
		r = tls->lib.certificate_set_x509_system_trust(tls->credentials);
		return r < 0 ? tls_error(tls, r, err) : 0;
	}
	r = tls->lib.certificate_set_x509_trust_file(tls->credentials, ca_file,
						     GNUTLS_X509_FMT_PEM);
	if (r <= 0)
		return error_say(err, -EINVAL, "CA file %s: %s", ca_file,
				 r == 0 ? "it has no certificate in PEM format"
					: tls->lib.strerror(r));
	return 0;
}

int tls_new(int fd, const char *host, const char *ca_file, struct tls **ret, struct error *err)
{
	static const gnutls_datum_t protocol = { (unsigned char *) "http/1.1", 8 };
	AUTO(tls_free) struct tls *tls = mem_new0(struct tls);
	int r = tls_library_load(&tls->lib, err);

	if (r == 0)
		r = tls_trust(tls, ca_file, err);
	if (r < 0)
		return r;
	r = tls->lib.init(&tls->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (r < 0)
		return tls_error(tls, r, err);
	tls->host = mem_strdup(host);
	tls->lib.set_default_priority(tls->session);
	tls->lib.credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, tls->credentials);
	tls->lib.server_name_set(tls->session, GNUTLS_NAME_DNS, host, strlen(host));
	tls->lib.alpn_set_protocols(tls->session, &protocol, 1, 0);
	tls->lib.session_set_verify_cert(tls->session, tls->host, 0);
	tls->lib.transport_set_int2(tls->session, fd, fd);
	*ret = TAKE_PTR(tls);
	return 0;
}

int tls_handshake(struct tls *tls, short *ret_events, struct error *err)
{
	int r;

	while ((r = tls->lib.handshake(tls->session)) < 0) {
		if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
			return tls_certificate_error(tls, err);
		if (tls->lib.error_is_fatal(r))
			return tls_error(tls, r, err);
		if (r != GNUTLS_E_AGAIN)
			continue;
		*ret_events = tls->lib.record_get_direction(tls->session) ? POLLOUT : POLLIN;
		return -EAGAIN;
	}
	return 0;
}

ssize_t tls_read(struct tls *tls, void *data, size_t size, struct error *err)
{
	ssize_t n;

	do
		n = tls->lib.record_recv(tls->session, data, size);
	while (n == GNUTLS_E_INTERRUPTED);
	if (n >= 0)
		return n;
	return tls->lib.error_is_fatal((int) n) ? tls_error(tls, (int) n, err) : -EAGAIN;
}

ssize_t tls_write(struct tls *tls, const void *data, size_t size, struct error *err)
{
	ssize_t n;

	do
		n = tls->lib.record_send(tls->session, data, size);
	while (n == GNUTLS_E_INTERRUPTED);
	if (n >= 0)
		return n;
	return tls->lib.error_is_fatal((int) n) ? tls_error(tls, (int) n, err) : -EAGAIN;
}

bool tls_pending(const struct tls *tls)
{
	return tls->lib.record_check_pending(tls->session) > 0;
}

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	if (tls->session)
		tls->lib.deinit(tls->session);
	if (tls->credentials)
		tls->lib.certificate_free_credentials(tls->credentials);
	tls_library_done(&tls->lib);
	free(tls->host);
	free(tls);
}
