#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <sys/epoll.h>

#include "vmm/virtio_pci_internal.h"

#define FEATURES_ALWAYS                                                                            \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |                        \
	 1ull << VIRTIO_RING_F_EVENT_IDX)

/* Edge-triggered: each ring is an edge, so the counter need not be read. */
static void on_bell(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct virtio_pci_bell *bell = data;
	struct virtio_device *device = bell->pci->device;

	(void) source, (void) fd, (void) events;
	virtio_count(&device->counters.notifications, 1);
	device->ops->notify(device, (unsigned int) (bell - bell->pci->bells));
}

/* `ready` and `broken` are false already when the device is not active; its thread may look. */
static void clear_queues(struct virtio_pci *pci)
{
	for (unsigned int i = 0; i < pci->device->queue_count; i++) {
		struct queue *queue = &pci->device->queues[i];

		queue->descriptors = queue->available = queue->used = 0;
		queue->size = pci->device->queue_size[i];
	}
}

/* In the device's thread. */
static void deactivate(void *data)
{
	struct virtio_pci *pci = data;
	struct virtio_device *device = pci->device;

	for (unsigned int i = 0; i < device->queue_count; i++) {
		loop_source_free(pci->bells[i].source);
		pci->bells[i].source = NULL;
	}
	device->ops->reset(device);
	for (unsigned int i = 0; i < device->queue_count; i++)
		device->queues[i] = (struct queue){ .memory = device->queues[i].memory };
}

static void activate(void *data)
{
	struct virtio_pci *pci = data;
	struct virtio_device *device = pci->device;
	uint64_t features = pci->state.driver_features;
	int r = 0;

	for (unsigned int i = 0; i < device->queue_count; i++) {
		struct queue *queue = &device->queues[i];

		queue->event_index = features & (1ull << VIRTIO_RING_F_EVENT_IDX);
		queue->indirect = features & (1ull << VIRTIO_RING_F_INDIRECT_DESC);
		if (pci->state.queue_enabled[i] && queue_start(queue) < 0) {
			virtio_needs_reset(device, "a queue lies outside of memory");
			return;
		}
	}
	for (unsigned int i = 0; i < device->queue_count && r >= 0; i++)
		if (device->queues[i].ready)
			r = loop_add_fd(device->loop, pci->bells[i].fd, EPOLLIN | EPOLLET, on_bell,
					&pci->bells[i], &pci->bells[i].source);
	if (r >= 0)
		r = device->ops->activate(device, features);
	if (r < 0)
		virtio_needs_reset(device, "the device could not be started");
}

void virtio_pci_common_stop(struct virtio_pci *pci)
{
	if (pci->state.active)
		loop_call(pci->device->loop, deactivate, pci);
	pci->state.active = false;
}

void virtio_pci_common_reset(struct virtio_pci *pci)
{
	struct virtio_device *device = pci->device;

	virtio_pci_common_stop(pci);
	clear_queues(pci);
	pci->state.driver_features = 0;
	pci->state.device_feature_select = pci->state.driver_feature_select = 0;
	pci->state.queue_select = 0;
	pci->state.config_vector = VIRTIO_MSI_NO_VECTOR;
	for (unsigned int i = 0; i < device->queue_count; i++) {
		pci->state.queue_vector[i] = VIRTIO_MSI_NO_VECTOR;
		pci->state.queue_enabled[i] = false;
	}
	pci->state.isr = 0;
	pci->state.status = 0;
}

static uint64_t offered(const struct virtio_pci *pci)
{
	return pci->device->features | FEATURES_ALWAYS;
}

static void set_status(struct virtio_pci *pci, uint8_t value)
{
	uint8_t before = pci->state.status;

	if (value == 0) {
		virtio_pci_common_reset(pci);
		return;
	}
	if ((value & VIRTIO_CONFIG_S_FEATURES_OK) && !(before & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    ((pci->state.driver_features & ~offered(pci)) ||
	     !(pci->state.driver_features & (1ull << VIRTIO_F_VERSION_1))))
		value &= (uint8_t) ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!(value & VIRTIO_CONFIG_S_FEATURES_OK))
		value &= (uint8_t) ~VIRTIO_CONFIG_S_DRIVER_OK;
	/* Only a reset takes bits away; and the device's own bit is not the driver's to set. */
	value &= (uint8_t) ~VIRTIO_CONFIG_S_NEEDS_RESET;
	atomic_fetch_or(&pci->state.status, value);
	if ((value & VIRTIO_CONFIG_S_DRIVER_OK) && !pci->state.active) {
		pci->state.active = true;
		loop_call(pci->device->loop, activate, pci);
	}
}

