#include "driver.h"

#include "vmm/rng.h"

static void start(struct driver *d, uint64_t bytes_per_second)
{
	struct rng_options options = { .id = "rng0", .bytes_per_second = bytes_per_second };
	struct virtio_device *device = NULL;
	struct error err = {};

	driver_init(d);
	assert_int_equal(rng_new(&options, d->loop, &device, &err), 0);
	driver_attach(d, device);
}

static void test_random(void **state)
{
	struct driver d;
	gpa_t at;
	struct buffer buffers[3];
	uint32_t written;
	unsigned int zeroes = 0;

	(void) state;
	start(&d, 0);
	driver_start(&d, 1ull << VIRTIO_RING_F_EVENT_IDX, 16);
	at = driver_alloc(&d, 8192);
	buffers[0] = (struct buffer){ at, 100, true };
	buffers[1] = (struct buffer){ at + 200, 100, true };
	buffers[2] = (struct buffer){ at + 4096, 4096, true };
	for (unsigned int i = 0; i < 50; i++) {
		driver_send(&d, 0, buffers, 2);
		driver_wait_used(&d, 0, &written);
		assert_int_equal(written, 200);
	}
	for (unsigned int i = 0; i < 100; i++)
		zeroes += ((uint8_t *) driver_host(&d, at, 300))[i] == 0;
	assert_true(zeroes < 20);
	/* What lies between the buffers is not touched. */
	for (unsigned int i = 100; i < 200; i++)
		assert_int_equal(((uint8_t *) driver_host(&d, at, 300))[i], 0);
	/* More than a chunk: some of it. */
	driver_send(&d, 0, buffers, 3);
	driver_wait_used(&d, 0, &written);
	assert_int_equal(written, 4096);
	/* A request that cannot be answered is given back. */
	buffers[0].write = false;
	driver_send(&d, 0, buffers, 1);
	driver_wait_used(&d, 0, &written);
	assert_int_equal(written, 0);
	driver_done(&d);
}

/* Slower than asked for, but everything comes. */
static void test_limited(void **state)
{
	struct driver d;
	struct buffer buffer;
	uint32_t written;

	(void) state;
	start(&d, 64 << 10);
	driver_start(&d, 0, 32);
	buffer = (struct buffer){ driver_alloc(&d, 4096), 4096, true };
	for (unsigned int i = 0; i < 20; i++)
		driver_send(&d, 0, &buffer, 1);
	for (unsigned int i = 0; i < 20; i++) {
		driver_wait_used(&d, 0, &written);
		assert_int_equal(written, 4096);
	}
	assert_true(d.device->counters.throttled > 0);
	/* Reset while something waits for its time. */
	for (unsigned int i = 0; i < 20; i++)
		driver_send(&d, 0, &buffer, 1);
	driver_set(&d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	driver_start(&d, 0, 32);
	driver_done(&d);
}

static void test_attacks(void **state)
{
	struct driver d;

	(void) state;
	start(&d, 0);
	driver_attack_queue(&d, 0, 0);
	driver_done(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_limited),
		cmocka_unit_test(test_attacks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
