#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "image/inflate_internal.h"

enum { PLAIN = 700 * 1000 };

struct source {
	const char *data;
	size_t size, at, piece;
};

static ssize_t next(void *data, void *buffer, size_t size, struct error *err)
{
	struct source *source = data;
	size_t n = source->size - source->at;

	(void) err;
	n = n < size ? n : size;
	n = n < source->piece ? n : source->piece;
	memcpy(buffer, source->data + source->at, n);
	source->at += n;
	return (ssize_t) n;
}

static void make_plain(struct strbuf *ret)
{
	for (unsigned int i = 0; ret->size < PLAIN; i++)
		strbuf_printf(ret, "%u %x ", i, i * 2654435761U);
	ret->size = PLAIN;
}

static void add_gzip(struct strbuf *ret, const char *data, size_t size)
{
	z_stream stream = {};
	size_t room = size + 1024;

	deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
	stream.next_in = (Bytef *) data;
	stream.avail_in = (uInt) size;
	stream.next_out = strbuf_reserve(ret, room);
	stream.avail_out = (uInt) room;
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	strbuf_grown(ret, room - stream.avail_out);
	deflateEnd(&stream);
}

static void add_zstd(struct strbuf *ret, const char *data, size_t size)
{
	size_t room = ZSTD_compressBound(size);
	size_t n = ZSTD_compress(strbuf_reserve(ret, room), room, data, size, 3);

	assert_false(ZSTD_isError(n));
	strbuf_grown(ret, n);
}

/* Reads everything in pieces of odd sizes; the result of the last read. */
static ssize_t read_all(const struct strbuf *in, size_t piece, struct strbuf *ret,
			enum inflate_kind *ret_kind)
{
	struct source source = { in->data, in->size, 0, piece };
	AUTO(inflate_free) struct inflate *inflate = inflate_new(next, &source);
	struct error err = {};
	ssize_t n;

	do {
		n = inflate_read(inflate, strbuf_reserve(ret, 33333), 33333, &err);
		if (n > 0)
			strbuf_grown(ret, (size_t) n);
	} while (n > 0);
	*ret_kind = inflate_kind(inflate);
	return n;
}

static void check(const struct strbuf *in, const struct strbuf *plain, enum inflate_kind kind)
{
	static const size_t pieces[] = { 1 << 20, 4096, 1000, 13 };

	for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
		AUTO(strbuf_done) struct strbuf out = {};
		enum inflate_kind found;

		assert_int_equal(read_all(in, pieces[i], &out, &found), 0);
		assert_int_equal(found, kind);
		assert_int_equal(out.size, plain->size);
		assert_memory_equal(strbuf_str(&out), strbuf_str(plain), plain->size);
	}
}

static void reads_everything(void **state)
{
	AUTO(strbuf_done) struct strbuf plain = {}, gzip = {}, zstd = {}, none = {};

	(void) state;
	make_plain(&plain);
	check(&plain, &plain, INFLATE_NONE);
	add_gzip(&gzip, plain.data, plain.size);
	check(&gzip, &plain, INFLATE_GZIP);
	add_zstd(&zstd, plain.data, plain.size);
	check(&zstd, &plain, INFLATE_ZSTD);
	strbuf_puts(&none, "");
	check(&none, &none, INFLATE_NONE);
}

static void joins_members(void **state)
{
	AUTO(strbuf_done) struct strbuf plain = {}, gzip = {}, zstd = {};

	(void) state;
	make_plain(&plain);
	for (size_t at = 0, n; at < PLAIN; at += n) {
		n = PLAIN - at < 65432 ? PLAIN - at : 65432;
		add_gzip(&gzip, plain.data + at, n);
		add_gzip(&gzip, "", 0);
		add_zstd(&zstd, plain.data + at, n);
	}
	check(&gzip, &plain, INFLATE_GZIP);
	/* A frame that readers skip, as seekable formats have at their end. */
	strbuf_append(&zstd, "\x50\x2a\x4d\x18\x04\x00\x00\x00skip", 12);
	check(&zstd, &plain, INFLATE_ZSTD);
}

static void refuses_damage(void **state)
{
	AUTO(strbuf_done) struct strbuf plain = {}, gzip = {}, zstd = {};
	struct strbuf *both[] = { &gzip, &zstd };
	enum inflate_kind kind;

	(void) state;
	make_plain(&plain);
	add_gzip(&gzip, plain.data, plain.size);
	add_zstd(&zstd, plain.data, plain.size);
	for (size_t i = 0; i < ARRAY_COUNT(both); i++) {
		size_t size = both[i]->size;

		for (size_t cut = 1; cut < size; cut += size / 7) {
			AUTO(strbuf_done) struct strbuf out = {};

			both[i]->size = size - cut;
			assert_int_equal(read_all(both[i], 1000, &out, &kind), -EBADMSG);
		}
		both[i]->size = size;
	}
	AUTO(strbuf_done) struct strbuf behind = {}, flipped = {};
	gzip.data[gzip.size / 2] = (char) (gzip.data[gzip.size / 2] ^ 1);
	assert_int_equal(read_all(&gzip, 1000, &flipped, &kind), -EBADMSG);
	gzip.data[gzip.size / 2] = (char) (gzip.data[gzip.size / 2] ^ 1);
	strbuf_puts(&gzip, "more");
	assert_int_equal(read_all(&gzip, 1000, &behind, &kind), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_everything),
		cmocka_unit_test(joins_members),
		cmocka_unit_test(refuses_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
