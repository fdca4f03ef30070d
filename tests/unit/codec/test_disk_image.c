#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "codec/disk_image.h"
#include "codec/qcow2.h"

static enum disk_format guess(const void *bytes, size_t size)
{
	enum disk_format format = DISK_QCOW2;

	assert_int_equal(disk_image_guess(bytes, size, &format, NULL), 0);
	return format;
}

static void what_it_is(void **state)
{
	AUTO(strbuf_done) struct strbuf qcow2 = {};
	unsigned char sector[DISK_SECTOR_BYTES] = "boots";

	(void) state;
	qcow2_append_empty(&qcow2, 1 << 20);
	assert_int_equal(guess(qcow2.data, qcow2.size), DISK_QCOW2);
	assert_int_equal(guess("", 0), DISK_NONE);
	assert_int_equal(guess(sector, sizeof(sector)), DISK_NONE);
	sector[510] = 0x55;
	sector[511] = 0xaa;
	assert_int_equal(guess(sector, sizeof(sector)), DISK_RAW);
	assert_int_equal(guess(sector, sizeof(sector) - 1), DISK_NONE);
	/* An archive stays one, whatever its first file is called. */
	memcpy(sector + 257, "ustar", 5);
	assert_int_equal(guess(sector, sizeof(sector)), DISK_NONE);
}

static void what_others_write(void **state)
{
	enum disk_format format;
	struct error err = {};
	char disk[DISK_SECTOR_BYTES] = "";

	(void) state;
	memcpy(disk + 64, "\x7f\x10\xda\xbe", 4);
	assert_int_equal(disk_image_guess(disk, sizeof(disk), &format, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "VDI"));
	assert_int_equal(disk_image_guess("vhdxfile", 8, &format, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "VHDX"));
}

static void how_large_its_disk_is(void **state)
{
	AUTO(strbuf_done) struct strbuf qcow2 = {};
	struct error err = {};
	uint64_t bytes = 0;

	(void) state;
	qcow2_append_empty(&qcow2, 5 << 20);
	assert_int_equal(
		disk_image_check(DISK_QCOW2, qcow2.data, qcow2.size, qcow2.size, &bytes, NULL), 0);
	assert_int_equal(bytes, 5 << 20);
	assert_int_equal(disk_image_check(DISK_RAW, "x", 1, 1024, &bytes, NULL), 0);
	assert_int_equal(bytes, 1024);
	bytes = 7;
	assert_int_equal(disk_image_check(DISK_RAW, "x", 1, 1000, &bytes, &err), -EINVAL);
	assert_int_equal(disk_image_check(DISK_RAW, "", 0, 0, &bytes, &err), -EINVAL);
	assert_int_equal(disk_image_check(DISK_QCOW2, "x", 1, 1, &bytes, &err), -EBADMSG);
	assert_int_equal(disk_image_check(DISK_NONE, "x", 1, 1, &bytes, &err), -EINVAL);
	assert_int_equal(bytes, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_is),
		cmocka_unit_test(what_others_write),
		cmocka_unit_test(how_large_its_disk_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
