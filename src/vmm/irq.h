#pragma once
/*
 * vmm/irq.h - an interrupt as a device sees it: something to raise.
 *
 * The machine makes them (KVM: an eventfd bound by KVM_IRQFD to a GSI or to an MSI route); tests
 * make their own and count.  A device neither knows controllers nor vectors.
 * Thread-safe: any thread raises.
 */
#include <stdbool.h>
#include <stdint.h>

struct error;
struct irq;
struct irq_chip;

struct irq_chip_ops {
	/* A wired interrupt; `level`: it stays up until irq_set(irq, false). */
	int (*line)(void *data, unsigned int gsi, bool level, struct irq **ret, struct error *err);
	/* A message that is not routed yet: raising it before irq_route() does nothing. */
	int (*message)(void *data, struct irq **ret, struct error *err);
	int (*route)(struct irq *irq, uint64_t address, uint32_t value);
	void (*set)(struct irq *irq, bool up);
	void (*free)(struct irq *irq);
};

struct irq_chip {
	const struct irq_chip_ops *ops;
	void *data;
};

/* The owner of the ops embeds it at the start of its own struct. */
struct irq {
	struct irq_chip *chip;
};

static inline void irq_raise(struct irq *irq)
{
	irq->chip->ops->set(irq, true);
}

static inline void irq_set(struct irq *irq, bool up)
{
	irq->chip->ops->set(irq, up);
}

static inline void irq_free(struct irq *irq)
{
	if (irq)
		irq->chip->ops->free(irq);
}
