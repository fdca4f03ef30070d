#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "client/http_response.h"

static int collect(void *userdata, const void *data, size_t size)
{
	strbuf_append(userdata, data, size);
	return 0;
}

/* Feeds `text` in steps of `step` bytes; the body goes to `body`. */
static int feed(struct http_response *response, const char *text, size_t step, struct strbuf *body,
		size_t *ret_used, struct error *err)
{
	size_t size = strlen(text), total = 0;
	int r = 0;

	for (size_t at = 0; at < size && r == 0; at += step) {
		size_t used = 0;

		r = http_response_feed(response, text + at, size - at < step ? size - at : step,
				       &used, collect, body, err);
		total = at + used;
	}
	if (ret_used)
		*ret_used = total;
	return r;
}

static void check_body(const char *text, int status, const char *expected)
{
	for (size_t step = 1; step <= strlen(text); step += 7) {
		AUTO(http_response_done) struct http_response response = {};
		AUTO(strbuf_done) struct strbuf body = {};
		struct error err = {};

		assert_int_equal(feed(&response, text, step, &body, NULL, &err), 1);
		assert_int_equal(response.status, status);
		assert_string_equal(strbuf_str(&body), expected);
		assert_int_equal(http_response_end(&response, &err), 0);
	}
}

static void test_bodies(void **state)
{
	(void) state;
	check_body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
	check_body("HTTP/1.1 200\r\ncontent-length:5\r\n\r\nhello", 200, "hello");
	check_body("HTTP/1.1 404 No\nContent-Length: 0\n\n", 404, "");
	check_body("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
	check_body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		   "5\r\nhello\r\n1;a=b\r\n!\r\n000\r\nX: y\r\n\r\n",
		   200, "hello!");
	check_body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\n"
		   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		   200, "ok");
}

static void test_until_end(void **state)
{
	AUTO(http_response_done) struct http_response response = {};
	AUTO(strbuf_done) struct strbuf body = {};
	struct error err = {};

	(void) state;
	assert_int_equal(feed(&response, "HTTP/1.0 200 OK\r\n\r\nall of it", 3, &body, NULL, &err),
			 0);
	assert_false(response.keep_alive);
	assert_int_equal(http_response_end(&response, &err), 0);
	assert_string_equal(strbuf_str(&body), "all of it");
}

static void test_head(void **state)
{
	AUTO(http_response_done) struct http_response response = {};
	struct error err = {};
	size_t used = 0;
	const char *text =
		"HTTP/1.1 101 Switching Protocols\r\nContent-Type: application/json; x\r\n"
		"Sec-WebSocket-Accept:  abc= \r\n\r\nrest";

	(void) state;
	assert_int_equal(feed(&response, text, strlen(text), NULL, &used, &err), 1);
	assert_int_equal(used, strlen(text) - 4);
	assert_true(response.json);
	assert_true(response.keep_alive);
	assert_string_equal(response.websocket_key, "abc=");
}

static void test_cut_short(void **state)
{
	static const char *const texts[] = {
		"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		AUTO(http_response_done) struct http_response response = {};
		AUTO(strbuf_done) struct strbuf body = {};
		struct error err = {};

		assert_int_equal(feed(&response, texts[i], 4, &body, NULL, &err), 0);
		assert_int_equal(http_response_end(&response, &err), -ECONNRESET);
		assert_true(err.msg[0] != '\0');
	}
}

static void test_refused(void **state)
{
	static const char *const texts[] = {
		"SSH-2.0-OpenSSH\r\n\r\n",
		"HTTP/2 200\r\n\r\n",
		"HTTP/1.1 2x0 OK\r\n\r\n",
		"HTTP/1.1 999 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"\r\n",
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1g\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		AUTO(http_response_done) struct http_response response = {};
		AUTO(strbuf_done) struct strbuf body = {};
		struct error err = {};

		if (feed(&response, texts[i], 5, &body, NULL, &err) != -EPROTO)
			fail_msg("accepted: %s", texts[i]);
	}
}

static void test_bounded(void **state)
{
	AUTO(http_response_done) struct http_response response = {};
	struct error err = {};
	size_t used = 0;
	int r = http_response_feed(&response, "HTTP/1.1 200 OK\r\n", 17, &used, NULL, NULL, &err);

	(void) state;
	for (int i = 0; i < 100000 && r == 0; i++)
		r = http_response_feed(&response, "A: bcdefgh\r\n", 12, &used, NULL, NULL, &err);
	assert_int_equal(r, -EPROTO);
}

static int refuse(void *userdata, const void *data, size_t size)
{
	(void) userdata;
	(void) data;
	(void) size;
	return -ENOSPC;
}

static void test_body_fails(void **state)
{
	AUTO(http_response_done) struct http_response response = {};
	const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
	struct error err = {};
	size_t used = 0;

	(void) state;
	assert_int_equal(
		http_response_feed(&response, text, strlen(text), &used, refuse, NULL, &err),
		-ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bodies),     cmocka_unit_test(test_until_end),
		cmocka_unit_test(test_head),       cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_refused),    cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_body_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
