#pragma once
/*
 * codec/tar.h - reading the headers of a tar: ustar, pax records, and what GNU tar adds.
 *
 * Pure functions over bytes that a stranger may have made.  Used by client/ and guest/.  What
 * stands in a header block and what the records before it say is put together by the caller.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;

enum {
	TAR_BLOCK_SIZE = 512,
	TAR_TEXT_MAX = 64 * 1024,      /* a name or a link's target */
	TAR_RECORDS_MAX = 1024 * 1024, /* all pax records of one entry */
};

enum tar_type {
	TAR_FILE = '0',
	TAR_HARDLINK = '1',
	TAR_SYMLINK = '2',
	TAR_CHAR = '3',
	TAR_BLOCK_DEVICE = '4',
	TAR_FOLDER = '5',
	TAR_FIFO = '6',
	TAR_PAX = 'x',
	TAR_PAX_GLOBAL = 'g',
	TAR_LONG_NAME = 'L',
	TAR_LONG_LINK = 'K',
};

struct tar_header {
	char type; /* enum tar_type, or something that is not known */
	uint64_t size;
	uint32_t mode, uid, gid;
	int64_t mtime;
	char name[257], link[101]; /* what ustar has room for */
};

/* How many zeros follow that many bytes of a file. */
size_t tar_padding(uint64_t size);

/* 0; 1: a block of zeros, the end; -EBADMSG: not a header. */
int tar_header_decode(const void *block, struct tar_header *ret, struct error *err);

/* What records say instead of the header; NULL and false: nothing. */
struct tar_records {
	char *path, *linkpath;
	bool has_size, has_uid, has_gid, has_mtime;
	uint64_t size;
	uint32_t uid, gid;
	int64_t mtime;
	uint32_t mtime_ns;
};

/* "LENGTH KEY=VALUE\n"...; keys that are not known are passed over. */
int tar_records_decode(const char *text, size_t size, struct tar_records *ret, struct error *err);
void tar_records_done(struct tar_records *records);
