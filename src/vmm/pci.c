#include "vmm/pci.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/layout.h"

enum {
	BRIDGE_VENDOR = 0x1b36, /* a generic PCI Express host bridge, as QEMU's */
	BRIDGE_DEVICE = 0x0008,
	CAPABILITIES_START = 0x40,
	ECAM_BYTES_PER_FUNCTION = 4096,
	BAR_BYTES_MAX = 1 << 20,
};

/* No physical address has so many bits: BARs stay on the bus there while they are switched off,
 * because a range must not be removed from within a call. */
#define PARKED 0xff00000000000000ull

struct pci {
	struct bus *io, *mmio;
	pthread_mutex_t lock; /* of everything in configuration space */
	uint32_t address;     /* port 0xcf8 */
	struct pci_device *slots[PCI_SLOTS];
	struct pci_device bridge;
	bool has_address, has_data, has_ecam;
};

static uint32_t load_le(const uint8_t *bytes, unsigned int size)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= (uint32_t) bytes[i] << (8 * i);
	return value;
}

static void store_le(uint8_t *bytes, unsigned int size, uint32_t value)
{
	for (unsigned int i = 0; i < size; i++)
		bytes[i] = (uint8_t) (value >> (8 * i));
}

static uint64_t parked_at(const struct pci_device *device, unsigned int bar)
{
	return PARKED + ((uint64_t) device->slot * PCI_BARS + bar) * BAR_BYTES_MAX;
}

static uint64_t bar_register(const struct pci_device *device, unsigned int bar)
{
	return load_le(device->config + PCI_BASE_ADDRESS_0 + 4 * bar, 4) &
	       (uint32_t) PCI_BASE_ADDRESS_MEM_MASK;
}

static uint64_t bar_bus_read(void *data, uint64_t offset, unsigned int size)
{
	struct pci_bar *bar = data;

	return bar->device->ops->bar_read(bar->device, (unsigned int) (bar - bar->device->bars),
					  offset, size);
}

static void bar_bus_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bar *bar = data;

	bar->device->ops->bar_write(bar->device, (unsigned int) (bar - bar->device->bars), offset,
				    size, value);
}

static const struct bus_ops bar_ops = { .read = bar_bus_read, .write = bar_bus_write };

/* Brings a BAR to where command register and base address say. */
static void bar_update(struct pci_device *device, unsigned int index)
{
	struct pci_bar *bar = &device->bars[index];
	uint64_t address = bar_register(device, index);
	bool map;

	if (bar->size_bytes == 0)
		return;
	/* Outside of the window it could stand in front of another device. */
	map = (device->config[PCI_COMMAND] & PCI_COMMAND_MEMORY) && address >= LAYOUT_PCI_WINDOW &&
	      address <= LAYOUT_PCI_WINDOW_END - bar->size_bytes;
	if (map == bar->mapped && (!map || address == bar->at))
		return;
	if (bar->mapped) {
		bar->mapped = false;
		device->ops->bar_moved(device, index, 0);
	}
	if (map && bus_move(device->pci->mmio, bar->at, address) == 0) {
		bar->at = address;
		bar->mapped = true;
		device->ops->bar_moved(device, index, address);
	} else if (bar->at != parked_at(device, index) &&
		   bus_move(device->pci->mmio, bar->at, parked_at(device, index)) == 0) {
		bar->at = parked_at(device, index);
	}
}

static uint32_t config_read(struct pci_device *device, unsigned int offset, unsigned int size)
{
	if (device->ops->config_reading)
		device->ops->config_reading(device, offset, size);
	return load_le(device->config + offset, size);
}

static void config_write(struct pci_device *device, unsigned int offset, unsigned int size,
			 uint32_t value)
{
	uint8_t bytes[4];

	store_le(bytes, size, value);
	for (unsigned int i = 0; i < size; i++) {
		uint8_t mask = device->writable[offset + i];

		device->config[offset + i] =
			(uint8_t) ((device->config[offset + i] & ~mask) | (bytes[i] & mask));
	}
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		bar_update(device, bar);
	if (device->ops->config_written)
		device->ops->config_written(device, offset, size);
}

