#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/balancer.h"

static int decode(const char *text, struct balancer_request **ret, struct error *err)
{
	AUTO(json_decref) json_t *doc = json_loads(text, 0, NULL);

	assert_non_null(doc);
	return balancer_request_decode(doc, ret, err);
}

static void refuse(const char *text, const char *words)
{
	AUTO(balancer_request_free) struct balancer_request *request = NULL;
	struct error err = {};

	if (decode(text, &request, &err) == 0)
		fail_msg("%s was accepted", text);
	if (!strstr(err.msg, words))
		fail_msg("\"%s\" is not in \"%s\"", words, err.msg);
	assert_null(strchr(err.msg, '\n'));
}

#define BEGIN "{\"name\":\"web\",\"selector\":\"role=web\",\"listen\":[{\"port\":80"

static void test_request(void **state)
{
	AUTO(balancer_request_free) struct balancer_request *request = NULL, *again = NULL;

	(void) state;
	assert_int_equal(decode(BEGIN "}]}", &request, NULL), 0);
	assert_string_equal(request->spec.network, "default");
	assert_int_equal(request->spec.listens[0].target_port, 80);
	assert_int_equal(request->spec.check.type, BALANCER_CHECK_NONE);
	assert_int_equal(request->spec.check.fall, BALANCER_FALL);
	assert_int_equal(request->spec.drain_s, BALANCER_DRAIN_S);
	AUTO(json_decref) json_t *encoded = balancer_request_encode(request);
	assert_int_equal(balancer_request_decode(encoded, &again, NULL), 0);
	assert_string_equal(again->spec.selector[0], "role=web");
}

static void test_refusals(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{ "{\"name\":\"web\",\"listen\":[{\"port\":80}]}", "selector: must be given" },
		{ "{\"name\":\"web\",\"selector\":\"a=b\"}", "listen: must name a port" },
		{ "{\"name\":\"Web\",\"selector\":\"a=b\",\"listen\":[{\"port\":80}]}", "name" },
		{ BEGIN "},{\"port\":80}]}", "80/tcp is there twice" },
		{ BEGIN "},{\"port\":80,\"address\":\"192.0.2.1\"}]}", "80/tcp is there twice" },
		{ BEGIN ",\"address\":\"here\"}]}", "neither an IP address" },
		{ BEGIN ",\"address\":\"vip\"}]}", "has no address of its own" },
		{ BEGIN ",\"target_port\":70000}]}", "target_port" },
		{ BEGIN ",\"port2\":1}]}", "port2" },
		{ "{\"name\":\"web\",\"selector\":\"=web\",\"listen\":[{\"port\":80}]}",
		  "selector: \"=web\" is not a selector" },
		{ "{\"name\":\"web\",\"selector\":\"\",\"listen\":[{\"port\":80}]}",
		  "is not a selector" },
		{ "{\"name\":\"web\",\"selector\":\"a=b,,\",\"listen\":[{\"port\":80}]}",
		  "is not a selector" },
		{ BEGIN "}],\"algorithm\":\"best\"}", "must be one of \"round_robin\"" },
		{ BEGIN "}],\"check\":{\"type\":\"http\",\"path\":\"/a b\"}}",
		  "check.path: must begin with '/'" },
		{ BEGIN "}],\"check\":{\"type\":\"http\",\"path\":\"/\\r\\nX: y\"}}",
		  "check.path: must begin with '/'" },
		{ BEGIN "}],\"check\":{\"type\":\"tcp\",\"path\":\"/\"}}", "only goes with" },
		{ BEGIN "}],\"check\":{\"interval_ms\":1}}", "check.interval_ms" },
		{ BEGIN "}],\"check\":{\"rise\":0}}", "check.rise" },
		{ BEGIN "}],\"vip\":{\"ipv4\":\"fd00::1\"}}", "vip.ipv4" },
		{ BEGIN "}],\"drain_s\":-1}", "drain_s" },
		{ BEGIN "}],\"members\":[]}", "members" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		refuse(cases[i].text, cases[i].words);
}

static void test_too_many_listens(void **state)
{
	AUTO(json_decref) json_t *doc = json_loads(BEGIN "}]}", 0, NULL);
	AUTO(balancer_request_free) struct balancer_request *request = NULL;
	struct error err = {};

	(void) state;
	for (int i = 0; i < BALANCER_LISTEN_MAX; i++)
		json_array_append_new(json_object_get(doc, "listen"),
				      json_pack("{s:i}", "port", 100 + i));
	assert_true(balancer_request_decode(doc, &request, &err) < 0);
	assert_string_equal(err.msg, "listen: at most 64 are possible");
}

static void test_selector(void **state)
{
	AUTO(strv_free) char **selector = NULL;
	char *both[] = { (char *) "role=web", (char *) "tier=front", NULL };
	char *longer[] = { (char *) "role=web2", (char *) "tier=", NULL };
	char *one[] = { (char *) "role=web", NULL };

	(void) state;
	assert_int_equal(balancer_selector_parse("role=web,tier", &selector, NULL), 0);
	assert_true(balancer_selector_matches(selector, both));
	assert_false(balancer_selector_matches(selector, longer));
	assert_false(balancer_selector_matches(selector, one));
	assert_false(balancer_selector_matches(selector, NULL));
}

static void test_listen_text(void **state)
{
	static const struct {
		const char *text, *address;
		uint16_t port, target;
		bool vip, udp;
	} good[] = {
		{ "80", "", 80, 80, false, false },
		{ "80:8080", "", 80, 8080, false, false },
		{ "*:80/udp", "", 80, 80, false, true },
		{ "vip:53:5353/udp", "", 53, 5353, true, true },
		{ "192.0.2.1:80:8080/tcp", "192.0.2.1", 80, 8080, false, false },
		{ "[2001:db8::1]:80", "2001:db8::1", 80, 80, false, false },
	};
	static const char *const bad[] = { "",        "0",        "65536",   "80:",
					   "80:x",    "80/sctp",  "a:80",    "[::1]",
					   "[::1]80", "1.2.3:80", "1.2.3.4", "80:80:80" };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		struct balancer_listen listen;

		assert_int_equal(balancer_listen_parse(good[i].text, &listen, NULL), 0);
		assert_string_equal(listen.address, good[i].address);
		assert_int_equal(listen.port, good[i].port);
		assert_int_equal(listen.target_port, good[i].target);
		assert_int_equal(listen.vip, good[i].vip);
		assert_int_equal(listen.protocol == PROTOCOL_UDP, good[i].udp);
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct balancer_listen listen;

		if (balancer_listen_parse(bad[i], &listen, NULL) == 0)
			fail_msg("\"%s\" was accepted", bad[i]);
	}
}

