#pragma once
/*
 * vmm/balloon.h - the memory balloon (VIRTIO 1.2, section 5.5): gives a guest's unused memory back
 * to the host.
 *
 * By order: balloon_set_target() has the guest give up so much.  By itself: with free page
 * reporting the guest names the pages that it does not use, as it goes.  Both end in
 * guest_memory_discard(). With deflate_on_oom a guest that runs out of memory takes pages back
 * without asking.  Statistics come from the guest and are what it says, no more. Used by the main
 * program.  Thread: made before the loop runs and freed after it ended; else the loop's.
 */
#include <stdbool.h>
#include <stdint.h>

struct error;
struct guest_memory;
struct loop;
struct virtio_device;

struct balloon_statistics {
	uint64_t updates; /* how many times they came; 0: never */
	/* UINT64_MAX: the guest does not say. */
	uint64_t swap_in_bytes, swap_out_bytes, major_faults, minor_faults, free_bytes, total_bytes,
		available_bytes, cache_bytes;
};

struct balloon_options {
	const char *id; /* "balloon0" */
	bool deflate_on_oom, reporting;
	unsigned int statistics_interval_ms; /* 0: only on request */
};

int balloon_new(const struct balloon_options *options, const struct guest_memory *memory,
		struct loop *loop, struct virtio_device **ret, struct error *err);

/* How much the guest shall give up; it does so when it can. */
void balloon_set_target(struct virtio_device *device, uint64_t size_bytes);
/* How much it says it has given up. */
uint64_t balloon_actual(const struct virtio_device *device);
/* What was given back since the start, by orders and by reports. */
uint64_t balloon_discarded(const struct virtio_device *device);

/* Asks for new ones; they come when the guest answers. */
void balloon_request_statistics(struct virtio_device *device);
void balloon_statistics(const struct virtio_device *device, struct balloon_statistics *ret);
