#include "vmm/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

enum { EVENTS_MAX = 32 };

struct loop_source {
	struct loop *loop;
	struct loop_source *next, **link; /* in loop->sources */
	int fd;                           /* -1: a timer */
	uint64_t due_ns;
	bool dead;
	loop_fd_fn fd_fn;
	loop_timer_fn timer_fn;
	void *data;
};

struct post {
	struct post *next;
	loop_post_fn fn;
	void *data;
	bool *done; /* of loop_call(): set and signalled under the lock; NULL: free the post */
};

struct loop {
	int epoll_fd, wake_fd;
	struct loop_source *sources;
	bool dispatching, any_dead;
	uint64_t next_due_ns; /* the earliest timer; 0: none */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t called;
	struct post *posts, **posts_end;
	bool running, quit;
	int code;
	pthread_t thread;

	/* Held by who calls directly because nobody runs the loop. */
	pthread_mutex_t idle_lock;

	bool has_thread;
	pthread_t own_thread;
	char name[16];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}

int loop_new(struct loop **ret, struct error *err)
{
	AUTO(loop_free) struct loop *loop = mem_new0(struct loop);
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	pthread_mutexattr_t recursive;

	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->called, NULL);
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&loop->idle_lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	loop->posts_end = &loop->posts;
	loop->wake_fd = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return error_set(err, -errno, "making an event loop");
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0)
		return error_set(err, -errno, "making an event loop");
	*ret = TAKE_PTR(loop);
	return 0;
}

void loop_free(struct loop *loop)
{
	struct loop_source *source;
	struct post *post;

	if (!loop)
		return;
	while ((source = loop->sources)) {
		loop->sources = source->next;
		free(source);
	}
	while ((post = loop->posts)) {
		loop->posts = post->next;
		free(post);
	}
	fd_close(loop->epoll_fd);
	fd_close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	pthread_mutex_destroy(&loop->idle_lock);
	pthread_cond_destroy(&loop->called);
	free(loop);
}

static void wake(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t n = write(loop->wake_fd, &one, sizeof(one));

	/* Full means that it wakes up anyway. */
	(void) n;
}

/* Calls everything that was posted so far.  The lock is held on entry and on return. */
static void run_posts(struct loop *loop)
{
	struct post *post = loop->posts;

	loop->posts = NULL;
	loop->posts_end = &loop->posts;
	pthread_mutex_unlock(&loop->lock);
	while (post) {
		struct post *next = post->next;

		post->fn(post->data);
		if (post->done) {
			pthread_mutex_lock(&loop->lock);
			*post->done = true;
			pthread_cond_broadcast(&loop->called);
			pthread_mutex_unlock(&loop->lock);
		} else {
			free(post);
		}
		post = next;
	}
	pthread_mutex_lock(&loop->lock);
}

static void run_timers(struct loop *loop)
{
	uint64_t now, next = 0;

	if (loop->next_due_ns == 0 || (now = now_ns()) < loop->next_due_ns)
		return;
	for (struct loop_source *source = loop->sources, *after; source; source = after) {
		after = source->next;
		if (!source->timer_fn || source->due_ns == 0 || source->due_ns > now)
			continue;
		source->due_ns = 0;
		source->timer_fn(source, source->data);
		/* Dead ones keep their place until the round is over, so `after` is valid. */
		after = source->next;
	}
	for (struct loop_source *source = loop->sources; source; source = source->next)
		if (!source->dead && source->due_ns && (next == 0 || source->due_ns < next))
			next = source->due_ns;
	loop->next_due_ns = next;
}

static void unlink_source(struct loop_source *source)
{
	*source->link = source->next;
	if (source->next)
		source->next->link = source->link;
}

static void bury(struct loop *loop)
{
	for (struct loop_source *source = loop->sources, *next; loop->any_dead && source;
	     source = next) {
		next = source->next;
		if (source->dead) {
			unlink_source(source);
			free(source);
		}
	}
	loop->any_dead = false;
}

static int wait_events(struct loop *loop, struct epoll_event *events)
{
	struct timespec timeout = {}, *limit = NULL;
	int n;

	if (loop->next_due_ns) {
		uint64_t now = now_ns();
		uint64_t left = loop->next_due_ns > now ? loop->next_due_ns - now : 0;

		timeout.tv_sec = (time_t) (left / 1000000000u);
		timeout.tv_nsec = (long) (left % 1000000000u);
		limit = &timeout;
	}
	n = epoll_pwait2(loop->epoll_fd, events, EVENTS_MAX, limit, NULL);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n;
}

static void dispatch(struct loop *loop, const struct epoll_event *events, int count)
{
	uint64_t drained;

	for (int i = 0; i < count; i++) {
		struct loop_source *source = events[i].data.ptr;

		if (!source) {
			ssize_t n = read(loop->wake_fd, &drained, sizeof(drained));

			(void) n;
		} else if (!source->dead) {
			source->fd_fn(source, source->fd, events[i].events, source->data);
		}
	}
}

