#pragma once
/*
 * vmm/virtio_pci_internal.h - the inside of the transport.
 *
 *	virtio_pci.c		the PCI device: capabilities, the BAR, interrupts
 *	virtio_pci_common.c	the common configuration structure: features, queues, the status and
 *				what it does to the device
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/msix.h"
#include "vmm/pci.h"
#include "vmm/virtio.h"

/* The registers, and what a snapshot needs beside `struct queue` and `struct msix_state`. */
struct virtio_pci_state {
	uint32_t device_feature_select, driver_feature_select;
	uint64_t driver_features;
	uint16_t queue_select;
	_Atomic uint16_t config_vector, queue_vector[VIRTIO_QUEUES_MAX];
	bool queue_enabled[VIRTIO_QUEUES_MAX];
	_Atomic uint8_t status, isr, generation;
	bool active;
};

struct virtio_pci_bell {
	struct virtio_pci *pci;
	int fd;
	struct loop_source *source; /* while the device is active */
};

struct virtio_pci {
	struct pci_device pci; /* first: pci_ops are called with it */
	struct virtio_device *device;
	const struct doorbells *doorbells;
	struct pci *bus;
	bool added;
	unsigned int cfg_access_at; /* of the PCI configuration access capability */
	unsigned int msix_at;
	struct msix msix;
	struct virtio_pci_bell bells[VIRTIO_QUEUES_MAX];
	unsigned int complaints; /* the device's thread's */
	pthread_mutex_t lock;    /* of `state`, except for what is atomic */
	struct virtio_pci_state state;
};

/* Registers by their VIRTIO_PCI_COMMON_* offset; under the lock. */
uint32_t virtio_pci_common_read(struct virtio_pci *pci, uint64_t offset);
void virtio_pci_common_write(struct virtio_pci *pci, uint64_t offset, uint32_t value);
/* How wide a register is: accesses of another size are ignored. */
unsigned int virtio_pci_common_width(uint64_t offset);

/* Takes the device out of service. */
void virtio_pci_common_stop(struct virtio_pci *pci);
/* That, and all registers as after switching on. */
void virtio_pci_common_reset(struct virtio_pci *pci);
