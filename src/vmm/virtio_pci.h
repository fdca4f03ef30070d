#pragma once
/*
 * vmm/virtio_pci.h - carries a virtio device over PCI: VIRTIO 1.2, section 4.1, modern only.
 *
 * One 32 KiB BAR with the common, ISR, device and notification structures and the MSI-X table; one
 * MSI-X vector for configuration changes and one for each queue; a doorbell (ioeventfd) of its own
 * for each queue.  Without MSI-X there are no interrupts, only ISR bits to poll.
 * Used by the main program: make the device (blk_new(), ...), give it to virtio_pci_new().
 * Thread: new and free by the main thread, also while vCPUs and the device's loop run;
 * registers are accessed by vCPU threads under a lock of the transport, which is held while the
 * device's loop is called (loop_call()), so a loop must never wait for a vCPU.
 */
#include <stdint.h>

#include "base/cleanup.h"

struct doorbells;
struct error;
struct guest_memory;
struct irq_chip;
struct pci;
struct virtio_device;
struct virtio_pci;

struct virtio_pci_options {
	const struct guest_memory *memory;
	struct pci *pci;
	struct irq_chip *irq_chip;
	const struct doorbells *doorbells; /* NULL: none, writes come here */
	unsigned int slot;                 /* 0: the first free one */
};

/* Takes the device, also when it fails. */
int virtio_pci_new(const struct virtio_pci_options *options, struct virtio_device *device,
		   struct virtio_pci **ret, struct error *err);
/* Stops and frees the device too. */
void virtio_pci_free(struct virtio_pci *pci);
DEFINE_AUTO(struct virtio_pci *, virtio_pci_free)

/* As after switching on, but BARs stay where they are; no vCPU runs. */
void virtio_pci_reset(struct virtio_pci *pci);

struct virtio_device *virtio_pci_device(struct virtio_pci *pci);
unsigned int virtio_pci_slot(const struct virtio_pci *pci);
