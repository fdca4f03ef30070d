#include "vmm/power.h"

#include <stdint.h>

#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/layout.h"

enum {
	SLEEP_ENABLE = 1 << 5,
	SLEEP_TYPE_SHIFT = 2,
	SLEEP_TYPE_OFF = 5, /* _S5_ in acpi.c */
	RESET_VALUE = 1,
	I8042_COMMAND = 4, /* port 0x64 */
	I8042_RESET = 0xfe,
};

struct power {
	const struct power_ops *ops;
	void *data;
	struct irq *irq;
	struct bus *io, *mmio;
	uint32_t events; /* atomic: why the event device's interrupt was raised */
};

static uint64_t sleep_read(void *data, uint64_t offset, unsigned int size)
{
	(void) data, (void) offset, (void) size;
	return 0;
}

static void sleep_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct power *power = data;

	(void) size;
	if (offset == 0 && value & SLEEP_ENABLE &&
	    ((value >> SLEEP_TYPE_SHIFT) & 7) == SLEEP_TYPE_OFF)
		power->ops->off(power->data);
	if (offset == 2 && value == RESET_VALUE)
		power->ops->reset(power->data);
}

static const struct bus_ops sleep_ops = { sleep_read, sleep_write };

static uint64_t event_read(void *data, uint64_t offset, unsigned int size)
{
	struct power *power = data;

	(void) size;
	return offset == 0 ? __atomic_exchange_n(&power->events, 0, __ATOMIC_SEQ_CST) : 0;
}

static const struct bus_ops event_ops = { event_read, NULL };

/* No keyboard: nothing to read, ready for a command. */
static uint64_t i8042_read(void *data, uint64_t offset, unsigned int size)
{
	(void) data, (void) offset, (void) size;
	return 0;
}

static void i8042_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct power *power = data;

	(void) size;
	if (offset == I8042_COMMAND && value == I8042_RESET)
		power->ops->reset(power->data);
}

static const struct bus_ops i8042_ops = { i8042_read, i8042_write };

int power_new(struct bus *io, struct bus *mmio, struct irq_chip *irq_chip,
	      const struct power_ops *ops, void *data, struct power **ret, struct error *err)
{
	AUTO(power_free) struct power *power = mem_new0(struct power);
	int r;

	power->ops = ops;
	power->data = data;
	r = irq_chip->ops->line(irq_chip->data, LAYOUT_GSI_GED, false, &power->irq, err);
	if (r < 0)
		return r;
	power->io = io;
	power->mmio = mmio;
	r = bus_add(io, "sleep", LAYOUT_PORT_SLEEP, 3, &sleep_ops, power, err);
	if (r == 0)
		r = bus_add(io, "i8042", LAYOUT_PORT_I8042, 5, &i8042_ops, power, err);
	if (r == 0)
		r = bus_add(mmio, "event", LAYOUT_GED, 4, &event_ops, power, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(power);
	return 0;
}

void power_free(struct power *power)
{
	if (!power)
		return;
	if (power->io) {
		bus_remove(power->io, LAYOUT_PORT_SLEEP);
		bus_remove(power->io, LAYOUT_PORT_I8042);
		bus_remove(power->mmio, LAYOUT_GED);
	}
	irq_free(power->irq);
	free(power);
}

static void tell(struct power *power, uint32_t event)
{
	__atomic_or_fetch(&power->events, event, __ATOMIC_SEQ_CST);
	irq_raise(power->irq);
}

void power_press_button(struct power *power)
{
	tell(power, LAYOUT_GED_BUTTON);
}

void power_tell_slots(struct power *power)
{
	tell(power, LAYOUT_GED_SLOTS);
}

void power_reset(struct power *power)
{
	__atomic_store_n(&power->events, 0, __ATOMIC_SEQ_CST);
}
