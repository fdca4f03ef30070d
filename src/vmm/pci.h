#pragma once
/*
 * vmm/pci.h - a PCI bus: a host bridge, up to 31 devices, their configuration space and BARs.
 *
 * Bus 0 only, function 0 only.  Configuration space is reached by the ports 0xcf8/0xcfc and by the
 * memory window LAYOUT_PCI_ECAM, both served here.  BARs are 32-bit memory in LAYOUT_PCI_WINDOW;
 * each gets an address at once (there is no firmware to do it), and the guest may move it.  No
 * INTx: the interrupt pin reads 0, so no ACPI _PRT is needed; devices use MSI-X (vmm/msix.h).
 * Used by virtio_pci.  Registers itself on the buses.
 * Thread: pci_new(), pci_add() and pci_remove() by the main thread, also while vCPUs run; vCPU
 * threads come through the buses, and the functions of `ops` are called by them: config ones with
 * the bus locked (one at a time), BAR ones without a lock.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct bus;
struct error;
struct pci;
struct pci_device;

enum {
	PCI_CONFIG_BYTES = 256,
	PCI_BARS = 6,
	PCI_SLOTS = 32,
};

struct pci_ops {
	uint64_t (*bar_read)(struct pci_device *device, unsigned int bar, uint64_t offset,
			     unsigned int size);
	void (*bar_write)(struct pci_device *device, unsigned int bar, uint64_t offset,
			  unsigned int size, uint64_t value);
	/* The BAR answers at this address from now on; 0: nowhere.  For doorbells. */
	void (*bar_moved)(struct pci_device *device, unsigned int bar, uint64_t address);
	/* These bytes of config[] are about to be read; were just written.  May be NULL. */
	void (*config_reading)(struct pci_device *device, unsigned int offset, unsigned int size);
	void (*config_written)(struct pci_device *device, unsigned int offset, unsigned int size);
};

struct pci_bar {
	struct pci_device *device;
	uint64_t size_bytes; /* 0: none */
	uint64_t at;         /* where it is on the bus: in the window, or parked outside of it */
	bool mapped;
};

/* The owner embeds it. */
struct pci_device {
	const struct pci_ops *ops;
	const char *name; /* static */
	uint8_t config[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES]; /* bits that the guest may change */
	struct pci_bar bars[PCI_BARS];
	unsigned int capabilities_end;
	struct pci *pci;
	unsigned int slot;
	bool hidden;
};

struct pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 0x020000: ethernet */
	uint8_t revision;
};

int pci_new(struct bus *io, struct bus *mmio, struct pci **ret, struct error *err);
/* All devices are gone. */
void pci_free(struct pci *pci);
DEFINE_AUTO(struct pci *, pci_free)

void pci_device_init(struct pci_device *device, const struct pci_ops *ops, const char *name,
		     const struct pci_identity *identity);
/* Memory, a power of two from 16 bytes on. */
void pci_device_add_bar(struct pci_device *device, unsigned int bar, uint32_t size_bytes);
/* Appends a capability: `body` follows its id and next pointer.  Returns its offset in config[]. */
unsigned int pci_device_add_capability(struct pci_device *device, uint8_t id, const void *body,
				       unsigned int size);

/* Puts a complete device into `slot` (1..31; 0: the first free one). */
int pci_add(struct pci *pci, struct pci_device *device, unsigned int slot, struct error *err);
/* Waits for accesses in flight: not from within one. */
void pci_remove(struct pci *pci, struct pci_device *device);
/* The guest has let go of what is in this slot: until pci_remove() nothing is found there.  Any
 * thread. */
void pci_hide(struct pci *pci, unsigned int slot);
