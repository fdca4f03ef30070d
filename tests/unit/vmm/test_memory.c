#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "vmm/memory.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static struct guest_memory *make(uint64_t size)
{
	struct guest_memory_options options = { .size_bytes = size, .fd = -1 };
	struct guest_memory *memory = NULL;

	assert_int_equal(guest_memory_new(&options, &memory, NULL), 0);
	return memory;
}

static void lies_around_the_hole(void **state)
{
	AUTO(guest_memory_free) struct guest_memory *memory = make(5 * GIB);
	const struct guest_memory_range *ranges;
	unsigned int count;

	(void) state;
	ranges = guest_memory_ranges(memory, &count);
	assert_int_equal(count, 2);
	assert_int_equal(ranges[0].start, 0);
	assert_int_equal(ranges[0].size_bytes, LAYOUT_HOLE_START);
	assert_int_equal(ranges[1].start, LAYOUT_HIGH_START);
	assert_int_equal(ranges[1].size_bytes, 5 * GIB - LAYOUT_HOLE_START);
	assert_int_equal(ranges[1].offset, LAYOUT_HOLE_START);
	assert_int_equal((uintptr_t) ranges[0].host % (2 * MIB), 0);
	assert_int_equal(guest_memory_size(memory), 5 * GIB);
	/* One file, sparse. */
	struct stat st;
	assert_int_equal(fstat(guest_memory_fd(memory), &st), 0);
	assert_int_equal(st.st_size, 5 * GIB);
	assert_int_equal(st.st_blocks, 0);
	strcpy(guest_memory_range(memory, LAYOUT_HIGH_START, 8), "high");
	char text[8];
	assert_int_equal(pread(guest_memory_fd(memory), text, 5, LAYOUT_HOLE_START), 5);
	assert_string_equal(text, "high");
}

static void stays_in_bounds(void **state)
{
	AUTO(guest_memory_free) struct guest_memory *memory = make(4 * GIB);
	char data[16] = "hello";

	(void) state;
	assert_non_null(guest_memory_range(memory, 0, LAYOUT_HOLE_START));
	assert_null(guest_memory_range(memory, 0, LAYOUT_HOLE_START + 1));
	assert_null(guest_memory_range(memory, LAYOUT_HOLE_START, 1));
	assert_null(guest_memory_range(memory, LAYOUT_HIGH_START - 1, 2));
	assert_null(guest_memory_range(memory, 1, UINT64_MAX));
	assert_null(guest_memory_range(memory, UINT64_MAX, 2));
	assert_null(guest_memory_range(memory, 5 * GIB, 1));
	assert_non_null(guest_memory_range(memory, 5 * GIB - 1, 1));
	assert_int_equal(guest_memory_write(memory, LAYOUT_HOLE_START - 3, data, 6), -EFAULT);
	assert_int_equal(guest_memory_write(memory, LAYOUT_HOLE_START - 6, data, 6), 0);
	memset(data, 0, sizeof(data));
	assert_int_equal(guest_memory_read(memory, LAYOUT_HOLE_START - 6, data, 6), 0);
	assert_string_equal(data, "hello");
	assert_int_equal(guest_memory_read(memory, LAYOUT_HOLE_START - 6, data, 7), -EFAULT);
}

static uint64_t used_bytes(const struct guest_memory *memory)
{
	struct stat st;

	assert_int_equal(fstat(guest_memory_fd(memory), &st), 0);
	return (uint64_t) st.st_blocks * 512;
}

static void gives_pages_back(void **state)
{
	AUTO(guest_memory_free) struct guest_memory *memory = make(16 * MIB);
	char *host = guest_memory_range(memory, 0, 16 * MIB);

	(void) state;
	memset(host, 1, 8 * MIB);
	assert_true(used_bytes(memory) >= 8 * MIB);
	assert_int_equal(guest_memory_discard(memory, 100, 4096), 0); /* not one whole page */
	assert_int_equal(host[4096], 1);
	assert_int_equal(guest_memory_discard(memory, 100, 8 * MIB - 100), 0);
	assert_true(used_bytes(memory) <= 4096);
	assert_int_equal(host[4095], 1);
	assert_int_equal(host[4096], 0);
	assert_int_equal(guest_memory_discard(memory, 15 * MIB, 2 * MIB), -EFAULT);
}

