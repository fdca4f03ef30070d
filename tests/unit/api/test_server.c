/* Requests and their limits, against the real server. */
#include "fixture.h"

#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void shows_itself(void **state)
{
	AUTO(answer_done) struct answer answer = world_request(*state, "GET", "/1.0", NULL);

	assert_int_equal(answer.status, 200);
	json_t *metadata = json_object_get(answer.json, "metadata");
	assert_string_equal(json_string_value(json_object_get(metadata, "api")), "1.0");
	assert_non_null(strstr(answer.text, "Content-Type: application/json"));
}

static void unknown_paths_get_near_ones(void **state)
{
	AUTO(answer_done)
	struct answer answer = world_request(*state, "GET", "/1.0/instance", NULL);
	AUTO(answer_done) struct answer far = world_request(*state, "GET", "/favicon.ico", NULL);

	assert_int_equal(answer.status, 404);
	assert_non_null(strstr(answer_hint(&answer), "'/1.0/instances'"));
	assert_int_equal(far.status, 404);
	assert_string_equal(answer_error(&far), "there is no such path");
}

static void wrong_methods_get_the_right_ones(void **state)
{
	AUTO(answer_done)
	struct answer answer = world_request(*state, "PATCH", "/1.0/images", NULL);
	AUTO(answer_done)
	struct answer options = world_request(*state, "OPTIONS", "/1.0/images/x", NULL);

	assert_int_equal(answer.status, 405);
	assert_non_null(strstr(answer.text, "Allow: GET, HEAD, POST, OPTIONS"));
	assert_int_equal(options.status, 204);
	assert_non_null(strstr(options.text, "Allow: GET, HEAD, DELETE, OPTIONS"));
}

static void lists_and_shows(void **state)
{
	AUTO(answer_done) struct answer names = world_request(*state, "GET", "/1.0/networks", NULL);
	AUTO(answer_done)
	struct answer full = world_request(*state, "GET", "/1.0/networks?recursion=1", NULL);
	AUTO(answer_done)
	struct answer one = world_request(*state, "GET", "/1.0/networks/default", NULL);
	AUTO(answer_done)
	struct answer near = world_request(*state, "GET", "/1.0/networks/defualt", NULL);

	assert_string_equal(names.body, "{\"type\":\"sync\",\"metadata\":[\"default\"]}");
	json_t *first = json_array_get(json_object_get(full.json, "metadata"), 0);
	assert_true(json_equal(first, json_object_get(one.json, "metadata")));
	assert_non_null(strstr(one.text, "ETag: \"1\""));
	assert_int_equal(near.status, 404);
	assert_string_equal(answer_hint(&near), "did you mean 'default'?");
}

static void head_has_no_body(void **state)
{
	struct world *w = *state;
	AUTO(fd_close) int fd = world_connect(w->api_path);
	AUTO(strbuf_done) struct strbuf in = {};
	const char *text = "HEAD /1.0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

	world_send(w, fd, text, strlen(text));
	while (world_receive(w, fd, &in))
		;
	assert_memory_equal(in.data, "HTTP/1.1 200", 12);
	assert_string_equal(strstr(in.data, "\r\n\r\n"), "\r\n\r\n");
}

static void connections_are_kept(void **state)
{
	struct world *w = *state;
	AUTO(fd_close) int fd = world_connect(w->api_path);
	const char *good = "GET /1.0 HTTP/1.1\r\nHost: x\r\n\r\n";
	const char *bad = "GET /2.0 HTTP/1.1\r\nHost: x\r\n\r\n";

	for (int i = 0; i < 3; i++) {
		world_send(w, fd, good, strlen(good));
		AUTO(answer_done) struct answer first = world_answer(w, fd);
		world_send(w, fd, bad, strlen(bad));
		AUTO(answer_done) struct answer second = world_answer(w, fd);

		assert_int_equal(first.status, 200);
		assert_int_equal(second.status, 404);
	}
}

