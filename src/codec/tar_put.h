#pragma once
/*
 * codec/tar_put.h - writing the headers of a tar: ustar, with pax records for what it has no room
 * for.
 *
 * Used by client/ and guest/; what codec/tar.h reads.  Pure functions, thread-safe.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/tar.h"

struct strbuf;

struct tar_put {
	char type; /* enum tar_type */
	const char *name;
	const char *link; /* of hard and symbolic links, or NULL */
	uint64_t size;    /* of what follows */
	uint32_t mode, uid, gid;
	int64_t mtime;
	uint32_t mtime_ns;
	dev_t device;
};

/* Appends the header, behind one of pax records where it needs them. */
void tar_put_header(struct strbuf *out, const struct tar_put *entry);
