#include "codec/kernel_payload.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/error.h"

/* All formats: test_bzimage.c. */

static int unpack(const void *payload, size_t size, size_t out_size, void **ret)
{
	struct error err = {};
	int r = kernel_payload_unpack(payload, size, out_size, ret, &err);

	assert_true(r == 0 || (err.msg[0] && !*ret));
	return r;
}

static void test_sizes(void **state)
{
	static const char text[] = "a kernel, or so it says";
	uint8_t packed[256];
	size_t size = ZSTD_compress(packed, sizeof(packed), text, sizeof(text), 3);
	AUTO(free) void *out = NULL;
	AUTO(free) void *none = NULL;

	(void) state;
	assert_int_equal(unpack(packed, size, sizeof(text), &out), 0);
	assert_string_equal(out, text);
	assert_int_equal(unpack(packed, size, sizeof(text) - 1, &none), -EBADMSG);
	assert_int_equal(unpack(packed, size, sizeof(text) + 1, &none), -EBADMSG);
	assert_int_equal(unpack(packed, size, KERNEL_PAYLOAD_MAX, &none), -EBADMSG);
	assert_int_equal(unpack(packed, size, (size_t) KERNEL_PAYLOAD_MAX + 1, &none), -EFBIG);
}

static void test_formats_by_magic(void **state)
{
	AUTO(free) void *none = NULL;

	(void) state;
	assert_true(kernel_payload_is_gzip("\x1f\x8b\x08", 3));
	assert_false(kernel_payload_is_gzip("\x1f", 1));
	assert_false(kernel_payload_is_gzip("\xfd"
					    "7zXZ\0",
					    6));
	assert_int_equal(unpack("BZh9", 4, 4, &none), -EOPNOTSUPP);
	assert_int_equal(unpack("", 0, 0, &none), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_formats_by_magic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