static void hints_make_it_anonymous(void **state)
{
	struct guest_memory_options options = { .size_bytes = 4 * MIB, .thp = true, .fd = -1 };
	AUTO(guest_memory_free) struct guest_memory *memory = NULL;
	char *host;

	(void) state;
	assert_int_equal(guest_memory_new(&options, &memory, NULL), 0);
	assert_int_equal(guest_memory_fd(memory), -1);
	host = guest_memory_range(memory, 0, 4 * MIB);
	memset(host, 1, 4 * MIB);
	assert_int_equal(guest_memory_discard(memory, 0, 2 * MIB), 0);
	assert_int_equal(host[0], 0);
	assert_int_equal(host[2 * MIB], 1);
}

static void uses_a_given_file(void **state)
{
	AUTO(fd_close) int fd = memfd_create("given", MFD_CLOEXEC);
	struct guest_memory_options options = { .size_bytes = 4 * MIB, .fd = fd };
	AUTO(guest_memory_free) struct guest_memory *memory = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(ftruncate(fd, 2 * MIB), 0);
	assert_int_equal(guest_memory_new(&options, &memory, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "smaller"));
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	assert_int_equal(pwrite(fd, "there", 6, 3 * MIB), 6);
	assert_int_equal(guest_memory_new(&options, &memory, &err), 0);
	assert_string_equal(guest_memory_range(memory, 3 * MIB, 6), "there");
}

static void loads_files(void **state)
{
	AUTO(fd_close) int fd = memfd_create("file", MFD_CLOEXEC);
	char data[10000];

	(void) state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char) (i * 7 + i / 256);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	for (int thp = 0; thp < 2; thp++) {
		struct guest_memory_options options = { .size_bytes = 4 * MIB,
							.thp = thp,
							.fd = -1 };
		AUTO(guest_memory_free) struct guest_memory *memory = NULL;

		assert_int_equal(guest_memory_new(&options, &memory, NULL), 0);
		assert_int_equal(guest_memory_load(memory, 5000, fd, 3, sizeof(data) - 3), 0);
		assert_memory_equal(guest_memory_range(memory, 5000, sizeof(data) - 3), data + 3,
				    sizeof(data) - 3);
		assert_int_equal(guest_memory_load(memory, 0, fd, 4, sizeof(data) - 3), -EIO);
		assert_int_equal(guest_memory_load(memory, 4 * MIB - 1, fd, 0, 2), -EFAULT);
		assert_int_equal(guest_memory_load(memory, 0, -1, 0, 2), -EBADF);
	}
}

static void skips_holes(void **state)
{
	AUTO(fd_close) int fd = memfd_create("file", MFD_CLOEXEC);
	AUTO(guest_memory_free) struct guest_memory *memory = make(16 * MIB);

	(void) state;
	assert_int_equal(pwrite(fd, "first", 5, 0), 5);
	assert_int_equal(pwrite(fd, "last", 4, 8 * MIB - 4), 4);
	assert_int_equal(guest_memory_load(memory, 4096, fd, 0, 8 * MIB), 0);
	assert_memory_equal(guest_memory_range(memory, 4096, 6), "first", 6);
	assert_memory_equal(guest_memory_range(memory, 4096 + 8 * MIB - 4, 4), "last", 4);
	assert_true(used_bytes(memory) <= MIB);
	/* Behind the last data, and behind the end. */
	assert_int_equal(ftruncate(fd, 12 * MIB), 0);
	assert_int_equal(guest_memory_load(memory, 9 * MIB, fd, 9 * MIB, 2 * MIB), 0);
	assert_int_equal(guest_memory_load(memory, 9 * MIB, fd, 11 * MIB, 2 * MIB), -EIO);
}

