#include "model_test.h"

#include "model/publish.h"

static void test_parse(void **state)
{
	static const struct {
		const char *text, *host_ip;
		int host_port, port;
		enum protocol protocol;
	} good[] = {
		{ "8080:80", "", 8080, 80, PROTOCOL_TCP },
		{ "8080:80/tcp", "", 8080, 80, PROTOCOL_TCP },
		{ "53:5353/udp", "", 53, 5353, PROTOCOL_UDP },
		{ "127.0.0.1:8080:80", "127.0.0.1", 8080, 80, PROTOCOL_TCP },
		{ "[::1]:8080:80/udp", "::1", 8080, 80, PROTOCOL_UDP },
		{ "[FD00:0::1]:1:65535", "fd00::1", 1, 65535, PROTOCOL_TCP },
		{ "0.0.0.0:1:2", "", 1, 2, PROTOCOL_TCP },
		{ "[::]:1:2", "", 1, 2, PROTOCOL_TCP },
	};
	static const char *const bad[] = {
		"",        "80",        ":80",          "80:",          "0:80",     "80:0",
		"65536:1", "1:65536",   "a:b",          "8080:80/sctp", "8080:80/", "1:2:3",
		"x:1:2",   "::1:80:80", "[::1]80:80",   "[::1",         "[]:1:2",   "1:2 ",
		"-1:2",    "1:2:3:4",   "127.0.0.1:80", "+1:2",         "000001:2", "/tcp",
	};
	struct publish publish;
	struct error err;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		assert_int_equal(publish_parse(good[i].text, &publish, NULL), 0);
		assert_string_equal(publish.host_ip, good[i].host_ip);
		assert_int_equal(publish.host_port, good[i].host_port);
		assert_int_equal(publish.port, good[i].port);
		assert_int_equal(publish.protocol, good[i].protocol);
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		if (publish_parse(bad[i], &publish, &err) != -EINVAL)
			fail_msg("%s was accepted", bad[i]);
		assert_non_null(strstr(err.msg, "8080:80"));
	}
}

static int read_list(const char *text, struct publish **ret, size_t *ret_count, struct error *err)
{
	AUTO(json_decref) json_t *doc = parse(text);
	struct json_reader in = { .err = err, .where = "spec" };

	publish_read_list(&in, doc, "publish", ret, ret_count);
	return json_reader_finish(&in, doc);
}

static void test_list(void **state)
{
	static const struct {
		const char *text, *word;
	} bad[] = {
		{ "{'publish':{}}", "spec.publish: must be a list" },
		{ "{'publish':[1]}", "spec.publish[0]: must be an object" },
		{ "{'publish':[{'port':80}]}", "spec.publish[0]: host_port and port" },
		{ "{'publish':[{'port':80,'host_port':70000}]}", "from 1 to 65535" },
		{ "{'publish':[{'port':80,'host_port':80,'protocol':'x'}]}", "\"tcp\", \"udp\"" },
		{ "{'publish':[{'port':80,'host_port':80,'host_ip':'here'}]}",
		  "not an IP address" },
		{ "{'publish':[{'port':80,'host_port':80},{'port':81,'host_port':80}]}", "twice" },
		{ "{'publish':[{'port':80,'host_port':80,'color':1}]}", "color: is not known" },
	};
	AUTO(free) struct publish *list = NULL;
	size_t count = 0;
	struct error err;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(read_list(bad[i].text, &list, &count, &err), -EINVAL);
		assert_non_null(strstr(err.msg, bad[i].word));
	}
	assert_int_equal(read_list("{'publish':[{'port':80,'host_port':80,'host_ip':'127.0.0.1'},"
				   "{'port':80,'host_port':80,'host_ip':'127.0.0.2'},"
				   "{'port':80,'host_port':80,'protocol':'udp'}]}",
				   &list, &count, NULL),
			 0);
	assert_int_equal(count, 3);
	AUTO(json_decref) json_t *encoded = publish_encode_list(list, count);
	assert_int_equal(json_array_size(encoded), 3);
	assert_true(publish_conflict(&list[0], &(struct publish){ "", 80, 1, PROTOCOL_TCP }));
	assert_false(publish_conflict(&list[0], &list[1]));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse),
					    cmocka_unit_test(test_list) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
