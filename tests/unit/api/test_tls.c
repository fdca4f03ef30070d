/* TLS and tokens, with GnuTLS as the client in the same process. */
#include "fixture.h"

#include <arpa/inet.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "api/auth.h"

static const char token_line[] = "alice abcdefghijklmnopqrstuvwxyz\n";
static const char token[] = "abcdefghijklmnopqrstuvwxyz";

struct fixture {
	struct world *w;
	struct auth_tokens *tokens;
	struct sockaddr_in address;
};

/* A certificate of its own for each run: none is stored that could be trusted by mistake. */
static char *cert_pem, *key_pem;

static char *take_datum(gnutls_datum_t *datum)
{
	char *text = mem_strndup((char *) datum->data, datum->size);

	gnutls_free(datum->data);
	return text;
}

static int make_certificate(void **state)
{
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t cert;
	gnutls_datum_t out;
	unsigned char serial = 1;

	(void) state;
	gnutls_x509_privkey_init(&key);
	gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
				     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	gnutls_x509_crt_init(&cert);
	gnutls_x509_crt_set_version(cert, 3);
	gnutls_x509_crt_set_serial(cert, &serial, 1);
	gnutls_x509_crt_set_activation_time(cert, time(NULL) - 3600);
	gnutls_x509_crt_set_expiration_time(cert, time(NULL) + 3600);
	gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, "localhost", 9);
	gnutls_x509_crt_set_key(cert, key);
	if (gnutls_x509_crt_sign2(cert, cert, key, GNUTLS_DIG_SHA256, 0) < 0)
		return -1;
	gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &out);
	cert_pem = take_datum(&out);
	gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &out);
	key_pem = take_datum(&out);
	gnutls_x509_crt_deinit(cert);
	gnutls_x509_privkey_deinit(key);
	return 0;
}

static int free_certificate(void **state)
{
	(void) state;
	free(cert_pem);
	free(key_pem);
	return 0;
}

static struct fixture *setting_up;

static void with_tls(struct api_config *config)
{
	socklen_t size = sizeof(setting_up->address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	setting_up->address = (struct sockaddr_in){ .sin_family = AF_INET,
						    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(fd, (struct sockaddr *) &setting_up->address, size), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &setting_up->address, &size), 0);
	config->tls_fd = fd;
	config->cert_pem = cert_pem;
	config->key_pem = key_pem;
	config->tokens = setting_up->tokens;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	setting_up = f;
	assert_int_equal(auth_tokens_parse(token_line, &f->tokens, NULL), 0);
	f->w = world_new_with(with_tls);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	world_tear_down((void **) &f->w);
	auth_tokens_free(f->tokens);
	free(f);
	return 0;
}

static int dial(struct fixture *f)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *) &f->address, sizeof(f->address)), 0);
	return fd;
}

struct client {
	int fd;
	gnutls_session_t gnutls;
	gnutls_certificate_credentials_t credentials;
};

