#include "vmm/msix.h"

#include <assert.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "base/error.h"
#include "vmm/irq.h"

static uint32_t entry_word(const struct msix *msix, unsigned int vector, unsigned int offset)
{
	uint32_t word;

	memcpy(&word, msix->state.table + vector * MSIX_ENTRY_BYTES + offset, sizeof(word));
	return word;
}

static bool is_masked(const struct msix *msix, unsigned int vector)
{
	return msix->state.masked ||
	       (entry_word(msix, vector, PCI_MSIX_ENTRY_VECTOR_CTRL) & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void send_pending(struct msix *msix, unsigned int vector)
{
	uint64_t bit = 1ull << (vector % 64);

	if (!(msix->state.pending[vector / 64] & bit) || is_masked(msix, vector))
		return;
	msix->state.pending[vector / 64] &= ~bit;
	irq_raise(msix->irqs[vector]);
}

/* Routes a vector as the table says, once it could be used. */
static void route(struct msix *msix, unsigned int vector)
{
	struct irq *irq = msix->irqs[vector];
	struct msix_route *last = &msix->routes[vector];
	struct msix_route next = {
		.address = entry_word(msix, vector, PCI_MSIX_ENTRY_LOWER_ADDR) |
			   (uint64_t) entry_word(msix, vector, PCI_MSIX_ENTRY_UPPER_ADDR) << 32,
		.value = entry_word(msix, vector, PCI_MSIX_ENTRY_DATA),
		.valid = true,
	};

	if (!msix->state.enabled || is_masked(msix, vector))
		return;
	if (!last->valid || last->address != next.address || last->value != next.value) {
		/* What the machine refuses stays dead: the guest's own doing. */
		next.valid = irq->chip->ops->route(irq, next.address, next.value) >= 0;
		*last = next;
	}
	send_pending(msix, vector);
}

int msix_init(struct msix *msix, struct irq_chip *chip, unsigned int count, struct error *err)
{
	int r;

	assert(count <= MSIX_VECTORS_MAX);
	*msix = (struct msix){ .count = count };
	pthread_mutex_init(&msix->lock, NULL);
	for (unsigned int i = 0; i < count; i++) {
		msix->state.table[i * MSIX_ENTRY_BYTES + PCI_MSIX_ENTRY_VECTOR_CTRL] =
			PCI_MSIX_ENTRY_CTRL_MASKBIT;
		r = chip->ops->message(chip->data, &msix->irqs[i], err);
		if (r < 0) {
			msix_done(msix);
			return r;
		}
	}
	return 0;
}

void msix_done(struct msix *msix)
{
	for (unsigned int i = 0; i < msix->count; i++) {
		irq_free(msix->irqs[i]);
		msix->irqs[i] = NULL;
	}
	if (msix->count)
		pthread_mutex_destroy(&msix->lock);
	msix->count = 0;
}

static uint64_t load(const void *bytes, uint64_t limit, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	if (offset < limit && size <= limit - offset)
		memcpy(&value, (const char *) bytes + offset, size);
	return value;
}

uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned int size)
{
	uint64_t value;

	pthread_mutex_lock(&msix->lock);
	value = load(msix->state.table, (uint64_t) msix->count * MSIX_ENTRY_BYTES, offset, size);
	pthread_mutex_unlock(&msix->lock);
	return value;
}

void msix_table_write(struct msix *msix, uint64_t offset, unsigned int size, uint64_t value)
{
	uint64_t limit = (uint64_t) msix->count * MSIX_ENTRY_BYTES;

	/* The specification allows whole words and double words only. */
	if ((size != 4 && size != 8) || offset % size || offset >= limit || size > limit - offset)
		return;
	pthread_mutex_lock(&msix->lock);
	memcpy(msix->state.table + offset, &value, size);
	route(msix, (unsigned int) (offset / MSIX_ENTRY_BYTES));
	pthread_mutex_unlock(&msix->lock);
}

uint64_t msix_pending_read(struct msix *msix, uint64_t offset, unsigned int size)
{
	uint64_t value;

	pthread_mutex_lock(&msix->lock);
	value = load(msix->state.pending, sizeof(msix->state.pending), offset, size);
	pthread_mutex_unlock(&msix->lock);
	return value;
}

void msix_set_control(struct msix *msix, bool enabled, bool masked)
{
	pthread_mutex_lock(&msix->lock);
	if (msix->state.enabled != enabled || msix->state.masked != masked) {
		msix->state.enabled = enabled;
		msix->state.masked = masked;
		for (unsigned int i = 0; i < msix->count; i++)
			route(msix, i);
	}
	pthread_mutex_unlock(&msix->lock);
}

bool msix_raise(struct msix *msix, unsigned int vector)
{
	bool enabled;

	pthread_mutex_lock(&msix->lock);
	enabled = msix->state.enabled;
	if (enabled && vector < msix->count) {
		if (is_masked(msix, vector))
			msix->state.pending[vector / 64] |= 1ull << (vector % 64);
		else
			irq_raise(msix->irqs[vector]);
	}
	pthread_mutex_unlock(&msix->lock);
	return enabled;
}
