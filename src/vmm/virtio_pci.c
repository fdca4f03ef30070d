#include "vmm/virtio_pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/virtio_pci_internal.h"

enum {
	BAR = 0,
	BAR_BYTES = 0x8000,
	COMMON_AT = 0x0000,
	COMMON_BYTES = 0x38,
	ISR_AT = 0x1000,
	ISR_BYTES = 1,
	DEVICE_AT = 0x2000,
	NOTIFY_AT = 0x3000,
	NOTIFY_MULTIPLIER = 4,
	MSIX_AT = 0x4000,
	PENDING_AT = 0x5000,
	AREA_BYTES = 0x1000,

	VENDOR = 0x1af4,
	DEVICE_BASE = 0x1040,
	COMPLAINTS_MAX = 8, /* a guest must not fill the log */

	ISR_QUEUE = 1,
	ISR_CONFIG = 2,
};

static void signal_vector(struct virtio_pci *pci, uint16_t vector, uint8_t isr_bit)
{
	if (!msix_raise(&pci->msix, vector))
		pci->state.isr |= isr_bit;
}

static void on_interrupt(struct virtio_device *device, unsigned int queue)
{
	struct virtio_pci *pci = device->transport_data;

	signal_vector(pci, pci->state.queue_vector[queue], ISR_QUEUE);
}

static void on_config_changed(struct virtio_device *device)
{
	struct virtio_pci *pci = device->transport_data;

	pci->state.generation++;
	if (pci->state.status & VIRTIO_CONFIG_S_DRIVER_OK)
		signal_vector(pci, pci->state.config_vector, ISR_CONFIG);
}

