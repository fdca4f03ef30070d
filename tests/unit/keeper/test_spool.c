#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "keeper/spool.h"

static char buffer[JOBLOG_BUFFER_SIZE];

struct world {
	char *folder, *path, *log_path;
	struct joblog log;
	int in, out;
};

static int set_up(void **state)
{
	struct world *world = mem_new0(struct world);
	int fds[2];

	*state = world;
	world->folder = mem_strdup("/tmp/brume-test-spool-XXXXXX");
	if (!mkdtemp(world->folder) || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	world->path = mem_printf("%s/spool", world->folder);
	world->log_path = mem_printf("%s/log", world->folder);
	world->out = fds[0];
	world->in = fds[1];
	joblog_init(&world->log, world->log_path, 0, 0);
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;
	int r = file_remove_tree(AT_FDCWD, world->folder);

	fd_close(world->in);
	fd_close(world->out);
	joblog_done(&world->log);
	free(world->folder);
	free(world->path);
	free(world->log_path);
	free(world);
	return r;
}

static void say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
}

static ssize_t take(struct world *world, struct spool *spool, int fd, struct joblog_batch *batch)
{
	*batch = (struct joblog_batch){ .stream = LOGLINE_STDOUT };
	return spool_take(spool, fd, &world->log, batch);
}

static void expect(struct world *world, const char *want)
{
	AUTO(free) char *text = NULL;

	assert_int_equal(file_read(AT_FDCWD, world->log_path, 1 << 20, &text, NULL), 0);
	assert_string_equal(text + LOGLINE_HEAD_SIZE, want);
}

#define T "1970-01-01T00:00:00.000000000Z stdout "

static void takes_what_is_there(void **state)
{
	struct world *world = *state;
	AUTO(spool_free) struct spool *spool = spool_new(world->path);
	struct joblog_batch batch;

	assert_int_equal(take(world, spool, world->out, &batch), -EAGAIN);
	for (int i = 0; i < 100; i++) {
		char text[8192];

		memset(text, 'a' + i % 26, sizeof(text));
		assert_int_equal(write(world->in, text, sizeof(text)), sizeof(text));
		assert_int_equal(take(world, spool, world->out, &batch), sizeof(text));
		assert_memory_equal(batch.text, text, sizeof(text));
		spool_commit(spool);
	}
	close(TAKE_FD(world->in));
	assert_int_equal(take(world, spool, world->out, &batch), 0);
}

/* Died after it had taken the bytes; the log has none of them, some, or all. */
static void recovers_what_was_taken(void **state)
{
	struct world *world = *state;
	static const char whole[] = T "F before\n" T "F one\n" T "P two\n";
	size_t before = LOGLINE_HEAD_SIZE + strlen(T "F before\n");

	for (size_t cut = before; cut <= LOGLINE_HEAD_SIZE + strlen(whole); cut++) {
		struct joblog_batch batch;

		unlink(world->log_path);
		struct spool *spool = spool_new(world->path);
		say(world->in, "before\n");
		take(world, spool, world->out, &batch);
		joblog_write(&world->log, &batch, buffer);
		spool_commit(spool);
		say(world->in, "one\ntwo");
		assert_int_equal(take(world, spool, world->out, &batch), 7);
		joblog_write(&world->log, &batch, buffer);
		joblog_close(&world->log);
		spool_free(spool);

		assert_int_equal(truncate(world->log_path, (off_t) cut), 0);
		spool_recover(world->path, buffer);
		expect(world, whole);
	}
}

static void has_nothing_to_recover_after_a_commit(void **state)
{
	struct world *world = *state;
	struct spool *spool = spool_new(world->path);
	struct joblog_batch batch;

	say(world->in, "one\n");
	take(world, spool, world->out, &batch);
	joblog_write(&world->log, &batch, buffer);
	spool_commit(spool);
	assert_int_equal(take(world, spool, world->out, &batch), -EAGAIN);
	spool_free(spool);
	spool_recover(world->path, buffer);
	expect(world, T "F one\n");
	/* Nor from a file that is none. */
	assert_int_equal(file_write_atomic(AT_FDCWD, world->path, "x", 1, 0600, 0), 0);
	spool_recover(world->path, buffer);
	expect(world, T "F one\n");
}

static void recovers_a_terminals_bytes(void **state)
{
	struct world *world = *state;
	struct spool *spool = spool_new(world->path);
	AUTO(fd_close) int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct joblog_batch batch;

	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	AUTO(fd_close) int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	say(slave, "one\n");
	assert_int_equal(take(world, spool, master, &batch), 5);
	spool_free(spool);
	joblog_close(&world->log);
	spool_recover(world->path, buffer);
	expect(world, T "F one\r\n");
}

/* No room for the spool: it goes on without. */
static void works_without_its_file(void **state)
{
	struct world *world = *state;
	AUTO(free) char *nowhere = mem_printf("%s/none/spool", world->folder);
	AUTO(spool_free) struct spool *spool = spool_new(nowhere);
	struct joblog_batch batch;

	say(world->in, "one\n");
	assert_int_equal(take(world, spool, world->out, &batch), 4);
	joblog_write(&world->log, &batch, buffer);
	spool_commit(spool);
	expect(world, T "F one\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(takes_what_is_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(recovers_what_was_taken, set_up, tear_down),
		cmocka_unit_test_setup_teardown(has_nothing_to_recover_after_a_commit, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(recovers_a_terminals_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(works_without_its_file, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
