#pragma once
/*
 * vmm/nic.h - a virtio network card (VIRTIO 1.2, section 5.1) on a tap device.
 *
 * Each pair of queues has a tap descriptor of its own (IFF_VNET_HDR, with several pairs also
 * IFF_MULTI_QUEUE); packets go between guest memory and the tap without a copy in between.
 * Checksum and segmentation offloads, mergeable buffers, announcements; no filtering: what a guest
 * may send and receive is decided on the bridge.  Instead of a tap any descriptor will do that
 * takes and gives whole packets with a 12-byte virtio header in front (a SOCK_SEQPACKET socket).
 * Used by vm_hotplug.c.  Thread: the loop's, or anybody's while it does not run.
 */
#include <stdbool.h>
#include <stdint.h>

#include "vmm/ratelimit.h"

struct error;
struct loop;
struct virtio_device;

enum { NIC_PAIRS_MAX = 8 };

struct nic_options {
	const char *id;         /* "net0" */
	int fds[NIC_PAIRS_MAX]; /* borrowed; become non-blocking */
	unsigned int pairs;     /* 1 to NIC_PAIRS_MAX */
	uint8_t mac[6];
	uint16_t mtu;                           /* 0: the driver's own */
	unsigned int queue_size;                /* 0: 256; a power of two */
	struct ratelimit_options send, receive; /* from the guest, to the guest */
};

int nic_new(const struct nic_options *options, struct loop *loop, struct virtio_device **ret,
	    struct error *err);

/* In the loop's thread (loop_call()).  Has the guest say where it is: after it moved. */
void nic_announce(struct virtio_device *device);
void nic_set_link(struct virtio_device *device, bool up);
