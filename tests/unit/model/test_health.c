#include "model_test.h"

#include "base/strv.h"
#include "model/health.h"
#include "model/quantity.h"

static int read_check(const char *text, struct health_check *ret, struct error *err)
{
	AUTO(json_decref) json_t *doc = parse(text);
	struct json_reader in = { .err = err, .where = "spec" };

	health_check_read(&in, doc, "health", ret);
	return json_reader_finish(&in, doc);
}

static void test_checks_survive(void **state)
{
	static const char *const good[] = {
		("{'type':'exec','command':['a','b'],'interval_ms':1000,'timeout_ms':100,"
		 "'start_period_ms':1,'start_interval_ms':100,'retries':2,'on_failure':'restart'}"),
		"{'type':'http','port':80,'path':'/x?y=%20'}",
		"{'type':'tcp','port':65535,'on_failure':'kill'}",
		"{'type':'none'}",
		"{'interval_ms':500}",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		AUTO(free) char *text = mem_printf("{'health':%s}", good[i]);
		AUTO(health_check_done) struct health_check check = {};
		AUTO(health_check_done) struct health_check copy = {};
		AUTO(json_decref) json_t *doc = parse(good[i]);

		assert_int_equal(read_check(text, &check, NULL), 0);
		assert_false(health_check_is_empty(&check));
		health_check_copy(&copy, &check);
		AUTO(json_decref) json_t *written = health_check_encode(&copy);
		assert_json_equal(doc, written);
	}
}

static void test_refusals(void **state)
{
	static const char *const bad[][2] = {
		{ "{'health':{'type':'exec'}}", "spec.health: command" },
		{ "{'health':{'type':'exec','command':[]}}", "command" },
		{ "{'health':{'type':'exec','command':['']}}", "command" },
		{ "{'health':{'type':'http'}}", "port" },
		{ "{'health':{'type':'http','port':0}}", "port" },
		{ "{'health':{'type':'http','port':80,'path':'x'}}", "path" },
		{ "{'health':{'type':'http','port':80,'path':'/a\\r\\nB: c'}}", "path" },
		{ "{'health':{'type':'tcp','port':80,'command':['x']}}", "command" },
		{ "{'health':{'port':80}}", "port" },
		{ "{'health':{'interval_ms':99}}", "interval_ms" },
		{ "{'health':{'timeout_ms':90000000}}", "timeout_ms" },
		{ "{'health':{'start_interval_ms':99}}", "start_interval_ms" },
		{ "{'health':{'retries':1001}}", "retries" },
		{ "{'health':{'on_failure':'x'}}", "on_failure" },
		{ "{'health':{'more':1}}", "more" },
		{ "{'health':3}", "health" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(health_check_done) struct health_check check = {};
		struct error err = {};

		if (read_check(bad[i][0], &check, &err) >= 0 || !strstr(err.msg, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], err.msg);
	}
}

static void test_what_is_not_said_is_the_images(void **state)
{
	struct health_check spec = { .retries = 9 };
	struct health_check image = { .type = HEALTH_TYPE_EXEC, .interval_ms = 7000, .retries = 2 };
	AUTO(health_check_done) struct health_check merged = {};

	(void) state;
	strv_append(&image.command, "/check");
	health_check_merge(&spec, &image, &merged);
	assert_int_equal(merged.type, HEALTH_TYPE_EXEC);
	assert_string_equal(merged.command[0], "/check");
	assert_int_equal(merged.interval_ms, 7000);
	assert_int_equal(merged.timeout_ms, HEALTH_TIMEOUT_MS);
	assert_int_equal(merged.retries, 9);
	health_check_done(&merged);
	health_check_merge(&spec, NULL, &merged);
	assert_int_equal(merged.type, HEALTH_TYPE_NONE);
	health_check_done(&merged);
	spec.type = HEALTH_TYPE_HTTP;
	spec.port = 80;
	health_check_merge(&spec, &image, &merged);
	assert_string_equal(merged.path, "/");
	assert_null(merged.command);
	health_check_done(&image);
}

static void test_the_log_keeps_the_newest(void **state)
{
	struct health_status status = { .state = HEALTH_UNHEALTHY, .failing_streak = 12 };
	struct health_status copy = {}, again = {};
	struct json_reader in = { .where = "" };

	(void) state;
	for (int i = 1; i <= 12; i++)
		health_status_add(&status, i * 1000, 5, i, mem_printf("%d", i));
	assert_int_equal(status.log_count, HEALTH_LOG_MAX);
	assert_string_equal(status.log[0].output, "8");
	assert_int_equal(status.log[HEALTH_LOG_MAX - 1].exit_code, 12);
	health_status_copy(&copy, &status);
	health_status_done(&status);
	AUTO(json_decref) json_t *doc = json_object();
	json_object_set_new(doc, "health", health_status_encode(&copy));
	health_status_read(&in, doc, "health", &again);
	assert_int_equal(in.result, 0);
	AUTO(json_decref) json_t *x = health_status_encode(&copy);
	AUTO(json_decref) json_t *y = health_status_encode(&again);
	assert_json_equal(x, y);
	health_status_done(&copy);
	health_status_done(&again);
}

static void test_texts(void **state)
{
	AUTO(health_check_done) struct health_check check = {};
	uint32_t ms = 0;

	(void) state;
	assert_int_equal(health_parse_http("8080/healthz?a=b", &check, NULL), 0);
	assert_int_equal(check.port, 8080);
	assert_string_equal(check.path, "/healthz?a=b");
	assert_int_equal(health_parse_http("/", &check, NULL), 0);
	assert_int_equal(check.port, 80);
	assert_int_equal(health_parse_http("", &check, NULL), -EINVAL);
	assert_int_equal(health_parse_http("80", &check, NULL), -EINVAL);
	assert_int_equal(health_parse_http("0/", &check, NULL), -EINVAL);
	assert_int_equal(health_parse_http("123456/", &check, NULL), -EINVAL);

	assert_int_equal(duration_parse("1m30s", "x", &ms, NULL), 0);
	assert_int_equal(ms, 90000);
	assert_int_equal(duration_parse("5", "x", &ms, NULL), 0);
	assert_int_equal(ms, 5000);
	assert_int_equal(duration_parse("1.5s250ms", "x", &ms, NULL), 0);
	assert_int_equal(ms, 1750);
	assert_int_equal(duration_parse("0s", "x", &ms, NULL), 0);
	assert_int_equal(ms, 0);
	assert_int_equal(duration_parse("24h", "x", &ms, NULL), 0);
	assert_int_equal(duration_parse("25h", "x", &ms, NULL), -EINVAL);
	assert_int_equal(duration_parse("", "x", &ms, NULL), -EINVAL);
	assert_int_equal(duration_parse("5d", "x", &ms, NULL), -EINVAL);
	assert_int_equal(duration_parse("1m30", "x", &ms, NULL), -EINVAL);
	assert_int_equal(duration_parse("-5s", "x", &ms, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checks_survive),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_what_is_not_said_is_the_images),
		cmocka_unit_test(test_the_log_keeps_the_newest),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
