#pragma once
/*
 * driver.h - the other side of a virtio device, for tests: rings in guest memory, and a small
 * machine (memory, buses, a PCI bus, interrupts that are eventfds) in which a device is found,
 * negotiated with and driven as a guest's driver does it, but without KVM.
 *
 * The device's loop runs in a thread of its own; the test is the guest.  Waiting is a poll() on the
 * interrupt's eventfd.  The rings alone (struct ring) need no machine; the fuzzers use them too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/pci.h"
#include "vmm/virtio.h"
#include "vmm/virtio_pci.h"

enum {
	DRIVER_MEMORY = 16 << 20,
	DRIVER_HEAP = 1 << 20, /* what driver_alloc() gives starts here */
	DRIVER_TIMEOUT_MS = 20000,
};

/* ---- a ring ---- */

struct ring {
	const struct guest_memory *memory;
	uint16_t size;
	gpa_t descriptors, available, used;
	uint16_t next_descriptor, next_available, last_used;
	bool event_index;
};

struct buffer {
	gpa_t address;
	uint32_t size;
	bool write; /* the device writes it */
};

static inline uint64_t ring_bytes(uint16_t size)
{
	return 16ull * size + (6 + 2ull * size + 3) / 4 * 4 + 6 + 8ull * size;
}

static inline void ring_init(struct ring *ring, const struct guest_memory *memory, gpa_t at,
			     uint16_t size)
{
	*ring = (struct ring){ .memory = memory, .size = size };
	ring->descriptors = at;
	ring->available = at + 16ull * size;
	ring->used = (ring->available + 6 + 2ull * size + 3) & ~3ull;
}

static inline void ring_put16(struct ring *ring, gpa_t at, uint16_t value)
{
	uint16_t *place = guest_memory_range(ring->memory, at, 2);

	assert_non_null(place);
	__atomic_store_n(place, value, __ATOMIC_SEQ_CST);
}

static inline uint16_t ring_get16(struct ring *ring, gpa_t at)
{
	uint16_t *place = guest_memory_range(ring->memory, at, 2);

	assert_non_null(place);
	return __atomic_load_n(place, __ATOMIC_SEQ_CST);
}

static inline void ring_descriptor(struct ring *ring, unsigned int index, gpa_t address,
				   uint32_t size, uint16_t flags, uint16_t next)
{
	struct vring_desc d = { .addr = address, .len = size, .flags = flags, .next = next };

	assert_int_equal(
		guest_memory_write(ring->memory, ring->descriptors + 16ull * index, &d, sizeof(d)),
		0);
}

/* Makes a chain available without ringing. */
static inline void ring_offer(struct ring *ring, uint16_t head)
{
	ring_put16(ring, ring->available + 4 + 2ull * (ring->next_available % ring->size), head);
	ring_put16(ring, ring->available + 2, ++ring->next_available);
}

/* Builds a chain of the next free descriptors and offers it; returns its head. */
static inline uint16_t ring_add(struct ring *ring, const struct buffer *buffers, unsigned int count)
{
	uint16_t head = ring->next_descriptor % ring->size;

	for (unsigned int i = 0; i < count; i++) {
		uint16_t index = ring->next_descriptor++ % ring->size;
		uint16_t flags = (uint16_t) ((buffers[i].write ? VRING_DESC_F_WRITE : 0) |
					     (i + 1 < count ? VRING_DESC_F_NEXT : 0));

		ring_descriptor(ring, index, buffers[i].address, buffers[i].size, flags,
				ring->next_descriptor % ring->size);
	}
	ring_offer(ring, head);
	return head;
}

static inline bool ring_used(struct ring *ring, uint32_t *ret_id, uint32_t *ret_written)
{
	struct vring_used_elem element;

	if (ring_get16(ring, ring->used + 2) == ring->last_used)
		return false;
	assert_int_equal(guest_memory_read(ring->memory,
					   ring->used + 4 + 8ull * (ring->last_used % ring->size),
					   &element, sizeof(element)),
			 0);
	ring->last_used++;
	if (ring->event_index)
		ring_put16(ring, ring->available + 4 + 2ull * ring->size, ring->last_used);
	if (ret_id)
		*ret_id = element.id;
	if (ret_written)
		*ret_written = element.len;
	return true;
}

