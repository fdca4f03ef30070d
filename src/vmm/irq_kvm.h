#pragma once
/*
 * vmm/irq_kvm.h - interrupts by the kernel: wired ones to the IOAPIC, messages to local APICs.
 *
 * An edge or a message is a write to an eventfd that KVM listens to (irqfd), so raising it needs no
 * call into KVM's locks and works for other processes too (vhost); a level is KVM_IRQ_LINE.
 * Used by vm.c.  Thread-safe.  The in-kernel irqchip must be there already.
 */
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/irq.h"

struct error;
struct irq_kvm;

int irq_kvm_new(int vm_fd, struct irq_kvm **ret, struct error *err);
/* All interrupts have been freed. */
void irq_kvm_free(struct irq_kvm *chip);
DEFINE_AUTO(struct irq_kvm *, irq_kvm_free)

struct irq_chip *irq_kvm_chip(struct irq_kvm *chip);
uint64_t irq_kvm_raised(const struct irq_kvm *chip);
