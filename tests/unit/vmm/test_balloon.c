#include "driver.h"

#include <linux/virtio_balloon.h>

#include "vmm/balloon.h"

enum {
	INFLATE = 0,
	DEFLATE = 1,
	STATISTICS = 2,
	REPORTING = 3,
	FEATURES = 1 << VIRTIO_BALLOON_F_STATS_VQ | 1 << VIRTIO_BALLOON_F_REPORTING,
};

struct fixture {
	struct driver d;
	gpa_t pages, victim;
};

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);
	struct balloon_options options = { .id = "balloon0", .reporting = true };
	struct virtio_device *device = NULL;
	struct error err = {};

	driver_init(&f->d);
	assert_int_equal(balloon_new(&options, f->d.memory, f->d.loop, &device, &err), 0);
	driver_attach(&f->d, device);
	f->pages = driver_alloc(&f->d, 64 << 10);
	f->d.heap = (f->d.heap + 4095) & ~4095ull;
	f->victim = driver_alloc(&f->d, 1 << 20);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	driver_done(&f->d);
	free(f);
	return 0;
}

static void give(struct fixture *f, unsigned int queue, const uint32_t *pages, uint32_t count)
{
	struct buffer buffer = { f->pages, 4 * count, false };

	memcpy(driver_host(&f->d, f->pages, 4 * count), pages, 4 * count);
	driver_send(&f->d, queue, &buffer, 1);
	driver_wait_used(&f->d, queue, NULL);
}

static void set_target(void *data)
{
	balloon_set_target(data, 3 << 20);
}

static void test_inflate(void **state)
{
	struct fixture *f = *state;
	uint8_t *host = driver_host(&f->d, f->victim, 1 << 20);
	uint32_t first = (uint32_t) (f->victim >> 12), target;
	/* A run upwards, a run downwards, one alone; and some that are not memory. */
	uint32_t pages[] = { first,      first + 1,  first + 2,  first + 20, first + 19,
			     first + 18, first + 50, UINT32_MAX, 0xc0000,    DRIVER_MEMORY >> 12 };

	driver_start(&f->d, FEATURES, 64);
	loop_call(f->d.loop, set_target, f->d.device);
	driver_wait_vector(&f->d, 0);
	driver_config(&f->d, 0, &target, 4);
	assert_int_equal(target, (3 << 20) / 4096);
	memset(host, 0x55, 1 << 20);
	give(f, INFLATE, pages, ARRAY_COUNT(pages));
	for (unsigned int i = 0; i < 256; i++) {
		bool given = i < 3 || (i >= 18 && i <= 20) || i == 50;

		assert_int_equal(host[i * 4096], given ? 0 : 0x55);
		assert_int_equal(host[i * 4096 + 4095], given ? 0 : 0x55);
	}
	assert_int_equal(balloon_discarded(f->d.device), 7 * 4096);
	bus_write(f->d.mmio, f->d.config + 4, 4, 7);
	bus_write(f->d.mmio, f->d.config, 4, 99); /* not the driver's to write */
	driver_config(&f->d, 0, &target, 4);
	assert_int_equal(target, (3 << 20) / 4096);
	assert_int_equal(balloon_actual(f->d.device), 7 * 4096);
	give(f, DEFLATE, pages, ARRAY_COUNT(pages));
	host[0] = 1;
	/* More than is looked at in one go. */
	for (unsigned int i = 0; i < 256; i++)
		memset(host + i * 4096, 0x66, 4096);
	{
		static uint32_t many[3000];

		for (unsigned int i = 0; i < ARRAY_COUNT(many); i++)
			many[i] = first + i % 256;
		give(f, INFLATE, many, ARRAY_COUNT(many));
	}
	for (unsigned int i = 0; i < 256; i++)
		assert_int_equal(host[i * 4096 + 77], 0);
}

static void test_reporting(void **state)
{
	struct fixture *f = *state;
	uint8_t *host = driver_host(&f->d, f->victim, 1 << 20);
	struct buffer buffers[] = {
		{ f->victim + 4096, 8192, true },
		{ f->victim + 40960, 4096, true },
		{ f->victim + 81920 + 100, 5000, true }, /* no whole page in it */
	};

	/* Without statistics the queue has another number. */
	for (unsigned int round = 0; round < 2; round++) {
		driver_start(&f->d, round ? FEATURES : 1 << VIRTIO_BALLOON_F_REPORTING, 64);
		memset(host, 0x77, 1 << 20);
		driver_send(&f->d, round ? REPORTING : STATISTICS, buffers, 3);
		driver_wait_used(&f->d, round ? REPORTING : STATISTICS, NULL);
		assert_int_equal(host[0], 0x77);
		assert_int_equal(host[4096], 0);
		assert_int_equal(host[12287], 0);
		assert_int_equal(host[12288], 0x77);
		assert_int_equal(host[40960], 0);
		assert_int_equal(host[81920 + 100], 0x77);
		assert_int_equal(host[81920 + 5099], 0x77);
	}
}

static void request(void *data)
{
	balloon_request_statistics(data);
}

static void put_statistics(struct fixture *f, uint64_t free_bytes)
{
	struct virtio_balloon_stat stats[] = {
		{ VIRTIO_BALLOON_S_MEMFREE, free_bytes },
		{ VIRTIO_BALLOON_S_MEMTOT, 4096 * free_bytes },
		{ 999, 1 },
	};
	struct buffer buffer = { f->pages, sizeof(stats), false };

	memcpy(driver_host(&f->d, f->pages, sizeof(stats)), stats, sizeof(stats));
	driver_send(&f->d, STATISTICS, &buffer, 1);
	driver_sync(&f->d);
	driver_sync(&f->d);
}

static void test_statistics(void **state)
{
	struct fixture *f = *state;
	struct balloon_statistics s;

	balloon_statistics(f->d.device, &s);
	assert_int_equal(s.updates, 0);
	driver_start(&f->d, FEATURES, 64);
	put_statistics(f, 1000);
	balloon_statistics(f->d.device, &s);
	assert_int_equal(s.updates, 1);
	assert_int_equal(s.free_bytes, 1000);
	assert_int_equal(s.total_bytes, 4096000);
	assert_true(s.available_bytes == UINT64_MAX);
	/* It keeps the buffer until somebody asks. */
	assert_false(ring_used(&f->d.rings[STATISTICS], NULL, NULL));
	loop_call(f->d.loop, request, f->d.device);
	driver_wait_used(&f->d, STATISTICS, NULL);
	/* Asked again before the guest has answered: it answers twice. */
	loop_call(f->d.loop, request, f->d.device);
	put_statistics(f, 2000);
	driver_wait_used(&f->d, STATISTICS, NULL);
	put_statistics(f, 3000);
	balloon_statistics(f->d.device, &s);
	assert_int_equal(s.updates, 3);
	assert_int_equal(s.free_bytes, 3000);
	/* A second buffer is against the rules. */
	put_statistics(f, 4000);
	driver_wait_broken(&f->d);
}

static void test_attacks(void **state)
{
	struct fixture *f = *state;

	for (unsigned int queue = 0; queue < 4; queue++)
		driver_attack_queue(&f->d, FEATURES, queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_inflate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reporting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_statistics, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attacks, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
