#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "aml.h"
#include "base/cleanup.h"
#include "fake_irq.h"
#include "vmm/acpi.h"
#include "vmm/hotplug.h"
#include "vmm/memory.h"
#include "vmm/power.h"

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

/* ---- the slots: what the guest's interpreter does with them, on the real registers ---- */

struct slots_test {
	struct guest_memory *memory;
	struct bus *io, *mmio;
	struct fake_irqs irqs;
	struct power *power;
	struct hotplug *hotplug;
	uint32_t ejected;
	struct aml aml;
};

static void nothing(void *data)
{
	(void) data;
}

static void tell(void *data)
{
	power_tell_slots(((struct slots_test *) data)->power);
}

static void on_ejected(void *data, unsigned int slot)
{
	((struct slots_test *) data)->ejected |= 1u << slot;
}

static int slots_setup(void **state)
{
	static const struct power_ops power_ops = { nothing, nothing };
	static const struct hotplug_ops hotplug_ops = { tell, on_ejected };
	struct slots_test *test = mem_new0(struct slots_test);
	struct acpi_options options = { .cpus = 1, .pci = 1, .slots = 1u << 3 | ~0u << 7 };
	const uint8_t *dsdt;
	size_t size;

	test->memory = make();
	test->io = bus_new();
	test->mmio = bus_new();
	fake_irqs_init(&test->irqs);
	assert_int_equal(power_new(test->io, test->mmio, &test->irqs.chip, &power_ops, test,
				   &test->power, NULL),
			 0);
	assert_int_equal(hotplug_new(test->mmio, &hotplug_ops, test, &test->hotplug, NULL), 0);
	assert_int_equal(acpi_write(test->memory, &options, NULL), 0);
	dsdt = at(test->memory, get(find(test->memory, "FACP", &size), 140, 8), 36);
	size = get(dsdt, 4, 4);
	test->aml.mmio = test->mmio;
	aml_read(&test->aml, "\\", dsdt + 36, dsdt + size);
	*state = test;
	return 0;
}

static int slots_teardown(void **state)
{
	struct slots_test *test = *state;

	hotplug_free(test->hotplug);
	power_free(test->power);
	bus_free(test->io);
	bus_free(test->mmio);
	guest_memory_free(test->memory);
	free(test);
	return 0;
}

static uint64_t value_of(struct slots_test *test, const char *path)
{
	const struct aml_object *object = aml_find(&test->aml, path);

	assert_non_null(object);
	assert_int_equal(object->kind, AML_IS_INTEGER);
	return object->value;
}

static void slots_are_devices(void **state)
{
	struct slots_test *test = *state;
	char path[AML_PATH_MAX];

	for (unsigned int slot = 0; slot < 32; slot++) {
		bool there = slot == 3 || slot >= 7;

		snprintf(path, sizeof(path), "\\_SB_.PCI0.S%03u", slot);
		assert_int_equal(aml_find(&test->aml, path) != NULL, there);
		if (!there)
			continue;
		strcat(path, "._SUN");
		assert_int_equal(value_of(test, path), slot);
		strcpy(strrchr(path, '.'), "._ADR");
		assert_int_equal(value_of(test, path), slot << 16);
		strcpy(strrchr(path, '.'), "._EJ0");
		assert_int_equal(aml_find(&test->aml, path)->arguments, 1);
	}
	assert_int_equal(aml_find(&test->aml, "\\_SB_.GED0._EVT")->arguments, 1);
}

static void the_guest_hears_of_slots(void **state)
{
	struct slots_test *test = *state;
	struct aml *aml = &test->aml;

	power_press_button(test->power);
	aml_call(aml, "\\_SB_.GED0._EVT");
	assert_int_equal(aml->notify_count, 1);
	assert_string_equal(aml->notifies[0].path, "\\_SB_.PWRB");
	assert_int_equal(aml->notifies[0].value, 0x80);

	aml->notify_count = 0;
	hotplug_add(test->hotplug, 31);
	hotplug_add(test->hotplug, 3);
	hotplug_ask(test->hotplug, 7);
	assert_int_equal(test->irqs.raised, 4);
	aml_call(aml, "\\_SB_.GED0._EVT");
	assert_int_equal(aml->notify_count, 3);
	assert_string_equal(aml->notifies[0].path, "\\_SB_.PCI0.S003");
	assert_int_equal(aml->notifies[0].value, 1);
	assert_string_equal(aml->notifies[1].path, "\\_SB_.PCI0.S007");
	assert_int_equal(aml->notifies[1].value, 3);
	assert_string_equal(aml->notifies[2].path, "\\_SB_.PCI0.S031");
	assert_int_equal(aml->notifies[2].value, 1);
	/* Once. */
	aml_call(aml, "\\_SB_.GED0._EVT");
	assert_int_equal(aml->notify_count, 3);

	aml_call(aml, "\\_SB_.PCI0.S008._EJ0");
	assert_int_equal(test->ejected, 0);
	aml_call(aml, "\\_SB_.PCI0.S007._EJ0");
	assert_int_equal(test->ejected, 1u << 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(describes_the_machine),
		cmocka_unit_test(leaves_out_what_there_is_not),
		cmocka_unit_test_setup_teardown(slots_are_devices, slots_setup, slots_teardown),
		cmocka_unit_test_setup_teardown(the_guest_hears_of_slots, slots_setup,
						slots_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
