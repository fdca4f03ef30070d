#pragma once
/*
 * codec/digest_stream.h - computing the digest of a content (codec/digest.h), piece by piece or in
 * one call.
 *
 * Used by image/ and by whoever stores content by its name.  Apart from the names because of the
 * library behind it, whose loading alone costs a short command 2 ms.  Thread-safe; a stream belongs
 * to one thread at a time.
 */
#include <stddef.h>

#include "base/cleanup.h"
#include "codec/digest.h"

struct digest_stream;

struct digest_stream *digest_stream_new(enum digest_kind kind);
void digest_stream_add(struct digest_stream *stream, const void *data, size_t size);

/* The digest of everything added; the stream begins again. */
void digest_stream_end(struct digest_stream *stream, struct digest *ret);
void digest_stream_free(struct digest_stream *stream);
DEFINE_AUTO(struct digest_stream *, digest_stream_free)

/* In one call. */
void digest_compute(enum digest_kind kind, const void *data, size_t size, struct digest *ret);
