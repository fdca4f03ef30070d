#pragma once
/*
 * machine/ring.h - the last 64 KiB of a stream, in a file that is mapped.
 *
 * What was put there is in the file at once and survives every kind of end of the process, without
 * a system call per byte and without growing.  brume-qemu writes a guest's console into one; the
 * agent reads the file, which is a stranger's to it.
 * A reader that comes while somebody writes may see a line twice or cut; never more than that.
 * Thread: the one that writes.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct error;
struct ring;
struct strbuf;

enum { RING_HEADER_SIZE = 16, RING_SIZE = 64 * 1024, RING_FILE_MAX = RING_HEADER_SIZE + RING_SIZE };

/* Makes the file anew. */
int ring_new(int dir_fd, const char *name, struct ring **ret, struct error *err);
void ring_put(struct ring *ring, const void *data, size_t size);
/* Appends what is in it, oldest first. */
void ring_copy(const struct ring *ring, struct strbuf *out);
void ring_free(struct ring *ring);
DEFINE_AUTO(struct ring *, ring_free)

/*
 * Appends the last bytes of a ring's file, or, when it is none, of a plain text.  Whatever the
 * bytes are, there is an answer.
 */
void ring_decode(const void *file, size_t size, struct strbuf *out);