int loop_run(struct loop *loop)
{
	struct epoll_event events[EVENTS_MAX];
	int r = 0;

	pthread_mutex_lock(&loop->idle_lock);
	pthread_mutex_lock(&loop->lock);
	loop->running = true;
	loop->thread = pthread_self();
	pthread_mutex_unlock(&loop->idle_lock);
	while (!loop->quit && r >= 0) {
		run_posts(loop);
		if (loop->quit || loop->posts)
			continue;
		pthread_mutex_unlock(&loop->lock);
		r = wait_events(loop, events);
		loop->dispatching = true;
		if (r > 0)
			dispatch(loop, events, r);
		run_timers(loop);
		loop->dispatching = false;
		bury(loop);
		pthread_mutex_lock(&loop->lock);
	}
	/* Who waits in loop_call() must not wait for ever. */
	while (loop->posts)
		run_posts(loop);
	loop->running = false;
	loop->quit = false;
	r = r < 0 ? r : loop->code;
	pthread_mutex_unlock(&loop->lock);
	return r;
}

void loop_quit(struct loop *loop, int code)
{
	pthread_mutex_lock(&loop->lock);
	if (!loop->quit) {
		loop->quit = true;
		loop->code = code;
	}
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
}

static void *thread_main(void *data)
{
	struct loop *loop = data;

	pthread_setname_np(pthread_self(), loop->name);
	loop_run(loop);
	return NULL;
}

int loop_start_thread(struct loop *loop, const char *name, struct error *err)
{
	int r;

	strncpy(loop->name, name, sizeof(loop->name) - 1);
	/* From now on calls wait for the thread. */
	pthread_mutex_lock(&loop->lock);
	loop->running = true;
	r = pthread_create(&loop->own_thread, NULL, thread_main, loop);
	if (r == 0)
		loop->thread = loop->own_thread;
	else
		loop->running = false;
	pthread_mutex_unlock(&loop->lock);
	if (r != 0)
		return error_set(err, -r, "starting the thread %s", name);
	loop->has_thread = true;
	return 0;
}

void loop_stop_thread(struct loop *loop)
{
	if (!loop->has_thread)
		return;
	loop_quit(loop, 0);
	pthread_join(loop->own_thread, NULL);
	loop->has_thread = false;
}

static struct loop_source *source_new(struct loop *loop, void *data)
{
	struct loop_source *source = mem_new0(struct loop_source);

	source->loop = loop;
	source->data = data;
	source->fd = -1;
	source->next = loop->sources;
	source->link = &loop->sources;
	if (source->next)
		source->next->link = &source->next;
	loop->sources = source;
	return source;
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *data,
		struct loop_source **ret)
{
	AUTO(loop_source_free) struct loop_source *source = source_new(loop, data);
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	source->fd = fd;
	source->fd_fn = fn;
	*ret = TAKE_PTR(source);
	return 0;
}

int loop_source_set_events(struct loop_source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	return epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno
											: 0;
}

int loop_add_timer(struct loop *loop, uint64_t due_ns, loop_timer_fn fn, void *data,
		   struct loop_source **ret)
{
	struct loop_source *source = source_new(loop, data);

	source->timer_fn = fn;
	loop_source_set_timer(source, due_ns);
	*ret = source;
	return 0;
}

void loop_source_set_timer(struct loop_source *source, uint64_t due_ns)
{
	struct loop *loop = source->loop;

	source->due_ns = due_ns;
	/* Too early is harmless: run_timers() looks again. */
	if (due_ns && (loop->next_due_ns == 0 || due_ns < loop->next_due_ns))
		loop->next_due_ns = due_ns;
}

void loop_source_free(struct loop_source *source)
{
	if (!source)
		return;
	if (source->fd >= 0)
		epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	if (source->loop->dispatching) {
		/* This round may still have it in its hands. */
		source->dead = true;
		source->due_ns = 0;
		source->loop->any_dead = true;
		return;
	}
	unlink_source(source);
	free(source);
}

static void post_locked(struct loop *loop, struct post *post)
{
	post->next = NULL;
	*loop->posts_end = post;
	loop->posts_end = &post->next;
}

void loop_post(struct loop *loop, loop_post_fn fn, void *data)
{
	struct post *post = mem_new0(struct post);

	post->fn = fn;
	post->data = data;
	pthread_mutex_lock(&loop->lock);
	post_locked(loop, post);
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
}

void loop_call(struct loop *loop, loop_post_fn fn, void *data)
{
	bool done = false;
	struct post post = { .fn = fn, .data = data, .done = &done };

	pthread_mutex_lock(&loop->lock);
	if (loop->running && pthread_equal(loop->thread, pthread_self())) {
		pthread_mutex_unlock(&loop->lock);
		fn(data);
		return;
	}
	if (!loop->running) {
		pthread_mutex_unlock(&loop->lock);
		pthread_mutex_lock(&loop->idle_lock);
		/* It may have begun meanwhile. */
		pthread_mutex_lock(&loop->lock);
		if (!loop->running) {
			pthread_mutex_unlock(&loop->lock);
			fn(data);
			pthread_mutex_unlock(&loop->idle_lock);
			return;
		}
		pthread_mutex_unlock(&loop->idle_lock);
	}
	post_locked(loop, &post);
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
	pthread_mutex_lock(&loop->lock);
	while (!done)
		pthread_cond_wait(&loop->called, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}