static void client_open(struct fixture *f, struct client *c)
{
	int r;

	c->fd = dial(f);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	gnutls_certificate_allocate_credentials(&c->credentials);
	gnutls_init(&c->gnutls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	gnutls_set_default_priority(c->gnutls);
	gnutls_credentials_set(c->gnutls, GNUTLS_CRD_CERTIFICATE, c->credentials);
	gnutls_transport_set_int(c->gnutls, c->fd);
	while ((r = gnutls_handshake(c->gnutls)) == GNUTLS_E_AGAIN)
		world_turn(f->w);
	assert_int_equal(r, 0);
}

static void client_close(struct client *c)
{
	gnutls_deinit(c->gnutls);
	gnutls_certificate_free_credentials(c->credentials);
	close(c->fd);
}

static void client_send(struct fixture *f, struct client *c, const char *text)
{
	ssize_t r;

	while ((r = gnutls_record_send(c->gnutls, text, strlen(text))) == GNUTLS_E_AGAIN)
		world_turn(f->w);
	assert_int_equal(r, strlen(text));
}

/* Receives at least `want` bytes, or until the end. */
static void client_receive(struct fixture *f, struct client *c, struct strbuf *in, size_t want)
{
	while (in->size < want) {
		ssize_t n = gnutls_record_recv(c->gnutls, strbuf_reserve(in, 16384), 16384);

		if (n == GNUTLS_E_AGAIN)
			world_turn(f->w);
		else if (n <= 0)
			return;
		else
			strbuf_grown(in, (size_t) n);
	}
}

static void tokens_open_the_door(void **state)
{
	struct fixture *f = *state;
	AUTO(free)
	char *good = mem_printf("GET /1.0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
				"%s\r\nConnection: close\r\n\r\n",
				token);
	const char *const requests[] = {
		"GET /1.0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /1.0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\nConnection: "
		"close\r\n\r\n",
		good,
	};

	for (size_t i = 0; i < ARRAY_COUNT(requests); i++) {
		AUTO(strbuf_done) struct strbuf in = {};
		struct client c;

		client_open(f, &c);
		client_send(f, &c, requests[i]);
		client_receive(f, &c, &in, SIZE_MAX);
		assert_memory_equal(in.data, i == 2 ? "HTTP/1.1 200" : "HTTP/1.1 401", 12);
		if (i < 2)
			assert_non_null(strstr(in.data, "WWW-Authenticate: Bearer"));
		client_close(&c);
	}
}

/* Large messages both ways through the events' WebSocket and a slow reader. */
static void websockets_flow(void **state)
{
	struct fixture *f = *state;
	AUTO(free)
	char *upgrade = mem_printf("GET /1.0/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
				   "%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
				   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
				   "dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
				   token);
	AUTO(strbuf_done) struct strbuf in = {};
	struct client c;

	client_open(f, &c);
	client_send(f, &c, upgrade);
	client_receive(f, &c, &in, 12);
	assert_memory_equal(in.data, "HTTP/1.1 101", 12);
	for (int i = 0; i < 200; i++) {
		AUTO(free) char *body = mem_printf("{\"name\":\"n%d\"}", i);
		AUTO(answer_done)
		struct answer answer = world_request(f->w, "POST", "/1.0/networks", body);

		assert_int_equal(answer.status, 202);
	}
	while (!strstr(in.data ? in.data : "", "\"name\":\"n199\"")) {
		size_t before = in.size;

		client_receive(f, &c, &in, in.size + 1);
		assert_true(in.size > before);
		for (size_t i = 0; i < in.size; i++)
			in.data[i] = in.data[i] ? in.data[i] : ' ';
	}
	client_close(&c);
}

static void broken_handshakes_are_dropped(void **state)
{
	static const char *const first[] = {
		"GET / HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\xff\xff",
		"\x16\x03\x01\x00\x05hello",
		"",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_COUNT(first); i++) {
		AUTO(fd_close) int fd = dial(f);
		AUTO(strbuf_done) struct strbuf in = {};

		world_send(f->w, fd, first[i], strlen(first[i]));
		shutdown(fd, SHUT_WR);
		while (world_receive(f->w, fd, &in))
			;
	}
	tokens_open_the_door(state);
}

static void bad_keys_are_refused(void **state)
{
	struct store_sqlite_config store = { .path = ":memory:", .clock = clock_system() };
	struct fixture f = {};
	struct error err = {};

	(void) state;
	setting_up = &f;
	char *good = key_pem;
	key_pem = cert_pem;
	sd_event *event = NULL;
	assert_true(sd_event_new(&event) >= 0);
	struct control_config control = { .clock = clock_system(), .rng = rng_system() };
	assert_int_equal(store_sqlite_open(event, &store, &control.store, NULL), 0);
	struct api_config config = { .control = &control,
				     .failed = world_on_failed,
				     .unix_fd = -1,
				     .agent_fd = socket(AF_UNIX, SOCK_STREAM, 0) };
	struct api *api = NULL;
	with_tls(&config);
	assert_int_equal(api_new(event, &config, &api, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "certificate and key do not work"));
	close(config.tls_fd);
	key_pem = good;
	store_free(control.store);
	sd_event_unref(event);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tokens_open_the_door),
		TEST(websockets_flow),
		TEST(broken_handshakes_are_dropped),
		cmocka_unit_test(bad_keys_are_refused),
	};

	return cmocka_run_group_tests(tests, make_certificate, free_certificate);
}
