#include "vmm/nic.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/virtio.h"

enum {
	QUEUE_SIZE = 256,
	HEADER = sizeof(struct virtio_net_hdr_v1),
	ETHERNET = 14 + 4,
	PACKET_MAX = HEADER + ETHERNET + 65535,
	BATCH = 64,
	RX_CHAINS = 64,
	RX_IOV = 256,
};

#define GUEST_OFFLOADS                                                                             \
	(1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 |                       \
	 1ull << VIRTIO_NET_F_GUEST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_ECN)

/* A buffer of the guest that waits for a packet. */
struct rx_chain {
	uint16_t head, iov_count;
	uint64_t size;
};

struct pair {
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
	struct rx_chain chains[RX_CHAINS];
	struct iovec iov[RX_IOV];
};

struct nic {
	struct virtio_device device;
	struct virtio_net_config config;
	unsigned int pair_count, active_pairs;
	unsigned int control_queue;
	uint64_t features, offloads;
	uint64_t packet_max;
	bool is_tap, active, rx_slowed, control_slowed;
	struct ratelimit send, receive;
	struct loop_source *timer;
	struct pair pairs[NIC_PAIRS_MAX];
};

static unsigned int rx_queue(const struct pair *pair)
{
	return 2 * pair->index;
}

static unsigned int tx_queue(const struct pair *pair)
{
	return 2 * pair->index + 1;
}

/* ---- to the guest ---- */

static void pair_receive(struct pair *pair);

static void on_packet(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct pair *pair = data;

	(void) fd;
	pair_receive(pair);
	if ((events & (EPOLLERR | EPOLLHUP)) && pair->source == source) {
		loop_source_free(source);
		pair->source = NULL;
		pair->lost = true;
		nic_set_link(&pair->nic->device, false);
	}
}

/* Waits for packets only while there is room for them. */
static void pair_watch(struct pair *pair, bool watch)
{
	watch = watch && !pair->lost;
	if (!watch) {
		loop_source_free(pair->source);
		pair->source = NULL;
	} else if (!pair->source) {
		pair->lost = loop_add_fd(pair->nic->device.loop, pair->fd, EPOLLIN, on_packet, pair,
					 &pair->source) < 0;
	}
}

/* Takes buffers until any packet fits, or no more can be had. */
static bool pair_fill(struct pair *pair)
{
	struct virtio_device *device = &pair->nic->device;
	struct queue *queue = &device->queues[rx_queue(pair)];
	bool mergeable = pair->nic->features & (1ull << VIRTIO_NET_F_MRG_RXBUF);
	struct queue_chain chain;
	int r;

	while (pair->chain_count == 0 || (mergeable && pair->size < pair->nic->packet_max)) {
		if (pair->chain_count == RX_CHAINS || pair->chain_count == queue->size)
			return true;
		r = virtio_pop(device, rx_queue(pair), &chain);
		if (r < 0)
			return false;
		if (r == 0) {
			if (queue_enable_doorbell(queue))
				continue;
			return false;
		}
		if (chain.in_size < HEADER || chain.out_count) {
			virtio_break(device, rx_queue(pair), "a receive buffer without a header");
			return false;
		}
		if (pair->iov_count + chain.in_count > RX_IOV) {
			queue_undo_pop(queue);
			return true;
		}
		memcpy(pair->iov + pair->iov_count, chain.iov,
		       chain.in_count * sizeof(chain.iov[0]));
		pair->iov_count += chain.in_count;
		pair->size += chain.in_size;
		pair->chains[pair->chain_count++] = (struct rx_chain){
			.head = chain.head,
			.iov_count = (uint16_t) chain.in_count,
			.size = chain.in_size,
		};
	}
	queue_disable_doorbell(queue);
	return true;
}

/* A packet of `size` bytes lies in the first buffers: gives those back, all at one moment. */
static void pair_deliver(struct pair *pair, uint64_t size)
{
	struct queue *queue = &pair->nic->device.queues[rx_queue(pair)];
	unsigned int used = 0, iov_used = 0;
	uint64_t left = size;
	uint16_t buffers;

	for (; used < pair->chain_count && left > 0; used++) {
		uint64_t here = left < pair->chains[used].size ? left : pair->chains[used].size;

		queue_stage(queue, pair->chains[used].head, (uint32_t) here);
		left -= here;
		pair->size -= pair->chains[used].size;
		iov_used += pair->chains[used].iov_count;
	}
	buffers = (uint16_t) used;
	queue_iov_write(pair->iov, iov_used, offsetof(struct virtio_net_hdr_v1, num_buffers),
			&buffers, sizeof(buffers));
	queue_publish(queue);
	pair->chain_count -= used;
	pair->iov_count -= iov_used;
	memmove(pair->chains, pair->chains + used, pair->chain_count * sizeof(pair->chains[0]));
	memmove(pair->iov, pair->iov + iov_used, pair->iov_count * sizeof(pair->iov[0]));
}

