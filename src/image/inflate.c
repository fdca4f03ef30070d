#include "image/inflate_internal.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/error.h"
#include "base/mem.h"

enum {
	INPUT_SIZE = 256 << 10,
	ZSTD_WINDOW_LOG_MAX = 27, /* 128 MiB: what zstd itself takes unasked */
	MAGIC_SIZE = 4,
};

struct inflate {
	inflate_source_fn source;
	void *data;
	enum inflate_kind kind;
	bool begun, source_ended, member_ended;
	uint8_t *input;
	size_t start, end; /* unread input */
	struct inflate_state *gzip;
	ZSTD_DStream *zstd;
};

struct inflate *inflate_new(inflate_source_fn source, void *data)
{
	struct inflate *inflate = mem_new0(struct inflate);

	inflate->source = source;
	inflate->data = data;
	inflate->input = mem_zalloc(INPUT_SIZE);
	return inflate;
}

/* Makes at least `want` bytes of input available, or all until the end. */
static int fill(struct inflate *inflate, size_t want, struct error *err)
{
	if (inflate->start == inflate->end)
		inflate->start = inflate->end = 0;
	while (inflate->end - inflate->start < want && !inflate->source_ended) {
		ssize_t n = inflate->source(inflate->data, inflate->input + inflate->end,
					    INPUT_SIZE - inflate->end, err);

		if (n < 0)
			return (int) n;
		if (n == 0)
			inflate->source_ended = true;
		inflate->end += (size_t) n;
	}
	return 0;
}

static int begin(struct inflate *inflate, struct error *err)
{
	static const uint8_t gzip[] = { 0x1f, 0x8b }, zstd[] = { 0x28, 0xb5, 0x2f, 0xfd };
	int r = fill(inflate, MAGIC_SIZE, err);
	size_t available = inflate->end - inflate->start;

	if (r < 0)
		return r;
	inflate->begun = true;
	if (available >= sizeof(gzip) && memcmp(inflate->input, gzip, sizeof(gzip)) == 0) {
		inflate->kind = INFLATE_GZIP;
		inflate->gzip = mem_zalloc(sizeof(*inflate->gzip));
		isal_inflate_init(inflate->gzip);
		inflate->gzip->crc_flag = ISAL_GZIP;
	} else if (available >= sizeof(zstd) && memcmp(inflate->input, zstd, sizeof(zstd)) == 0) {
		inflate->kind = INFLATE_ZSTD;
		inflate->zstd = ZSTD_createDStream();
		if (!inflate->zstd)
			return error_set(err, -ENOMEM, "zstd");
		ZSTD_DCtx_setParameter(inflate->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	}
	return 0;
}

/* At the end of a member: is there another one? */
static int next_gzip_member(struct inflate *inflate, bool *ret_ended, struct error *err)
{
	struct inflate_state *gzip = inflate->gzip;
	int r = fill(inflate, 2, err);

	if (r < 0)
		return r;
	*ret_ended = inflate->start == inflate->end;
	if (*ret_ended)
		return 0;
	if (inflate->end - inflate->start < 2 || inflate->input[inflate->start] != 0x1f ||
	    inflate->input[inflate->start + 1] != 0x8b)
		return error_say(err, -EBADMSG, "something follows the end of the gzip stream");
	isal_inflate_reset(gzip);
	gzip->crc_flag = ISAL_GZIP;
	inflate->member_ended = false;
	return 0;
}

static ssize_t read_gzip(struct inflate *inflate, void *buffer, size_t size, struct error *err)
{
	struct inflate_state *gzip = inflate->gzip;
	size_t done = 0;

	while (done < size) {
		bool ended = false;
		int r = inflate->member_ended ? next_gzip_member(inflate, &ended, err)
					      : fill(inflate, 1, err);

		if (r < 0)
			return r;
		if (ended)
			break;
		gzip->next_in = inflate->input + inflate->start;
		gzip->avail_in = (uint32_t) (inflate->end - inflate->start);
		gzip->next_out = (uint8_t *) buffer + done;
		gzip->avail_out = (uint32_t) (size - done);
		r = isal_inflate(gzip);

		size_t made = size - done - gzip->avail_out;
		size_t used = inflate->end - inflate->start - gzip->avail_in;
		inflate->start = inflate->end - gzip->avail_in;
		done += made;
		if (r != ISAL_DECOMP_OK)
			return error_say(err, -EBADMSG, "the gzip stream is damaged (%d)", r);
		if (gzip->block_state == ISAL_BLOCK_FINISH)
			inflate->member_ended = true;
		else if (made == 0 && used == 0 && inflate->source_ended)
			return error_say(err, -EBADMSG, "the gzip stream is truncated");
	}
	return (ssize_t) done;
}

static ssize_t read_zstd(struct inflate *inflate, void *buffer, size_t size, struct error *err)
{
	ZSTD_outBuffer out = { buffer, size, 0 };

	while (out.pos < size) {
		int r = fill(inflate, 1, err);

		if (r < 0)
			return r;
		ZSTD_inBuffer in = { inflate->input, inflate->end, inflate->start };
		size_t before = out.pos;
		if (inflate->start == inflate->end && inflate->member_ended)
			break;
		size_t left = ZSTD_decompressStream(inflate->zstd, &out, &in);
		if (ZSTD_isError(left))
			return error_say(err, -EBADMSG, "the zstd stream is damaged: %s",
					 ZSTD_getErrorName(left));
		bool stuck = in.pos == inflate->start && out.pos == before;
		inflate->start = in.pos;
		inflate->member_ended = left == 0;
		if (stuck && inflate->source_ended && left != 0)
			return error_say(err, -EBADMSG, "the zstd stream is truncated");
	}
	return (ssize_t) out.pos;
}

static ssize_t read_plain(struct inflate *inflate, void *buffer, size_t size, struct error *err)
{
	size_t available = inflate->end - inflate->start;
	size_t done = 0;

	if (available > 0) {
		done = available < size ? available : size;
		memcpy(buffer, inflate->input + inflate->start, done);
		inflate->start += done;
	}
	while (done < size && !inflate->source_ended) {
		ssize_t n =
			inflate->source(inflate->data, (char *) buffer + done, size - done, err);

		if (n < 0)
			return n;
		if (n == 0)
			inflate->source_ended = true;
		done += (size_t) n;
	}
	return (ssize_t) done;
}

ssize_t inflate_read(struct inflate *inflate, void *buffer, size_t size, struct error *err)
{
	int r = inflate->begun ? 0 : begin(inflate, err);

	if (r < 0)
		return r;
	switch (inflate->kind) {
	case INFLATE_GZIP:
		return read_gzip(inflate, buffer, size, err);
	case INFLATE_ZSTD:
		return read_zstd(inflate, buffer, size, err);
	case INFLATE_NONE:
		break;
	}
	return read_plain(inflate, buffer, size, err);
}

enum inflate_kind inflate_kind(const struct inflate *inflate)
{
	return inflate->kind;
}

void inflate_free(struct inflate *inflate)
{
	if (!inflate)
		return;
	ZSTD_freeDStream(inflate->zstd);
	free(inflate->gzip);
	free(inflate->input);
	free(inflate);
}
