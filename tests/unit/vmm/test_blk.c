#include "driver.h"

#include <linux/virtio_blk.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vmm/blk.h"

enum { SECTORS = 4096, DISK = SECTORS * 512 };

struct fixture {
	struct driver d;
	int fd;
	uint8_t *disk; /* the file, mapped */
	gpa_t header, data, status;
};

static void start(struct fixture *f, const struct blk_options *options)
{
	struct blk_options o = *options;
	struct virtio_device *device = NULL;
	struct error err = {};

	f->fd = memfd_create("disk", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, DISK), 0);
	f->disk = mmap(NULL, DISK, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	assert_ptr_not_equal(f->disk, MAP_FAILED);
	for (unsigned int i = 0; i < DISK; i++)
		f->disk[i] = (uint8_t) (i / 512 + i);
	driver_init(&f->d);
	o.id = "disk0";
	o.fd = f->fd;
	assert_int_equal(blk_new(&o, f->d.loop, &device, &err), 0);
	driver_attach(&f->d, device);
	f->header = driver_alloc(&f->d, 64 * 16);
	f->data = driver_alloc(&f->d, 1 << 20);
	f->status = driver_alloc(&f->d, 64);
}

static void stop(struct fixture *f)
{
	driver_done(&f->d);
	munmap(f->disk, DISK);
	close(f->fd);
}

static void put_header(struct fixture *f, unsigned int slot, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };

	memcpy(driver_host(&f->d, f->header + 16 * slot, 16), &header, 16);
	*(uint8_t *) driver_host(&f->d, f->status + slot, 1) = 0xee;
}

/* One request on one queue, to its end; the status. */
static uint8_t request(struct fixture *f, unsigned int queue, uint32_t type, uint64_t sector,
		       uint32_t size)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct buffer buffers[] = {
		{ f->header, 16, false },
		{ f->data, size, in },
		{ f->status, 1, true },
	};

	put_header(f, 0, type, sector);
	if (size == 0)
		buffers[1] = buffers[2];
	driver_send(&f->d, queue, buffers, size ? 3 : 2);
	driver_wait_used(&f->d, queue, NULL);
	return *(uint8_t *) driver_host(&f->d, f->status, 1);
}

static void check_reads_and_writes(enum disk_io_engine engine, unsigned int queues)
{
	struct blk_options options = { .engine = engine, .queues = queues };
	struct fixture f;
	struct virtio_blk_config config;
	uint8_t *data;

	start(&f, &options);
	data = driver_host(&f.d, f.data, 1 << 20);
	driver_start(&f.d, 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_RING_F_EVENT_IDX, 0);
	driver_config(&f.d, 0, &config, sizeof(config));
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.seg_max, QUEUE_CHAIN_MAX - 2);
	assert_int_equal(config.num_queues, queues);
	for (unsigned int i = 0; i < 300; i++) {
		uint64_t sector = (i * 37) % (SECTORS - 16);

		if (i % 3 == 0) {
			memset(data, (int) i, 8192);
			assert_int_equal(request(&f, i % queues, VIRTIO_BLK_T_OUT, sector, 8192),
					 0);
			assert_memory_equal(f.disk + sector * 512, data, 8192);
		} else {
			memset(data, 0, 8192);
			assert_int_equal(request(&f, i % queues, VIRTIO_BLK_T_IN, sector, 8192), 0);
			assert_memory_equal(f.disk + sector * 512, data, 8192);
		}
		if (i % 16 == 0)
			assert_int_equal(request(&f, i % queues, VIRTIO_BLK_T_FLUSH, 0, 0), 0);
	}
	/* The last sector; beyond it; far beyond; not whole sectors; nothing. */
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_IN, SECTORS - 1, 512), 0);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_IN, SECTORS - 1, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_OUT, SECTORS, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_IN, UINT64_MAX, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 512),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_IN, 0, 100), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_IN, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, 4711, 0, 512), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_SECURE_ERASE, 0, 16), VIRTIO_BLK_S_UNSUPP);
	stop(&f);
}

static void test_uring(void **state)
{
	(void) state;
	check_reads_and_writes(DISK_IO_AUTO, 1);
	check_reads_and_writes(DISK_IO_AUTO, 4);
}

static void test_sync(void **state)
{
	(void) state;
	check_reads_and_writes(DISK_IO_SYNC, 1);
	check_reads_and_writes(DISK_IO_SYNC, 2);
}