/* Does the device want to be rung for what was offered since `before`? */
static inline bool ring_wants_bell(struct ring *ring, uint16_t before)
{
	if (ring->event_index)
		return vring_need_event(ring_get16(ring, ring->used + 4 + 8ull * ring->size),
					ring->next_available, before);
	return !(ring_get16(ring, ring->used) & VRING_USED_F_NO_NOTIFY);
}

/* ---- interrupts ---- */

struct driver_irq {
	struct irq irq;
	int fd;
	uint64_t address;
	uint32_t value;
	bool routed;
};

struct driver;
static inline void driver_keep_irq(struct driver *d, struct driver_irq *irq);

static inline int driver_irq_message(void *data, struct irq **ret, struct error *err)
{
	struct driver_irq *irq = mem_new0(struct driver_irq);

	(void) err;
	irq->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	driver_keep_irq(data, irq);
	*ret = &irq->irq;
	return 0;
}

static inline int driver_irq_route(struct irq *irq, uint64_t address, uint32_t value)
{
	struct driver_irq *self = (struct driver_irq *) irq;

	self->address = address;
	self->value = value;
	self->routed = true;
	return 0;
}

static inline void driver_irq_set(struct irq *irq, bool up)
{
	struct driver_irq *self = (struct driver_irq *) irq;

	if (up && self->routed)
		eventfd_write(self->fd, 1);
}

static inline void driver_irq_free(struct irq *irq)
{
	struct driver_irq *self = (struct driver_irq *) irq;

	close(self->fd);
	free(self);
}

static const struct irq_chip_ops driver_irq_ops = {
	.message = driver_irq_message,
	.route = driver_irq_route,
	.set = driver_irq_set,
	.free = driver_irq_free,
};

/* ---- a machine with one device ---- */

struct driver {
	struct guest_memory *memory;
	struct bus *io, *mmio;
	struct irq_chip chip;
	struct pci *pci;
	struct loop *loop;
	struct virtio_pci *transport;
	struct virtio_device *device;
	unsigned int slot;
	uint64_t common, notify, isr, config; /* addresses, found by way of the capabilities */
	uint32_t notify_multiplier;
	uint64_t features; /* agreed upon */
	struct ring rings[VIRTIO_QUEUES_MAX];
	gpa_t heap;
	struct driver_irq *irqs[VIRTIO_QUEUES_MAX + 1]; /* by vector */
	unsigned int irq_count;
};

static inline void driver_keep_irq(struct driver *d, struct driver_irq *irq)
{
	irq->irq.chip = &d->chip;
	d->irqs[d->irq_count++] = irq;
}

/* Memory, buses and a loop; then the test makes its device and calls driver_attach(). */
static inline void driver_init(struct driver *d)
{
	struct guest_memory_options options = { .size_bytes = DRIVER_MEMORY, .fd = -1 };
	struct error err = {};

	*d = (struct driver){ .heap = DRIVER_HEAP };
	d->chip = (struct irq_chip){ .ops = &driver_irq_ops, .data = d };
	assert_int_equal(guest_memory_new(&options, &d->memory, &err), 0);
	d->io = bus_new();
	d->mmio = bus_new();
	assert_int_equal(pci_new(d->io, d->mmio, &d->pci, &err), 0);
	assert_int_equal(loop_new(&d->loop, &err), 0);
}

static inline uint32_t driver_pci_read(struct driver *d, unsigned int offset, unsigned int size)
{
	return (uint32_t) bus_read(d->mmio, LAYOUT_PCI_ECAM + (d->slot << 15) + offset, size);
}

static inline void driver_pci_write(struct driver *d, unsigned int offset, unsigned int size,
				    uint32_t value)
{
	bus_write(d->mmio, LAYOUT_PCI_ECAM + (d->slot << 15) + offset, size, value);
}

