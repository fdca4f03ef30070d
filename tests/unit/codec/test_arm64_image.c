#include "codec/arm64_image.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

enum { IMAGE_SIZE = 200000, ZBOOT_START = 0x200, FILE_MAX = ZBOOT_START + IMAGE_SIZE + 4096 };

static uint8_t image[IMAGE_SIZE];

static void put32(uint8_t *p, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t) (value >> 8 * i);
}

static size_t pack_gzip(const uint8_t *data, size_t size, uint8_t *out, size_t room)
{
	z_stream z = { .next_in = (Bytef *) (uintptr_t) data,
		       .avail_in = (uInt) size,
		       .next_out = out,
		       .avail_out = (uInt) room };

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return room - z.avail_out;
}

/* An EFI program around a payload; of gzip the size is a part, of zstd it follows. */
static size_t make_zboot(uint8_t *file, bool gzip)
{
	uint8_t *payload = file + ZBOOT_START;
	size_t room = FILE_MAX - ZBOOT_START;
	size_t size = gzip ? pack_gzip(image, IMAGE_SIZE, payload, room)
			   : ZSTD_compress(payload, room, image, IMAGE_SIZE, 3);

	memset(file, 0, ZBOOT_START);
	memcpy(file, "MZ\0\0zimg", 8);
	put32(file + 8, ZBOOT_START);
	put32(file + 12, (uint32_t) size);
	strcpy((char *) file + 24, gzip ? "gzip" : "zstd22");
	if (gzip)
		return ZBOOT_START + size;
	put32(payload + size, IMAGE_SIZE);
	return ZBOOT_START + size + 4;
}

static int set_up(void **test_state)
{
	(void) test_state;
	for (size_t i = 0; i < IMAGE_SIZE; i++)
		image[i] = (uint8_t) (i * i >> 7);
	image[24] = 0x0a; /* little-endian, 4 KiB pages */
	memcpy(image + 56, "ARM\x64", 4);
	return 0;
}

static int unwrap(const uint8_t *data, size_t size)
{
	AUTO(free) void *out = NULL;
	struct error err = {};
	size_t n = 0;
	int r = arm64_image_unwrap(data, size, &out, &n, &err);

	assert_true(r == 0 || err.msg[0]);
	if (r == 0) {
		assert_int_equal(n, IMAGE_SIZE);
		assert_memory_equal(out, image, IMAGE_SIZE);
	}
	return r;
}

static void test_forms(void **test_state)
{
	AUTO(free) uint8_t *file = mem_zalloc(FILE_MAX);
	size_t size;

	(void) test_state;
	assert_true(arm64_image_is_likely(image, IMAGE_SIZE));
	assert_int_equal(unwrap(image, IMAGE_SIZE), 0);
	size = pack_gzip(image, IMAGE_SIZE, file, FILE_MAX);
	assert_true(arm64_image_is_likely(file, size));
	assert_int_equal(unwrap(file, size), 0);
	for (int gzip = 0; gzip < 2; gzip++) {
		size = make_zboot(file, gzip);
		assert_true(arm64_image_is_likely(file, size));
		assert_int_equal(unwrap(file, size), 0);
	}
}

static void test_cut(void **test_state)
{
	AUTO(free) uint8_t *file = mem_zalloc(FILE_MAX);

	(void) test_state;
	for (int gzip = 0; gzip < 2; gzip++) {
		size_t size = make_zboot(file, gzip);

		assert_int_equal(unwrap(file, size - 1), -EBADMSG);
		assert_int_equal(unwrap(file, ZBOOT_START), -EBADMSG);
		/* Outside of the file, and where 32 bits would wrap. */
		put32(file + 8, 0xffffff00);
		assert_int_equal(unwrap(file, size), -EBADMSG);
		size = make_zboot(file, gzip);
		put32(file + 12, 0xffffffff);
		assert_int_equal(unwrap(file, size), -EBADMSG);
		put32(file + 12, 3);
		assert_int_equal(unwrap(file, size), -EBADMSG);
	}
	size_t size = pack_gzip(image, IMAGE_SIZE, file, FILE_MAX);
	assert_true(unwrap(file, size - 4) < 0);
	put32(file + size - 4, KERNEL_PAYLOAD_MAX + 1u);
	assert_int_equal(unwrap(file, size), -EFBIG);
	for (size_t n = 0; n < 64; n++) {
		assert_false(arm64_image_is_likely(image, n));
		assert_true(unwrap(image, n) < 0);
	}
}

static void test_others(void **test_state)
{
	static const uint8_t other[4096] = { 'M', 'Z' };
	AUTO(free) uint8_t *file = mem_zalloc(FILE_MAX);
	size_t size = pack_gzip(other, sizeof(other), file, FILE_MAX);

	(void) test_state;
	/* It may be anything that is compressed. */
	assert_true(arm64_image_is_likely(file, size));
	assert_int_equal(unwrap(file, size), -EBADMSG);
	assert_false(arm64_image_is_likely(other, sizeof(other)));
	assert_true(unwrap(other, sizeof(other)) < 0);
	image[24] |= 1;
	assert_int_equal(unwrap(image, IMAGE_SIZE), -EOPNOTSUPP);
	image[24] &= (uint8_t) ~1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