static void test_check_text(void **state)
{
	struct balancer_check check = { .interval_ms = 7 };
	static const char *const bad[] = { "",     "tcp:",   "tcp:0", "http",       "http:80",
					   "http", "udp:53", "tcp80", "http:99999/" };

	(void) state;
	assert_int_equal(balancer_check_parse("http:/healthz", &check, NULL), 0);
	assert_int_equal(check.type, BALANCER_CHECK_HTTP);
	assert_string_equal(check.path, "/healthz");
	assert_int_equal(check.interval_ms, 7);
	assert_int_equal(balancer_check_parse("http:8080/a", &check, NULL), 0);
	assert_int_equal(check.port, 8080);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		if (balancer_check_parse(bad[i], &check, NULL) == 0)
			fail_msg("\"%s\" was accepted", bad[i]);
	assert_string_equal(check.path, "/a");
	assert_int_equal(balancer_check_parse("tcp:9", &check, NULL), 0);
	assert_null(check.path);
	assert_int_equal(check.port, 9);
	assert_int_equal(balancer_check_parse("none", &check, NULL), 0);
	assert_int_equal(check.type, BALANCER_CHECK_NONE);
}

static void test_patch_and_undo(void **state)
{
	AUTO(balancer_request_free) struct balancer_request *request = NULL;
	struct balancer balancer = {};
	AUTO(json_decref)
	json_t *patch = json_loads("{\"check\":{\"type\":\"tcp\",\"fall\":9},\"selector\":\"x\","
				   "\"listen\":[{\"port\":81}],\"drain_s\":null}",
				   0, NULL);
	AUTO(json_decref) json_t *hostile = json_loads("{\"network\":\"other\"}", 0, NULL);
	struct error err = {};

	(void) state;
	assert_int_equal(decode(BEGIN "}],\"drain_s\":5}", &request, NULL), 0);
	balancer.spec = request->spec;
	AUTO(json_decref) json_t *before = balancer_spec_encode(&balancer.spec);
	AUTO(json_decref) json_t *undo = balancer_patch_undo(&balancer, patch);
	assert_int_equal(balancer_patch(&balancer, patch, NULL), 0);
	assert_int_equal(balancer.spec.check.fall, 9);
	assert_int_equal(balancer.spec.listens[0].port, 81);
	assert_int_equal(balancer.spec.drain_s, BALANCER_DRAIN_S);
	assert_int_equal(balancer_patch(&balancer, undo, NULL), 0);
	AUTO(json_decref) json_t *after = balancer_spec_encode(&balancer.spec);
	assert_true(json_equal(before, after));
	assert_true(balancer_patch(&balancer, hostile, &err) < 0);
	assert_non_null(strstr(err.msg, "network"));
	request->spec = balancer.spec;
}

static void test_drains(void **state)
{
	struct balancer_spec spec = {};

	(void) state;
	balancer_drain_add(&spec, "22222222222222222222222222222222", 2);
	balancer_drain_add(&spec, "11111111111111111111111111111111", 1);
	balancer_drain_add(&spec, "11111111111111111111111111111111", 5);
	assert_int_equal(spec.drain_count, 2);
	assert_int_equal(balancer_drain_find(&spec, "11111111111111111111111111111111")->since_ms,
			 1);
	balancer_drain_remove(&spec, "11111111111111111111111111111111");
	assert_null(balancer_drain_find(&spec, "11111111111111111111111111111111"));
	assert_non_null(balancer_drain_find(&spec, "22222222222222222222222222222222"));
	balancer_spec_done(&spec);
}

static void test_member_request(void **state)
{
	static const char *const bad[] = { "{}", "{\"drain\":1}", "{\"drain\":true,\"x\":1}" };
	AUTO(json_decref) json_t *good = json_loads("{\"drain\":false}", 0, NULL);
	bool drain = true;

	(void) state;
	assert_int_equal(balancer_member_request_decode(good, &drain, NULL), 0);
	assert_false(drain);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(json_decref) json_t *doc = json_loads(bad[i], 0, NULL);

		assert_true(balancer_member_request_decode(doc, &drain, NULL) < 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),          cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_too_many_listens), cmocka_unit_test(test_selector),
		cmocka_unit_test(test_listen_text),      cmocka_unit_test(test_check_text),
		cmocka_unit_test(test_patch_and_undo),   cmocka_unit_test(test_drains),
		cmocka_unit_test(test_member_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
