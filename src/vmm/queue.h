#pragma once
/*
 * vmm/queue.h - a virtqueue as its device sees it: the split ring of VIRTIO 1.2, section 2.7, with
 * indirect descriptors and event indices.
 *
 * Everything in the ring is the guest's and hostile.  queue_pop() copies every descriptor once,
 * checks address, size, order, count and loops, and gives host iovecs that lie in guest memory;
 * what breaks a rule marks the queue broken: it then pops nothing, and the device tells the driver
 * (DEVICE_NEEDS_RESET).  No allocation while it runs.
 * Thread: the one that owns the queue's device (its loop).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/memory.h"

enum { QUEUE_SIZE_MAX = 1024, QUEUE_CHAIN_MAX = 128 /* descriptors in one chain */ };

struct queue {
	const struct guest_memory *memory;
	gpa_t descriptors, available, used;
	uint16_t size; /* a power of two, <= QUEUE_SIZE_MAX */
	bool event_index, indirect;
	bool ready, broken;
	uint16_t next_available, next_used, signalled_used;
	bool signalled_valid;
	const char *why_broken; /* a static string */
};

/* One request: first what the device reads, then what it writes. */
struct queue_chain {
	uint16_t head;
	unsigned int out_count, in_count;
	uint64_t out_size, in_size;
	struct iovec iov[QUEUE_CHAIN_MAX]; /* out_count, then in_count */
};

/* Checks that the three areas are memory and are aligned; then the queue is ready.  -EINVAL. */
int queue_start(struct queue *queue);

/* 1: *ret is a chain; 0: there is none; -EIO: the queue is broken. */
int queue_pop(struct queue *queue, struct queue_chain *ret);
/* Takes the last popped chain back, to be popped again (no room yet); may be repeated for those
 * before it. */
void queue_undo_pop(struct queue *queue);

/* Gives the chain back to the driver; `written` bytes of its in-part are filled. */
void queue_push(struct queue *queue, uint16_t head, uint32_t written);

/* The same in two steps: several chains that the driver must see at one moment. */
void queue_stage(struct queue *queue, uint16_t head, uint32_t written);
void queue_publish(struct queue *queue);

/* Has the driver asked to be told of what was pushed since the last call? */
bool queue_should_interrupt(struct queue *queue);

/* Asks the driver (not) to ring for new chains.  After enabling: true when there are some already.
 */
bool queue_enable_doorbell(struct queue *queue);
void queue_disable_doorbell(struct queue *queue);

/* Copies between a flat buffer and a part of an iovec, at an offset; returns the bytes copied. */
size_t queue_iov_read(const struct iovec *iov, unsigned int count, uint64_t offset, void *data,
		      size_t size);
size_t queue_iov_write(const struct iovec *iov, unsigned int count, uint64_t offset,
		       const void *data, size_t size);
/* The part [offset, offset + size) of an iovec, at most `count` entries; returns how many. */
unsigned int queue_iov_slice(const struct iovec *iov, unsigned int count, uint64_t offset,
			     uint64_t size, struct iovec *ret);
