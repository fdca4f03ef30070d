#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "vmm/bus.h"

struct device {
	uint64_t offset, value;
	unsigned int size, reads, writes;
	struct bus *bus;
	uint64_t move_from, move_to;
};

static uint64_t device_read(void *data, uint64_t offset, unsigned int size)
{
	struct device *device = data;

	device->offset = offset;
	device->size = size;
	device->reads++;
	return 0x1122334455667788ull;
}

static void device_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct device *device = data;

	device->offset = offset;
	device->size = size;
	device->value = value;
	device->writes++;
	if (device->move_to)
		assert_int_equal(bus_move(device->bus, device->move_from, device->move_to), 0);
}

static const struct bus_ops ops = { device_read, device_write };
static const struct bus_ops nothing;

static void finds_the_owner(void **state)
{
	AUTO(bus_free) struct bus *bus = bus_new();
	struct device low = {}, high = {};

	(void) state;
	assert_int_equal(bus_add(bus, "high", 0x3000, 0x1000, &ops, &high, NULL), 0);
	assert_int_equal(bus_add(bus, "low", 0x1000, 0x10, &ops, &low, NULL), 0);
	bus_write(bus, 0x100e, 2, 7);
	assert_int_equal(low.offset, 0xe);
	assert_int_equal(low.value, 7);
	assert_int_equal(bus_read(bus, 0x3fff, 1), 0x88);
	assert_int_equal(high.offset, 0xfff);
	assert_int_equal(bus_read(bus, 0x3000, 8), 0x1122334455667788ull);
	assert_int_equal(bus_read(bus, 0x3004, 4), 0x55667788);
}

static void what_nobody_owns_is_all_ones(void **state)
{
	AUTO(bus_free) struct bus *bus = bus_new();
	struct device device = {};

	(void) state;
	assert_int_equal(bus_add(bus, "a", 0x1000, 0x10, &ops, &device, NULL), 0);
	assert_int_equal(bus_add(bus, "none", 0x2000, 0x10, &nothing, NULL, NULL), 0);
	assert_int_equal(bus_read(bus, 0xfff, 1), 0xff);
	assert_int_equal(bus_read(bus, 0x1010, 2), 0xffff);
	assert_int_equal(bus_read(bus, 0x100f, 2), 0xffff); /* leaves the range */
	assert_true(bus_read(bus, UINT64_MAX, 8) == UINT64_MAX);
	bus_write(bus, 0x100f, 4, 1);
	assert_int_equal(device.reads + device.writes, 0);
	assert_int_equal(bus_lost(bus), 5);
	assert_int_equal(bus_read(bus, 0x2000, 4), 0xffffffff);
	bus_write(bus, 0x2000, 4, 0);
}

static void refuses_overlap(void **state)
{
	AUTO(bus_free) struct bus *bus = bus_new();
	struct device device = {};
	struct error err = {};

	(void) state;
	assert_int_equal(bus_add(bus, "a", 0x1000, 0x1000, &ops, &device, NULL), 0);
	assert_int_equal(bus_add(bus, "b", 0x1fff, 1, &ops, &device, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "b at 0x1fff"));
	assert_int_equal(bus_add(bus, "b", 0xfff, 2, &ops, &device, NULL), -EEXIST);
	assert_int_equal(bus_add(bus, "b", 0, 0x10000, &ops, &device, NULL), -EEXIST);
	assert_int_equal(bus_add(bus, "b", 0x2000, 0, &ops, &device, NULL), -EEXIST);
	assert_int_equal(bus_add(bus, "b", UINT64_MAX, 2, &ops, &device, NULL), -EEXIST);
	assert_int_equal(bus_add(bus, "b", UINT64_MAX, 1, &ops, &device, NULL), 0);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(
			bus_add(bus, "c", 0x100000 - i * 0x100, 0x100, &ops, &device, NULL), 0);
	bus_read(bus, 0x100000 - 50 * 0x100 + 3, 1);
	assert_int_equal(device.offset, 3);
}

static void moves_and_removes(void **state)
{
	AUTO(bus_free) struct bus *bus = bus_new();
	struct device device = { .bus = bus, .move_from = 0x1000, .move_to = 0x5000 };

	(void) state;
	assert_int_equal(bus_add(bus, "a", 0x1000, 0x100, &ops, &device, NULL), 0);
	assert_int_equal(bus_add(bus, "b", 0x8000, 0x100, &ops, &device, NULL), 0);
	bus_write(bus, 0x1010, 4, 1); /* moves itself */
	assert_int_equal(bus_read(bus, 0x1010, 1), 0xff);
	assert_int_equal(bus_read(bus, 0x5010, 1), 0x88);
	assert_int_equal(bus_move(bus, 0x5000, 0x80ff), -EEXIST);
	assert_int_equal(bus_move(bus, 0x5001, 0x9000), -ENOENT);
	assert_int_equal(bus_move(bus, 0x5000, 0x5080), 0); /* over itself */
	assert_int_equal(bus_read(bus, 0x5080, 1), 0x88);
	bus_remove(bus, 0x5080);
	bus_remove(bus, 0x5080);
	assert_int_equal(bus_read(bus, 0x5080, 1), 0xff);
}

struct slow {
	pthread_barrier_t entered;
	int left;
};

static uint64_t slow_read(void *data, uint64_t offset, unsigned int size)
{
	struct slow *slow = data;

	(void) offset, (void) size;
	pthread_barrier_wait(&slow->entered);
	for (int i = 0; i < 1000; i++)
		sched_yield();
	__atomic_store_n(&slow->left, 1, __ATOMIC_SEQ_CST);
	return 5;
}

static void *read_slowly(void *bus)
{
	assert_int_equal(bus_read(bus, 0x1000, 1), 5);
	return NULL;
}

static void removing_waits_for_calls(void **state)
{
	static const struct bus_ops slow_ops = { slow_read, NULL };
	AUTO(bus_free) struct bus *bus = bus_new();
	struct slow slow = {};
	pthread_t thread;

	(void) state;
	pthread_barrier_init(&slow.entered, NULL, 2);
	assert_int_equal(bus_add(bus, "a", 0x1000, 1, &slow_ops, &slow, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_slowly, bus), 0);
	pthread_barrier_wait(&slow.entered);
	bus_remove(bus, 0x1000);
	assert_int_equal(__atomic_load_n(&slow.left, __ATOMIC_SEQ_CST), 1);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&slow.entered);
}

static void add_up(void *data, const char *name, uint64_t start, uint64_t reads, uint64_t writes)
{
	uint64_t *sum = data;

	assert_string_equal(name, "a");
	assert_int_equal(start, 0x1000);
	*sum += 100 * reads + writes;
}

static void counts(void **state)
{
	AUTO(bus_free) struct bus *bus = bus_new();
	struct device device = {};
	uint64_t sum = 0;

	(void) state;
	assert_int_equal(bus_add(bus, "a", 0x1000, 4, &ops, &device, NULL), 0);
	bus_read(bus, 0x1000, 1);
	bus_read(bus, 0x1001, 1);
	bus_write(bus, 0x1001, 1, 0);
	bus_count(bus, add_up, &sum);
	assert_int_equal(sum, 201);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_owner),
		cmocka_unit_test(what_nobody_owns_is_all_ones),
		cmocka_unit_test(refuses_overlap),
		cmocka_unit_test(moves_and_removes),
		cmocka_unit_test(removing_waits_for_calls),
		cmocka_unit_test(counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
