/*
 * What a hostile guest does to registers: ports, configuration space, BARs, MSI-X tables and the
 * rings behind them, of every virtio device on a PCI bus; and to those of the slots, while devices
 * come and go.  Whatever it writes, nothing outside is touched, every access ends, and no device
 * goes that was not asked for.
 */
#include <stddef.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/hotplug.h"
#include "vmm/irq.h"
#include "vmm/pci.h"
#include "vmm/virtio_pci.h"
#include "vmm_devices.h"

enum { STEPS_MAX = 256, BAR_BYTES = 0x8000 };

static int irq_message(void *data, struct irq **ret, struct error *err)
{
	(void) err;
	*ret = mem_new0(struct irq);
	(*ret)->chip = data;
	return 0;
}

static int irq_route(struct irq *irq, uint64_t address, uint32_t value)
{
	(void) irq, (void) value;
	return address == 0 ? -22 : 0;
}

static void irq_nothing(struct irq *irq, bool up)
{
	(void) irq, (void) up;
}

static void irq_release(struct irq *irq)
{
	free(irq);
}

static const struct irq_chip_ops irq_ops = {
	.message = irq_message,
	.route = irq_route,
	.set = irq_nothing,
	.free = irq_release,
};

struct machine {
	struct guest_memory *memory;
	struct bus *io, *mmio;
	struct pci *pci;
	struct irq_chip chip;
	struct loop *loop;
	struct hotplug *hotplug;
	uint32_t asked, ejected; /* slots */
	struct virtio_pci *devices[FUZZ_KINDS];
};

static void on_told(void *data)
{
	(void) data;
}

static void on_ejected(void *data, unsigned int slot)
{
	struct machine *m = data;

	FUZZ_MUST(m->asked & 1u << slot);
	m->asked &= ~(1u << slot);
	m->ejected |= 1u << slot;
	pci_hide(m->pci, slot);
}

static const struct hotplug_ops hotplug_ops = { on_told, on_ejected };

static void add(struct machine *m, unsigned int kind)
{
	struct virtio_pci_options pci = {
		.memory = m->memory,
		.pci = m->pci,
		.irq_chip = &m->chip,
		.slot = kind + 1,
	};
	struct error err = {};

	FUZZ_MUST(virtio_pci_new(&pci, fuzz_device_new(kind, m->memory, m->loop), &m->devices[kind],
				 &err) == 0);
}

/* What the host does: asks for a device, takes the question back, replaces what was let go of. */
static void come_and_go(struct machine *m, unsigned int what)
{
	unsigned int slot = what / 3 % FUZZ_KINDS + 1;

	switch (what % 3) {
	case 0:
		if (m->ejected & 1u << slot)
			break;
		m->asked |= 1u << slot;
		hotplug_ask(m->hotplug, slot);
		break;
	case 1:
		FUZZ_MUST(hotplug_cancel(m->hotplug, slot) == !!(m->asked & 1u << slot));
		m->asked &= ~(1u << slot);
		break;
	default:
		if (!(m->ejected & 1u << slot))
			break;
		virtio_pci_free(m->devices[slot - 1]);
		m->ejected &= ~(1u << slot);
		add(m, slot - 1);
		hotplug_add(m->hotplug, slot);
	}
}

static void put_ring(struct machine *m, struct fuzz_input *in)
{
	uint8_t *host = guest_memory_range(m->memory, 0, FUZZ_MEMORY);
	size_t at = fuzz_take(in, 2), size = fuzz_take(in, 1);

	for (size_t i = 0; i < size && in->size > 0; i++)
		host[at + i] = (uint8_t) fuzz_take(in, 1);
}

/* An address that means something: the place is chosen, the offset is the guest's. */
static uint64_t address(struct fuzz_input *in, bool *ret_io)
{
	unsigned int place = (unsigned int) fuzz_take(in, 1);
	uint64_t offset = fuzz_take(in, 2);

	*ret_io = false;
	switch (place % 4) {
	case 0:
		if (offset >> 8 == 0xff)
			return LAYOUT_HOTPLUG + offset % 16;
		*ret_io = true;
		return 0xcf8 + offset % 8;
	case 1:
		return LAYOUT_PCI_ECAM + (uint64_t) (place / 4 % 8 << 15) + offset % 4096;
	case 2:
		return LAYOUT_PCI_WINDOW + (uint64_t) BAR_BYTES * (place / 4 % 8) +
		       offset % BAR_BYTES;
	default:
		/* The common registers, where it matters most. */
		return LAYOUT_PCI_WINDOW + (uint64_t) BAR_BYTES * (place / 4 % 8) + offset % 0x40;
	}
}

static void step(struct machine *m, struct fuzz_input *in)
{
	unsigned int what = (unsigned int) fuzz_take(in, 1);
	unsigned int size = 1u << (what / 8 % 4);
	bool io;
	uint64_t at;

	switch (what % 8) {
	case 0:
		put_ring(m, in);
		break;
	case 1:
	case 2:
		at = address(in, &io);
		bus_read(io ? m->io : m->mmio, at, io && size == 8 ? 4 : size);
		break;
	case 7:
		if (what >= 0xe0)
			come_and_go(m, (unsigned int) fuzz_take(in, 1));
		else
			fuzz_step(m->loop);
		break;
	default:
		at = address(in, &io);
		bus_write(io ? m->io : m->mmio, at, io && size == 8 ? 4 : size,
			  fuzz_take(in, size));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest_memory_options options = { .size_bytes = FUZZ_MEMORY, .fd = -1 };
	struct fuzz_input in = { data, size };
	struct machine m = { .chip = { .ops = &irq_ops } };
	struct error err = {};

	fuzz_host_init();
	m.chip.data = &m.chip;
	FUZZ_MUST(guest_memory_new(&options, &m.memory, &err) == 0);
	FUZZ_MUST(loop_new(&m.loop, &err) == 0);
	m.io = bus_new();
	m.mmio = bus_new();
	FUZZ_MUST(pci_new(m.io, m.mmio, &m.pci, &err) == 0);
	FUZZ_MUST(hotplug_new(m.mmio, &hotplug_ops, &m, &m.hotplug, &err) == 0);
	for (unsigned int i = 0; i < FUZZ_KINDS; i++) {
		add(&m, i);
		/* Memory decoding on: where inputs would have to begin anyway. */
		bus_write(m.mmio, LAYOUT_PCI_ECAM + ((i + 1) << 15) + 4, 2, 6);
	}
	for (unsigned int i = 0; i < STEPS_MAX && in.size > 0; i++)
		step(&m, &in);
	fuzz_step(m.loop);
	for (unsigned int i = 0; i < FUZZ_KINDS; i++)
		virtio_pci_free(m.devices[i]);
	hotplug_free(m.hotplug);
	pci_free(m.pci);
	bus_free(m.io);
	bus_free(m.mmio);
	loop_free(m.loop);
	guest_memory_free(m.memory);
	fuzz_host_clear();
	return 0;
}
