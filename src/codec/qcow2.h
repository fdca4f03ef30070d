#pragma once
/*
 * codec/qcow2.h - the header of a disk image in QEMU's format, and an empty image.
 *
 * A qcow2 file can name other files (a backing file, an external data file), ask for a key, and
 * have tables of any size, so what a stranger made is decoded here before QEMU opens it: whatever
 * passes is one file that stands for itself, and its tables lie within it.  Used by image/.  Pure
 * functions; nothing is read beyond `size`.  Thread-safe.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct strbuf;

enum {
	QCOW2_HEADER_MAX = 64 << 10,        /* header and its extensions; as much is read */
	QCOW2_L1_BYTES_MAX = 32 << 20,      /* the table of tables */
	QCOW2_REFCOUNT_BYTES_MAX = 8 << 20, /* the table of reference counts */
};
#define QCOW2_VIRTUAL_BYTES_MAX (UINT64_C(64) << 40)

struct qcow2 {
	uint64_t virtual_bytes; /* of the disk that a guest sees */
	uint32_t version;       /* 2 or 3 */
	uint32_t cluster_bytes;
};

bool qcow2_is(const void *bytes, size_t size);

/*
 * `bytes`: the first QCOW2_HEADER_MAX of a file of `file_bytes`, or all of it.  -EBADMSG: damaged,
 * or no qcow2; -EINVAL: it needs something that an image may not have.
 */
int qcow2_decode(const void *bytes, size_t size, uint64_t file_bytes, struct qcow2 *ret,
		 struct error *err);

/*
 * Appends a whole image that holds nothing yet: what is not written is read from below.  It names
 * no backing file, so who opens it has to say what lies below.
 */
void qcow2_append_empty(struct strbuf *out, uint64_t virtual_bytes);
