#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "image/spool_internal.h"

enum { TOTAL = 1000 * 1000, PIECE = 7777 };

static void *append_all(void *data)
{
	struct spool *spool = data;
	char piece[PIECE];

	for (size_t done = 0; done < TOTAL;) {
		size_t n = TOTAL - done < PIECE ? TOTAL - done : PIECE;

		for (size_t i = 0; i < n; i++)
			piece[i] = (char) ((done + i) * 31);
		if (spool_append(spool, piece, n) < 0)
			return NULL;
		done += n;
	}
	spool_end(spool, 0);
	return NULL;
}

static void reads_behind_the_writer(void **state)
{
	AUTO(free) char *buffer = mem_zalloc(65536);
	AUTO(fd_close) int fd = memfd_create("spool", MFD_CLOEXEC);
	struct spool spool;
	pthread_t thread;
	uint64_t offset = 0;
	ssize_t n;

	(void) state;
	spool_init(&spool, fd, 0);
	assert_int_equal(pthread_create(&thread, NULL, append_all, &spool), 0);
	while ((n = spool_read(&spool, offset, buffer, 65536)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (buffer[i] != (char) ((offset + (uint64_t) i) * 31))
				fail_msg("wrong byte at %llu",
					 (unsigned long long) offset + (uint64_t) i);
		offset += (uint64_t) n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(offset, TOTAL);
	pthread_join(thread, NULL);
	spool_done(&spool);
}

static void goes_on_behind_what_was_there(void **state)
{
	AUTO(fd_close) int fd = memfd_create("spool", MFD_CLOEXEC);
	struct spool spool;
	char buffer[16];

	(void) state;
	assert_int_equal(write(fd, "old", 3), 3);
	spool_init(&spool, fd, 3);
	assert_int_equal(spool_append(&spool, "new", 3), 0);
	spool_end(&spool, 0);
	assert_int_equal(spool_read(&spool, 0, buffer, sizeof(buffer)), 6);
	assert_memory_equal(buffer, "oldnew", 6);
	assert_int_equal(spool_read(&spool, 6, buffer, sizeof(buffer)), 0);
	spool_done(&spool);
}

static void carries_errors_both_ways(void **state)
{
	AUTO(fd_close) int fd = memfd_create("spool", MFD_CLOEXEC);
	struct spool spool;
	char buffer[16];

	(void) state;
	spool_init(&spool, fd, 0);
	spool_end(&spool, -EHOSTUNREACH);
	assert_int_equal(spool_read(&spool, 0, buffer, sizeof(buffer)), -EHOSTUNREACH);
	spool_done(&spool);
	spool_init(&spool, fd, 0);
	spool_abandon(&spool);
	assert_int_equal(spool_append(&spool, "x", 1), -ECANCELED);
	assert_int_equal(spool_read(&spool, 0, buffer, sizeof(buffer)), -ECANCELED);
	spool_done(&spool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_behind_the_writer),
		cmocka_unit_test(goes_on_behind_what_was_there),
		cmocka_unit_test(carries_errors_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
