#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "base/cleanup.h"
#include "vmm/acpi.h"
#include "vmm/memory.h"

static struct guest_memory *make(void)
{
	struct guest_memory_options options = { .size_bytes = 4 << 20, .fd = -1 };
	struct guest_memory *memory = NULL;

	assert_int_equal(guest_memory_new(&options, &memory, NULL), 0);
	return memory;
}

static const uint8_t *at(const struct guest_memory *memory, gpa_t address, size_t size)
{
	const uint8_t *bytes = guest_memory_range(memory, address, size);

	assert_non_null(bytes);
	return bytes;
}

static unsigned int sum(const uint8_t *bytes, size_t size)
{
	unsigned int total = 0;

	for (size_t i = 0; i < size; i++)
		total += bytes[i];
	return total & 0xff;
}

static uint64_t get(const uint8_t *bytes, size_t offset, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, bytes + offset, size);
	return value;
}

/* The table with this signature; its checksum holds. */
static const uint8_t *find(const struct guest_memory *memory, const char *signature,
			   size_t *ret_size)
{
	const uint8_t *rsdp = at(memory, LAYOUT_RSDP, 36);
	const uint8_t *xsdt = at(memory, get(rsdp, 24, 8), 36);
	size_t count = (get(xsdt, 4, 4) - 36) / 8;

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(sum(xsdt, get(xsdt, 4, 4)), 0);
	for (size_t i = 0; i < count; i++) {
		const uint8_t *table = at(memory, get(xsdt, 36 + 8 * i, 8), 36);

		assert_int_equal(sum(table, get(table, 4, 4)), 0);
		if (memcmp(table, signature, 4) == 0) {
			*ret_size = get(table, 4, 4);
			return table;
		}
	}
	return NULL;
}

static bool contains(const uint8_t *bytes, size_t size, const char *text)
{
	return memmem(bytes, size, text, strlen(text)) != NULL;
}

static void describes_the_machine(void **state)
{
	AUTO(guest_memory_free) struct guest_memory *memory = make();
	struct acpi_options options = { .cpus = 5, .pci = 1, .serial = 1 };
	const uint8_t *table, *dsdt;
	size_t size;

	(void) state;
	assert_int_equal(acpi_write(memory, &options, NULL), 0);
	table = find(memory, "FACP", &size);
	assert_int_equal(size, 276);
	assert_true(get(table, 112, 4) & 1 << 20); /* hardware-reduced */
	assert_true(get(table, 112, 4) & 1 << 10); /* a reset register */
	assert_int_equal(get(table, 116 + 4, 8), LAYOUT_PORT_SLEEP + 2);
	assert_int_equal(get(table, 244 + 4, 8), LAYOUT_PORT_SLEEP);
	assert_int_equal(get(table, 256 + 4, 8), LAYOUT_PORT_SLEEP + 1);
	dsdt = at(memory, get(table, 140, 8), 36);
	assert_memory_equal(dsdt, "DSDT", 4);
	size = get(dsdt, 4, 4);
	assert_int_equal(sum(dsdt, size), 0);
	assert_true(contains(dsdt, size, "PCI0"));
	assert_true(contains(dsdt, size, "COM1"));
	assert_true(contains(dsdt, size, "ACPI0013"));
	assert_true(contains(dsdt, size, "PWRB"));
	assert_true(contains(dsdt, size, "_S5_"));

	table = find(memory, "APIC", &size);
	assert_int_equal(get(table, 36, 4), LAYOUT_LAPIC);
	assert_int_equal(size, 44 + 5 * 8 + 12);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(table[44 + 8 * i + 3], i);
	assert_int_equal(get(table, 44 + 40 + 4, 4), LAYOUT_IOAPIC);
	table = find(memory, "MCFG", &size);
	assert_int_equal(get(table, 44, 8), LAYOUT_PCI_ECAM);
}

static void leaves_out_what_there_is_not(void **state)
{
	AUTO(guest_memory_free) struct guest_memory *memory = make();
	struct acpi_options options = { .cpus = 64 };
	const uint8_t *table, *dsdt;
	size_t size;

	(void) state;
	assert_int_equal(acpi_write(memory, &options, NULL), 0);
	assert_null(find(memory, "MCFG", &size));
	table = find(memory, "FACP", &size);
	dsdt = at(memory, get(table, 140, 8), 36);
	size = get(dsdt, 4, 4);
	assert_false(contains(dsdt, size, "PCI0"));
	assert_false(contains(dsdt, size, "COM1"));
	assert_true(contains(dsdt, size, "GED0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(describes_the_machine),
		cmocka_unit_test(leaves_out_what_there_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
