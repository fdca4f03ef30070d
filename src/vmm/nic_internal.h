#pragma once
/*
 * vmm/nic_internal.h - the inside of a network card.
 *
 *	nic.c		the device, its configuration and its control queue
 *	nic_pair.c	packets, in both directions of one pair of queues
 */
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/nic.h"
#include "vmm/virtio.h"

enum {
	NIC_HEADER_SIZE = sizeof(struct virtio_net_hdr_v1),
	NIC_ETHERNET_SIZE = 14 + 4,
	NIC_PACKET_MAX = NIC_HEADER_SIZE + NIC_ETHERNET_SIZE + 65535,
	NIC_BATCH = 64, /* then others of the loop have their turn */
	NIC_RX_CHAINS = 64,
	NIC_RX_IOV = 256,
};

/* A buffer of the guest that waits for a packet. */
struct nic_buffer {
	uint16_t head, iov_count;
	uint64_t size;
};

struct nic_pair {
	struct nic *nic;
	unsigned int index;
	int fd, out_fd; /* out_fd: a copy, because epoll takes each only once */
	bool lost;      /* the tap is gone */
	bool blocked;   /* waits for room in the tap */
	bool slowed;    /* waits for its time to send */
	struct loop_source *source, *out_source;
	/*
	 * How large the next packet is nobody knows: buffers are taken ahead until the largest one
	 * would fit, and stay here until they are used.
	 */
	unsigned int chain_count, iov_count;
	uint64_t size;
	struct nic_buffer chains[NIC_RX_CHAINS];
	struct iovec iov[NIC_RX_IOV];
};

struct nic {
	struct virtio_device device;
	struct virtio_net_config config;
	unsigned int pair_count, active_pairs;
	unsigned int control_queue;
	uint64_t features;
	uint64_t packet_max;
	bool is_tap, active, rx_slowed, control_slowed;
	struct ratelimit send, receive;
	struct loop_source *timer; /* all wait with it: nic_wake_at() */
	uint64_t due_ns;           /* 0: it is not set */
	struct nic_pair pairs[NIC_PAIRS_MAX];
};

/* Looks after what waits at that time, or earlier. */
void nic_wake_at(struct nic *nic, uint64_t due_ns);

/* Packets for the guest, as long as there are any and buffers to put them into. */
void nic_pair_receive(struct nic_pair *pair);
/* What the guest has put into its queue. */
void nic_pair_send(struct nic_pair *pair);
void nic_pair_reset(struct nic_pair *pair);
