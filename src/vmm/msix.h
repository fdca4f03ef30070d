#pragma once
/*
 * vmm/msix.h - the MSI-X interrupts of one PCI device: table, pending bits, masks.
 *
 * A vector is an irq of vmm/irq.h whose route the guest writes into the table.  What is raised
 * while it is masked waits in the pending bits and is sent when the mask goes.
 * Used by virtio_pci.  Thread-safe: vCPU threads write the table, device threads raise.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct error;
struct irq;
struct irq_chip;

enum {
	MSIX_VECTORS_MAX = 65,
	MSIX_ENTRY_BYTES = 16,
	MSIX_PENDING_BYTES = (MSIX_VECTORS_MAX + 63) / 64 * 8,
};

/* What a snapshot needs. */
struct msix_state {
	uint8_t table[MSIX_VECTORS_MAX * MSIX_ENTRY_BYTES];
	uint64_t pending[MSIX_PENDING_BYTES / 8];
	bool enabled, masked; /* the whole function, by its message control */
};

/* What the machine was told last; telling it again is dear. */
struct msix_route {
	uint64_t address;
	uint32_t value;
	bool valid;
};

struct msix {
	pthread_mutex_t lock;
	unsigned int count;
	struct irq *irqs[MSIX_VECTORS_MAX];
	struct msix_route routes[MSIX_VECTORS_MAX];
	struct msix_state state;
};

int msix_init(struct msix *msix, struct irq_chip *chip, unsigned int count, struct error *err);
void msix_done(struct msix *msix);

/* The guest's accesses; outside of the table they read 0. */
uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned int size);
void msix_table_write(struct msix *msix, uint64_t offset, unsigned int size, uint64_t value);
uint64_t msix_pending_read(struct msix *msix, uint64_t offset, unsigned int size);

/* The message control word was written. */
void msix_set_control(struct msix *msix, bool enabled, bool masked);

/* False when MSI-X is off.  A vector that does not exist is nothing to raise. */
bool msix_raise(struct msix *msix, unsigned int vector);