/* Under the lock.  `offset`: device << 15 | function << 12 | register, as in the ECAM window. */
static struct pci_device *find_function(const struct pci *pci, uint32_t offset)
{
	struct pci_device *device = pci->slots[(offset >> 15) % PCI_SLOTS];

	return device && !device->hidden && (offset >> 12) % 8 == 0 ? device : NULL;
}

static uint32_t function_read(struct pci *pci, uint32_t offset, unsigned int size)
{
	unsigned int at = offset % ECAM_BYTES_PER_FUNCTION;
	uint32_t value = UINT32_MAX;
	struct pci_device *device;

	pthread_mutex_lock(&pci->lock);
	device = find_function(pci, offset);
	if (device)
		value = at + size <= PCI_CONFIG_BYTES ? config_read(device, at, size) : 0;
	pthread_mutex_unlock(&pci->lock);
	return value;
}

static void function_write(struct pci *pci, uint32_t offset, unsigned int size, uint32_t value)
{
	unsigned int at = offset % ECAM_BYTES_PER_FUNCTION;
	struct pci_device *device;

	pthread_mutex_lock(&pci->lock);
	device = find_function(pci, offset);
	if (device && at + size <= PCI_CONFIG_BYTES)
		config_write(device, at, size, value);
	pthread_mutex_unlock(&pci->lock);
}

static uint64_t address_read(void *data, uint64_t offset, unsigned int size)
{
	struct pci *pci = data;

	return size == 4 && offset == 0 ? __atomic_load_n(&pci->address, __ATOMIC_RELAXED)
					: UINT32_MAX;
}

static void address_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci *pci = data;

	if (size == 4 && offset == 0)
		__atomic_store_n(&pci->address, (uint32_t) value & 0x80fffffc, __ATOMIC_RELAXED);
}

/* The register that 0xcf8 selects, as an offset in the ECAM window; false: nothing is there. */
static bool selected(const struct pci *pci, uint64_t offset, unsigned int size, uint32_t *ret)
{
	uint32_t address = __atomic_load_n(&pci->address, __ATOMIC_RELAXED);

	if (!(address & 0x80000000) || (address & 0x00ff0000) || offset + size > 4)
		return false;
	*ret = (address & 0xff00) << 4 | (address & 0xfc) | (uint32_t) offset;
	return true;
}

static uint64_t data_read(void *data, uint64_t offset, unsigned int size)
{
	uint32_t at;

	if (!selected(data, offset, size, &at))
		return UINT32_MAX;
	return function_read(data, at, size);
}

static void data_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	uint32_t at;

	if (selected(data, offset, size, &at))
		function_write(data, at, size, (uint32_t) value);
}

static uint64_t ecam_read(void *data, uint64_t offset, unsigned int size)
{
	uint64_t value;

	if (offset % ECAM_BYTES_PER_FUNCTION + size > ECAM_BYTES_PER_FUNCTION)
		return UINT64_MAX;
	if (size <= 4)
		return function_read(data, (uint32_t) offset, size);
	value = function_read(data, (uint32_t) offset, 4);
	return value | (uint64_t) function_read(data, (uint32_t) offset + 4, 4) << 32;
}

static void ecam_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	if (offset % ECAM_BYTES_PER_FUNCTION + size > ECAM_BYTES_PER_FUNCTION)
		return;
	function_write(data, (uint32_t) offset, size <= 4 ? size : 4, (uint32_t) value);
	if (size > 4)
		function_write(data, (uint32_t) offset + 4, 4, (uint32_t) (value >> 32));
}

static const struct bus_ops address_ops = { .read = address_read, .write = address_write };
static const struct bus_ops data_ops = { .read = data_read, .write = data_write };
static const struct bus_ops ecam_ops = { .read = ecam_read, .write = ecam_write };
static const struct pci_ops bridge_ops = {};

