#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "vmm/disk_io.h"
#include "vmm/loop.h"

enum { REQUESTS = 32, SIZE = 1 << 20 };

struct fixture {
	struct loop *loop;
	struct disk_io *io;
	int fd;
	struct disk_io_request requests[REQUESTS];
	struct iovec iov[REQUESTS][2];
	uint8_t data[REQUESTS][4096];
	unsigned int done, want, rounds;
	int result;
};

static void on_done(struct disk_io_request *request, int result, void *data)
{
	struct fixture *f = data;

	assert_in_range(request - f->requests, 0, REQUESTS - 1);
	f->result = result;
	f->done++;
}

static void on_round(void *data)
{
	struct fixture *f = data;

	f->rounds++;
	if (f->done == f->want)
		loop_quit(f->loop, 0);
}

static void start(struct fixture *f, enum disk_io_engine engine)
{
	static const struct disk_io_callbacks callbacks = { on_done, on_round };
	struct error err = {};

	memset(f, 0, sizeof(*f));
	f->fd = memfd_create("disk", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, SIZE), 0);
	assert_int_equal(loop_new(&f->loop, &err), 0);
	assert_int_equal(disk_io_new(f->fd, engine, 8, f->loop, &callbacks, f, &f->io, &err), 0);
}

static void stop(struct fixture *f)
{
	disk_io_free(f->io);
	loop_free(f->loop);
	close(f->fd);
}

static void begin(struct fixture *f, unsigned int i, enum disk_io_kind kind, uint64_t offset,
		  unsigned int size)
{
	f->iov[i][0] = (struct iovec){ f->data[i], 100 };
	f->iov[i][1] = (struct iovec){ f->data[i] + 100, size - 100 };
	f->requests[i] = (struct disk_io_request){
		.kind = kind,
		.iov = f->iov[i],
		.iov_count = 2,
		.offset = offset,
		.size = size,
	};
	disk_io_start(f->io, &f->requests[i]);
}

static void finish(struct fixture *f, unsigned int want)
{
	f->want = want;
	disk_io_submit(f->io);
	if (f->done < want)
		loop_run(f->loop);
	assert_int_equal(f->done, want);
}

static void check(enum disk_io_engine engine)
{
	static struct fixture f;

	start(&f, engine);
	/* More at once than there are entries. */
	for (unsigned int i = 0; i < REQUESTS; i++) {
		memset(f.data[i], (int) i + 1, 4096);
		begin(&f, i, DISK_IO_WRITE, 4096ull * i, 4096);
	}
	finish(&f, REQUESTS);
	assert_int_equal(f.result, 0);
	begin(&f, 0, DISK_IO_FLUSH, 0, 100);
	finish(&f, REQUESTS + 1);
	memset(f.data, 0, sizeof(f.data));
	for (unsigned int i = 0; i < REQUESTS; i++)
		begin(&f, i, DISK_IO_READ, 4096ull * i, 4096);
	disk_io_drain(f.io);
	assert_int_equal(f.done, 2 * REQUESTS + 1);
	for (unsigned int i = 0; i < REQUESTS; i++)
		for (unsigned int j = 0; j < 4096; j++)
			assert_int_equal(f.data[i][j], i + 1);
	/* Over the end: not all of it is there, so it failed. */
	begin(&f, 0, DISK_IO_READ, SIZE - 1024, 4096);
	disk_io_drain(f.io);
	assert_int_equal(f.result, -EIO);
	begin(&f, 0, DISK_IO_READ, SIZE, 4096);
	disk_io_drain(f.io);
	assert_int_equal(f.result, -EIO);
	stop(&f);
}

static void test_sync(void **state)
{
	(void) state;
	check(DISK_IO_SYNC);
}

static void test_auto(void **state)
{
	(void) state;
	check(DISK_IO_AUTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sync),
		cmocka_unit_test(test_auto),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