static void bad_requests_say_why(void **state)
{
	static const struct {
		const char *method, *path, *body, *words;
	} cases[] = {
		{ "GET", "/1.0/%zz", NULL, "URL: '%' must be followed by two hex digits" },
		{ "GET", "/1.0/%00", NULL, "URL: control characters are not allowed" },
		{ "GET", "/1.0/%ff", NULL, "URL: must be UTF-8" },
		{ "GET", "/1.0/../etc", NULL,
		  "URL: empty, '.' and '..' path segments are not allowed" },
		{ "GET", "/1.0/networks?recursion=yes", NULL, "?recursion=yes: must be 1 or 0" },
		{ "GET", "/1.0/networks?a=1", NULL,
		  "?a: is not known here; known are: project, recursion" },
		{ "POST", "/1.0/instances", "{",
		  "body: not valid JSON: line 1 column 1: string or "
		  "'}' expected near end of file" },
		{ "POST", "/1.0/instances", "[]", "body: must be a JSON object" },
		{ "POST", "/1.0/images?import=1", "x", "?name=: an imported image needs a name" },
		{ "GET", "/1.0/operations/x/wait?timeout_s=-1", NULL,
		  "?timeout_s=-1: must be a whole number from 0 to 3600" },
		{ "PUT", "/1.0/instances/x/state", "{\"action\":\"start\",\"surprise\":1}", NULL },
		{ "POST", "/1.0/instances", "{}", NULL },
		{ "POST", "/1.0/networks", "{\"name\":\"UPPER\"}", NULL },
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(answer_done)
		struct answer answer =
			world_request(*state, cases[i].method, cases[i].path, cases[i].body);

		assert_int_equal(answer.status, 400);
		if (cases[i].words)
			assert_string_equal(answer_error(&answer), cases[i].words);
		assert_true(answer_hint(&answer)[0] != '\0');
	}
}

/* Whatever these get, it is an answer or the end of the connection, and the server goes on. */
static void survives_broken_http(void **state)
{
	static const char *const requests[] = {
		"GET\r\n\r\n",
		"GET /1.0\r\n\r\n",
		"GET /1.0 HTTP/9.9\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"POST /1.0/instances HTTP/1.1\r\nHost: x\r\nContent-Length: nonsense\r\n\r\n{}",
		"POST /1.0/instances HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}",
		"POST /1.0/instances HTTP/1.1\r\nHost: x\r\nContent-Length: "
		"99999999999999999999999\r\n\r\n{}",
		"POST /1.0/instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
		"chunked\r\n\r\nzz\r\n",
		"GET /1.0 HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n",
		"GET http://[::1/1.0 HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /1.0 HTTP/1.0\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_COUNT(requests); i++) {
		struct world *w = *state;
		AUTO(fd_close) int fd = world_connect(w->api_path);

		world_send(w, fd, requests[i], strlen(requests[i]));
		shutdown(fd, SHUT_WR);
		AUTO(answer_done) struct answer answer = world_answer(w, fd);
	}
	shows_itself(state);
}

static void heads_are_bounded(void **state)
{
	AUTO(strbuf_done) struct strbuf headers = {};
	AUTO(strbuf_done) struct strbuf path = {};

	strbuf_puts(&headers, "GET /1.0 HTTP/1.1\r\nHost: x\r\n");
	for (int i = 0; i < 2000; i++)
		strbuf_printf(&headers, "X-Header-%d: some words that take up room\r\n", i);
	strbuf_puts(&headers, "\r\n");
	AUTO(answer_done) struct answer many = world_raw(*state, headers.data, headers.size);
	assert_true(many.status == 431 || many.status == 413);

	strbuf_puts(&path, "GET /1.0/");
	for (int i = 0; i < 9000; i++)
		strbuf_puts(&path, "a");
	strbuf_puts(&path, " HTTP/1.1\r\nHost: x\r\n\r\n");
	AUTO(answer_done) struct answer longer = world_raw(*state, path.data, path.size);
	assert_int_equal(longer.status, 400);
	assert_string_equal(answer_error(&longer), "URL: longer than 8192 bytes");
	shows_itself(state);
}

