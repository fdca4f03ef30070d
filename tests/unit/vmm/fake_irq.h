#pragma once
/*
 * fake_irq.h - interrupt lines that only count, for tests of devices that have no queue.
 */
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vmm/irq.h"

struct fake_irqs {
	struct irq_chip chip;
	unsigned int raised, made, freed, last_gsi;
};

static int fake_line(void *data, unsigned int gsi, bool level, struct irq **ret, struct error *err)
{
	struct fake_irqs *irqs = data;
	struct irq *irq = mem_new0(struct irq);

	(void) level, (void) err;
	irq->chip = &irqs->chip;
	irqs->made++;
	irqs->last_gsi = gsi;
	*ret = irq;
	return 0;
}

static void fake_set(struct irq *irq, bool up)
{
	if (up)
		((struct fake_irqs *) irq->chip->data)->raised++;
}

static void fake_free(struct irq *irq)
{
	((struct fake_irqs *) irq->chip->data)->freed++;
	free(irq);
}

static const struct irq_chip_ops fake_ops = { .line = fake_line,
					      .set = fake_set,
					      .free = fake_free };

static inline void fake_irqs_init(struct fake_irqs *irqs)
{
	*irqs = (struct fake_irqs){ .chip = { &fake_ops, irqs } };
}