/* Many at once, in pieces that respect no boundary: header, data and status in odd cuts. */
static void test_many_at_once(void **state)
{
	struct blk_options options = { .queues = 2 };
	struct fixture f;
	uint8_t *data;

	(void) state;
	start(&f, &options);
	data = driver_host(&f.d, f.data, 1 << 20);
	driver_start(&f.d, 1ull << VIRTIO_RING_F_EVENT_IDX, 256);
	for (unsigned int round = 0; round < 10; round++) {
		memset(data, 0, 1 << 20);
		for (unsigned int i = 0; i < 40; i++) {
			gpa_t at = f.data + 4096 * i;
			struct buffer buffers[] = {
				{ f.header + 16 * i, 7, false },
				{ f.header + 16 * i + 7, 9, false },
				{ at, 1000, true },
				{ at + 1000, 2000, true },
				{ at + 3000, 1096 + 1, true }, /* and the status */
			};

			put_header(&f, i, VIRTIO_BLK_T_IN, 8 * i + round);
			driver_send(&f.d, i % 2, buffers, 5);
		}
		for (unsigned int i = 0; i < 40; i++) {
			uint32_t written;

			driver_wait_used(&f.d, i % 2, &written);
			assert_int_equal(written, 4097);
		}
		for (unsigned int i = 0; i < 40; i++)
			assert_memory_equal(data + 4096 * i + 1, f.disk + 512 * (8 * i + round) + 1,
					    4095);
	}
	stop(&f);
}

static void test_id(void **state)
{
	struct blk_options options = { .serial = "brume-disk" };
	struct fixture f;
	char expected[20] = "brume-disk";

	(void) state;
	start(&f, &options);
	driver_start(&f.d, 0, 16);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_GET_ID, 0, 20), 0);
	assert_memory_equal(driver_host(&f.d, f.data, 20), expected, 20);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_GET_ID, 0, 5), 0);
	stop(&f);
}

static void test_read_only(void **state)
{
	struct blk_options options = { .read_only = true };
	struct fixture f;
	uint64_t offered;

	(void) state;
	start(&f, &options);
	offered = driver_offered(&f.d);
	assert_true(offered & 1ull << VIRTIO_BLK_F_RO);
	assert_false(offered & 1ull << VIRTIO_BLK_F_DISCARD);
	driver_start(&f.d, 1ull << VIRTIO_BLK_F_RO, 16);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_IN, 0, 512), 0);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_DISCARD, 0, 16), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_FLUSH, 0, 0), 0);
	stop(&f);
}

static uint8_t erase(struct fixture *f, uint32_t type, uint64_t sector, uint32_t count,
		     uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = { sector, count, flags };

	memcpy(driver_host(&f->d, f->data, sizeof(range)), &range, sizeof(range));
	return request(f, 0, type, 0, sizeof(range));
}

static bool is_zero(const struct fixture *f, unsigned int sector, unsigned int count)
{
	for (unsigned int i = sector * 512; i < (sector + count) * 512; i++)
		if (f->disk[i])
			return false;
	return true;
}