static void bodies_are_bounded(void **state)
{
	AUTO(strbuf_done) struct strbuf chunked = {};
	const char *announced = "POST /1.0/instances HTTP/1.1\r\nHost: x\r\nContent-Length: "
				"1048577\r\n\r\n";
	AUTO(answer_done) struct answer early = world_raw(*state, announced, strlen(announced));

	assert_int_equal(early.status, 413);
	assert_string_equal(answer_error(&early), "body: at most 1048576 bytes are allowed here");

	strbuf_puts(&chunked, "POST /1.0/instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
			      "chunked\r\n\r\n");
	for (int i = 0; i < 40; i++) {
		char *data;

		strbuf_puts(&chunked, "8000\r\n");
		data = strbuf_reserve(&chunked, 0x8000);
		memset(data, ' ', 0x8000);
		strbuf_grown(&chunked, 0x8000);
		strbuf_puts(&chunked, "\r\n");
	}
	strbuf_puts(&chunked, "0\r\n\r\n");
	AUTO(answer_done) struct answer late = world_raw(*state, chunked.data, chunked.size);
	assert_int_equal(late.status, 413);
}

static void many_connections_at_once(void **state)
{
	struct world *w = *state;
	const char *text = "GET /1.0 HTTP/1.1\r\nHost: x\r\n\r\n";
	int fds[100];

	for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
		fds[i] = world_connect(w->api_path);
		world_turn(w);
	}
	for (size_t i = 0; i < ARRAY_COUNT(fds); i++)
		world_send(w, fds[i], text, strlen(text));
	for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
		AUTO(answer_done) struct answer answer = world_answer(w, fds[i]);

		assert_int_equal(answer.status, 200);
		close(fds[i]);
	}
}

static void short_times(struct api_config *config)
{
	config->request_s = 1;
	config->idle_s = 1;
}

/* Who sends one byte now and then is closed at the deadline, whatever the bytes are. */
static void slow_clients_are_closed(void **state)
{
	struct world *w = world_new_with(short_times);
	AUTO(fd_close) int fd = world_connect(w->api_path);
	const char *text = "GET /1.0 HTTP/1.1\r\nHost: x\r\nX-Slow: ";
	uint64_t begin = clock_monotonic_us(clock_system());
	AUTO(strbuf_done) struct strbuf in = {};

	(void) state;
	world_send(w, fd, text, strlen(text));
	/* Few enough of them that the head's size is not what ends it. */
	for (size_t sent = 0; world_receive(w, fd, &in);) {
		uint64_t passed_us = clock_monotonic_us(clock_system()) - begin;

		assert_true(passed_us < 10000000);
		if (sent * 1000 < passed_us && send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
			sent++;
	}
	assert_true(clock_monotonic_us(clock_system()) - begin >= 900000);
	shows_itself((void **) &w);
	world_tear_down((void **) &w);
}

/* A user who reaches the socket although it is not for them: the kernel says who they are. */
static void strangers_are_refused(void **state)
{
	static const char request[] = "GET /1.0 HTTP/1.1\r\nHost: x\r\n\r\n";
	struct world *w = *state;
	char text[1024] = "";
	int fds[2];

	if (geteuid() != 0) {
		print_message("needs root to become another user\n");
		skip();
	}
	assert_int_equal(chmod(w->folder, 0755), 0);
	assert_int_equal(chmod(w->api_path, 0666), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(65533, 65533, 65533) < 0 ||
		    setresuid(65533, 65533, 65533) < 0)
			_exit(1);
		int fd = world_connect(w->api_path);
		if (send(fd, request, sizeof(request) - 1, 0) < 0)
			_exit(1);
		ssize_t n = recv(fd, text, sizeof(text), 0);
		_exit(n > 0 && write(fds[1], text, (size_t) n) == n ? 0 : 1);
	}
	int status = -1;
	while (waitpid(pid, &status, WNOHANG) == 0)
		world_turn(w);
	assert_int_equal(status, 0);
	assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
	assert_memory_equal(text, "HTTP/1.1 403", 12);
	assert_non_null(strstr(text, "uid 65533"));
	assert_non_null(strstr(text, "may not use this node"));
	assert_non_null(strstr(text, "group 'brume'"));
	close(fds[0]);
	close(fds[1]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_set_up, world_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shows_itself),
		TEST(unknown_paths_get_near_ones),
		TEST(wrong_methods_get_the_right_ones),
		TEST(lists_and_shows),
		TEST(head_has_no_body),
		TEST(connections_are_kept),
		TEST(bad_requests_say_why),
		TEST(survives_broken_http),
		TEST(heads_are_bounded),
		TEST(bodies_are_bounded),
		TEST(many_connections_at_once),
		TEST(strangers_are_refused),
		cmocka_unit_test(slow_clients_are_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