static bool may_receive(struct nic *nic)
{
	uint64_t due;

	if (!ratelimit_is_limited(&nic->receive) ||
	    ratelimit_ready(&nic->receive, ratelimit_now_ns(), &due))
		return true;
	virtio_count(&nic->device.counters.throttled, 1);
	nic->rx_slowed = true;
	loop_source_set_timer(nic->timer, due);
	return false;
}

static void pair_receive(struct pair *pair)
{
	struct nic *nic = pair->nic;
	struct virtio_device *device = &nic->device;
	bool watch = pair->index < nic->active_pairs;
	ssize_t n;

	for (unsigned int i = 0; i < BATCH && watch; i++) {
		if (!pair_fill(pair) || !may_receive(nic)) {
			watch = false;
			break;
		}
		n = readv(pair->fd, pair->iov, (int) pair->iov_count);
		if (n < HEADER)
			break;
		if (ratelimit_is_limited(&nic->receive))
			ratelimit_charge(&nic->receive, ratelimit_now_ns(), (uint64_t) n - HEADER);
		virtio_count(&device->counters.read_bytes, (uint64_t) n - HEADER);
		virtio_count(&device->counters.requests, 1);
		pair_deliver(pair, (uint64_t) n);
	}
	pair_watch(pair, watch);
	virtio_interrupt(device, rx_queue(pair));
}

/* ---- from the guest ---- */

static void pair_send(struct pair *pair);

static void on_room(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct pair *pair = data;

	(void) fd, (void) events;
	loop_source_free(source);
	pair->out_source = NULL;
	pair->blocked = false;
	pair_send(pair);
}

static bool may_send(struct pair *pair, uint64_t size)
{
	struct nic *nic = pair->nic;
	uint64_t due;

	if (!ratelimit_is_limited(&nic->send) ||
	    ratelimit_take(&nic->send, ratelimit_now_ns(), size, &due))
		return true;
	virtio_count(&nic->device.counters.throttled, 1);
	pair->slowed = true;
	loop_source_set_timer(nic->timer, due);
	return false;
}

/* False: the queue waits. */
static bool send_one(struct pair *pair, const struct queue_chain *chain)
{
	struct virtio_device *device = &pair->nic->device;
	ssize_t n = -1;

	if (chain->out_size > HEADER && chain->out_size <= PACKET_MAX && !pair->lost) {
		if (!may_send(pair, chain->out_size - HEADER))
			return false;
		n = writev(pair->fd, chain->iov, (int) chain->out_count);
		if (n < 0 && errno == EAGAIN) {
			pair->blocked = loop_add_fd(device->loop, pair->out_fd, EPOLLOUT, on_room,
						    pair, &pair->out_source) >= 0;
			if (pair->blocked)
				return false;
		}
	}
	/* What the tap refuses is lost, as on a wire. */
	if (n > HEADER)
		virtio_count(&device->counters.written_bytes, (uint64_t) n - HEADER);
	else
		virtio_count(&device->counters.errors, 1);
	return true;
}

static void pair_send(struct pair *pair)
{
	struct virtio_device *device = &pair->nic->device;
	struct queue *queue = &device->queues[tx_queue(pair)];
	struct queue_chain chain;
	unsigned int i;
	int r = 0;

	queue_disable_doorbell(queue);
	for (i = 0; i < BATCH && !pair->blocked && !pair->slowed; i++) {
		r = virtio_pop(device, tx_queue(pair), &chain);
		if (r == 0 && queue_enable_doorbell(queue))
			continue;
		if (r <= 0)
			break;
		if (!send_one(pair, &chain)) {
			queue_undo_pop(queue);
			break;
		}
		virtio_count(&device->counters.requests, 1);
		queue_stage(queue, chain.head, 0);
	}
	queue_publish(queue);
	virtio_interrupt(device, tx_queue(pair));
	if (i == BATCH) {
		pair->slowed = true;
		loop_source_set_timer(pair->nic->timer, 1);
	}
}

