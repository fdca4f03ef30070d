#include "vmm/nic.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/nic_internal.h"

enum { QUEUE_SIZE = 256 };

#define GUEST_OFFLOADS                                                                             \
	(1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 |                       \
	 1ull << VIRTIO_NET_F_GUEST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_ECN)

void nic_wake_at(struct nic *nic, uint64_t due_ns)
{
	/* One that waits longer must not put off the others. */
	if (nic->due_ns && nic->due_ns <= due_ns)
		return;
	nic->due_ns = due_ns;
	loop_source_set_timer(nic->timer, due_ns);
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
	nic->packet_max = segments ? NIC_PACKET_MAX : NIC_HEADER_SIZE + NIC_ETHERNET_SIZE + mtu;
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
		nic_pair_receive(&nic->pairs[i]);
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

	for (i = 0; i < NIC_BATCH; i++) {
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
	nic->control_slowed = i == NIC_BATCH;
	if (nic->control_slowed)
		nic_wake_at(nic, 1);
}

static void on_timer(struct loop_source *source, void *data)
{
	struct nic *nic = data;
	bool rx = nic->rx_slowed;

	(void) source;
	nic->due_ns = 0;
	nic->rx_slowed = false;
	if (nic->control_slowed)
		control_serve(nic);
	for (unsigned int i = 0; i < nic->pair_count; i++) {
		struct nic_pair *pair = &nic->pairs[i];

		if (pair->slowed) {
			pair->slowed = false;
			nic_pair_send(pair);
		}
		if (rx)
			nic_pair_receive(pair);
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
		nic_pair_receive(&nic->pairs[queue / 2]);
	else
		nic_pair_send(&nic->pairs[queue / 2]);
}

static void nic_reset(struct virtio_device *device)
{
	struct nic *nic = (struct nic *) device;

	nic->active = nic->rx_slowed = nic->control_slowed = false;
	nic->active_pairs = 0;
	for (unsigned int i = 0; i < nic->pair_count; i++)
		nic_pair_reset(&nic->pairs[i]);
	loop_source_set_timer(nic->timer, 0);
	nic->due_ns = 0;
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
	int flags = fcntl(fd, F_GETFL), header = NIC_HEADER_SIZE;

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
		struct nic_pair *pair = &nic->pairs[i];

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
