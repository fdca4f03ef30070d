#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "vmm/bus.h"
#include "vmm/hotplug.h"
#include "vmm/layout.h"

struct test {
	struct bus *mmio;
	struct hotplug *hotplug;
	unsigned int told, ejections;
	uint32_t ejected;
};

static void tell(void *data)
{
	((struct test *) data)->told++;
}

static void on_ejected(void *data, unsigned int slot)
{
	struct test *test = data;

	test->ejections++;
	test->ejected |= 1u << slot;
}

static const struct hotplug_ops ops = { tell, on_ejected };

static int setup(void **state)
{
	static struct test test;

	test = (struct test){ .mmio = bus_new() };
	assert_int_equal(hotplug_new(test.mmio, &ops, &test, &test.hotplug, NULL), 0);
	*state = &test;
	return 0;
}

static int teardown(void **state)
{
	struct test *test = *state;

	hotplug_free(test->hotplug);
	assert_int_equal(bus_read(test->mmio, LAYOUT_HOTPLUG, 4), UINT32_MAX);
	bus_free(test->mmio);
	return 0;
}

static uint32_t load(struct test *test, unsigned int offset)
{
	return (uint32_t) bus_read(test->mmio, LAYOUT_HOTPLUG + offset, 4);
}

static void eject(struct test *test, uint32_t slots)
{
	bus_write(test->mmio, LAYOUT_HOTPLUG + HOTPLUG_EJECT, 4, slots);
}

static void says_what_came(void **state)
{
	struct test *test = *state;

	assert_int_equal(load(test, HOTPLUG_UP), 0);
	hotplug_add(test->hotplug, 1);
	hotplug_add(test->hotplug, 31);
	assert_int_equal(test->told, 2);
	assert_int_equal(load(test, HOTPLUG_UP), 1u << 31 | 1u << 1);
	assert_int_equal(load(test, HOTPLUG_UP), 0);
	assert_int_equal(load(test, HOTPLUG_DOWN), 0);
	hotplug_add(test->hotplug, 5);
	hotplug_ask(test->hotplug, 6);
	hotplug_reset(test->hotplug);
	assert_int_equal(load(test, HOTPLUG_UP) | load(test, HOTPLUG_DOWN), 0);
	eject(test, UINT32_MAX);
	assert_int_equal(test->ejections, 0);
}

static void ejects_what_was_asked_for(void **state)
{
	struct test *test = *state;

	hotplug_ask(test->hotplug, 4);
	hotplug_ask(test->hotplug, 9);
	hotplug_ask(test->hotplug, 4);
	assert_int_equal(load(test, HOTPLUG_DOWN), 1u << 4 | 1u << 9);
	/* Another one, twice the same, and everything. */
	eject(test, 1u << 5);
	assert_int_equal(test->ejections, 0);
	eject(test, 1u << 4);
	eject(test, 1u << 4);
	assert_int_equal(test->ejections, 1);
	eject(test, UINT32_MAX);
	assert_int_equal(test->ejections, 2);
	assert_int_equal(test->ejected, 1u << 4 | 1u << 9);
	eject(test, UINT32_MAX);
	assert_int_equal(test->ejections, 2);
}

static void takes_the_question_back(void **state)
{
	struct test *test = *state;

	hotplug_ask(test->hotplug, 4);
	assert_true(hotplug_cancel(test->hotplug, 4));
	assert_int_equal(load(test, HOTPLUG_DOWN), 0);
	eject(test, 1u << 4);
	assert_int_equal(test->ejections, 0);
	hotplug_ask(test->hotplug, 4);
	eject(test, 1u << 4);
	assert_false(hotplug_cancel(test->hotplug, 4));
	assert_int_equal(test->ejections, 1);
}

/* Other sizes and places, and what is only read. */
static void ignores_nonsense(void **state)
{
	struct test *test = *state;

	hotplug_add(test->hotplug, 2);
	hotplug_ask(test->hotplug, 3);
	for (unsigned int offset = 0; offset < HOTPLUG_BYTES; offset++)
		for (unsigned int size = 1; size <= 8; size *= 2) {
			if (size == 4 && offset % 4 == 0)
				continue;
			bus_write(test->mmio, LAYOUT_HOTPLUG + offset, size, UINT64_MAX);
			bus_read(test->mmio, LAYOUT_HOTPLUG + offset, size);
		}
	bus_write(test->mmio, LAYOUT_HOTPLUG + HOTPLUG_UP, 4, UINT32_MAX);
	bus_write(test->mmio, LAYOUT_HOTPLUG + HOTPLUG_DOWN, 4, UINT32_MAX);
	assert_int_equal(load(test, HOTPLUG_EJECT), 0);
	assert_int_equal(test->ejections, 0);
	assert_int_equal(load(test, HOTPLUG_UP), 1u << 2);
	assert_int_equal(load(test, HOTPLUG_DOWN), 1u << 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(says_what_came, setup, teardown),
		cmocka_unit_test_setup_teardown(ejects_what_was_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_the_question_back, setup, teardown),
		cmocka_unit_test_setup_teardown(ignores_nonsense, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
