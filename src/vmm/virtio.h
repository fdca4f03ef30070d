#pragma once
/*
 * vmm/virtio.h - between a virtio device's model and whatever carries it (virtio-pci, virtio-mmio).
 *
 * A model (blk, net, console, rng, balloon, vsock) embeds struct virtio_device, fills in `ops` and
 * never learns its transport; a transport owns registers, feature negotiation, doorbells and
 * interrupts, and never learns what the device does.
 *
 * Thread: a model has a loop (its own thread's or the main one).  The transport calls every
 * function of `ops` in that loop's thread (vCPU threads hand over with loop_call()), so a model
 * needs no lock.  Models call virtio_interrupt() and virtio_config_changed() from that thread.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/irq.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/queue.h"

struct error;
struct virtio_device;

enum {
	VIRTIO_QUEUES_MAX = 64,
	VIRTIO_CONFIG_MAX = 256,
};

/* Requests and signals of a device, for metrics; written by its thread, read by the main one. */
struct virtio_counters {
	_Atomic uint64_t notifications, interrupts, requests, read_bytes, written_bytes, errors,
		throttled;
};

struct virtio_ops {
	const char *name; /* "blk" */
	uint16_t type;    /* VIRTIO 1.2, section 5: 1 net, 2 block, ... */
	/* Bytes of the device-specific configuration; offset + size <= config_size. */
	void (*config_read)(struct virtio_device *device, uint32_t offset, void *data, size_t size);
	/* May be NULL: nothing can be written. */
	void (*config_write)(struct virtio_device *device, uint32_t offset, const void *data,
			     size_t size);
	/* The driver is ready: `features` are agreed upon, the ready queues may be used. */
	int (*activate)(struct virtio_device *device, uint64_t features);
	/* The driver rang for this queue. */
	void (*notify)(struct virtio_device *device, unsigned int queue);
	/* Stops: when it returns, nothing touches the queues or guest memory any more. */
	void (*reset)(struct virtio_device *device);
	void (*free)(struct virtio_device *device);
};

/* What a transport does for the model. */
struct virtio_transport_ops {
	void (*interrupt)(struct virtio_device *device, unsigned int queue);
	void (*config_changed)(struct virtio_device *device);
	void (*needs_reset)(struct virtio_device *device, const char *why);
};

struct virtio_device {
	const struct virtio_ops *ops;
	struct loop *loop;
	uint64_t features; /* offered beside the transport's own (VERSION_1, EVENT_IDX, INDIRECT) */
	unsigned int queue_count;
	uint16_t queue_size[VIRTIO_QUEUES_MAX]; /* at most */
	uint32_t config_size;
	char id[32]; /* "disk0": in metrics and on the control socket */
	struct virtio_counters counters;

	/* The transport's. */
	const struct virtio_transport_ops *transport;
	void *transport_data;
	struct queue queues[VIRTIO_QUEUES_MAX];
};

/* For a model's `_new`: what all devices have.  `id` is copied. */
void virtio_init(struct virtio_device *device, const struct virtio_ops *ops, const char *id,
		 struct loop *loop);
/* That many queues, all of one size. */
void virtio_init_queues(struct virtio_device *device, unsigned int count, unsigned int size);
/* A timer of the device's loop. */
int virtio_add_timer(struct virtio_device *device, loop_timer_fn call, void *data,
		     struct loop_source **ret, struct error *err);

/* Tells the driver of pushed chains if it wants to know. */
void virtio_interrupt(struct virtio_device *device, unsigned int queue);
/* The driver is told when the transport has one; harmless before that. */
void virtio_config_changed(struct virtio_device *device);
/* The driver broke the rules: `why` is a static string. */
void virtio_needs_reset(struct virtio_device *device, const char *why);

/* queue_pop(); a queue that breaks is told to the driver.  1, 0 or -EIO. */
int virtio_pop(struct virtio_device *device, unsigned int queue, struct queue_chain *ret);
/* For requests that are no requests: the queue is broken, the driver told.  `why` is static. */
void virtio_break(struct virtio_device *device, unsigned int queue, const char *why);
/* queue_push(), counted. */
void virtio_push(struct virtio_device *device, unsigned int queue, uint16_t head, uint32_t written);

/* For config_read: a part of the model's configuration struct. */
void virtio_config_copy(const void *config, size_t config_size, uint32_t offset, void *data,
			size_t size);

static inline void virtio_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}
