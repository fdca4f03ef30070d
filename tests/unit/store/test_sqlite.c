#include "conformance.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "store/sqlite.h"

static int open_sqlite(struct bench *bench)
{
	struct store_sqlite_config config = { bench->backend, &bench->clock, 0 };
	struct error err = {};
	int r = store_sqlite_open(bench->event, &config, &bench->store, &err);

	if (r < 0)
		print_message("%s\n", err.msg);
	return r;
}

/* A store of its own below `folder`. */
static struct bench bench_in(const char *folder, const char *name)
{
	struct bench bench = { .open = open_sqlite, .monotonic_us = 1000000 };

	bench.clock.monotonic_us = bench_monotonic;
	assert_true(sd_event_new(&bench.event) >= 0);
	bench.backend = mem_printf("%s/%s", folder, name);
	return bench;
}

static void bench_close(struct bench *bench)
{
	store_free(bench->store);
	sd_event_unref(bench->event);
	free(bench->backend);
}

/* Writes for ever; says the number of each answered write on the pipe. */
static void write_until_killed(const char *folder, int fd, unsigned int from)
{
	struct bench bench = bench_in(folder, "killed.db");
	char key[32];

	if (open_sqlite(&bench) < 0)
		_exit(1);
	for (unsigned int i = from;; i++) {
		snprintf(key, sizeof(key), "/n/%08u", i);
		if (put(&bench, key, "written").error < 0 || write(fd, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

/* Kills a writer without warning: every write that it had an answer for is there. */
static void test_kill(void **state)
{
	const char *folder = *state;
	unsigned int number, acknowledged = 0;
	char key[32];

	for (int round = 0; round < 5; round++) {
		int fds[2];

		assert_int_equal(pipe(fds), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(fds[0]);
			write_until_killed(folder, fds[1], acknowledged);
		}
		close(fds[1]);
		for (int i = 0; i < 20 + round * 13; i++)
			assert_int_equal(read(fds[0], &acknowledged, sizeof(acknowledged)),
					 sizeof(acknowledged));
		kill(pid, SIGKILL);
		while (read(fds[0], &number, sizeof(number)) == sizeof(number))
			acknowledged = number;
		close(fds[0]);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		acknowledged++;

		struct bench bench = bench_in(folder, "killed.db");
		assert_int_equal(open_sqlite(&bench), 0);
		for (unsigned int i = 0; i < acknowledged; i++) {
			snprintf(key, sizeof(key), "/n/%08u", i);
			assert_true(strlen(get(&bench, key).text) > 0);
		}
		bench_close(&bench);
	}
}

static void test_only_one_opens(void **state)
{
	struct store_sqlite_config config;
	struct bench bench = bench_in(*state, "locked.db");
	struct store *second = NULL;
	struct error err = {};

	assert_int_equal(open_sqlite(&bench), 0);
	config = (struct store_sqlite_config){ bench.backend, &bench.clock, 0 };
	assert_int_equal(store_sqlite_open(bench.event, &config, &second, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "another process"));
	bench_close(&bench);
}

static void test_foreign_file(void **state)
{
	struct bench bench = bench_in(*state, "foreign.db");
	struct store_sqlite_config config = { bench.backend, &bench.clock, 0 };
	struct error err = {};
	char text[8192];

	memset(text, 'x', sizeof(text));
	assert_int_equal(file_write_atomic(AT_FDCWD, bench.backend, text, sizeof(text), 0600, 0),
			 0);
	assert_int_equal(store_sqlite_open(bench.event, &config, &bench.store, &err), -EBADMSG);
	config.path = "/proc/none/x.db";
	assert_int_equal(store_sqlite_open(bench.event, &config, &bench.store, &err), -ENOENT);
	bench_close(&bench);
}

/* Old history goes by itself; the database does not grow for ever. */
static void test_history_is_bounded(void **state)
{
	struct bench bench = bench_in(*state, "history.db");
	struct store_sqlite_config config = { bench.backend, &bench.clock, 100 };
	struct log log = {}, recent = {};
	struct store_watch *watch;
	uint64_t last = 0;

	assert_int_equal(store_sqlite_open(bench.event, &config, &bench.store, NULL), 0);
	for (int i = 0; i < 300; i++)
		last = put(&bench, "/h", "x").revision;
	watch = store_watch_new(bench.store, "/", 1, &log_ops, &log);
	list(&bench, "/");
	assert_int_equal(log.ended, -ESTALE);
	store_watch_free(watch);
	watch = store_watch_new(bench.store, "/", last - 99, &log_ops, &recent);
	list(&bench, "/");
	assert_int_equal(recent.ended, 0);
	store_watch_free(watch);
	strbuf_done(&recent.text);
	bench_close(&bench);
}

static void on_waited(const struct store_result *result, void *data)
{
	(void) result;
	*(bool *) data = true;
}

/* A lease ends by itself in real time, without anybody asking. */
static void test_lease_timer(void **state)
{
	struct store_sqlite_config config = { ":memory:", clock_system(), 0 };
	struct bench bench = bench_in(*state, "unused");
	struct log log = {};
	struct store_watch *watch;
	struct store_txn txn = {};
	struct answer answer = {};
	bool done = false;

	assert_int_equal(store_sqlite_open(bench.event, &config, &bench.store, NULL), 0);
	watch = store_watch_new(bench.store, "/", 1, &log_ops, &log);
	store_lease_grant(bench.store, 20, on_answer, &answer);
	await(&bench, &answer.done);
	store_ops_put(&txn.then, "/lock", "me", answer.lease);
	store_commit(bench.store, &txn, on_waited, &done);
	await(&bench, &done);
	while (!strstr(strbuf_str(&log.text), "/lock-me"))
		assert_true(sd_event_run(bench.event, 20 * 1000 * 1000) > 0);
	store_watch_free(watch);
	strbuf_done(&log.text);
	bench_close(&bench);
}

int main(void)
{
	char folder[] = "/tmp/brume-store-XXXXXX";
	struct bench bench = { .open = open_sqlite };

	if (!mkdtemp(folder))
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_kill, folder),
		cmocka_unit_test_prestate(test_only_one_opens, folder),
		cmocka_unit_test_prestate(test_foreign_file, folder),
		cmocka_unit_test_prestate(test_history_is_bounded, folder),
		cmocka_unit_test_prestate(test_lease_timer, folder),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	bench.backend = mem_printf("%s/store.db", folder);
	failed += conformance_tests(&bench);
	bench_close(&bench);
	file_remove_tree(AT_FDCWD, folder);
	return failed;
}
