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

#include "probe/round.h"

/* A server that answers everybody, until its socket is shut. */
struct server {
	int fd;
	const char *answer; /* NULL: it says nothing and waits */
	uint16_t port;
	pthread_t thread;
};

static void *serve(void *data)
{
	struct server *server = data;
	char request[512];
	int held[64], count = 0, fd;

	while ((fd = accept(server->fd, NULL, NULL)) >= 0 && count < 64) {
		if (server->answer && read(fd, request, sizeof(request)) > 0 &&
		    send(fd, server->answer, strlen(server->answer), MSG_NOSIGNAL) < 0)
			break;
		held[count++] = fd;
	}
	while (count > 0)
		close(held[--count]);
	return NULL;
}

static void start(struct server *server, const char *address, uint16_t port, const char *answer)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	socklen_t size = sizeof(at);

	*server = (struct server){ .answer = answer };
	inet_pton(AF_INET, address, &at.sin_addr);
	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server->fd, (struct sockaddr *) &at, size), 0);
	assert_int_equal(listen(server->fd, 64), 0);
	assert_int_equal(getsockname(server->fd, (struct sockaddr *) &at, &size), 0);
	server->port = ntohs(at.sin_port);
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void stop(struct server *server)
{
	shutdown(server->fd, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->fd);
}

static void test_letters(void **state)
{
	char *addresses[] = { "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4",
			      "127.0.0.5", "127.0.0.6", "nonsense" };
	static const char *const answers[] = { "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 404 No\r\n\r\n",
					       "SSH-2.0-x\r\n", NULL };
	struct round round = {
		.path = "/x", .timeout_ms = 300, .addresses = addresses, .count = 7
	};
	struct server servers[4];
	char results[8] = "";

	(void) state;
	start(&servers[0], addresses[0], 0, answers[0]);
	round.port = servers[0].port;
	for (int i = 1; i < 4; i++)
		start(&servers[i], addresses[i], round.port, answers[i]);
	round_run(&round, results);
	assert_string_equal(results, "+shtrru");
	/* A connection is enough. */
	round.path = NULL;
	round_run(&round, results);
	assert_string_equal(results, "++++rru");
	for (int i = 0; i < 4; i++)
		stop(&servers[i]);
}

static void test_more_than_at_a_time(void **state)
{
	static char *addresses[ROUND_MAX];
	char results[ROUND_MAX];
	struct round round = { .timeout_ms = 1000, .addresses = addresses, .count = ROUND_MAX };
	struct server server;
	size_t passed = 0;

	(void) state;
	start(&server, "127.0.0.1", 0, NULL);
	round.port = server.port;
	for (size_t i = 0; i < ROUND_MAX; i++)
		addresses[i] = i % 5 == 0 ? "127.0.0.1" : "127.0.0.9";
	memset(results, '?', sizeof(results));
	round_run(&round, results);
	for (size_t i = 0; i < ROUND_MAX; i++) {
		assert_int_equal(results[i], i % 5 == 0 ? ROUND_PASSED : ROUND_REFUSED);
		passed += results[i] == ROUND_PASSED;
	}
	assert_int_equal(passed, (ROUND_MAX + 4) / 5);
	stop(&server);
}

static void test_path_that_is_too_long(void **state)
{
	static char path[4096];
	char *addresses[] = { "127.0.0.1", "127.0.0.1" };
	struct round round = { .path = path, .port = 9, .addresses = addresses, .count = 2 };
	char results[3] = "";

	(void) state;
	memset(path, 'a', sizeof(path) - 1);
	round_run(&round, results);
	assert_string_equal(results, "hh");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_letters),
		cmocka_unit_test(test_more_than_at_a_time),
		cmocka_unit_test(test_path_that_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
