#include "vmm/hotplug.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/layout.h"

enum { REGISTER_BYTES = 4 };

/* What a snapshot needs; a bit for each slot. */
struct hotplug_state {
	_Atomic uint32_t up, down; /* to be read */
	_Atomic uint32_t leaving;  /* asked for and not ejected yet */
};

struct hotplug {
	const struct hotplug_ops *ops;
	void *data;
	struct bus *mmio;
	struct hotplug_state state;
};

static uint64_t hotplug_read(void *data, uint64_t offset, unsigned int size)
{
	struct hotplug *hotplug = data;

	if (size != REGISTER_BYTES)
		return 0;
	switch (offset) {
	case HOTPLUG_UP:
		return atomic_exchange(&hotplug->state.up, 0);
	case HOTPLUG_DOWN:
		return atomic_exchange(&hotplug->state.down, 0);
	default:
		return 0;
	}
}

static void hotplug_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct hotplug *hotplug = data;
	uint32_t slots = (uint32_t) value;

	if (size != REGISTER_BYTES || offset != HOTPLUG_EJECT)
		return;
	slots &= atomic_fetch_and(&hotplug->state.leaving, ~slots);
	for (; slots; slots &= slots - 1)
		hotplug->ops->ejected(hotplug->data, (unsigned int) __builtin_ctz(slots));
}

static const struct bus_ops bus_ops = { hotplug_read, hotplug_write };

int hotplug_new(struct bus *mmio, const struct hotplug_ops *ops, void *data, struct hotplug **ret,
		struct error *err)
{
	AUTO(free) struct hotplug *hotplug = mem_new0(struct hotplug);
	int r;

	hotplug->ops = ops;
	hotplug->data = data;
	hotplug->mmio = mmio;
	r = bus_add(mmio, "hotplug", LAYOUT_HOTPLUG, HOTPLUG_BYTES, &bus_ops, hotplug, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(hotplug);
	return 0;
}

void hotplug_free(struct hotplug *hotplug)
{
	if (!hotplug)
		return;
	bus_remove(hotplug->mmio, LAYOUT_HOTPLUG);
	free(hotplug);
}

void hotplug_add(struct hotplug *hotplug, unsigned int slot)
{
	atomic_fetch_or(&hotplug->state.up, 1u << slot);
	hotplug->ops->tell(hotplug->data);
}

void hotplug_ask(struct hotplug *hotplug, unsigned int slot)
{
	/* In this order: who reads the question may answer at once. */
	atomic_fetch_or(&hotplug->state.leaving, 1u << slot);
	atomic_fetch_or(&hotplug->state.down, 1u << slot);
	hotplug->ops->tell(hotplug->data);
}

bool hotplug_cancel(struct hotplug *hotplug, unsigned int slot)
{
	atomic_fetch_and(&hotplug->state.down, ~(1u << slot));
	return atomic_fetch_and(&hotplug->state.leaving, ~(1u << slot)) & 1u << slot;
}

void hotplug_reset(struct hotplug *hotplug)
{
	hotplug->state.up = hotplug->state.down = hotplug->state.leaving = 0;
}
