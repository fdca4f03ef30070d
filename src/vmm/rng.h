#pragma once
/*
 * vmm/rng.h - a virtio entropy source (VIRTIO 1.2, section 5.4): the host's getrandom().
 *
 * Rate-limited, so that a guest cannot keep a host's core busy with it.
 * Used by the main program, which gives the device to virtio_pci_new().
 * Thread: made before the loop runs and freed after it ended; else the loop's.
 */
#include <stdint.h>

struct error;
struct loop;
struct virtio_device;

struct rng_options {
	const char *id;            /* "rng0" */
	uint64_t bytes_per_second; /* 0: unlimited */
};

int rng_new(const struct rng_options *options, struct loop *loop, struct virtio_device **ret,
	    struct error *err);
