#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/check.h"

/* A server for one connection that says `answer` and then waits for the other side to leave. */
struct server {
	int fd;
	const char *answer;
	char request[512];
	uint16_t port;
	pthread_t thread;
};

static void *serve(void *data)
{
	struct server *server = data;
	char rest[64];
	int fd = accept(server->fd, NULL, NULL);

	if (server->answer) {
		ssize_t n = read(fd, server->request, sizeof(server->request) - 1);

		server->request[n < 0 ? 0 : n] = '\0';
		if (send(fd, server->answer, strlen(server->answer), MSG_NOSIGNAL) < 0)
			server->request[0] = '\0';
	}
	while (read(fd, rest, sizeof(rest)) > 0)
		;
	close(fd);
	return NULL;
}

static void start(struct server *server, int family, const char *answer)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr *address =
		family == AF_INET ? (struct sockaddr *) &v4 : (struct sockaddr *) &v6;
	socklen_t size = family == AF_INET ? sizeof(v4) : sizeof(v6);

	*server = (struct server){ .answer = answer };
	server->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server->fd < 0 || bind(server->fd, address, size) < 0)
		skip(); /* no loopback of this family */
	assert_int_equal(listen(server->fd, 1), 0);
	assert_int_equal(getsockname(server->fd, address, &size), 0);
	server->port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void stop(struct server *server)
{
	pthread_join(server->thread, NULL);
	close(server->fd);
}

static bool http(const char *answer, const char *path, uint32_t timeout_ms, char words[256])
{
	struct check check = { .path = path, .timeout_ms = timeout_ms };
	struct server server;
	bool passed;

	start(&server, AF_INET, answer);
	check.port = server.port;
	passed = check_run(&check, words, 256);
	stop(&server);
	if (passed)
		assert_int_equal(strncmp(server.request, "GET /", 5), 0);
	return passed;
}

static void test_answers_decide(void **state)
{
	char words[256];

	(void) state;
	assert_true(http("HTTP/1.1 200 OK\r\n\r\n", "/", 5000, words));
	assert_non_null(strstr(words, "200"));
	assert_true(http("HTTP/1.0 302 Found\r\n", "/x?y=1", 5000, words));
	assert_false(http("HTTP/1.1 404 No\r\n\r\n", "/", 5000, words));
	assert_non_null(strstr(words, "404"));
	assert_false(http("HTTP/1.1 500 \r\n", "/", 5000, words));
	assert_false(http("SSH-2.0-x\r\n", "/", 5000, words));
	assert_non_null(strstr(words, "does not speak HTTP"));
}

static void test_silence_ends_at_the_deadline(void **state)
{
	char words[256];

	(void) state;
	assert_false(http("HTTP/1.1", "/", 50, words));
	assert_non_null(strstr(words, "within 50 ms"));
}

static void test_a_connection_is_enough_for_tcp(void **state)
{
	struct check check = { .timeout_ms = 5000 };
	struct server server;
	char words[256];

	(void) state;
	start(&server, AF_INET, NULL);
	check.port = server.port;
	assert_true(check_run(&check, words, sizeof(words)));
	stop(&server);
	/* Nobody listens there any more. */
	assert_false(check_run(&check, words, sizeof(words)));
	assert_non_null(strstr(words, "refused"));
}

static void test_the_other_family_counts_too(void **state)
{
	struct check check = { .timeout_ms = 5000 };
	struct server server;
	char words[256];

	(void) state;
	start(&server, AF_INET6, NULL);
	check.port = server.port;
	assert_true(check_run(&check, words, sizeof(words)));
	stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers_decide),
		cmocka_unit_test(test_silence_ends_at_the_deadline),
		cmocka_unit_test(test_a_connection_is_enough_for_tcp),
		cmocka_unit_test(test_the_other_family_counts_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