static void on_needs_reset(struct virtio_device *device, const char *why)
{
	struct virtio_pci *pci = device->transport_data;
	uint8_t before = atomic_fetch_or(&pci->state.status, VIRTIO_CONFIG_S_NEEDS_RESET);

	if (before & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	if (pci->complaints < COMPLAINTS_MAX)
		log_warning("%s: the guest's driver broke the rules: %s; the device waits for a "
			    "reset%s",
			    device->id, why ? why : "unknown",
			    pci->complaints == COMPLAINTS_MAX - 1 ? "; later ones are not logged"
								  : "");
	if (pci->complaints < COMPLAINTS_MAX)
		pci->complaints++;
	if (before & VIRTIO_CONFIG_S_DRIVER_OK)
		signal_vector(pci, pci->state.config_vector, ISR_CONFIG);
}

static const struct virtio_transport_ops transport_ops = {
	.interrupt = on_interrupt,
	.config_changed = on_config_changed,
	.needs_reset = on_needs_reset,
};

struct config_access {
	struct virtio_device *device;
	uint32_t offset;
	unsigned int size;
	bool write;
	uint8_t bytes[8];
};

/* In the device's thread. */
static void config_access(void *data)
{
	struct config_access *access = data;
	struct virtio_device *device = access->device;

	if (!access->write)
		device->ops->config_read(device, access->offset, access->bytes, access->size);
	else if (device->ops->config_write)
		device->ops->config_write(device, access->offset, access->bytes, access->size);
}

/* `write`: *value goes to the device, otherwise it comes from there. */
static void access_config(struct virtio_pci *pci, uint64_t offset, unsigned int size, bool write,
			  uint64_t *value)
{
	struct config_access access = {
		.device = pci->device,
		.offset = (uint32_t) offset,
		.size = size,
		.write = write,
	};

	if (offset >= pci->device->config_size || size > pci->device->config_size - offset)
		return;
	if (write)
		memcpy(access.bytes, value, size);
	loop_call(pci->device->loop, config_access, &access);
	if (!write)
		memcpy(value, access.bytes, size);
}

static uint64_t bar_read(struct pci_device *device, unsigned int bar, uint64_t offset,
			 unsigned int size)
{
	struct virtio_pci *pci = (struct virtio_pci *) device;
	uint64_t at = offset % AREA_BYTES, value = 0;

	(void) bar;
	switch (offset - at) {
	case COMMON_AT:
		if (at < COMMON_BYTES && size == virtio_pci_common_width(at)) {
			pthread_mutex_lock(&pci->lock);
			value = virtio_pci_common_read(pci, at);
			pthread_mutex_unlock(&pci->lock);
		}
		break;
	case ISR_AT:
		if (at == 0)
			value = atomic_exchange(&pci->state.isr, 0);
		break;
	case DEVICE_AT:
		access_config(pci, at, size, false, &value);
		break;
	case MSIX_AT:
		value = msix_table_read(&pci->msix, at, size);
		break;
	case PENDING_AT:
		value = msix_pending_read(&pci->msix, at, size);
		break;
	default:
		break;
	}
	return value;
}

static void bar_write(struct pci_device *device, unsigned int bar, uint64_t offset,
		      unsigned int size, uint64_t value)
{
	struct virtio_pci *pci = (struct virtio_pci *) device;
	uint64_t at = offset % AREA_BYTES;

	(void) bar;
	switch (offset - at) {
	case COMMON_AT:
		if (at < COMMON_BYTES && size == virtio_pci_common_width(at)) {
			pthread_mutex_lock(&pci->lock);
			virtio_pci_common_write(pci, at, (uint32_t) value);
			pthread_mutex_unlock(&pci->lock);
		}
		break;
	case DEVICE_AT:
		access_config(pci, at, size, true, &value);
		break;
	case NOTIFY_AT:
		if (at / NOTIFY_MULTIPLIER < pci->device->queue_count)
			eventfd_write(pci->bells[at / NOTIFY_MULTIPLIER].fd, 1);
		break;
	case MSIX_AT:
		msix_table_write(&pci->msix, at, size, value);
		break;
	default:
		break;
	}
}

static void bar_moved(struct pci_device *device, unsigned int bar, uint64_t address)
{
	struct virtio_pci *pci = (struct virtio_pci *) device;
	const struct doorbells *doorbells = pci->doorbells;
	uint64_t *at = &device->bars[bar].at;

	if (!doorbells || !doorbells->ops)
		return;
	for (unsigned int i = 0; i < pci->device->queue_count; i++) {
		uint64_t offset = NOTIFY_AT + NOTIFY_MULTIPLIER * i;

		if (address)
			/* Without it the write comes to bar_write(): slower, not wrong. */
			(void) doorbells->ops->assign(doorbells->data, address + offset, 0,
						      pci->bells[i].fd, -1);
		else
			doorbells->ops->deassign(doorbells->data, *at + offset, 0, pci->bells[i].fd,
						 -1);
	}
}

/*
 * The window into the BAR through configuration space: 4 data bytes behind a capability that says
 * which part.
 */
static bool window(struct virtio_pci *pci, unsigned int offset, unsigned int size,
		   uint32_t *ret_offset, uint32_t *ret_size)
{
	const uint8_t *cap = pci->pci.config + pci->cfg_access_at;
	unsigned int data = pci->cfg_access_at + sizeof(struct virtio_pci_cap);

	if (offset < data || offset + size > data + 4 || cap[VIRTIO_PCI_CAP_BAR] != BAR)
		return false;
	memcpy(ret_offset, cap + VIRTIO_PCI_CAP_OFFSET, 4);
	memcpy(ret_size, cap + VIRTIO_PCI_CAP_LENGTH, 4);
	return (*ret_size == 1 || *ret_size == 2 || *ret_size == 4) && *ret_size <= size &&
	       *ret_offset % *ret_size == 0 && *ret_offset <= BAR_BYTES - *ret_size;
}

static void config_reading(struct pci_device *device, unsigned int offset, unsigned int size)
{
	struct virtio_pci *pci = (struct virtio_pci *) device;
	uint32_t at, length;
	uint64_t value;

	if (!window(pci, offset, size, &at, &length))
		return;
	value = bar_read(device, BAR, at, length);
	memcpy(device->config + pci->cfg_access_at + sizeof(struct virtio_pci_cap), &value, 4);
}

static void config_written(struct pci_device *device, unsigned int offset, unsigned int size)
{
	struct virtio_pci *pci = (struct virtio_pci *) device;
	uint32_t at, length, value;

	if (window(pci, offset, size, &at, &length)) {
		memcpy(&value, device->config + pci->cfg_access_at + sizeof(struct virtio_pci_cap),
		       4);
		bar_write(device, BAR, at, length, value & (uint32_t) ((1ull << 8 * length) - 1));
	}
	if (offset < pci->msix_at + 4 && offset + size > pci->msix_at + PCI_MSIX_FLAGS) {
		uint16_t control;

		memcpy(&control, device->config + pci->msix_at + PCI_MSIX_FLAGS, 2);
		msix_set_control(&pci->msix, control & PCI_MSIX_FLAGS_ENABLE,
				 control & PCI_MSIX_FLAGS_MASKALL);
	}
}

static const struct pci_ops pci_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_moved = bar_moved,
	.config_reading = config_reading,
	.config_written = config_written,
};

static uint32_t class_code(uint16_t type)
{
	switch (type) {
	case VIRTIO_ID_NET:
		return 0x020000;
	case VIRTIO_ID_BLOCK:
		return 0x018000;
	case VIRTIO_ID_CONSOLE:
		return 0x078000;
	case VIRTIO_ID_VSOCK:
		return 0x028000;
	default:
		return 0x00ff00;
	}
}

