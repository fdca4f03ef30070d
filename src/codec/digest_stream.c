#include "codec/digest_stream.h"

#include <gnutls/crypto.h>
#include <stdlib.h>

#include "base/mem.h"

struct digest_stream {
	enum digest_kind kind;
	gnutls_hash_hd_t hash;
};

static gnutls_hash_hd_t hash_begin(enum digest_kind kind)
{
	gnutls_hash_hd_t hash;

	if (gnutls_hash_init(&hash, kind == DIGEST_SHA512 ? GNUTLS_DIG_SHA512 : GNUTLS_DIG_SHA256) <
	    0)
		abort();
	return hash;
}

struct digest_stream *digest_stream_new(enum digest_kind kind)
{
	struct digest_stream *stream = mem_new0(struct digest_stream);

	stream->kind = kind;
	stream->hash = hash_begin(kind);
	return stream;
}

void digest_stream_add(struct digest_stream *stream, const void *data, size_t size)
{
	if (gnutls_hash(stream->hash, data, size) < 0)
		abort();
}

void digest_stream_end(struct digest_stream *stream, struct digest *ret)
{
	*ret = (struct digest){ .kind = stream->kind };
	gnutls_hash_output(stream->hash, ret->bytes);
}

void digest_stream_free(struct digest_stream *stream)
{
	if (!stream)
		return;
	gnutls_hash_deinit(stream->hash, NULL);
	free(stream);
}

void digest_compute(enum digest_kind kind, const void *data, size_t size, struct digest *ret)
{
	*ret = (struct digest){ .kind = kind };
	if (gnutls_hash_fast(kind == DIGEST_SHA512 ? GNUTLS_DIG_SHA512 : GNUTLS_DIG_SHA256, data,
			     size, ret->bytes) < 0)
		abort();
}
