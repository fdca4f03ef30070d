#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <endian.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "codec/disk_image.h"
#include "codec/qcow2.h"

#define GIB (UINT64_C(1) << 30)

static void put32(struct strbuf *image, size_t at, uint32_t value)
{
	value = htobe32(value);
	memcpy(image->data + at, &value, sizeof(value));
}

static void put64(struct strbuf *image, size_t at, uint64_t value)
{
	value = htobe64(value);
	memcpy(image->data + at, &value, sizeof(value));
}

static void refused(const struct strbuf *image, int code, const char *words)
{
	struct qcow2 info = {};
	struct error err = {};

	assert_int_equal(qcow2_decode(image->data, image->size, image->size, &info, &err), code);
	if (!strstr(err.msg, words))
		fail_msg("'%s' is not in '%s'", words, err.msg);
	assert_int_equal(info.virtual_bytes, 0);
}

static void an_empty_one(void **state)
{
	static const uint64_t sizes[] = {
		1, 512, GIB, 10 * GIB, 512 << 20, QCOW2_VIRTUAL_BYTES_MAX
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		AUTO(strbuf_done) struct strbuf image = {};
		struct qcow2 info = {};

		qcow2_append_empty(&image, sizes[i]);
		assert_true(qcow2_is(image.data, image.size));
		assert_int_equal(image.size % (64 << 10), 0);
		assert_int_equal(
			qcow2_decode(image.data, QCOW2_HEADER_MAX, image.size, &info, NULL), 0);
		assert_int_equal(info.virtual_bytes, sizes[i]);
		assert_int_equal(info.version, 3);
		assert_int_equal(info.cluster_bytes, 64 << 10);
	}
}

/* Each member in turn, as somebody might send it. */
static void hostile_headers(void **state)
{
	static const struct {
		size_t at;
		uint64_t value;
		bool wide;
		int code;
		const char *words;
	} cases[] = {
		{ 0, 0, false, -EBADMSG, "not a qcow2" },
		{ 4, 1, false, -EINVAL, "version 1" },
		{ 8, 4096, true, -EINVAL, "backing file" },
		{ 16, 9, false, -EINVAL, "backing file" },
		{ 20, 8, false, -EBADMSG, "clusters" },
		{ 20, 22, false, -EBADMSG, "clusters" },
		{ 24, 0, true, -EINVAL, "64 TiB" },
		{ 24, UINT64_MAX, true, -EINVAL, "64 TiB" },
		{ 24, 100 * GIB, true, -EBADMSG, "smaller than its disk" },
		{ 32, 1, false, -EINVAL, "encrypted" },
		{ 36, UINT32_MAX, false, -EBADMSG, "too large" },
		{ 40, 0, true, -EBADMSG, "outside" },
		{ 40, (3 << 16) + 512, true, -EBADMSG, "outside" },
		{ 40, UINT64_MAX & ~0xffffULL, true, -EBADMSG, "outside" },
		{ 48, UINT64_C(1) << 62, true, -EBADMSG, "outside" },
		{ 56, 0, false, -EBADMSG, "outside" },
		{ 56, 129, false, -EBADMSG, "too large" },
		{ 60, 1, false, -EINVAL, "snapshots" },
		{ 72, 1, true, -EINVAL, "not closed properly" },
		{ 72, 2, true, -EINVAL, "not closed properly" },
		{ 72, 4, true, -EINVAL, "another file" },
		{ 72, 8, true, -EINVAL, "compressed" },
		{ 72, 32, true, -EINVAL, "not known here" },
		{ 88, 1, true, -EINVAL, "bitmaps" },
		{ 96, 7, false, -EBADMSG, "too wide" },
		{ 100, 72, false, -EBADMSG, "impossible size" },
		{ 100, 105, false, -EBADMSG, "impossible size" },
		{ 100, 1 << 17, false, -EBADMSG, "impossible size" },
		{ 104, 0x0537be77, false, -EINVAL, "encrypted" },
		{ 104, 0x44415441, false, -EINVAL, "another file" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(strbuf_done) struct strbuf image = {};

		qcow2_append_empty(&image, GIB);
		if (cases[i].wide)
			put64(&image, cases[i].at, cases[i].value);
		else
			put32(&image, cases[i].at, (uint32_t) cases[i].value);
		refused(&image, cases[i].code, cases[i].words);
	}
}

static void extensions(void **state)
{
	AUTO(strbuf_done) struct strbuf image = {};
	struct qcow2 info = {};

	(void) state;
	qcow2_append_empty(&image, GIB);
	/* A table of names (48 bytes), then one that nobody knows (3, padded to 8). */
	put32(&image, 104, 0x6803f857);
	put32(&image, 108, 48);
	put32(&image, 160, 0x12345678);
	put32(&image, 164, 3);
	assert_int_equal(qcow2_decode(image.data, image.size, image.size, &info, NULL), 0);
	put32(&image, 176, 0x44415441);
	refused(&image, -EINVAL, "another file");
	put32(&image, 164, 1 << 16);
	refused(&image, -EBADMSG, "does not end");
}

static void cut_off(void **state)
{
	AUTO(strbuf_done) struct strbuf image = {};
	struct qcow2 info = {};

	(void) state;
	qcow2_append_empty(&image, GIB);
	for (size_t size = 0; size < 104; size++)
		assert_int_equal(qcow2_decode(image.data, size, image.size, &info, NULL), -EBADMSG);
	/* The last table begins in the last cluster. */
	assert_int_equal(qcow2_decode(image.data, image.size, image.size - (64 << 10), &info, NULL),
			 -EBADMSG);
}

static void version_2(void **state)
{
	AUTO(strbuf_done) struct strbuf image = {};
	struct qcow2 info = {};

	(void) state;
	qcow2_append_empty(&image, GIB);
	put32(&image, 4, 2);
	/* What version 3 has there is an extension now; 0 ends them. */
	assert_int_equal(qcow2_decode(image.data, image.size, image.size, &info, NULL), 0);
	assert_int_equal(info.version, 2);
}

static void extended_entries(void **state)
{
	AUTO(strbuf_done) struct strbuf image = {};
	struct qcow2 info = {};

	(void) state;
	/* They are twice as large, so the table must be, too. */
	qcow2_append_empty(&image, GIB);
	put64(&image, 72, 16);
	refused(&image, -EBADMSG, "smaller than its disk");
	put32(&image, 36, 4);
	assert_int_equal(qcow2_decode(image.data, image.size, image.size, &info, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_one), cmocka_unit_test(hostile_headers),
		cmocka_unit_test(extensions),   cmocka_unit_test(cut_off),
		cmocka_unit_test(version_2),    cmocka_unit_test(extended_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
