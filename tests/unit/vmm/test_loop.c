#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/loop.h"

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}

struct seen {
	struct loop *loop;
	struct loop_source *sources[4];
	int pipes[2][2];
	unsigned int calls, order[8];
	pthread_t thread;
};

static void start(struct seen *seen)
{
	assert_int_equal(loop_new(&seen->loop, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pipe(seen->pipes[i]), 0);
}

static void stop(struct seen *seen)
{
	for (int i = 0; i < 4; i++)
		close(seen->pipes[i / 2][i % 2]);
	loop_free(seen->loop);
}

/* Both descriptors are ready in the same round; the first to be called frees both. */
static void free_all(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct seen *seen = data;

	(void) source;
	assert_true(fd == seen->pipes[0][0] || fd == seen->pipes[1][0]);
	assert_int_equal(events, EPOLLIN);
	seen->calls++;
	loop_source_free(seen->sources[0]);
	loop_source_free(seen->sources[1]);
	loop_quit(seen->loop, 3);
}

static void frees_in_a_callback(void **state)
{
	struct seen seen = {};

	(void) state;
	start(&seen);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(write(seen.pipes[i][1], "x", 1), 1);
		assert_int_equal(loop_add_fd(seen.loop, seen.pipes[i][0], EPOLLIN, free_all, &seen,
					     &seen.sources[i]),
				 0);
	}
	assert_int_equal(loop_run(seen.loop), 3);
	assert_int_equal(seen.calls, 1);
	stop(&seen);
}

static void quit_when_read(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct seen *seen = data;
	char c;

	(void) source, (void) events;
	assert_int_equal(read(fd, &c, 1), 1);
	if (++seen->calls == 2)
		loop_quit(seen->loop, 0);
}

static void calls_until_it_is_read(void **state)
{
	struct seen seen = {};

	(void) state;
	start(&seen);
	assert_int_equal(write(seen.pipes[0][1], "xy", 2), 2);
	assert_int_equal(loop_add_fd(seen.loop, seen.pipes[0][0], 0, quit_when_read, &seen,
				     &seen.sources[0]),
			 0);
	assert_int_equal(loop_source_set_events(seen.sources[0], EPOLLIN), 0);
	assert_int_equal(loop_run(seen.loop), 0);
	assert_int_equal(seen.calls, 2);
	stop(&seen);
}

static void refuses_a_bad_descriptor(void **state)
{
	struct seen seen = {};

	(void) state;
	start(&seen);
	assert_int_equal(loop_add_fd(seen.loop, -1, EPOLLIN, free_all, &seen, &seen.sources[0]),
			 -EBADF);
	assert_null(seen.sources[0]);
	stop(&seen);
}

static void note(struct loop_source *source, void *data)
{
	struct seen *seen = data;
	unsigned int which = 0;

	while (seen->sources[which] != source)
		which++;
	seen->order[seen->calls++] = which;
	if (which == 1 && seen->calls < 5) /* again, behind everything */
		loop_source_set_timer(source, now_ns() + 3000000);
	if (which == 0) {
		loop_source_free(source);
		loop_source_set_timer(seen->sources[3], now_ns());
	}
	if (seen->calls == 5)
		loop_quit(seen->loop, 0);
}

static void timers_come_in_time(void **state)
{
	struct seen seen = {};
	uint64_t began = now_ns();

	(void) state;
	start(&seen);
	loop_add_timer(seen.loop, began + 2000000, note, &seen, &seen.sources[0]);
	loop_add_timer(seen.loop, began + 1, note, &seen, &seen.sources[1]);
	loop_add_timer(seen.loop, 0, note, &seen, &seen.sources[2]);
	loop_add_timer(seen.loop, 0, note, &seen, &seen.sources[3]);
	assert_int_equal(loop_run(seen.loop), 0);
	assert_true(now_ns() - began >= 6000000);
	assert_int_equal(seen.order[0], 1);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_not_equal(seen.order[i], 2);
	stop(&seen);
}

static void count(void *data)
{
	struct seen *seen = data;

	seen->calls++;
	seen->thread = pthread_self();
}

static void nested(void *data)
{
	struct seen *seen = data;

	loop_call(seen->loop, count, seen);
}

static void calls_across_threads(void **state)
{
	struct seen seen = {};

	(void) state;
	start(&seen);
	/* Nobody runs it: called here. */
	loop_call(seen.loop, nested, &seen);
	assert_int_equal(seen.calls, 1);
	assert_true(pthread_equal(seen.thread, pthread_self()));
	assert_int_equal(loop_start_thread(seen.loop, "test", NULL), 0);
	/* A call is two turns of the scheduler: on a busy machine a thousand of them take minutes.
	 */
	for (int i = 0; i < 1000; i++) {
		loop_post(seen.loop, count, &seen);
		if (i % 50 == 49) {
			loop_call(seen.loop, nested, &seen);
			/* What was posted before has been called before. */
			assert_int_equal(seen.calls, 1 + (i + 1) + (i + 1) / 50);
		}
	}
	assert_int_equal(seen.calls, 1021);
	assert_false(pthread_equal(seen.thread, pthread_self()));
	loop_stop_thread(seen.loop);
	loop_call(seen.loop, count, &seen);
	assert_int_equal(seen.calls, 1022);
	assert_true(pthread_equal(seen.thread, pthread_self()));
	/* Posted and never run: no leak. */
	loop_post(seen.loop, count, &seen);
	stop(&seen);
}

static void *quit_from_afar(void *data)
{
	loop_quit(data, 7);
	return NULL;
}

static void quits_from_another_thread(void **state)
{
	struct seen seen = {};
	pthread_t thread;

	(void) state;
	start(&seen);
	assert_int_equal(pthread_create(&thread, NULL, quit_from_afar, seen.loop), 0);
	assert_int_equal(loop_run(seen.loop), 7);
	pthread_join(thread, NULL);
	stop(&seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frees_in_a_callback),
		cmocka_unit_test(calls_until_it_is_read),
		cmocka_unit_test(refuses_a_bad_descriptor),
		cmocka_unit_test(timers_come_in_time),
		cmocka_unit_test(calls_across_threads),
		cmocka_unit_test(quits_from_another_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
