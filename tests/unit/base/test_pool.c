#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/pool.h"

struct task {
	sd_event *event;
	pthread_t loop;
	int *left;
	bool worked;
	bool done_on_loop;
};

static void work(void *data)
{
	struct task *task = data;

	task->worked = !pthread_equal(pthread_self(), task->loop);
}

static void done(void *data)
{
	struct task *task = data;

	task->done_on_loop = pthread_equal(pthread_self(), task->loop);
	if (--*task->left == 0)
		sd_event_exit(task->event, 0);
}

static void runs_everything(void **state)
{
	AUTO(pool_free) struct pool *pool = NULL;
	static struct task tasks[500];
	sd_event *event = NULL;
	int left = 500;

	(void) state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(pool_new(event, 4, &pool, NULL), 0);
	for (int i = 0; i < 500; i++) {
		tasks[i] = (struct task){ event, pthread_self(), &left, false, false };
		pool_submit(pool, work, done, &tasks[i]);
	}
	assert_int_equal(sd_event_loop(event), 0);
	for (int i = 0; i < 500; i++)
		assert_true(tasks[i].worked && tasks[i].done_on_loop);
	pool_free(TAKE_PTR(pool));
	sd_event_unref(event);
}

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t change;
	bool entered;
	bool open;
	atomic_int worked;
	atomic_int told;
};

static void wait_at_gate(void *data)
{
	struct gate *gate = data;

	pthread_mutex_lock(&gate->lock);
	gate->entered = true;
	pthread_cond_broadcast(&gate->change);
	while (!gate->open)
		pthread_cond_wait(&gate->change, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
	gate->worked++;
}

static void count(void *data)
{
	struct gate *gate = data;

	gate->worked++;
}

static void tell(void *data)
{
	struct gate *gate = data;

	gate->told++;
}

static void *open_gate(void *data)
{
	struct gate *gate = data;

	pthread_mutex_lock(&gate->lock);
	gate->open = true;
	pthread_cond_broadcast(&gate->change);
	pthread_mutex_unlock(&gate->lock);
	return NULL;
}

/* What has begun is waited for, what has not is dropped; nobody is told. */
static void freeing_waits(void **state)
{
	struct gate gate = { .lock = PTHREAD_MUTEX_INITIALIZER,
			     .change = PTHREAD_COND_INITIALIZER };
	struct pool *pool = NULL;
	sd_event *event = NULL;
	pthread_t opener;

	(void) state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(pool_new(event, 1, &pool, NULL), 0);
	pool_submit(pool, wait_at_gate, tell, &gate);
	pthread_mutex_lock(&gate.lock);
	while (!gate.entered)
		pthread_cond_wait(&gate.change, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
	assert_int_equal(pthread_create(&opener, NULL, open_gate, &gate), 0);
	pool_free(pool);
	pthread_join(opener, NULL);
	assert_int_equal(gate.worked, 1);
	assert_int_equal(gate.told, 0);
	pool_free(NULL);
	sd_event_unref(event);
}

static void later_work_finds_threads_again(void **state)
{
	AUTO(pool_free) struct pool *pool = NULL;
	struct gate gate = { .lock = PTHREAD_MUTEX_INITIALIZER,
			     .change = PTHREAD_COND_INITIALIZER };
	sd_event *event = NULL;

	(void) state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(pool_new(event, 2, &pool, NULL), 0);
	for (int i = 0; i < 20; i++) {
		pool_submit(pool, count, tell, &gate);
		while (gate.told == i)
			assert_true(sd_event_run(event, UINT64_MAX) >= 0);
	}
	assert_int_equal(gate.worked, 20);
	pool_free(TAKE_PTR(pool));
	sd_event_unref(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_everything),
		cmocka_unit_test(freeing_waits),
		cmocka_unit_test(later_work_finds_threads_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
