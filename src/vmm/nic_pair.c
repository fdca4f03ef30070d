#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "vmm/nic_internal.h"

static unsigned int rx_queue(const struct nic_pair *pair)
{
	return 2 * pair->index;
}

static unsigned int tx_queue(const struct nic_pair *pair)
{
	return 2 * pair->index + 1;
}

/* ---- to the guest ---- */

static void on_packet(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct nic_pair *pair = data;

	(void) fd;
	nic_pair_receive(pair);
	if ((events & (EPOLLERR | EPOLLHUP)) && pair->source == source) {
		loop_source_free(source);
		pair->source = NULL;
		pair->lost = true;
		nic_set_link(&pair->nic->device, false);
	}
}

/* Waits for packets only while there is room for them. */
static void pair_watch(struct nic_pair *pair, bool watch)
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
static bool pair_fill(struct nic_pair *pair)
{
	struct virtio_device *device = &pair->nic->device;
	struct queue *queue = &device->queues[rx_queue(pair)];
	bool mergeable = pair->nic->features & (1ull << VIRTIO_NET_F_MRG_RXBUF);
	struct queue_chain chain;
	int r;

	while (pair->chain_count == 0 || (mergeable && pair->size < pair->nic->packet_max)) {
		if (pair->chain_count == NIC_RX_CHAINS || pair->chain_count == queue->size)
			return true;
		r = virtio_pop(device, rx_queue(pair), &chain);
		if (r < 0)
			return false;
		if (r == 0) {
			if (queue_enable_doorbell(queue))
				continue;
			return false;
		}
		if (chain.in_size < NIC_HEADER_SIZE || chain.out_count) {
			virtio_break(device, rx_queue(pair), "a receive buffer without a header");
			return false;
		}
		if (pair->iov_count + chain.in_count > NIC_RX_IOV) {
			queue_undo_pop(queue);
			return true;
		}
		memcpy(pair->iov + pair->iov_count, chain.iov,
		       chain.in_count * sizeof(chain.iov[0]));
		pair->iov_count += chain.in_count;
		pair->size += chain.in_size;
		pair->chains[pair->chain_count++] = (struct nic_buffer){
			.head = chain.head,
			.iov_count = (uint16_t) chain.in_count,
			.size = chain.in_size,
		};
	}
	queue_disable_doorbell(queue);
	return true;
}

/* A packet of `size` bytes lies in the first buffers: gives those back, all at one moment. */
static void pair_deliver(struct nic_pair *pair, uint64_t size)
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
	nic_wake_at(nic, due);
	return false;
}

void nic_pair_receive(struct nic_pair *pair)
{
	struct nic *nic = pair->nic;
	struct virtio_device *device = &nic->device;
	bool watch = pair->index < nic->active_pairs;
	ssize_t n;

	for (unsigned int i = 0; i < NIC_BATCH && watch; i++) {
		if (!pair_fill(pair) || !may_receive(nic)) {
			watch = false;
			break;
		}
		n = readv(pair->fd, pair->iov, (int) pair->iov_count);
		if (n < NIC_HEADER_SIZE)
			break;
		if (ratelimit_is_limited(&nic->receive))
			ratelimit_charge(&nic->receive, ratelimit_now_ns(),
					 (uint64_t) n - NIC_HEADER_SIZE);
		virtio_count(&device->counters.read_bytes, (uint64_t) n - NIC_HEADER_SIZE);
		virtio_count(&device->counters.requests, 1);
		pair_deliver(pair, (uint64_t) n);
	}
	pair_watch(pair, watch);
	virtio_interrupt(device, rx_queue(pair));
}

/* ---- from the guest ---- */

static void on_room(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct nic_pair *pair = data;

	(void) fd, (void) events;
	loop_source_free(source);
	pair->out_source = NULL;
	pair->blocked = false;
	nic_pair_send(pair);
}

static bool may_send(struct nic_pair *pair, uint64_t size)
{
	struct nic *nic = pair->nic;
	uint64_t due;

	if (!ratelimit_is_limited(&nic->send) ||
	    ratelimit_take(&nic->send, ratelimit_now_ns(), size, &due))
		return true;
	virtio_count(&nic->device.counters.throttled, 1);
	pair->slowed = true;
	nic_wake_at(nic, due);
	return false;
}

/* False: the queue waits. */
static bool send_one(struct nic_pair *pair, const struct queue_chain *chain)
{
	struct virtio_device *device = &pair->nic->device;
	ssize_t n = -1;

	if (chain->out_size > NIC_HEADER_SIZE && chain->out_size <= NIC_PACKET_MAX && !pair->lost) {
		if (!may_send(pair, chain->out_size - NIC_HEADER_SIZE))
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
	if (n > NIC_HEADER_SIZE)
		virtio_count(&device->counters.written_bytes, (uint64_t) n - NIC_HEADER_SIZE);
	else
		virtio_count(&device->counters.errors, 1);
	return true;
}

void nic_pair_send(struct nic_pair *pair)
{
	struct virtio_device *device = &pair->nic->device;
	struct queue *queue = &device->queues[tx_queue(pair)];
	struct queue_chain chain;
	unsigned int i;
	int r = 0;

	queue_disable_doorbell(queue);
	for (i = 0; i < NIC_BATCH && !pair->blocked && !pair->slowed; i++) {
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
	if (i == NIC_BATCH) {
		pair->slowed = true;
		nic_wake_at(pair->nic, 1);
	}
}

void nic_pair_reset(struct nic_pair *pair)
{
	pair_watch(pair, false);
	loop_source_free(pair->out_source);
	pair->out_source = NULL;
	pair->blocked = pair->slowed = false;
	pair->chain_count = pair->iov_count = 0;
	pair->size = 0;
}