/* ---- the control queue ---- */

static int tap_offload(struct nic *nic, uint64_t offloads)
{
	unsigned int flags = 0;

	if (offloads & (1ull << VIRTIO_NET_F_GUEST_CSUM))
		flags |= TUN_F_CSUM;
	if (offloads & (1ull << VIRTIO_NET_F_GUEST_TSO4))
		flags |= TUN_F_TSO4;
	if (offloads & (1ull << VIRTIO_NET_F_GUEST_TSO6))
		flags |= TUN_F_TSO6;
	if (offloads & (1ull << VIRTIO_NET_F_GUEST_ECN))
		flags |= TUN_F_TSO_ECN;
	/* Segments need checksums; the kernel refuses one without the other. */
	if (!(flags & TUN_F_CSUM))
		flags = 0;
	if (!nic->is_tap)
		return 0;
	return ioctl(nic->pairs[0].fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

static bool set_offloads(struct nic *nic, uint64_t offloads)
{
	bool segments =
		offloads & (1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6);
	uint64_t mtu = nic->config.mtu ? nic->config.mtu : 1500;

	if ((offloads & ~(nic->features & GUEST_OFFLOADS)) || tap_offload(nic, offloads) < 0)
		return false;
	nic->offloads = offloads;
	nic->packet_max = segments ? PACKET_MAX : HEADER + ETHERNET + mtu;
	return true;
}

/* The tap spreads packets over the queues that are attached. */
static void set_pairs(struct nic *nic, unsigned int count)
{
	for (unsigned int i = 0; i < nic->pair_count; i++) {
		struct ifreq request = {
			.ifr_flags = i < count ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE,
		};

		/* Attaching what is attached fails, and that is fine. */
		if (nic->is_tap && nic->pair_count > 1)
			(void) ioctl(nic->pairs[i].fd, TUNSETQUEUE, &request);
	}
	nic->active_pairs = count;
	for (unsigned int i = 0; i < nic->pair_count; i++)
		pair_receive(&nic->pairs[i]);
}

static bool control(struct nic *nic, const struct queue_chain *chain)
{
	struct virtio_net_ctrl_hdr header;
	uint16_t pairs;
	uint64_t offloads;

	if (queue_iov_read(chain->iov, chain->out_count, 0, &header, sizeof(header)) !=
	    sizeof(header))
		return false;
	switch (header.class << 8 | header.cmd) {
	case VIRTIO_NET_CTRL_MQ << 8 | VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET:
		if (queue_iov_read(chain->iov, chain->out_count, sizeof(header), &pairs, 2) != 2 ||
		    pairs == 0 || pairs > nic->pair_count ||
		    !(nic->features & (1ull << VIRTIO_NET_F_MQ)))
			return false;
		set_pairs(nic, pairs);
		return true;
	case VIRTIO_NET_CTRL_ANNOUNCE << 8 | VIRTIO_NET_CTRL_ANNOUNCE_ACK:
		nic->config.status &= (uint16_t) ~VIRTIO_NET_S_ANNOUNCE;
		return true;
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS << 8 | VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET:
		return (nic->features & (1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) &&
		       queue_iov_read(chain->iov, chain->out_count, sizeof(header), &offloads, 8) ==
			       8 &&
		       set_offloads(nic, offloads);
	default:
		return false;
	}
}

static void control_serve(struct nic *nic)
{
	struct virtio_device *device = &nic->device;
	unsigned int queue = nic->control_queue, i;
	struct queue_chain chain;
	virtio_net_ctrl_ack ack;
	int r;

	for (i = 0; i < BATCH; i++) {
		r = virtio_pop(device, queue, &chain);
		if (r == 0 && queue_enable_doorbell(&device->queues[queue]))
			continue;
		if (r <= 0)
			break;
		if (chain.in_size == 0) {
			virtio_break(device, queue, "a control message without an answer");
			return;
		}
		ack = control(nic, &chain) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
		queue_iov_write(chain.iov + chain.out_count, chain.in_count, 0, &ack, 1);
		virtio_push(device, queue, chain.head, 1);
	}
	virtio_interrupt(device, queue);
	nic->control_slowed = i == BATCH;
	if (nic->control_slowed)
		loop_source_set_timer(nic->timer, 1);
}

static void on_timer(struct loop_source *source, void *data)
{
	struct nic *nic = data;
	bool rx = nic->rx_slowed;

	(void) source;
	nic->rx_slowed = false;
	if (nic->control_slowed)
		control_serve(nic);
	for (unsigned int i = 0; i < nic->pair_count; i++) {
		struct pair *pair = &nic->pairs[i];

		if (pair->slowed) {
			pair->slowed = false;
			pair_send(pair);
		}
		if (rx)
			pair_receive(pair);
	}
}

/* ---- the device ---- */

static void nic_config_read(struct virtio_device *device, uint32_t offset, void *data, size_t size)
{
	struct nic *nic = (struct nic *) device;

	virtio_config_copy(&nic->config, sizeof(nic->config), offset, data, size);
}

static int nic_activate(struct virtio_device *device, uint64_t features)
{
	struct nic *nic = (struct nic *) device;
	bool several = features & (1ull << VIRTIO_NET_F_MQ);

	nic->features = features;
	nic->control_queue = several ? 2 * nic->pair_count : 2;
	nic->active = true;
	if (!set_offloads(nic, features & GUEST_OFFLOADS))
		return -EIO;
	set_pairs(nic, 1);
	return 0;
}

static void nic_notify(struct virtio_device *device, unsigned int queue)
{
	struct nic *nic = (struct nic *) device;

	if (queue == nic->control_queue && (nic->features & (1ull << VIRTIO_NET_F_CTRL_VQ)))
		control_serve(nic);
	else if (queue / 2 >= nic->pair_count)
		return;
	else if (queue % 2 == 0)
		pair_receive(&nic->pairs[queue / 2]);
	else
		pair_send(&nic->pairs[queue / 2]);
}

static void nic_reset(struct virtio_device *device)
{
	struct nic *nic = (struct nic *) device;

	nic->active = nic->rx_slowed = nic->control_slowed = false;
	nic->active_pairs = 0;
	for (unsigned int i = 0; i < nic->pair_count; i++) {
		struct pair *pair = &nic->pairs[i];

		pair_watch(pair, false);
		loop_source_free(pair->out_source);
		pair->out_source = NULL;
		pair->blocked = pair->slowed = false;
		pair->chain_count = pair->iov_count = 0;
		pair->size = 0;
	}
	loop_source_set_timer(nic->timer, 0);
	nic->config.status &= (uint16_t) ~VIRTIO_NET_S_ANNOUNCE;
}

static void nic_free(struct virtio_device *device)
{
	struct nic *nic = (struct nic *) device;

	if (!nic)
		return;
	for (unsigned int i = 0; i < nic->pair_count; i++) {
		loop_source_free(nic->pairs[i].source);
		loop_source_free(nic->pairs[i].out_source);
		fd_close(nic->pairs[i].out_fd);
	}
	loop_source_free(nic->timer);
	free(nic);
}

static const struct virtio_ops nic_ops = {
	.name = "net",
	.type = VIRTIO_ID_NET,
	.config_read = nic_config_read,
	.activate = nic_activate,
	.notify = nic_notify,
	.reset = nic_reset,
	.free = nic_free,
};

static int tap_init(struct nic *nic, int fd, struct error *err)
{
	struct ifreq request = {};
	int flags = fcntl(fd, F_GETFL), header = HEADER;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return error_set(err, -errno, "%s: its descriptor %d", nic->device.id, fd);
	if (ioctl(fd, TUNGETIFF, &request) < 0)
		return 0;
	nic->is_tap = true;
	if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_VNET_HDR))
		return error_say(err, -EINVAL,
				 "%s: the tap device %s must have IFF_TAP and IFF_VNET_HDR",
				 nic->device.id, request.ifr_name);
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		return error_set(err, -errno, "%s: the header's size of %s", nic->device.id,
				 request.ifr_name);
	return 0;
}

static void init_features(struct nic *nic, const struct nic_options *options)
{
	uint64_t *features = &nic->device.features;

	*features = 1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4 |
		    1ull << VIRTIO_NET_F_HOST_TSO6 | 1ull << VIRTIO_NET_F_HOST_ECN |
		    1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_MRG_RXBUF |
		    1ull << VIRTIO_NET_F_STATUS | 1ull << VIRTIO_NET_F_CTRL_VQ |
		    1ull << VIRTIO_NET_F_GUEST_ANNOUNCE;
	if (tap_offload(nic, GUEST_OFFLOADS) >= 0)
		*features |= GUEST_OFFLOADS | 1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
	(void) tap_offload(nic, 0);
	if (nic->pair_count > 1)
		*features |= 1ull << VIRTIO_NET_F_MQ;
	if (options->mtu)
		*features |= 1ull << VIRTIO_NET_F_MTU;
	memcpy(nic->config.mac, options->mac, sizeof(nic->config.mac));
	nic->config.status = VIRTIO_NET_S_LINK_UP;
	nic->config.max_virtqueue_pairs = (uint16_t) nic->pair_count;
	nic->config.mtu = options->mtu;
}

static int check_options(const struct nic_options *options, struct error *err)
{
	unsigned int size = options->queue_size ? options->queue_size : QUEUE_SIZE;

	if (options->pairs < 1 || options->pairs > NIC_PAIRS_MAX)
		return error_say(err, -EINVAL, "%s: %u pairs of queues, 1 to %d are possible",
				 options->id, options->pairs, NIC_PAIRS_MAX);
	if (size > QUEUE_SIZE_MAX || size < 2 || (size & (size - 1)))
		return error_say(err, -EINVAL,
				 "%s: a queue of %u, it must be a power of two up to %d",
				 options->id, size, QUEUE_SIZE_MAX);
	if (options->mac[0] & 1)
		return error_say(err, -EINVAL, "%s: the MAC address is a group's", options->id);
	if (options->mtu && options->mtu < 68)
		return error_say(err, -EINVAL, "%s: an MTU of %u, it must be at least 68",
				 options->id, options->mtu);
	return 0;
}

static int nic_init(struct nic *nic, const struct nic_options *options, struct error *err)
{
	struct virtio_device *device = &nic->device;
	int r;

	for (unsigned int i = 0; i < options->pairs; i++) {
		struct pair *pair = &nic->pairs[i];

		r = tap_init(nic, options->fds[i], err);
		if (r < 0)
			return r;
		pair->out_fd = fcntl(options->fds[i], F_DUPFD_CLOEXEC, 3);
		if (pair->out_fd < 0)
			return error_set(err, -errno, "%s: copying a descriptor", device->id);
	}
	init_features(nic, options);
	return virtio_add_timer(device, on_timer, nic, &nic->timer, err);
}

int nic_new(const struct nic_options *options, struct loop *loop, struct virtio_device **ret,
	    struct error *err)
{
	struct nic *nic;
	struct virtio_device *device;
	int r;

	r = check_options(options, err);
	if (r < 0)
		return r;
	nic = mem_new0(struct nic);
	device = &nic->device;
	virtio_init(device, &nic_ops, options->id, loop);
	virtio_init_queues(device, 2 * options->pairs + 1,
			   options->queue_size ? options->queue_size : QUEUE_SIZE);
	device->config_size = offsetof(struct virtio_net_config, speed);
	nic->pair_count = options->pairs;
	for (unsigned int i = 0; i < options->pairs; i++) {
		nic->pairs[i].nic = nic;
		nic->pairs[i].index = i;
		nic->pairs[i].fd = options->fds[i];
		nic->pairs[i].out_fd = -1;
	}
	ratelimit_init(&nic->send, &options->send);
	ratelimit_init(&nic->receive, &options->receive);
	r = nic_init(nic, options, err);
	if (r < 0) {
		nic_free(device);
		return r;
	}
	*ret = device;
	return 0;
}

void nic_announce(struct virtio_device *device)
{
	struct nic *nic = (struct nic *) device;

	if (!nic->active || !(nic->features & (1ull << VIRTIO_NET_F_GUEST_ANNOUNCE)))
		return;
	nic->config.status |= VIRTIO_NET_S_ANNOUNCE;
	virtio_config_changed(device);
}

void nic_set_link(struct virtio_device *device, bool up)
{
	struct nic *nic = (struct nic *) device;
	uint16_t status = (uint16_t) ((nic->config.status & ~VIRTIO_NET_S_LINK_UP) |
				      (up ? VIRTIO_NET_S_LINK_UP : 0));

	if (status == nic->config.status)
		return;
	nic->config.status = status;
	virtio_config_changed(device);
}