/* The file's own pages, until the guest writes or the memory is given back. */
static void shows_files_that_nobody_writes(void **state)
{
	char name[] = "/tmp/brume-test-memory-XXXXXX", page[4096] = "kernel", got[4096];
	AUTO(fd_close) int fd = mkstemp(name);

	(void) state;
	assert_true(fd >= 0);
	unlink(name);
	for (int i = 0; i < 512; i++)
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	assert_int_equal(write(fd, "tail", 4), 4);
	for (int shown = 0; shown < 3; shown++) {
		struct guest_memory_options options = { .size_bytes = 16 * MIB,
							.thp = shown == 2, /* copied */
							.fd = -1 };
		AUTO(guest_memory_free) struct guest_memory *memory = NULL;
		char *host;

		assert_int_equal(fchmod(fd, shown ? 0444 : 0644), 0);
		assert_int_equal(guest_memory_new(&options, &memory, NULL), 0);
		host = guest_memory_range(memory, 4 * MIB, 4 * MIB);
		assert_int_equal(guest_memory_load(memory, 4 * MIB, fd, 0, 2 * MIB + 4), 0);
		assert_string_equal(host, "kernel");
		assert_memory_equal(host + 2 * MIB, "tail", 5);
		if (shown == 1)
			assert_true(used_bytes(memory) <= 4096);
		else if (shown == 0)
			assert_true(used_bytes(memory) >= 2 * MIB);
		/* What one guest writes is in no file and in no other guest. */
		strcpy(host + 4096, "mine");
		assert_int_equal(pread(fd, got, sizeof(got), 4096), sizeof(got));
		assert_string_equal(got, "kernel");
		assert_int_equal(guest_memory_discard(memory, 4 * MIB + 4096, 8192), 0);
		assert_string_equal(host, "kernel");
		assert_string_equal(host + 4096, "");
		assert_string_equal(host + 8192, "");
		assert_string_equal(host + 3 * 4096, "kernel");
		strcpy(host + 4096, "again");
		assert_string_equal(host + 4096, "again");
		/* A restart. */
		assert_int_equal(guest_memory_discard(memory, 0, 16 * MIB), 0);
		assert_string_equal(host, "");
		assert_string_equal(host + 4096, "");
		assert_int_equal(guest_memory_load(memory, 4 * MIB, fd, 0, 2 * MIB), 0);
		assert_string_equal(host + 4096, "kernel");
	}
}

static void refuses_nonsense(void **state)
{
	static const struct guest_memory_options bad[] = {
		{ .size_bytes = 0, .fd = -1 },
		{ .size_bytes = 4096, .fd = -1 },
		{ .size_bytes = 4 * MIB + 1, .fd = -1 },
		{ .size_bytes = UINT64_MAX & ~4095ull, .fd = -1 },
		{ .size_bytes = 3 * MIB, .huge_page_bytes = 2 * MIB, .fd = -1 },
		{ .size_bytes = 4 * MIB, .huge_page_bytes = MIB, .fd = -1 },
	};

	(void) state;
	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++) {
		struct guest_memory *memory = NULL;
		struct error err = {};

		assert_int_equal(guest_memory_new(&bad[i], &memory, &err), -EINVAL);
		assert_null(memory);
		assert_true(err.msg[0] != 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lies_around_the_hole),
		cmocka_unit_test(stays_in_bounds),
		cmocka_unit_test(gives_pages_back),
		cmocka_unit_test(hints_make_it_anonymous),
		cmocka_unit_test(uses_a_given_file),
		cmocka_unit_test(loads_files),
		cmocka_unit_test(skips_holes),
		cmocka_unit_test(shows_files_that_nobody_writes),
		cmocka_unit_test(refuses_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