static uint32_t feature_half(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t) (features >> (32 * select)) : 0;
}

/* The selected queue, or NULL. */
static struct queue *selected(struct virtio_pci *pci)
{
	return pci->state.queue_select < pci->device->queue_count
		       ? &pci->device->queues[pci->state.queue_select]
		       : NULL;
}

static uint32_t queue_read(struct virtio_pci *pci, uint64_t offset)
{
	const struct queue *queue = selected(pci);
	unsigned int select = pci->state.queue_select;

	if (!queue)
		return 0;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return queue->size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return pci->state.queue_vector[select];
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return pci->state.queue_enabled[select];
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return select;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return (uint32_t) queue->descriptors;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return (uint32_t) (queue->descriptors >> 32);
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return (uint32_t) queue->available;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return (uint32_t) (queue->available >> 32);
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return (uint32_t) queue->used;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return (uint32_t) (queue->used >> 32);
	default:
		return 0;
	}
}

uint32_t virtio_pci_common_read(struct virtio_pci *pci, uint64_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return pci->state.device_feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return feature_half(offered(pci), pci->state.device_feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return pci->state.driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return feature_half(pci->state.driver_features, pci->state.driver_feature_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return pci->state.config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return pci->device->queue_count;
	case VIRTIO_PCI_COMMON_STATUS:
		return pci->state.status;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return pci->state.generation;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return pci->state.queue_select;
	default:
		return queue_read(pci, offset);
	}
}

static uint16_t valid_vector(const struct virtio_pci *pci, uint32_t vector)
{
	return vector < pci->msix.count ? (uint16_t) vector : VIRTIO_MSI_NO_VECTOR;
}

static void set_low(gpa_t *address, uint32_t value)
{
	*address = (*address & 0xffffffff00000000ull) | value;
}

static void set_high(gpa_t *address, uint32_t value)
{
	*address = (*address & 0xffffffffull) | (uint64_t) value << 32;
}

static void queue_write(struct virtio_pci *pci, uint64_t offset, uint32_t value)
{
	struct queue *queue = selected(pci);
	unsigned int select = pci->state.queue_select;

	if (!queue)
		return;
	if (offset == VIRTIO_PCI_COMMON_Q_MSIX) {
		pci->state.queue_vector[select] = valid_vector(pci, value);
		return;
	}
	/* An enabled queue stays as it is until the reset. */
	if (pci->state.queue_enabled[select] || pci->state.active)
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		if (value <= pci->device->queue_size[select])
			queue->size = (uint16_t) value;
		return;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		pci->state.queue_enabled[select] = value == 1;
		return;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		set_low(&queue->descriptors, value);
		return;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_high(&queue->descriptors, value);
		return;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		set_low(&queue->available, value);
		return;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_high(&queue->available, value);
		return;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		set_low(&queue->used, value);
		return;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_high(&queue->used, value);
		return;
	default:
		return;
	}
}

static void set_driver_features(struct virtio_pci *pci, uint32_t value)
{
	uint32_t select = pci->state.driver_feature_select;
	uint64_t *features = &pci->state.driver_features;

	if (pci->state.status & VIRTIO_CONFIG_S_FEATURES_OK)
		return;
	if (select == 0)
		set_low(features, value);
	else if (select == 1)
		set_high(features, value);
}

void virtio_pci_common_write(struct virtio_pci *pci, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		pci->state.device_feature_select = value;
		return;
	case VIRTIO_PCI_COMMON_GFSELECT:
		pci->state.driver_feature_select = value;
		return;
	case VIRTIO_PCI_COMMON_GF:
		set_driver_features(pci, value);
		return;
	case VIRTIO_PCI_COMMON_MSIX:
		pci->state.config_vector = valid_vector(pci, value);
		return;
	case VIRTIO_PCI_COMMON_STATUS:
		set_status(pci, (uint8_t) value);
		return;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		pci->state.queue_select = (uint16_t) value;
		return;
	default:
		queue_write(pci, offset, value);
	}
}

unsigned int virtio_pci_common_width(uint64_t offset)
{
	if (offset < VIRTIO_PCI_COMMON_MSIX)
		return 4;
	if (offset == VIRTIO_PCI_COMMON_STATUS || offset == VIRTIO_PCI_COMMON_CFGGENERATION)
		return 1;
	return offset < VIRTIO_PCI_COMMON_Q_DESCLO ? 2 : 4;
}
