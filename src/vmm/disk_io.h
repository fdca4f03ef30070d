#pragma once
/*
 * vmm/disk_io.h - reads, writes and flushes of one descriptor, many at a time.
 *
 * By io_uring where the kernel and the seccomp policy give it, otherwise by preadv() and the like,
 * one after the other: slower, not different.  Completions come by a callback in the loop's thread,
 * with the synchronous engine from within disk_io_start().  What comes back short is continued
 * here, so a request is done as a whole or it failed. Used by blk.  Thread: made before the loop
 * runs and freed after it ended; else the loop's.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/cleanup.h"

struct disk_io;
struct error;
struct loop;

enum disk_io_engine {
	DISK_IO_AUTO, /* io_uring if there is one */
	DISK_IO_URING,
	DISK_IO_SYNC,
};

enum disk_io_kind {
	DISK_IO_READ,
	DISK_IO_WRITE,
	DISK_IO_FLUSH,
};

/* The caller's, until it is done; iov is changed. */
struct disk_io_request {
	enum disk_io_kind kind;
	bool durable; /* a write that is on the disk when it is done */
	struct iovec *iov;
	unsigned int iov_count;
	uint64_t offset, size; /* size: the sum of iov */
	uint64_t done;         /* used inside */
};

struct disk_io_callbacks {
	/* 0 or -errno. */
	void (*done)(struct disk_io_request *request, int result, void *data);
	/* A round of completions is over: time to interrupt and to start more. */
	void (*round)(void *data);
};

/* At most `entries` requests are in flight.  `fd` is borrowed. */
int disk_io_new(int fd, enum disk_io_engine engine, unsigned int entries, struct loop *loop,
		const struct disk_io_callbacks *callbacks, void *data, struct disk_io **ret,
		struct error *err);
void disk_io_free(struct disk_io *io);
DEFINE_AUTO(struct disk_io *, disk_io_free)

/* Starts a request; disk_io_submit() sends what was started to the kernel. */
void disk_io_start(struct disk_io *io, struct disk_io_request *request);
void disk_io_submit(struct disk_io *io);

/* Waits until nothing is in flight; `done` is called for each. */
void disk_io_drain(struct disk_io *io);
