#include "base/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"

/*
 * Idle threads go away after a while: a daemon at rest has one thread and one malloc arena, which
 * is where the small resident size comes from.
 */
enum { IDLE_SECONDS = 5, STACK_SIZE_BYTES = 256 * 1024 };

struct job {
	pool_work_fn work;
	pool_done_fn done;
	void *data;
	struct job *next;
};

struct queue {
	struct job *first;
	struct job **last;
};

struct pool {
	sd_event_source *source;
	int event_fd;
	unsigned int threads_max;

	pthread_mutex_t lock;
	pthread_cond_t wake;  /* workers wait for jobs */
	pthread_cond_t ended; /* pool_free() waits for workers */
	unsigned int threads;
	unsigned int idle;
	bool stopping;
	struct queue waiting;
	struct queue finished;
};

static void queue_push(struct queue *queue, struct job *job)
{
	if (!queue->first)
		queue->last = &queue->first;
	job->next = NULL;
	*queue->last = job;
	queue->last = &job->next;
}

static struct job *queue_pop(struct queue *queue)
{
	struct job *job = queue->first;

	if (job)
		queue->first = job->next;
	return job;
}

/* Waits for a job with the lock held; NULL when this thread should end. */
static struct job *wait_for_job(struct pool *pool)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_SECONDS;
	pool->idle++;
	while (!pool->waiting.first && !pool->stopping)
		if (pthread_cond_timedwait(&pool->wake, &pool->lock, &until) == ETIMEDOUT)
			break;
	pool->idle--;
	return pool->stopping ? NULL : queue_pop(&pool->waiting);
}

static void *worker(void *data)
{
	struct pool *pool = data;
	uint64_t one = 1;
	struct job *job;

	pthread_mutex_lock(&pool->lock);
	while ((job = wait_for_job(pool))) {
		pthread_mutex_unlock(&pool->lock);
		job->work(job->data);
		pthread_mutex_lock(&pool->lock);
		queue_push(&pool->finished, job);
		if (write(pool->event_fd, &one, sizeof(one)) < 0) {
			/* EAGAIN: the counter is full, so the loop is awake anyway. */
		}
	}
	pool->threads--;
	pthread_cond_signal(&pool->ended);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static int on_finished(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct pool *pool = data;
	struct queue finished;
	struct job *job;
	uint64_t count;

	(void) source;
	(void) revents;
	if (read(fd, &count, sizeof(count)) < 0) {
		/* EAGAIN: a spurious wake-up. */
	}
	pthread_mutex_lock(&pool->lock);
	finished = pool->finished;
	pool->finished = (struct queue){};
	pthread_mutex_unlock(&pool->lock);

	while ((job = queue_pop(&finished))) {
		if (job->done)
			job->done(job->data);
		free(job);
	}
	return 0;
}

int pool_new(sd_event *event, unsigned int threads_max, struct pool **ret, struct error *err)
{
	AUTO(pool_free) struct pool *pool = mem_new0(struct pool);
	int r;

	assert(threads_max > 0);
	pool->threads_max = threads_max;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);
	pthread_cond_init(&pool->ended, NULL);
	pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pool->event_fd < 0)
		return error_set(err, -errno, "eventfd");
	r = sd_event_add_io(event, &pool->source, pool->event_fd, EPOLLIN, on_finished, pool);
	if (r < 0)
		return error_set(err, r, "watch worker pool");
	*ret = TAKE_PTR(pool);
	return 0;
}

/* With the lock held.  Workers take no signals: those belong to the loop. */
static void start_thread(struct pool *pool)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE_BYTES);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	if (pthread_create(&thread, &attr, worker, pool) == 0)
		pool->threads++;
	else if (pool->threads == 0)
		abort(); /* no thread at all: the queue would never move */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

void pool_submit(struct pool *pool, pool_work_fn work, pool_done_fn done, void *data)
{
	struct job *job = mem_new0(struct job);

	*job = (struct job){ work, done, data, NULL };
	pthread_mutex_lock(&pool->lock);
	bool busy = pool->idle == 0 || pool->waiting.first;
	queue_push(&pool->waiting, job);
	if (busy && pool->threads < pool->threads_max)
		start_thread(pool);
	pthread_cond_signal(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
}

void pool_free(struct pool *pool)
{
	struct job *job;

	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->wake);
	while (pool->threads > 0)
		pthread_cond_wait(&pool->ended, &pool->lock);
	pthread_mutex_unlock(&pool->lock);

	while ((job = queue_pop(&pool->waiting)))
		free(job);
	while ((job = queue_pop(&pool->finished)))
		free(job);
	sd_event_source_disable_unref(pool->source);
	fd_close(pool->event_fd);
	pthread_cond_destroy(&pool->wake);
	pthread_cond_destroy(&pool->ended);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
