#pragma once
/*
 * vmm/blk.h - a virtio disk (VIRTIO 1.2, section 5.2) on a raw file or a block device.
 *
 * Reads, writes and flushes go through vmm/disk_io.h; discard and write-zeroes punch holes, so that
 * a sparse file gives back what the guest has freed.  Several queues, one thread: give each busy
 * disk a loop of its own.
 * Used by vm_hotplug.c.  Thread: the loop's, or anybody's while it does not run.
 */
#include <stdbool.h>
#include <stdint.h>

#include "vmm/disk_io.h"
#include "vmm/ratelimit.h"

struct virtio_device;

enum {
	BLK_QUEUES_MAX = 16,
	BLK_SERIAL_MAX = 20,
};

struct blk_options {
	const char *id;     /* "disk0" */
	const char *serial; /* what the guest sees below /dev/disk/by-id; at most BLK_SERIAL_MAX */
	int fd;             /* borrowed; its size is a multiple of 512 bytes */
	bool read_only;
	bool unsafe;             /* flushes do nothing: for disks that die with their machine */
	unsigned int queues;     /* 0: 1 */
	unsigned int queue_size; /* 0: 256; a power of two */
	uint32_t block_size;     /* 0: 512; what O_DIRECT wants, when fd has it */
	enum disk_io_engine engine;
	struct ratelimit_options limit;
};

int blk_new(const struct blk_options *options, struct loop *loop, struct virtio_device **ret,
	    struct error *err);

/* The file has another size now: tells the guest.  In the loop's thread (loop_call()). */
int blk_resize(struct virtio_device *device, struct error *err);
