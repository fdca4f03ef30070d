#pragma once
/*
 * image/inflate_internal.h - gzip, zstd or neither: plain bytes from a source.
 *
 * What it is is told by the first bytes, not by media types, which are wrong too often.  Streams of
 * several members (as pigz and seekable formats write them) are one.  Bytes behind the end of the
 * compressed stream are an error, as is a stream that ends too early.  One thread at a time.
 */
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct error;
struct inflate;

enum inflate_kind { INFLATE_NONE, INFLATE_GZIP, INFLATE_ZSTD };

/* Returns a count, 0 at the end, or -errno with words in `err`. */
typedef ssize_t (*inflate_source_fn)(void *data, void *buffer, size_t size, struct error *err);

struct inflate *inflate_new(inflate_source_fn source, void *data);

/* The next plain bytes, as many as fit unless the end is reached; 0 at the end. */
ssize_t inflate_read(struct inflate *inflate, void *buffer, size_t size, struct error *err);

/* Known after the first read. */
enum inflate_kind inflate_kind(const struct inflate *inflate);

void inflate_free(struct inflate *inflate);
DEFINE_AUTO(struct inflate *, inflate_free)
