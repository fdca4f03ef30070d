#include "codec/kernel_payload.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

enum {
	XZ_MEMORY_MAX = 192 << 20,
	ZSTD_WINDOW_LOG_MAX = 27, /* what the kernel's build uses at most */
	LZ4_BLOCK_MAX = 8 << 20,
	RATIO_MAX = 2048, /* no format packs better than this */
};

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 |
	       (uint32_t) p[3] << 24;
}

/*
 * Each fills exactly `out_size` bytes from `in`, and says -EBADMSG when there are fewer or more.
 */

static int unpack_gzip(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	z_stream z = { .next_in = (Bytef *) (uintptr_t) in,
		       .avail_in = (uInt) in_size,
		       .next_out = out,
		       .avail_out = (uInt) out_size };
	int r;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return r == Z_STREAM_END && z.avail_out == 0 ? 0 : -EBADMSG;
}

static int unpack_xz(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret r = in[0] == 0xfd ? lzma_stream_decoder(&z, XZ_MEMORY_MAX, 0)
				   : lzma_alone_decoder(&z, XZ_MEMORY_MAX);

	if (r != LZMA_OK)
		return -ENOMEM;
	z.next_in = in;
	z.avail_in = in_size;
	z.next_out = out;
	z.avail_out = out_size;
	do {
		r = lzma_code(&z, LZMA_RUN);
	} while (r == LZMA_OK && z.avail_out > 0);
	/* With all of its output here, what is left is a check sum. */
	if (r == LZMA_OK)
		r = lzma_code(&z, LZMA_FINISH);
	lzma_end(&z);
	return r == LZMA_STREAM_END && z.avail_out == 0 ? 0 : -EBADMSG;
}

static int unpack_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer from = { in, in_size, 0 };
	ZSTD_outBuffer to = { out, out_size, 0 };
	size_t r;

	if (!context)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	r = ZSTD_decompressStream(context, &to, &from);
	ZSTD_freeDCtx(context);
	return r == 0 && to.pos == out_size ? 0 : -EBADMSG;
}

/* `lz4 -l`: the magic, then blocks {u32 size, bytes}; each makes LZ4_BLOCK_MAX bytes at most. */
static int unpack_lz4(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	size_t at = 4, done = 0;

	/* The size of the whole may follow as a last word, and there may be several streams. */
	while (done < out_size && in_size - at >= 4) {
		uint32_t block = get32(in + at);
		size_t room = out_size - done < LZ4_BLOCK_MAX ? out_size - done : LZ4_BLOCK_MAX;
		int r;

		at += 4;
		if (block == 0x184c2102u)
			continue;
		if (block > in_size - at || block > (uint32_t) LZ4_compressBound(LZ4_BLOCK_MAX))
			return -EBADMSG;
		r = LZ4_decompress_safe((const char *) in + at, (char *) out + done, (int) block,
					(int) room);
		if (r <= 0)
			return -EBADMSG;
		at += block;
		done += (size_t) r;
	}
	return done == out_size ? 0 : -EBADMSG;
}

static const struct format {
	const char *name;
	uint8_t magic[6];
	size_t magic_size;
	int (*unpack)(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);
} formats[] = {
	{ "gzip", { 0x1f, 0x8b }, 2, unpack_gzip },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, unpack_xz },
	{ "lzma", { 0x5d, 0, 0 }, 3, unpack_xz },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, unpack_zstd },
	{ "lz4", { 0x02, 0x21, 0x4c, 0x18 }, 4, unpack_lz4 },
	{ "bzip2", { 'B', 'Z', 'h' }, 3, NULL },
	{ "lzo", { 0x89, 'L', 'Z', 'O' }, 4, NULL },
};

static const struct format *format_of(const uint8_t *payload, size_t size)
{
	for (size_t i = 0; i < ARRAY_COUNT(formats); i++)
		if (size >= formats[i].magic_size &&
		    memcmp(payload, formats[i].magic, formats[i].magic_size) == 0)
			return &formats[i];
	return NULL;
}

bool kernel_payload_is_gzip(const void *payload, size_t size)
{
	const struct format *format = format_of(payload, size);

	return format && format->unpack == unpack_gzip;
}

int kernel_payload_unpack(const void *payload, size_t size, size_t out_size, void **ret,
			  struct error *err)
{
	const struct format *format = format_of(payload, size);
	AUTO(free) uint8_t *out = NULL;
	int r;

	if (!format || !format->unpack)
		return error_say(err, -EOPNOTSUPP,
				 "the kernel is compressed with %s; known are gzip, xz, lzma, lz4 "
				 "and zstd",
				 format ? format->name : "something unknown");
	if (out_size > KERNEL_PAYLOAD_MAX)
		return error_say(err, -EFBIG,
				 "the kernel would be %zu MiB large; at most %d are taken",
				 out_size >> 20, KERNEL_PAYLOAD_MAX >> 20);
	/* A lie about the size costs no memory. */
	if (out_size / RATIO_MAX > size)
		return error_say(err, -EBADMSG, "the kernel image says a wrong size");
	out = mem_try_alloc(out_size ? out_size : 1);
	if (!out)
		return error_set(err, -ENOMEM, "unpack the kernel");
	r = format->unpack(payload, size, out, out_size);
	if (r < 0)
		return error_say(err, r,
				 "the kernel image is damaged: its %s data cannot be unpacked",
				 format->name);
	*ret = TAKE_PTR(out);
	return 0;
}