int pci_new(struct bus *io, struct bus *mmio, struct pci **ret, struct error *err)
{
	AUTO(pci_free) struct pci *pci = mem_new0(struct pci);
	static const struct pci_identity bridge = {
		.vendor = BRIDGE_VENDOR,
		.device = BRIDGE_DEVICE,
		.class_code = 0x060000,
	};
	int r;

	pthread_mutex_init(&pci->lock, NULL);
	pci->io = io;
	pci->mmio = mmio;
	pci_device_init(&pci->bridge, &bridge_ops, "pci bridge", &bridge);
	pci->bridge.pci = pci;
	pci->slots[0] = &pci->bridge;

	r = bus_add(io, "pci address", LAYOUT_PORT_PCI_ADDRESS, 4, &address_ops, pci, err);
	pci->has_address = r >= 0;
	if (r >= 0) {
		r = bus_add(io, "pci data", LAYOUT_PORT_PCI_DATA, 4, &data_ops, pci, err);
		pci->has_data = r >= 0;
	}
	if (r >= 0) {
		r = bus_add(mmio, "pci ecam", LAYOUT_PCI_ECAM, LAYOUT_PCI_ECAM_SIZE, &ecam_ops, pci,
			    err);
		pci->has_ecam = r >= 0;
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(pci);
	return 0;
}

void pci_free(struct pci *pci)
{
	if (!pci)
		return;
	if (pci->has_address)
		bus_remove(pci->io, LAYOUT_PORT_PCI_ADDRESS);
	if (pci->has_data)
		bus_remove(pci->io, LAYOUT_PORT_PCI_DATA);
	if (pci->has_ecam)
		bus_remove(pci->mmio, LAYOUT_PCI_ECAM);
	pthread_mutex_destroy(&pci->lock);
	free(pci);
}

void pci_device_init(struct pci_device *device, const struct pci_ops *ops, const char *name,
		     const struct pci_identity *identity)
{
	*device = (struct pci_device){ .ops = ops, .name = name };
	store_le(device->config + PCI_VENDOR_ID, 2, identity->vendor);
	store_le(device->config + PCI_DEVICE_ID, 2, identity->device);
	store_le(device->config + PCI_REVISION_ID, 1, identity->revision);
	store_le(device->config + PCI_CLASS_PROG, 3, identity->class_code);
	store_le(device->config + PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor);
	store_le(device->config + PCI_SUBSYSTEM_ID, 2, identity->subsystem);
	store_le(device->writable + PCI_COMMAND, 2,
		 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR |
			 PCI_COMMAND_INTX_DISABLE);
	device->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	device->writable[PCI_LATENCY_TIMER] = 0xff;
	device->writable[PCI_INTERRUPT_LINE] = 0xff;
	device->capabilities_end = CAPABILITIES_START;
}

void pci_device_add_bar(struct pci_device *device, unsigned int bar, uint32_t size_bytes)
{
	assert(bar < PCI_BARS && size_bytes >= 16 && size_bytes <= BAR_BYTES_MAX &&
	       (size_bytes & (size_bytes - 1)) == 0);
	device->bars[bar] = (struct pci_bar){ .device = device, .size_bytes = size_bytes };
	store_le(device->writable + PCI_BASE_ADDRESS_0 + 4 * bar, 4, ~(size_bytes - 1));
}

unsigned int pci_device_add_capability(struct pci_device *device, uint8_t id, const void *body,
				       unsigned int size)
{
	unsigned int at = device->capabilities_end;
	uint8_t *link = &device->config[PCI_CAPABILITY_LIST];

	assert(at + 2 + size <= PCI_CONFIG_BYTES);
	while (*link)
		link = &device->config[*link + PCI_CAP_LIST_NEXT];
	*link = (uint8_t) at;
	device->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	device->config[at + PCI_CAP_LIST_ID] = id;
	memcpy(device->config + at + 2, body, size);
	device->capabilities_end = (at + 2 + size + 3) & ~3u;
	return at;
}

static unsigned int free_slot(const struct pci *pci)
{
	unsigned int slot = 1;

	while (slot < PCI_SLOTS && pci->slots[slot])
		slot++;
	return slot;
}

static bool overlaps(const struct pci_device *device, uint64_t at, uint64_t size)
{
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		uint64_t bar = bar_register(device, i);

		if (device->bars[i].size_bytes && at < bar + device->bars[i].size_bytes &&
		    bar < at + size)
			return true;
	}
	return false;
}

