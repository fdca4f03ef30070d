#include "model/usage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/strbuf.h"

static void percent_is_100_for_one_processor(void **state)
{
	struct usage before = { .cpu_ns = 1000 }, now = { .cpu_ns = 1000 + 500000000 };

	(void) state;
	assert_float_equal(usage_cpu_percent(&before, &now, 1000000), 50, 0.001);
	assert_float_equal(usage_cpu_percent(&before, &now, 250000), 200, 0.001);
	/* A new run of the instance, or the same instant. */
	assert_true(usage_cpu_percent(&now, &before, 1000000) < 0);
	assert_true(usage_cpu_percent(&before, &now, 0) < 0);
}

static json_int_t number(const json_t *object, const char *part, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(object, part), name));
}

static json_t *put(const struct usage *usage, double percent)
{
	AUTO(strbuf_done) struct strbuf out = {};
	json_t *value = NULL;

	struct usage_port ports[] = {
		{ .interface = "eth0", .network = "default" },
		{ .interface = "eth1", .network = "back", .there = true, .traffic.tx_packets = 4 }
	};

	usage_put(&out, "web", "0123456789abcdef0123456789abcdef", usage, ports, ARRAY_COUNT(ports),
		  percent);
	assert_int_equal(json_parse(out.data, out.size, out.size, &value, NULL), 0);
	return value;
}

static void sample_is_json(void **state)
{
	struct usage usage = { .time_ms = 1,
			       .cpu_ns = UINT64_C(1) << 60,
			       .memory_bytes = 25,
			       .memory_limit_bytes = 100,
			       .guest_memory_bytes = 11,
			       .guest_memory_total_bytes = 90,
			       .ballooned = true,
			       .balloon_bytes = 12,
			       .counts_given_back = true,
			       .given_back_bytes = 40,
			       .write_ops = 7,
			       .pids = 3,
			       .networked = true,
			       .traffic.tx_packets = 9 };
	AUTO(json_decref) json_t *sample = put(&usage, 12.345);
	AUTO(json_decref) json_t *bare = put(&(struct usage){}, USAGE_PERCENT_UNKNOWN);

	(void) state;
	assert_string_equal(json_string_value(json_object_get(sample, "name")), "web");
	assert_string_equal(json_string_value(json_object_get(sample, "time")),
			    "1970-01-01T00:00:00.001Z");
	assert_true(number(sample, "cpu", "usage_ns") == (json_int_t) 1 << 60);
	assert_float_equal(
		json_number_value(json_object_get(json_object_get(sample, "cpu"), "percent")),
		12.35, 0.011);
	assert_float_equal(
		json_number_value(json_object_get(json_object_get(sample, "memory"), "percent")),
		25, 0.001);
	assert_int_equal(number(sample, "memory", "guest_usage_bytes"), 11);
	assert_int_equal(number(sample, "memory", "guest_total_bytes"), 90);
	assert_int_equal(number(sample, "memory", "balloon_bytes"), 12);
	assert_int_equal(number(sample, "memory", "given_back_bytes"), 40);
	assert_int_equal(number(sample, "io", "write_ops"), 7);
	assert_int_equal(number(sample, "pids", "current"), 3);
	assert_int_equal(number(sample, "network", "tx_packets"), 9);
	/* Of the interfaces those that are there. */
	const json_t *list = json_object_get(json_object_get(sample, "network"), "interfaces");
	assert_int_equal(json_array_size(list), 1);
	const json_t *one = json_array_get(list, 0);
	assert_string_equal(json_string_value(json_object_get(one, "interface")), "eth1");
	assert_string_equal(json_string_value(json_object_get(one, "network")), "back");
	assert_int_equal(json_integer_value(json_object_get(one, "tx_packets")), 4);
	/* What is not known is not there. */
	assert_null(json_object_get(bare, "network"));
	assert_null(json_object_get(json_object_get(bare, "cpu"), "percent"));
	assert_null(json_object_get(json_object_get(bare, "memory"), "limit_bytes"));
	assert_null(json_object_get(json_object_get(bare, "memory"), "guest_total_bytes"));
	assert_null(json_object_get(json_object_get(bare, "memory"), "balloon_bytes"));
	assert_null(json_object_get(json_object_get(bare, "memory"), "given_back_bytes"));
	assert_null(json_object_get(json_object_get(bare, "pids"), "limit"));
}

static void ports_make_the_sum(void **state)
{
	struct usage usage = {};
	const struct usage_traffic ports[] = { { .rx_bytes = 1, .tx_dropped = 5 },
					       { .rx_bytes = 2, .tx_packets = 7 } };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(ports); i++)
		usage_add_traffic(&usage, &ports[i]);
	assert_true(usage.networked);
	assert_int_equal(usage.traffic.rx_bytes, 3);
	assert_int_equal(usage.traffic.tx_packets, 7);
	assert_int_equal(usage.traffic.tx_dropped, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percent_is_100_for_one_processor),
		cmocka_unit_test(sample_is_json),
		cmocka_unit_test(ports_make_the_sum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
