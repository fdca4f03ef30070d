#include "vmm/irq_kvm.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/kvm.h"
#include "vmm/layout.h"

enum {
	MESSAGES_MAX = 1024, /* GSIs from LAYOUT_GSI_COUNT on */
};

struct irq_kvm_one {
	struct irq irq;
	struct irq_kvm *owner;
	unsigned int gsi;
	int fd; /* -1: a level */
	bool bound;
	uint64_t address;
	uint32_t value;
};

struct irq_kvm {
	struct irq_chip chip;
	int vm_fd;
	pthread_mutex_t lock; /* of everything below */
	struct irq_kvm_one *messages[MESSAGES_MAX];
	struct kvm_irq_routing *routes; /* room for all */
	uint64_t raised;                /* atomic */
};

/*
 * KVM replaces its whole table, the wired ones too.  Nothing leads to the PIC that it emulates: the
 * first CPU would take its interrupts (LINT0) with vectors that nobody has set.
 */
static int write_routes(struct irq_kvm *chip)
{
	struct kvm_irq_routing *routes = chip->routes;
	unsigned int n = 0;

	for (unsigned int pin = 0; pin < LAYOUT_GSI_COUNT; pin++) {
		struct kvm_irq_routing_entry *entry = &routes->entries[n++];

		memset(entry, 0, sizeof(*entry));
		entry->gsi = pin;
		entry->type = KVM_IRQ_ROUTING_IRQCHIP;
		entry->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		entry->u.irqchip.pin = pin;
	}
	for (unsigned int i = 0; i < MESSAGES_MAX; i++) {
		const struct irq_kvm_one *one = chip->messages[i];
		struct kvm_irq_routing_entry *entry = &routes->entries[n];

		if (!one || !one->bound)
			continue;
		memset(entry, 0, sizeof(*entry));
		entry->gsi = one->gsi;
		entry->type = KVM_IRQ_ROUTING_MSI;
		entry->u.msi.address_lo = (uint32_t) one->address;
		entry->u.msi.address_hi = (uint32_t) (one->address >> 32);
		entry->u.msi.data = one->value;
		n++;
	}
	routes->nr = n;
	return kvm_routes_set(chip->vm_fd, routes);
}

static int new_line(void *data, unsigned int gsi, bool level, struct irq **ret, struct error *err)
{
	struct irq_kvm *chip = data;
	AUTO(free) struct irq_kvm_one *one = mem_new0(struct irq_kvm_one);
	AUTO(fd_close) int fd = -1;
	int r;

	if (gsi >= LAYOUT_GSI_COUNT)
		return error_say(err, -EINVAL, "there is no interrupt line %u", gsi);
	if (!level) {
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0)
			return error_set(err, -errno, "an interrupt's eventfd");
		r = kvm_irqfd(chip->vm_fd, fd, gsi, true);
		if (r < 0)
			return error_set(err, r, "binding interrupt line %u", gsi);
		one->bound = true;
	}
	one->irq.chip = &chip->chip;
	one->owner = chip;
	one->gsi = gsi;
	one->fd = TAKE_FD(fd);
	*ret = &TAKE_PTR(one)->irq;
	return 0;
}

static int new_message(void *data, struct irq **ret, struct error *err)
{
	struct irq_kvm *chip = data;
	AUTO(free) struct irq_kvm_one *one = mem_new0(struct irq_kvm_one);
	unsigned int i = 0;

	one->irq.chip = &chip->chip;
	one->owner = chip;
	one->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (one->fd < 0)
		return error_set(err, -errno, "an interrupt's eventfd");
	pthread_mutex_lock(&chip->lock);
	while (i < MESSAGES_MAX && chip->messages[i])
		i++;
	if (i < MESSAGES_MAX) {
		one->gsi = LAYOUT_GSI_COUNT + i;
		chip->messages[i] = one;
	}
	pthread_mutex_unlock(&chip->lock);
	if (i == MESSAGES_MAX) {
		close(one->fd);
		return error_say(err, -ENOSPC, "a machine has at most %d interrupt messages",
				 MESSAGES_MAX);
	}
	*ret = &TAKE_PTR(one)->irq;
	return 0;
}

static int route_message(struct irq *irq, uint64_t address, uint32_t value)
{
	struct irq_kvm_one *one = (struct irq_kvm_one *) irq;
	struct irq_kvm *chip = one->owner;
	int r = 0;

	pthread_mutex_lock(&chip->lock);
	if (!one->bound || one->address != address || one->value != value) {
		bool first = !one->bound;

		one->address = address;
		one->value = value;
		one->bound = true;
		r = write_routes(chip);
		if (r == 0 && first)
			r = kvm_irqfd(chip->vm_fd, one->fd, one->gsi, true);
		if (r < 0 && first)
			one->bound = false;
	}
	pthread_mutex_unlock(&chip->lock);
	return r;
}

static void set_irq(struct irq *irq, bool up)
{
	struct irq_kvm_one *one = (struct irq_kvm_one *) irq;
	uint64_t value = 1;

	if (up)
		__atomic_add_fetch(&one->owner->raised, 1, __ATOMIC_RELAXED);
	if (one->fd < 0) {
		kvm_irq_line(one->owner->vm_fd, one->gsi, up);
	} else if (up && __atomic_load_n(&one->bound, __ATOMIC_ACQUIRE)) {
		ssize_t n = write(one->fd, &value, sizeof(value));

		/* Full means that it is raised. */
		(void) n;
	}
}

static void free_irq(struct irq *irq)
{
	struct irq_kvm_one *one = (struct irq_kvm_one *) irq;
	struct irq_kvm *chip = one->owner;

	pthread_mutex_lock(&chip->lock);
	if (one->bound && one->fd >= 0)
		kvm_irqfd(chip->vm_fd, one->fd, one->gsi, false);
	if (one->gsi >= LAYOUT_GSI_COUNT)
		chip->messages[one->gsi - LAYOUT_GSI_COUNT] = NULL;
	pthread_mutex_unlock(&chip->lock);
	fd_close(one->fd);
	free(one);
}

static const struct irq_chip_ops chip_ops = {
	.line = new_line,
	.message = new_message,
	.route = route_message,
	.set = set_irq,
	.free = free_irq,
};

int irq_kvm_new(int vm_fd, struct irq_kvm **ret, struct error *err)
{
	AUTO(irq_kvm_free) struct irq_kvm *chip = mem_new0(struct irq_kvm);
	int r;

	pthread_mutex_init(&chip->lock, NULL);
	chip->chip.ops = &chip_ops;
	chip->chip.data = chip;
	chip->vm_fd = vm_fd;
	chip->routes =
		mem_zalloc(sizeof(*chip->routes) + (size_t) (LAYOUT_GSI_COUNT + MESSAGES_MAX) *
							   sizeof(chip->routes->entries[0]));
	r = write_routes(chip);
	if (r < 0)
		return error_set(err, r, "routing interrupts");
	*ret = TAKE_PTR(chip);
	return 0;
}

void irq_kvm_free(struct irq_kvm *chip)
{
	if (!chip)
		return;
	pthread_mutex_destroy(&chip->lock);
	free(chip->routes);
	free(chip);
}

struct irq_chip *irq_kvm_chip(struct irq_kvm *chip)
{
	return &chip->chip;
}

uint64_t irq_kvm_raised(const struct irq_kvm *chip)
{
	return __atomic_load_n(&chip->raised, __ATOMIC_RELAXED);
}
