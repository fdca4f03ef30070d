#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/limit_internal.h"
#include "net/name.h"

static void bucket_fits_the_rate(void **state)
{
	struct qdisc_tbf tbf = limit_plan(100 * 1000 * 1000, 0, 1500);

	(void) state;
	assert_int_equal(tbf.rate_bytes_ps, 12500000);
	assert_int_equal(tbf.burst_bytes, 250000);
	assert_int_equal(tbf.limit_bytes, 250000 + 625000);
	/* Neither so small that the kernel's timers matter, nor so large that it is no limit. */
	tbf = limit_plan(8000, 0, 1500);
	assert_int_equal(tbf.burst_bytes, 32 << 10);
	tbf = limit_plan(UINT64_C(1000000000000), 0, 1500);
	assert_int_equal(tbf.burst_bytes, 16 << 20);
	assert_int_equal(tbf.limit_bytes, (16 << 20) + (64 << 20));
}

/* A frame that is larger than the bucket would never leave. */
static void bucket_holds_a_frame(void **state)
{
	struct qdisc_tbf tbf = limit_plan(1000 * 1000, 2048, 9000);

	(void) state;
	assert_int_equal(tbf.burst_bytes, 9018);
	assert_true(tbf.limit_bytes > tbf.burst_bytes);
	tbf = limit_plan(1000 * 1000, 0, 65535);
	assert_true(tbf.burst_bytes > 65535);
	tbf = limit_plan(1000 * 1000, 300000, 1500);
	assert_int_equal(tbf.burst_bytes, 300000);
}

/* The queue of a port is known by its name, and for nothing else. */
static void queue_has_a_name(void **state)
{
	char name[IF_NAMESIZE];

	(void) state;
	name_queue("brume", "0123456789abcdef", name);
	assert_string_equal(name, "brumeq012345678");
	assert_string_equal(name_of_queue("brume", name), "012345678");
	assert_null(name_of_veth("brume", name));
	assert_null(name_of_queue("bru", name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_fits_the_rate),
		cmocka_unit_test(bucket_holds_a_frame),
		cmocka_unit_test(queue_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
