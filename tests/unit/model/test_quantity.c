#include "model_test.h"

#include <signal.h>

#include "model/quantity.h"

static void test_memory(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "65536", 65536 },
		{ "64k", 65536 },
		{ "64KiB", 65536 },
		{ "512M", 512u << 20 },
		{ "1.5G", 3u << 29 },
		{ "2T", UINT64_C(2) << 40 },
		{ "100b", 100 },
	};
	static const char *const bad[] = { "",
					   "M",
					   "-1",
					   "1e9",
					   "0x10",
					   "1..5M",
					   "512MM",
					   "1 M",
					   "inf",
					   "9999999T",
					   "5X",
					   ".",
					   "12345678901234567890123456789012" };
	struct error err;
	uint64_t bytes;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		assert_int_equal(memory_parse(good[i].text, "--memory", &bytes, NULL), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		if (memory_parse(bad[i], "--memory", &bytes, &err) != -EINVAL)
			fail_msg("%s was accepted", bad[i]);
		assert_memory_equal(err.msg, "--memory: ", 10);
	}
}

static void test_cpus(void **state)
{
	double cpus;

	(void) state;
	assert_int_equal(cpus_parse("0.5", "--cpus", &cpus, NULL), 0);
	assert_true(cpus == 0.5);
	assert_int_equal(cpus_parse("2", "--cpus", &cpus, NULL), 0);
	assert_int_equal(cpus_parse("two", "--cpus", &cpus, NULL), -EINVAL);
	assert_int_equal(cpus_parse("-1", "--cpus", &cpus, NULL), -EINVAL);
	assert_int_equal(cpus_parse("0", "--cpus", &cpus, NULL), -EINVAL);
	assert_int_equal(cpus_parse("nan", "--cpus", &cpus, NULL), -EINVAL);
}

static void test_restart(void **state)
{
	enum restart_policy policy;
	uint32_t retries;

	(void) state;
	assert_int_equal(restart_parse("no", &policy, &retries, NULL), 0);
	assert_int_equal(policy, RESTART_NO);
	assert_int_equal(restart_parse("on-failure:3", &policy, &retries, NULL), 0);
	assert_int_equal(policy, RESTART_ON_FAILURE);
	assert_int_equal(retries, 3);
	assert_int_equal(restart_parse("unless-stopped", &policy, &retries, NULL), 0);
	assert_int_equal(retries, 0);
	assert_int_equal(restart_parse("on-failure:", &policy, &retries, NULL), -EINVAL);
	assert_int_equal(restart_parse("on-failure:-1", &policy, &retries, NULL), -EINVAL);
	assert_int_equal(restart_parse("always:3", &policy, &retries, NULL), -EINVAL);
	assert_int_equal(restart_parse("", &policy, &retries, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_cpus),
		cmocka_unit_test(test_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