/* Walks the capabilities as VIRTIO 1.2, 4.1.4 says, maps the BAR and switches MSI-X on. */
static inline void driver_probe(struct driver *d)
{
	uint64_t bar = driver_pci_read(d, PCI_BASE_ADDRESS_0, 4) & ~15u, table = 0;
	unsigned int vectors = 0, msix = 0;

	for (unsigned int at = driver_pci_read(d, PCI_CAPABILITY_LIST, 1); at;
	     at = driver_pci_read(d, at + 1, 1)) {
		uint32_t offset = driver_pci_read(d, at + VIRTIO_PCI_CAP_OFFSET, 4);

		if (driver_pci_read(d, at, 1) == PCI_CAP_ID_MSIX) {
			msix = at;
			vectors = (driver_pci_read(d, at + 2, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
			table = bar + driver_pci_read(d, at + PCI_MSIX_TABLE, 4);
		}
		if (driver_pci_read(d, at, 1) != PCI_CAP_ID_VNDR)
			continue;
		switch (driver_pci_read(d, at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
		case VIRTIO_PCI_CAP_COMMON_CFG:
			d->common = bar + offset;
			break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG:
			d->notify = bar + offset;
			d->notify_multiplier =
				driver_pci_read(d, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
			break;
		case VIRTIO_PCI_CAP_ISR_CFG:
			d->isr = bar + offset;
			break;
		case VIRTIO_PCI_CAP_DEVICE_CFG:
			d->config = bar + offset;
			break;
		default:
			break;
		}
	}
	assert_true(d->common && d->notify && d->isr && table);
	driver_pci_write(d, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned int i = 0; i < vectors; i++) {
		bus_write(d->mmio, table + 16ull * i, 4, 0xfee00000);
		bus_write(d->mmio, table + 16ull * i + 4, 4, 0);
		bus_write(d->mmio, table + 16ull * i + 8, 4, 0x4000 + i);
		bus_write(d->mmio, table + 16ull * i + 12, 4, 0);
	}
	driver_pci_write(d, msix + 2, 2, PCI_MSIX_FLAGS_ENABLE);
}

static inline uint64_t driver_get(struct driver *d, unsigned int offset, unsigned int size)
{
	return bus_read(d->mmio, d->common + offset, size);
}

static inline void driver_set(struct driver *d, unsigned int offset, unsigned int size,
			      uint64_t value)
{
	bus_write(d->mmio, d->common + offset, size, value);
}

static inline uint8_t driver_status(struct driver *d)
{
	return (uint8_t) driver_get(d, VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void driver_add_status(struct driver *d, uint8_t bits)
{
	driver_set(d, VIRTIO_PCI_COMMON_STATUS, 1, driver_status(d) | bits);
}

static inline uint64_t driver_offered(struct driver *d)
{
	uint64_t features;

	driver_set(d, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	features = driver_get(d, VIRTIO_PCI_COMMON_DF, 4);
	driver_set(d, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	return features | driver_get(d, VIRTIO_PCI_COMMON_DF, 4) << 32;
}

/* Resets, acknowledges, and agrees on `wanted` (of which everything must be offered). */
static inline void driver_negotiate(struct driver *d, uint64_t wanted)
{
	uint64_t offered;

	driver_set(d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(driver_status(d), 0);
	driver_add_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	driver_add_status(d, VIRTIO_CONFIG_S_DRIVER);
	offered = driver_offered(d);
	assert_true((offered & wanted) == wanted);
	d->features = wanted | 1ull << VIRTIO_F_VERSION_1;
	driver_set(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	driver_set(d, VIRTIO_PCI_COMMON_GF, 4, (uint32_t) d->features);
	driver_set(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	driver_set(d, VIRTIO_PCI_COMMON_GF, 4, d->features >> 32);
	driver_add_status(d, VIRTIO_CONFIG_S_FEATURES_OK);
	assert_true(driver_status(d) & VIRTIO_CONFIG_S_FEATURES_OK);
}

static inline gpa_t driver_alloc(struct driver *d, uint64_t size)
{
	gpa_t at = d->heap;

	d->heap = (at + size + 63) & ~63ull;
	assert_true(d->heap <= DRIVER_MEMORY);
	return at;
}

static inline void driver_start_queue(struct driver *d, unsigned int queue, uint16_t size)
{
	struct ring *ring = &d->rings[queue];
	gpa_t at;

	driver_set(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	if (size == 0)
		size = (uint16_t) driver_get(d, VIRTIO_PCI_COMMON_Q_SIZE, 2);
	assert_true(size > 0);
	at = driver_alloc(d, ring_bytes(size));
	memset(guest_memory_range(d->memory, at, ring_bytes(size)), 0, ring_bytes(size));
	ring_init(ring, d->memory, at, size);
	ring->event_index = d->features & 1ull << VIRTIO_RING_F_EVENT_IDX;
	driver_set(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
	driver_set(d, VIRTIO_PCI_COMMON_Q_DESCLO, 4, ring->descriptors);
	driver_set(d, VIRTIO_PCI_COMMON_Q_DESCHI, 4, ring->descriptors >> 32);
	driver_set(d, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, ring->available);
	driver_set(d, VIRTIO_PCI_COMMON_Q_AVAILHI, 4, ring->available >> 32);
	driver_set(d, VIRTIO_PCI_COMMON_Q_USEDLO, 4, ring->used);
	driver_set(d, VIRTIO_PCI_COMMON_Q_USEDHI, 4, ring->used >> 32);
	driver_set(d, VIRTIO_PCI_COMMON_Q_MSIX, 2, queue + 1);
	driver_set(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

/* The whole ceremony: probe (once), negotiate, start every queue, DRIVER_OK. */
static inline void driver_start(struct driver *d, uint64_t features, uint16_t queue_size)
{
	driver_negotiate(d, features);
	for (unsigned int i = 0; i < d->device->queue_count; i++)
		driver_start_queue(d, i, queue_size);
	driver_set(d, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	driver_add_status(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Puts the device (taken) on the bus and starts its loop's thread. */
static inline void driver_attach(struct driver *d, struct virtio_device *device)
{
	struct virtio_pci_options options = {
		.memory = d->memory,
		.pci = d->pci,
		.irq_chip = &d->chip,
	};
	struct error err = {};

	d->device = device;
	assert_int_equal(virtio_pci_new(&options, device, &d->transport, &err), 0);
	d->slot = virtio_pci_slot(d->transport);
	assert_int_equal(loop_start_thread(d->loop, "device", &err), 0);
	driver_probe(d);
}

static inline void driver_done(struct driver *d)
{
	loop_stop_thread(d->loop);
	virtio_pci_free(d->transport);
	pci_free(d->pci);
	loop_free(d->loop);
	bus_free(d->io);
	bus_free(d->mmio);
	guest_memory_free(d->memory);
}

/* Rings for everything that was offered since `before`, if the device wants it. */
static inline void driver_kick_since(struct driver *d, unsigned int queue, uint16_t before)
{
	if (ring_wants_bell(&d->rings[queue], before))
		bus_write(d->mmio, d->notify + (uint64_t) d->notify_multiplier * queue, 2, queue);
}

static inline void driver_kick(struct driver *d, unsigned int queue)
{
	bus_write(d->mmio, d->notify + (uint64_t) d->notify_multiplier * queue, 2, queue);
}

static inline uint16_t driver_send(struct driver *d, unsigned int queue,
				   const struct buffer *buffers, unsigned int count)
{
	uint16_t before = d->rings[queue].next_available;
	uint16_t head = ring_add(&d->rings[queue], buffers, count);

	driver_kick_since(d, queue, before);
	return head;
}

/* Waits for an interrupt of this vector (0: configuration, N + 1: queue N). */
static inline void driver_wait_vector(struct driver *d, unsigned int vector)
{
	struct pollfd p = { .fd = d->irqs[vector]->fd, .events = POLLIN };
	eventfd_t n;

	assert_true(vector < d->irq_count);
	assert_int_equal(poll(&p, 1, DRIVER_TIMEOUT_MS), 1);
	assert_int_equal(eventfd_read(p.fd, &n), 0);
}

/* Waits until the device has given a chain back; returns its head. */
static inline uint32_t driver_wait_used(struct driver *d, unsigned int queue, uint32_t *ret_written)
{
	uint32_t id;

	while (!ring_used(&d->rings[queue], &id, ret_written))
		driver_wait_vector(d, queue + 1);
	return id;
}

/* Waits until the device says that it must be reset, and sees that it stays alive. */
static inline void driver_wait_broken(struct driver *d)
{
	while (!(driver_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET))
		driver_wait_vector(d, 0);
	driver_set(d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(driver_status(d), 0);
}

static inline void driver_round_over(struct loop_source *source, void *data)
{
	eventfd_write(*(int *) data, 1);
	loop_source_free(source);
}

struct driver_round {
	struct loop *loop;
	int fd;
};

static inline void driver_begin_round(void *data)
{
	struct driver_round *round = data;
	struct loop_source *timer;

	assert_int_equal(loop_add_timer(round->loop, 1, driver_round_over, &round->fd, &timer), 0);
}

/*
 * Whatever the device's thread was rung for before this call is done when it returns: timers come
 * after the descriptors of a round that begins later.
 */
static inline void driver_sync(struct driver *d)
{
	struct driver_round round = { .loop = d->loop, .fd = eventfd(0, EFD_CLOEXEC) };
	eventfd_t n;

	assert_true(round.fd >= 0);
	loop_call(d->loop, driver_begin_round, &round);
	assert_int_equal(eventfd_read(round.fd, &n), 0);
	close(round.fd);
}

static inline void *driver_host(struct driver *d, gpa_t address, uint64_t size)
{
	void *host = guest_memory_range(d->memory, address, size);

	assert_non_null(host);
	return host;
}

static inline void driver_config(struct driver *d, unsigned int offset, void *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *) data)[i] = (uint8_t) bus_read(d->mmio, d->config + offset + i, 1);
}

/*
 * What hostile drivers do to a ring.  Each offers something broken on a fresh queue and rings; the
 * device must ask for a reset and must work again after it.  `restart` brings the device up.
 */
enum driver_attack {
	ATTACK_LOOP,
	ATTACK_HEAD_BEYOND,
	ATTACK_NEXT_BEYOND,
	ATTACK_OUT_OF_MEMORY,
	ATTACK_WRAPS,
	ATTACK_TOO_LONG,
	ATTACK_EMPTY,
	ATTACK_INDEX_RAN_AWAY,
	ATTACK_INDIRECT_IN_INDIRECT,
	ATTACK_INDIRECT_SIZE,
	ATTACK_INDIRECT_OUTSIDE,
	ATTACK_INDIRECT_NEXT,
	ATTACK_WRITE_THEN_READ,
	ATTACKS,
};

static inline void ring_attack(struct ring *ring, enum driver_attack attack, gpa_t scratch)
{
	struct vring_desc inner = { .addr = scratch, .len = 16, .flags = VRING_DESC_F_INDIRECT };

	switch (attack) {
	case ATTACK_LOOP:
		ring_descriptor(ring, 0, scratch, 16, VRING_DESC_F_NEXT, 1);
		ring_descriptor(ring, 1, scratch, 16, VRING_DESC_F_NEXT, 0);
		break;
	case ATTACK_HEAD_BEYOND:
		ring_offer(ring, ring->size);
		return;
	case ATTACK_NEXT_BEYOND:
		ring_descriptor(ring, 0, scratch, 16, VRING_DESC_F_NEXT, ring->size);
		break;
	case ATTACK_OUT_OF_MEMORY:
		ring_descriptor(ring, 0, DRIVER_MEMORY - 8, 16, VRING_DESC_F_WRITE, 0);
		break;
	case ATTACK_WRAPS:
		ring_descriptor(ring, 0, UINT64_MAX - 7, 16, 0, 0);
		break;
	case ATTACK_TOO_LONG:
		ring_descriptor(ring, 0, scratch, UINT32_MAX, VRING_DESC_F_WRITE, 0);
		break;
	case ATTACK_EMPTY:
		ring_descriptor(ring, 0, scratch, 0, VRING_DESC_F_WRITE, 0);
		break;
	case ATTACK_INDEX_RAN_AWAY:
		ring_put16(ring, ring->available + 2,
			   (uint16_t) (ring->next_available + ring->size + 1));
		return;
	case ATTACK_INDIRECT_IN_INDIRECT:
		assert_int_equal(guest_memory_write(ring->memory, scratch, &inner, sizeof(inner)),
				 0);
		ring_descriptor(ring, 0, scratch, 16, VRING_DESC_F_INDIRECT, 0);
		break;
	case ATTACK_INDIRECT_SIZE:
		ring_descriptor(ring, 0, scratch, 17, VRING_DESC_F_INDIRECT, 0);
		break;
	case ATTACK_INDIRECT_OUTSIDE:
		ring_descriptor(ring, 0, DRIVER_MEMORY, 16, VRING_DESC_F_INDIRECT, 0);
		break;
	case ATTACK_INDIRECT_NEXT:
		ring_descriptor(ring, 0, scratch, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
		break;
	case ATTACK_WRITE_THEN_READ:
		ring_descriptor(ring, 0, scratch, 16, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
		ring_descriptor(ring, 1, scratch, 16, 0, 0);
		break;
	case ATTACKS:
		break;
	}
	ring_offer(ring, 0);
}

/* All attacks on one queue of a device; it is reset at the end. */
static inline void driver_attack_queue(struct driver *d, uint64_t features, unsigned int queue)
{
	for (unsigned int attack = 0; attack < ATTACKS; attack++) {
		gpa_t heap = d->heap, scratch;

		driver_start(d, features | 1ull << VIRTIO_RING_F_INDIRECT_DESC, 16);
		scratch = driver_alloc(d, 4096);
		ring_attack(&d->rings[queue], attack, scratch);
		driver_kick(d, queue);
		driver_wait_broken(d);
		d->heap = heap;
	}
}
