#include "codec/bzimage.h"

#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

enum { SETUP_SIZE = 5 * 512, KERNEL_SIZE = 300000, FILE_MAX = SETUP_SIZE + KERNEL_SIZE + 4096 };

static uint8_t kernel[KERNEL_SIZE];

static void put32(uint8_t *p, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t) (value >> 8 * i);
}

/* A kernel image around a payload; the caller frees. */
static uint8_t *make_image(const void *payload, size_t size, bool append_size, size_t *ret_size)
{
	uint8_t *p = mem_zalloc(SETUP_SIZE + size + 4);
	size_t total = size + (append_size ? 4 : 0);

	p[0x1f1] = SETUP_SIZE / 512 - 1;
	p[0x1fe] = 0x55;
	p[0x1ff] = 0xaa;
	p[0x201] = 0x6a; /* up to 0x26c */
	memcpy(p + 0x202, "HdrS", 4);
	p[0x206] = 0x0f;
	p[0x207] = 0x02;
	p[0x20e] = 0x00;
	p[0x20f] = 0x01; /* the version at 0x300 */
	memcpy(p + 0x300, "6.1.0-test", 10);
	put32(p + 0x24c, (uint32_t) total);
	p[0x258 + 3] = 1; /* preferred address: 16 MiB */
	put32(p + 0x260, 12345678);
	memcpy(p + SETUP_SIZE, payload, size);
	if (append_size)
		put32(p + SETUP_SIZE + size, KERNEL_SIZE);
	*ret_size = SETUP_SIZE + total;
	return p;
}

static size_t pack_gzip(uint8_t *out, size_t room)
{
	z_stream z = { .next_in = kernel,
		       .avail_in = KERNEL_SIZE,
		       .next_out = out,
		       .avail_out = (uInt) room };

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return room - z.avail_out;
}

static size_t pack_xz(uint8_t *out, size_t room)
{
	size_t size = 0;

	assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, kernel, KERNEL_SIZE,
						 out, &size, room),
			 LZMA_OK);
	return size;
}

static size_t pack_zstd(uint8_t *out, size_t room)
{
	return ZSTD_compress(out, room, kernel, KERNEL_SIZE, 3);
}

static size_t pack_lz4(uint8_t *out, size_t room)
{
	int n = LZ4_compress_default((const char *) kernel, (char *) out + 8, KERNEL_SIZE,
				     (int) room - 8);

	memcpy(out, "\x02\x21\x4c\x18", 4);
	put32(out + 4, (uint32_t) n);
	return (size_t) n + 8;
}

static const struct {
	size_t (*pack)(uint8_t *out, size_t room);
	bool append_size;
} packers[] = { { pack_gzip, false }, { pack_xz, true }, { pack_zstd, true }, { pack_lz4, true } };

static int set_up(void **test_state)
{
	(void) test_state;
	for (size_t i = 0; i < KERNEL_SIZE; i++)
		kernel[i] = (uint8_t) (i * i >> 7);
	memcpy(kernel, ELFMAG, SELFMAG);
	kernel[EI_CLASS] = ELFCLASS64;
	return 0;
}

static void test_formats(void **test_state)
{
	AUTO(free) uint8_t *packed = mem_zalloc(FILE_MAX);

	(void) test_state;
	for (size_t i = 0; i < ARRAY_COUNT(packers); i++) {
		size_t size, n = packers[i].pack(packed, FILE_MAX);
		AUTO(free) uint8_t *image = make_image(packed, n, packers[i].append_size, &size);
		AUTO(free) void *out = NULL;
		struct error err = {};

		assert_int_equal(bzimage_unwrap(image, size, &out, &n, &err), 0);
		assert_int_equal(n, KERNEL_SIZE);
		assert_memory_equal(out, kernel, KERNEL_SIZE);
	}
}

static void test_header(void **test_state)
{
	size_t size;
	AUTO(free) uint8_t *image = make_image("0123456789", 10, false, &size);
	struct bzimage header;

	(void) test_state;
	assert_int_equal(bzimage_decode(image, size, &header, NULL), 0);
	assert_string_equal(header.version, "6.1.0-test");
	assert_int_equal(header.protocol, 0x20f);
	assert_int_equal(header.setup_size, SETUP_SIZE);
	assert_int_equal(header.preferred_address, 16 << 20);
	assert_int_equal(header.init_size, 12345678);
	assert_int_equal(header.payload_offset, SETUP_SIZE);
	assert_int_equal(header.payload_size, 10);
	/* Every size below the whole is cut off. */
	for (size_t n = 0; n < size; n++)
		assert_int_equal(bzimage_decode(image, n, &header, NULL), -EBADMSG);
}

static int unwrap(const uint8_t *image, size_t size)
{
	AUTO(free) void *out = NULL;
	struct error err = {};
	size_t n;
	int r = bzimage_unwrap(image, size, &out, &n, &err);

	assert_true(r == 0 || err.msg[0]);
	return r;
}

static void test_damaged(void **test_state)
{
	AUTO(free) uint8_t *packed = mem_zalloc(FILE_MAX);

	(void) test_state;
	for (size_t i = 0; i < ARRAY_COUNT(packers); i++) {
		size_t size, n = packers[i].pack(packed, FILE_MAX);
		AUTO(free) uint8_t *image = make_image(packed, n, packers[i].append_size, &size);
		uint8_t *end = image + size - 4;

		/* A wrong size, in both directions, and one that no packing reaches. */
		put32(end, KERNEL_SIZE + 1);
		assert_int_equal(unwrap(image, size), -EBADMSG);
		put32(end, KERNEL_SIZE - 1);
		assert_int_equal(unwrap(image, size), -EBADMSG);
		put32(end, BZIMAGE_VMLINUX_MAX);
		assert_int_equal(unwrap(image, size), -EBADMSG);
		put32(end, BZIMAGE_VMLINUX_MAX + 1u);
		assert_int_equal(unwrap(image, size), -EFBIG);
		put32(end, KERNEL_SIZE);
		memset(image + SETUP_SIZE + n / 2, 0x5a, 64);
		image[SETUP_SIZE + n / 2 + 1] = 0xa5;
		(void) unwrap(image, size);
	}
}

static void test_strange(void **test_state)
{
	size_t size;
	AUTO(free) uint8_t *bzip2 = make_image("BZh91AY&SY", 10, true, &size);

	(void) test_state;
	assert_int_equal(unwrap(bzip2, size), -EOPNOTSUPP);
	memcpy(bzip2 + SETUP_SIZE, "what is it", 10);
	assert_int_equal(unwrap(bzip2, size), -EOPNOTSUPP);
	bzip2[0x206] = 7;
	assert_int_equal(unwrap(bzip2, size), -EBADMSG);
	assert_int_equal(unwrap((const uint8_t *) "MZ", 2), -EBADMSG);
	assert_false(bzimage_is_elf("\177ELF", 4));
	assert_true(bzimage_is_elf(kernel, KERNEL_SIZE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_strange),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