static unsigned int add_capability(struct virtio_pci *pci, uint8_t type, uint32_t at,
				   uint32_t length, unsigned int more)
{
	struct {
		struct virtio_pci_cap cap;
		uint32_t more;
	} capability = {
		.cap = {
			.cap_len = (uint8_t) (sizeof(struct virtio_pci_cap) + more),
			.cfg_type = type,
			.bar = BAR,
			.offset = at,
			.length = length,
		},
		.more = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? NOTIFY_MULTIPLIER : 0,
	};

	return pci_device_add_capability(&pci->pci, PCI_CAP_ID_VNDR, &capability.cap.cap_len,
					 sizeof(struct virtio_pci_cap) + more - 2);
}

static void describe(struct virtio_pci *pci)
{
	const struct virtio_device *device = pci->device;
	struct pci_identity identity = {
		.vendor = VENDOR,
		.device = (uint16_t) (DEVICE_BASE + device->ops->type),
		.subsystem_vendor = VENDOR,
		.subsystem = (uint16_t) (DEVICE_BASE + device->ops->type),
		.class_code = class_code(device->ops->type),
		.revision = 1,
	};
	struct __attribute__((packed)) {
		uint16_t control;
		uint32_t table, pending;
	} msix = {
		.control = (uint16_t) (pci->msix.count - 1),
		.table = MSIX_AT | BAR,
		.pending = PENDING_AT | BAR,
	};

	pci_device_init(&pci->pci, &pci_ops, device->ops->name, &identity);
	pci_device_add_bar(&pci->pci, BAR, BAR_BYTES);
	add_capability(pci, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_AT, COMMON_BYTES, 0);
	add_capability(pci, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_AT,
		       NOTIFY_MULTIPLIER * device->queue_count, 4);
	add_capability(pci, VIRTIO_PCI_CAP_ISR_CFG, ISR_AT, ISR_BYTES, 0);
	if (device->config_size)
		add_capability(pci, VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_AT, device->config_size, 0);
	pci->cfg_access_at = add_capability(pci, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4);
	pci->pci.writable[pci->cfg_access_at + VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(pci->pci.writable + pci->cfg_access_at + VIRTIO_PCI_CAP_OFFSET, 0xff, 12);
	pci->msix_at = pci_device_add_capability(&pci->pci, PCI_CAP_ID_MSIX, &msix, sizeof(msix));
	pci->pci.writable[pci->msix_at + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
}

int virtio_pci_new(const struct virtio_pci_options *options, struct virtio_device *device,
		   struct virtio_pci **ret, struct error *err)
{
	AUTO(virtio_pci_free) struct virtio_pci *pci = mem_new0(struct virtio_pci);
	int r;

	pci->device = device;
	pci->bus = options->pci;
	pci->doorbells = options->doorbells;
	pthread_mutex_init(&pci->lock, NULL);
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		pci->bells[i] = (struct virtio_pci_bell){ .pci = pci, .fd = -1 };
		device->queues[i].memory = options->memory;
	}
	device->transport = &transport_ops;
	device->transport_data = pci;
	virtio_pci_common_reset(pci);

	for (unsigned int i = 0; i < device->queue_count; i++) {
		pci->bells[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (pci->bells[i].fd < 0)
			return error_set(err, -errno, "%s: making a doorbell", device->id);
	}
	r = msix_init(&pci->msix, options->irq_chip, device->queue_count + 1, err);
	if (r < 0)
		return error_wrap(err, r, "%s", device->id);
	describe(pci);
	r = pci_add(pci->bus, &pci->pci, options->slot, err);
	if (r < 0)
		return r;
	pci->added = true;
	*ret = TAKE_PTR(pci);
	return 0;
}

/* In the device's thread: its timers and watched descriptors belong to the loop. */
static void free_device(void *data)
{
	struct virtio_device *device = data;

	device->ops->free(device);
}

void virtio_pci_free(struct virtio_pci *pci)
{
	if (!pci)
		return;
	if (pci->added)
		pci_remove(pci->bus, &pci->pci);
	virtio_pci_common_stop(pci);
	loop_call(pci->device->loop, free_device, pci->device);
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++)
		fd_close(pci->bells[i].fd);
	msix_done(&pci->msix);
	pthread_mutex_destroy(&pci->lock);
	free(pci);
}

void virtio_pci_reset(struct virtio_pci *pci)
{
	pthread_mutex_lock(&pci->lock);
	virtio_pci_common_reset(pci);
	pthread_mutex_unlock(&pci->lock);
	pci->pci.config[pci->msix_at + PCI_MSIX_FLAGS + 1] &=
		(uint8_t) ~((PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8);
	msix_set_control(&pci->msix, false, false);
}

struct virtio_device *virtio_pci_device(struct virtio_pci *pci)
{
	return pci->device;
}

unsigned int virtio_pci_slot(const struct virtio_pci *pci)
{
	return pci->pci.slot;
}
