#pragma once
/*
 * vmm/bus.h - who answers when the guest reads or writes an address that is not memory.
 *
 * Two buses per machine, port I/O and MMIO.  vCPU threads look addresses up and call the device;
 * the device locks itself.  A place that nobody owns reads as all ones and swallows writes, as on a
 * PC.  Used by vcpu (dispatch) and by everything that registers itself.
 * Thread-safe.  Devices are called without a lock of the bus, by several threads at once; removing
 * a range waits for the calls in flight, so a device's callbacks must not remove ranges of its bus.
 * bus_move() is allowed there: pci.c moves BARs that way.
 */
#include <stdint.h>

#include "base/cleanup.h"

struct bus;
struct error;

struct bus_ops {
	/* Either may be NULL.  `offset` from the range's start; `size` 1, 2, 4 or 8; the access
	 * lies wholly inside. */
	uint64_t (*read)(void *data, uint64_t offset, unsigned int size);
	void (*write)(void *data, uint64_t offset, unsigned int size, uint64_t value);
};

struct bus *bus_new(void);
void bus_free(struct bus *bus);
DEFINE_AUTO(struct bus *, bus_free)

/* -EEXIST when it overlaps another.  `name` (static) is shown in counters. */
int bus_add(struct bus *bus, const char *name, uint64_t start, uint64_t size,
	    const struct bus_ops *ops, void *data, struct error *err);
void bus_remove(struct bus *bus, uint64_t start);
int bus_move(struct bus *bus, uint64_t old_start, uint64_t new_start);

uint64_t bus_read(struct bus *bus, uint64_t address, unsigned int size);
void bus_write(struct bus *bus, uint64_t address, unsigned int size, uint64_t value);

/* Counters of each range, and how many accesses nobody owned. */
typedef void (*bus_count_fn)(void *data, const char *name, uint64_t start, uint64_t reads,
			     uint64_t writes);
void bus_count(struct bus *bus, bus_count_fn fn, void *data);
uint64_t bus_lost(const struct bus *bus);

/*
 * Doorbells: a write of any value to `address` (`size` 2 or 4 bytes, 0 = any size) wakes `fd`
 * without a round trip through this process.  The machine fills in `assign` (KVM_IOEVENTFD);
 * without it (tests) the write comes to the device, which writes to the eventfd itself.
 */
struct doorbell_ops {
	int (*assign)(void *data, uint64_t address, unsigned int size, int fd, int match);
	void (*deassign)(void *data, uint64_t address, unsigned int size, int fd, int match);
};

struct doorbells {
	const struct doorbell_ops *ops; /* NULL: none */
	void *data;
};