/* The first place of the window that no base address points to, of `device` or another; 0: none. */
static uint64_t find_place(const struct pci *pci, const struct pci_device *device, uint64_t size)
{
	for (uint64_t at = LAYOUT_PCI_WINDOW; at <= LAYOUT_PCI_WINDOW_END - size; at += size) {
		bool taken = overlaps(device, at, size);

		for (unsigned int i = 0; i < PCI_SLOTS && !taken; i++)
			taken = pci->slots[i] && overlaps(pci->slots[i], at, size);
		if (!taken)
			return at;
	}
	return 0;
}

static int add_bars(struct pci *pci, struct pci_device *device, struct error *err)
{
	int r = 0;

	for (unsigned int i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &device->bars[i];
		uint64_t place;

		if (bar->size_bytes == 0)
			continue;
		place = find_place(pci, device, bar->size_bytes);
		if (place == 0)
			r = error_say(err, -ENOSPC, "%s: the PCI window is full", device->name);
		else
			r = bus_add(pci->mmio, device->name, parked_at(device, i), bar->size_bytes,
				    &bar_ops, bar, err);
		if (r < 0) {
			while (i-- > 0)
				if (device->bars[i].size_bytes)
					bus_remove(pci->mmio, parked_at(device, i));
			return r;
		}
		bar->at = parked_at(device, i);
		store_le(device->config + PCI_BASE_ADDRESS_0 + 4 * i, 4, (uint32_t) place);
	}
	return r;
}

static int add_locked(struct pci *pci, struct pci_device *device, unsigned int slot,
		      struct error *err)
{
	int r;

	if (slot == 0)
		slot = free_slot(pci);
	if (slot >= PCI_SLOTS)
		return error_say(err, -ENOSPC, "%s: all %d PCI slots are taken", device->name,
				 PCI_SLOTS - 1);
	if (pci->slots[slot])
		return error_say(err, -EEXIST, "%s: PCI slot %u is taken by %s", device->name, slot,
				 pci->slots[slot]->name);
	device->pci = pci;
	device->slot = slot;
	r = add_bars(pci, device, err);
	if (r == 0)
		pci->slots[slot] = device;
	return r;
}

int pci_add(struct pci *pci, struct pci_device *device, unsigned int slot, struct error *err)
{
	int r;

	pthread_mutex_lock(&pci->lock);
	r = add_locked(pci, device, slot, err);
	pthread_mutex_unlock(&pci->lock);
	return r;
}

void pci_remove(struct pci *pci, struct pci_device *device)
{
	bool found;

	pthread_mutex_lock(&pci->lock);
	found = pci->slots[device->slot] == device;
	if (found)
		pci->slots[device->slot] = NULL;
	for (unsigned int i = 0; i < PCI_BARS && found; i++) {
		if (device->bars[i].mapped)
			device->ops->bar_moved(device, i, 0);
		device->bars[i].mapped = false;
	}
	pthread_mutex_unlock(&pci->lock);
	/* Nobody moves them any more. */
	for (unsigned int i = 0; i < PCI_BARS && found; i++)
		if (device->bars[i].size_bytes)
			bus_remove(pci->mmio, device->bars[i].at);
}

void pci_hide(struct pci *pci, unsigned int slot)
{
	pthread_mutex_lock(&pci->lock);
	if (slot > 0 && slot < PCI_SLOTS && pci->slots[slot])
		pci->slots[slot]->hidden = true;
	pthread_mutex_unlock(&pci->lock);
}
