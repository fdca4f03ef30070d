#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/layout.h"
#include "vmm/pci.h"

enum { BAR_BYTES = 0x4000 };

struct fixture {
	struct bus *io, *mmio;
	struct pci *pci;
	struct pci_device device;
	uint64_t at, writes;
	unsigned int moves;
};

static struct fixture *fixture_of(struct pci_device *device)
{
	return (struct fixture *) ((char *) device - offsetof(struct fixture, device));
}

static uint64_t bar_read(struct pci_device *device, unsigned int bar, uint64_t offset,
			 unsigned int size)
{
	(void) device, (void) bar, (void) size;
	return offset;
}

static void bar_write(struct pci_device *device, unsigned int bar, uint64_t offset,
		      unsigned int size, uint64_t value)
{
	(void) bar, (void) offset, (void) size;
	fixture_of(device)->writes += value;
}

static void bar_moved(struct pci_device *device, unsigned int bar, uint64_t address)
{
	struct fixture *f = fixture_of(device);

	assert_int_equal(bar, 0);
	f->at = address;
	f->moves++;
}

static const struct pci_ops ops = { bar_read, bar_write, bar_moved, NULL, NULL };
static const struct pci_identity identity = { 0x1af4, 0x1041, 0x1af4, 0x1041, 0x020000, 1 };

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);
	struct error err = {};

	f->io = bus_new();
	f->mmio = bus_new();
	assert_int_equal(pci_new(f->io, f->mmio, &f->pci, &err), 0);
	pci_device_init(&f->device, &ops, "thing", &identity);
	pci_device_add_bar(&f->device, 0, BAR_BYTES);
	assert_int_equal(pci_device_add_capability(&f->device, 9, "abc", 3), 0x40);
	assert_int_equal(pci_device_add_capability(&f->device, 17, "0123456789", 10), 0x48);
	assert_int_equal(pci_add(f->pci, &f->device, 3, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_remove(f->pci, &f->device);
	pci_free(f->pci);
	bus_free(f->io);
	bus_free(f->mmio);
	free(f);
	return 0;
}

static uint32_t port_read(struct fixture *f, uint32_t address, unsigned int size)
{
	bus_write(f->io, 0xcf8, 4, address & ~3u);
	return (uint32_t) bus_read(f->io, 0xcfc + (address & 3), size);
}

static void port_write(struct fixture *f, uint32_t address, unsigned int size, uint32_t value)
{
	bus_write(f->io, 0xcf8, 4, address & ~3u);
	bus_write(f->io, 0xcfc + (address & 3), size, value);
}

enum { DEVICE = 0x80000000 | 3 << 11 };

static void test_ports(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(port_read(f, 0x80000000, 4), 0x00081b36);
	assert_int_equal(port_read(f, DEVICE, 4), 0x10411af4);
	assert_int_equal(port_read(f, DEVICE | PCI_DEVICE_ID, 2), 0x1041);
	assert_int_equal(port_read(f, DEVICE | PCI_CLASS_DEVICE, 2), 0x0200);
	assert_int_equal(bus_read(f->io, 0xcf8, 4), DEVICE | PCI_REVISION_ID);
	/* Nobody there: another slot, function, bus; not enabled; a wrong size. */
	assert_int_equal(port_read(f, 0x80000000 | 4 << 11, 4), UINT32_MAX);
	assert_int_equal(port_read(f, DEVICE | 1 << 8, 4), UINT32_MAX);
	assert_int_equal(port_read(f, DEVICE | 1 << 16, 4), UINT32_MAX);
	assert_int_equal(port_read(f, 3 << 11, 4), UINT32_MAX);
	bus_write(f->io, 0xcf8, 2, 0);
	assert_int_equal(bus_read(f->io, 0xcf8, 2), 0xffff);
	/* What is not for the guest to write stays. */
	port_write(f, DEVICE, 4, 0);
	port_write(f, DEVICE | 0x40, 4, 0);
	assert_int_equal(port_read(f, DEVICE, 4), 0x10411af4);
	assert_int_equal(port_read(f, DEVICE | 0x40, 4), 'b' << 24 | 'a' << 16 | 0x48 << 8 | 9);
	port_write(f, DEVICE | PCI_INTERRUPT_LINE, 1, 11);
	assert_int_equal(port_read(f, DEVICE | PCI_INTERRUPT_LINE, 1), 11);
}

static void test_ecam(void **state)
{
	struct fixture *f = *state;
	uint64_t device = LAYOUT_PCI_ECAM + (3 << 15);

	assert_int_equal(bus_read(f->mmio, device, 4), 0x10411af4);
	assert_int_equal(bus_read(f->mmio, device, 8) & UINT32_MAX, 0x10411af4);
	assert_int_equal(bus_read(f->mmio, device + 0x100, 4), 0);
	assert_int_equal(bus_read(f->mmio, device + 0x1000, 4), UINT32_MAX);
	assert_int_equal(bus_read(f->mmio, device + 0xffe, 4), UINT32_MAX);
	assert_int_equal(bus_read(f->mmio, device + 0xff, 4), 0);
	bus_write(f->mmio, device + 0xff, 4, UINT32_MAX);
	bus_write(f->mmio, device + 0xfff, 8, UINT64_MAX);
	bus_write(f->mmio, device + PCI_COMMAND, 8, UINT64_MAX);
	assert_int_equal(bus_read(f->mmio, device + PCI_COMMAND, 2),
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR |
				 PCI_COMMAND_INTX_DISABLE);
}

static void test_bar(void **state)
{
	struct fixture *f = *state;
	uint32_t bar = port_read(f, DEVICE | PCI_BASE_ADDRESS_0, 4);
	uint32_t elsewhere = LAYOUT_PCI_WINDOW_END - BAR_BYTES;

	assert_true(bar >= LAYOUT_PCI_WINDOW && bar % BAR_BYTES == 0);
	assert_int_equal(bus_read(f->mmio, bar + 8, 4), UINT32_MAX);
	port_write(f, DEVICE | PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(f->at, bar);
	assert_int_equal(bus_read(f->mmio, bar + 8, 4), 8);
	bus_write(f->mmio, bar, 4, 7);
	assert_int_equal(f->writes, 7);

	/* Sizing, as Linux does it: decoding off, all ones, read. */
	port_write(f, DEVICE | PCI_COMMAND, 2, 0);
	assert_int_equal(f->at, 0);
	port_write(f, DEVICE | PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	assert_int_equal(port_read(f, DEVICE | PCI_BASE_ADDRESS_0, 4), ~(BAR_BYTES - 1u));
	port_write(f, DEVICE | PCI_BASE_ADDRESS_1, 4, UINT32_MAX);
	assert_int_equal(port_read(f, DEVICE | PCI_BASE_ADDRESS_1, 4), 0);

	/* To another place, by way of the window that lies on the same bus. */
	bus_write(f->mmio, LAYOUT_PCI_ECAM + (3 << 15) + PCI_BASE_ADDRESS_0, 4, elsewhere);
	bus_write(f->mmio, LAYOUT_PCI_ECAM + (3 << 15) + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(f->at, elsewhere);
	assert_int_equal(bus_read(f->mmio, elsewhere + 16, 4), 16);
	assert_int_equal(bus_read(f->mmio, bar + 8, 4), UINT32_MAX);
	/* While decoding is on. */
	port_write(f, DEVICE | PCI_BASE_ADDRESS_0, 4, bar);
	assert_int_equal(f->at, bar);
	/* Outside of the window: in front of the interrupt controllers, in memory, at 0. */
	port_write(f, DEVICE | PCI_BASE_ADDRESS_0, 4, LAYOUT_IOAPIC);
	assert_int_equal(f->at, 0);
	port_write(f, DEVICE | PCI_BASE_ADDRESS_0, 4, LAYOUT_PCI_WINDOW_END);
	port_write(f, DEVICE | PCI_BASE_ADDRESS_0, 4, 0);
	port_write(f, DEVICE | PCI_BASE_ADDRESS_0, 4, LAYOUT_PCI_WINDOW - BAR_BYTES);
	assert_int_equal(f->at, 0);
	port_write(f, DEVICE | PCI_BASE_ADDRESS_0, 4, bar);
	assert_int_equal(f->at, bar);
}

/* Two BARs at one address: the second stays away until it goes elsewhere. */
static void test_overlap(void **state)
{
	struct fixture *f = *state;
	struct error err = {};
	uint32_t bar = port_read(f, DEVICE | PCI_BASE_ADDRESS_0, 4), second;
	static const uint32_t slot = 0x80000000 | 1 << 11;
	struct fixture *g = mem_new0(struct fixture);

	pci_device_init(&g->device, &ops, "other", &identity);
	pci_device_add_bar(&g->device, 0, BAR_BYTES);
	assert_int_equal(pci_add(f->pci, &g->device, 3, &err), -EEXIST);
	assert_int_equal(pci_add(f->pci, &g->device, 32, &err), -ENOSPC);
	assert_int_equal(pci_add(f->pci, &g->device, 0, &err), 0);
	assert_int_equal(g->device.slot, 1);
	second = port_read(f, slot | PCI_BASE_ADDRESS_0, 4);
	assert_int_not_equal(second, bar);
	port_write(f, DEVICE | PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	port_write(f, slot | PCI_BASE_ADDRESS_0, 4, bar);
	port_write(f, slot | PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(g->at, 0);
	assert_int_equal(bus_read(f->mmio, bar + 8, 4), 8);
	port_write(f, slot | PCI_BASE_ADDRESS_0, 4, second);
	assert_int_equal(g->at, second);
	pci_remove(f->pci, &g->device);
	assert_int_equal(port_read(f, slot, 4), UINT32_MAX);
	free(g);
}

/* A device that left leaves its place for the next one. */
static void test_places(void **state)
{
	struct fixture *f = *state;
	struct fixture *g = mem_new0(struct fixture);
	static const uint32_t slot = 0x80000000 | 1 << 11;
	struct error err = {};
	uint32_t first = 0;

	for (unsigned int i = 0; i < 40000; i++) {
		uint32_t at;

		pci_device_init(&g->device, &ops, "other", &identity);
		pci_device_add_bar(&g->device, 0, BAR_BYTES);
		assert_int_equal(pci_add(f->pci, &g->device, 1, &err), 0);
		at = port_read(f, slot | PCI_BASE_ADDRESS_0, 4);
		first = i == 0 ? at : first;
		assert_int_equal(at, first);
		pci_remove(f->pci, &g->device);
	}
	/* The guest has put another one there meanwhile. */
	port_write(f, DEVICE | PCI_BASE_ADDRESS_0, 4, first);
	pci_device_init(&g->device, &ops, "other", &identity);
	pci_device_add_bar(&g->device, 0, BAR_BYTES);
	assert_int_equal(pci_add(f->pci, &g->device, 1, &err), 0);
	assert_int_not_equal(port_read(f, slot | PCI_BASE_ADDRESS_0, 4), first);

	/* Hidden, it is not found, but still holds its slot. */
	pci_hide(f->pci, 2);
	pci_hide(f->pci, 1);
	assert_int_equal(port_read(f, slot, 4), UINT32_MAX);
	port_write(f, slot | PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(g->moves, 0);
	assert_int_equal(pci_add(f->pci, &f->device, 1, &err), -EEXIST);
	pci_remove(f->pci, &g->device);
	free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ecam, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bar, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overlap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
