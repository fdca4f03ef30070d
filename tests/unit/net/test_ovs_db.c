#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "net/ovs_db_internal.h"

static long frame_of(const char *text)
{
	struct ovs_db_frame bytewise = {}, whole = {};
	long found = 0, at_once = ovs_db_frame(&whole, text, strlen(text));

	for (size_t size = 1; size <= strlen(text) && found == 0; size++)
		found = ovs_db_frame(&bytewise, text, size);
	assert_int_equal(found, at_once);
	return found;
}

static void messages_end_where_they_end(void **state)
{
	char deep[200];

	(void) state;
	assert_int_equal(frame_of("{}{}"), 2);
	assert_int_equal(frame_of("{\"a\":[1,{\"b\":2}]}x"), 17);
	assert_int_equal(frame_of("{\"}\\\"}\":1}"), 10);
	assert_int_equal(frame_of("{\"\\\\\":1}rest"), 8);
	assert_int_equal(frame_of("{\"a\":"), 0);
	assert_int_equal(frame_of("{\"a}"), 0);
	assert_int_equal(frame_of("[]"), -EBADMSG);
	assert_int_equal(frame_of("x"), -EBADMSG);
	memset(deep, '{', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	assert_int_equal(frame_of(deep), -EBADMSG);
}

static int decode(const char *text, size_t count, json_t **ret, struct error *err)
{
	return ovs_db_decode(text, strlen(text), count, ret, err);
}

static void rows_are_read(void **state)
{
	AUTO(json_decref) json_t *results = NULL;
	const json_t *row;

	(void) state;
	assert_int_equal(decode("{\"id\":1,\"error\":null,\"result\":[{\"rows\":[{\"name\":\"b\","
				"\"_uuid\":[\"uuid\",\"u1\"],\"external_ids\":[\"map\",[[\"k\","
				"\"v\"],[\"n\",7]]],\"ports\":[\"set\",[[\"uuid\",\"u2\"],"
				"[\"uuid\",\"u3\"]]],\"one\":[\"uuid\",\"u4\"],\"none\":[\"set\","
				"[]]}]}]}",
				1, &results, NULL),
			 1);
	row = json_array_get(ovs_db_rows(results, 0), 0);
	assert_non_null(row);
	assert_null(ovs_db_rows(results, 1));
	assert_string_equal(ovs_db_text(row, "name"), "b");
	assert_null(ovs_db_text(row, "none"));
	assert_null(ovs_db_text(NULL, "name"));
	assert_string_equal(ovs_db_uuid(row), "u1");
	assert_null(ovs_db_uuid(NULL));
	assert_string_equal(ovs_db_map_get(row, "external_ids", "k"), "v");
	assert_null(ovs_db_map_get(row, "external_ids", "n"));
	assert_null(ovs_db_map_get(row, "external_ids", "x"));
	assert_null(ovs_db_map_get(row, "name", "x"));
	assert_true(ovs_db_refers(row, "ports", "u3"));
	assert_false(ovs_db_refers(row, "ports", "u4"));
	assert_true(ovs_db_refers(row, "one", "u4"));
	assert_false(ovs_db_refers(row, "name", "u4"));
}

static void what_is_no_answer_is_passed_over(void **state)
{
	AUTO(json_decref) json_t *echo = NULL;
	json_t *none = NULL;

	(void) state;
	assert_int_equal(
		decode("{\"method\":\"echo\",\"id\":\"e\",\"params\":[1]}", 1, &echo, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(echo, "id")), "e");
	assert_int_equal(json_array_size(json_object_get(echo, "result")), 1);
	assert_true(json_is_null(json_object_get(echo, "error")));
	assert_int_equal(decode("{\"method\":\"update\",\"params\":[]}", 1, &none, NULL), 0);
	assert_int_equal(decode("{\"id\":7,\"result\":[]}", 1, &none, NULL), 0);
	assert_null(none);
}

static void errors_have_words(void **state)
{
	static const struct {
		const char *text, *words;
		int code;
	} bad[] = {
		{ "{\"id\":1,\"error\":\"unknown database\",\"result\":null}", "unknown database",
		  -EIO },
		{ "{\"id\":1,\"error\":{\"error\":\"syntax error\",\"details\":\"at \\u001b[1m\"}}",
		  "syntax error: at ", -EIO },
		{ "{\"id\":1,\"error\":null,\"result\":[{},{\"error\":\"constraint violation\","
		  "\"details\":\"name\"}]}",
		  "constraint violation: name", -EIO },
		{ "{\"id\":1,\"error\":null,\"result\":[{\"error\":\"timed out\"}]}",
		  "ovs-vswitchd does not do", -ETIMEDOUT },
		{ "{\"id\":1,\"error\":null,\"result\":[]}", "nonsense", -EBADMSG },
		{ "{\"id\":1,\"error\":null,\"result\":7}", "nonsense", -EBADMSG },
		{ "{\"id\":1", "Open vSwitch's database", 0 },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct error err = {};
		json_t *results = NULL;
		int r = decode(bad[i].text, 1, &results, &err);

		assert_true(r < 0 && !results);
		if (bad[i].code)
			assert_int_equal(r, bad[i].code);
		if (!strstr(err.msg, bad[i].words))
			fail_msg("%s: %s", bad[i].text, err.msg);
		assert_null(strchr(err.msg, '\033'));
	}
}

/* A daemon that says one thing to everybody. */
struct fake {
	int fd;
	const char *says;
	char heard[4096];
};

static void *serve(void *data)
{
	struct fake *fake = data;
	int fd = accept(fake->fd, NULL, NULL);
	size_t size = 0;
	ssize_t n;

	if (send(fd, fake->says, strlen(fake->says), MSG_NOSIGNAL) < 0)
		return NULL;
	shutdown(fd, SHUT_WR);
	while ((n = read(fd, fake->heard + size, sizeof(fake->heard) - 1 - size)) > 0)
		size += (size_t) n;
	close(fd);
	return NULL;
}

static int ask(const char *says, json_t **ret, char heard[4096], struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct fake fake = { .says = says };
	char folder[] = "/tmp/test-ovs-XXXXXX";
	pthread_t thread;
	int r;

	assert_non_null(mkdtemp(folder));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
	fake.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fake.fd, (struct sockaddr *) &address, sizeof(address)), 0);
	assert_int_equal(listen(fake.fd, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, serve, &fake), 0);
	r = ovs_db_transact(address.sun_path, json_pack("[{s:s}]", "op", "comment"), ret, err);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(fake.fd);
	unlink(address.sun_path);
	rmdir(folder);
	memcpy(heard, fake.heard, sizeof(fake.heard));
	return r;
}