static void test_discard(void **state)
{
	struct blk_options options = {};
	struct fixture f;
	struct stat before, after;

	(void) state;
	start(&f, &options);
	driver_start(&f.d, 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES, 16);
	fstat(f.fd, &before);
	assert_int_equal(erase(&f, VIRTIO_BLK_T_DISCARD, 1024, 2048, 0), 0);
	fstat(f.fd, &after);
	assert_true(after.st_blocks <= before.st_blocks - 2048);
	assert_true(is_zero(&f, 1024, 2048));
	assert_int_equal(erase(&f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 3, 0), 0);
	assert_true(is_zero(&f, 0, 3));
	assert_false(is_zero(&f, 3, 1));
	assert_int_equal(
		erase(&f, VIRTIO_BLK_T_WRITE_ZEROES, 10, 100, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
		0);
	assert_true(is_zero(&f, 10, 100));
	assert_int_equal(f.disk[9 * 512], 9);
	assert_int_equal(erase(&f, VIRTIO_BLK_T_DISCARD, 0, 0, 0), 0);
	/* What makes no sense changes nothing. */
	assert_int_equal(erase(&f, VIRTIO_BLK_T_DISCARD, 3, 1, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(erase(&f, VIRTIO_BLK_T_WRITE_ZEROES, 3, 1, 2), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(erase(&f, VIRTIO_BLK_T_DISCARD, SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(erase(&f, VIRTIO_BLK_T_DISCARD, UINT64_MAX, 2, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(erase(&f, VIRTIO_BLK_T_DISCARD, 3, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_DISCARD, 0, 15), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_DISCARD, 0, 16 * 33), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_false(is_zero(&f, 3, 1));
	stop(&f);
}

static void test_limited(void **state)
{
	struct blk_options options = { .limit = { .ops_per_second = 200, .ops_burst = 1 } };
	struct fixture f;
	uint64_t begin;

	(void) state;
	start(&f, &options);
	driver_start(&f.d, 0, 64);
	put_header(&f, 0, VIRTIO_BLK_T_IN, 0);
	begin = ratelimit_now_ns();
	for (unsigned int i = 0; i < 20; i++) {
		struct buffer buffers[] = {
			{ f.header, 16, false },
			{ f.data, 512, true },
			{ f.status, 1, true },
		};

		driver_send(&f.d, 0, buffers, 3);
	}
	for (unsigned int i = 0; i < 20; i++)
		driver_wait_used(&f.d, 0, NULL);
	assert_true(ratelimit_now_ns() - begin >= 18 * 5000000ull);
	assert_true(f.d.device->counters.throttled > 0);
	stop(&f);
}

static void resize(void *data)
{
	struct error err = {};

	assert_int_equal(blk_resize(data, &err), 0);
}

static void test_resize(void **state)
{
	struct blk_options options = {};
	struct fixture f;
	uint64_t capacity;

	(void) state;
	start(&f, &options);
	driver_start(&f.d, 0, 16);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_OUT, SECTORS, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ftruncate(f.fd, 2 * DISK), 0);
	loop_call(f.d.loop, resize, f.d.device);
	driver_wait_vector(&f.d, 0);
	driver_config(&f.d, 0, &capacity, 8);
	assert_int_equal(capacity, 2 * SECTORS);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_OUT, SECTORS, 512), 0);
	/* A file that lost its end: an error, no more. */
	assert_int_equal(ftruncate(f.fd, DISK), 0);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_IN, SECTORS, 512), VIRTIO_BLK_S_IOERR);
	stop(&f);
}

static void test_bad_options(void **state)
{
	struct virtio_device *device = NULL;
	struct loop *loop = NULL;
	struct error err = {};
	int fd = memfd_create("disk", MFD_CLOEXEC), nothing[2];
	struct blk_options good = { .id = "disk0", .fd = fd }, bad[7];

	(void) state;
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_int_equal(blk_new(&good, loop, &device, &err), -EINVAL);
	assert_int_equal(ftruncate(fd, 1000), 0);
	assert_int_equal(blk_new(&good, loop, &device, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "multiple of 512"));
	assert_int_equal(ftruncate(fd, 1024), 0);
	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++)
		bad[i] = good;
	assert_int_equal(pipe(nothing), 0);
	bad[0].fd = nothing[0];
	bad[1].fd = -1;
	bad[2].queues = 17;
	bad[3].queue_size = 100;
	bad[4].queue_size = 2048;
	bad[5].block_size = 1000;
	bad[6].serial = "a serial that is too long";
	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++)
		assert_true(blk_new(&bad[i], loop, &device, &err) < 0);
	assert_null(device);
	close(nothing[0]);
	close(nothing[1]);
	close(fd);
	loop_free(loop);
}

static void test_attacks(void **state)
{
	struct blk_options options = {};
	struct fixture f;
	struct buffer bad[][2] = {
		{ { 0, 15, false }, { 0, 1, true } },    /* half a header */
		{ { 0, 16, false }, { 0, 512, false } }, /* no status */
		{ { 0, 512, true }, { 0, 1, true } },    /* no header */
	};

	(void) state;
	start(&f, &options);
	driver_attack_queue(&f.d, 0, 0);
	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++) {
		driver_start(&f.d, 0, 16);
		put_header(&f, 0, VIRTIO_BLK_T_IN, 0);
		bad[i][0].address = f.header;
		bad[i][1].address = f.status;
		driver_send(&f.d, 0, bad[i], 2);
		driver_wait_broken(&f.d);
	}
	/* Reset while requests are on their way. */
	for (unsigned int i = 0; i < 50; i++) {
		gpa_t heap = f.d.heap;

		driver_start(&f.d, 0, 256);
		for (unsigned int j = 0; j < 40; j++) {
			struct buffer buffers[] = {
				{ f.header + 16 * j, 16, false },
				{ f.data + 8192 * j, 8192, true },
				{ f.status, 1, true },
			};

			put_header(&f, j, VIRTIO_BLK_T_IN, j);
			driver_send(&f.d, 0, buffers, 3);
		}
		driver_set(&f.d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
		f.d.heap = heap;
	}
	driver_start(&f.d, 0, 16);
	assert_int_equal(request(&f, 0, VIRTIO_BLK_T_IN, 0, 512), 0);
	stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uring),        cmocka_unit_test(test_sync),
		cmocka_unit_test(test_many_at_once), cmocka_unit_test(test_id),
		cmocka_unit_test(test_read_only),    cmocka_unit_test(test_discard),
		cmocka_unit_test(test_limited),      cmocka_unit_test(test_resize),
		cmocka_unit_test(test_bad_options),  cmocka_unit_test(test_attacks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