static void talks_to_a_daemon(void **state)
{
	AUTO(json_decref) json_t *results = NULL;
	struct error err = {};
	char heard[4096];

	(void) state;
	if (ask("{\"id\":\"e\",\"method\":\"echo\",\"params\":[]}"
		"{\"id\":1,\"error\":null,\"result\":[{}]}",
		&results, heard, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(json_array_size(results), 1);
	assert_non_null(strstr(heard, "\"params\":[\"Open_vSwitch\",{\"op\":\"comment\"}]"));
	assert_non_null(strstr(heard, "\"id\":\"e\""));
}

static void a_daemon_that_talks_nonsense_is_left(void **state)
{
	static const char *const bad[] = { "", "{\"id\":1", "HTTP/1.0 200 OK\r\n", "{]}" };
	char heard[4096];

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct error err = {};
		json_t *results = NULL;

		assert_true(ask(bad[i], &results, heard, &err) < 0);
		assert_null(results);
		assert_non_null(strstr(err.msg, "Open vSwitch's database"));
	}
}

static void nobody_listens(void **state)
{
	struct error err = {};
	json_t *results = NULL;

	(void) state;
	assert_int_equal(ovs_db_transact("/nowhere/db.sock", json_array(), &results, &err),
			 -ENOENT);
	assert_non_null(strstr(err.msg, "Open vSwitch does not run here"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_end_where_they_end),
		cmocka_unit_test(rows_are_read),
		cmocka_unit_test(what_is_no_answer_is_passed_over),
		cmocka_unit_test(errors_have_words),
		cmocka_unit_test(talks_to_a_daemon),
		cmocka_unit_test(a_daemon_that_talks_nonsense_is_left),
		cmocka_unit_test(nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
