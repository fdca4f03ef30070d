#include "guest/poller.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

enum { EVENTS_MAX = 32 };

struct poller_watch {
	struct poller_watch *prev, *next;
	struct poller *poller;
	poller_fn fn;
	void *data;
	int fd;          /* -1: a timer */
	uint64_t due_us; /* of a timer; 0: it was called */
	bool dead;       /* freed when the round has ended */
};

struct poller {
	int epoll_fd;
	bool stopped;
	struct poller_watch *watches;
};

int poller_new(struct poller **ret, struct error *err)
{
	struct poller *poller = mem_new0(struct poller);

	poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (poller->epoll_fd < 0) {
		free(poller);
		return error_set(err, -errno, "epoll");
	}
	*ret = poller;
	return 0;
}

void poller_free(struct poller *poller)
{
	struct poller_watch *watch, *next;

	if (!poller)
		return;
	DL_FOREACH_SAFE(poller->watches, watch, next)
	free(watch);
	close(poller->epoll_fd);
	free(poller);
}

static struct poller_watch *add(struct poller *poller, int fd, poller_fn fn, void *data)
{
	struct poller_watch *watch = mem_new0(struct poller_watch);

	*watch = (struct poller_watch){ .poller = poller, .fn = fn, .data = data, .fd = fd };
	DL_APPEND(poller->watches, watch);
	return watch;
}

int poller_watch_fd(struct poller *poller, int fd, poller_fn fn, void *data,
		    struct poller_watch **ret)
{
	struct poller_watch *watch = add(poller, fd, fn, data);
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				     .data.ptr = watch };

	if (epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		int r = -errno;

		DL_DELETE(poller->watches, watch);
		free(watch);
		return r;
	}
	*ret = watch;
	return 0;
}

struct poller_watch *poller_watch_timer(struct poller *poller, uint64_t after_ms, poller_fn fn,
					void *data)
{
	struct poller_watch *watch = add(poller, -1, fn, data);

	watch->due_us = clock_monotonic_us(clock_system()) + after_ms * 1000;
	return watch;
}

void poller_unwatch(struct poller_watch *watch)
{
	if (!watch || watch->dead)
		return;
	if (watch->fd >= 0)
		epoll_ctl(watch->poller->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->dead = true;
}

static int wait_ms(const struct poller *poller)
{
	uint64_t now = clock_monotonic_us(clock_system()), first = UINT64_MAX;
	struct poller_watch *watch;

	DL_FOREACH(poller->watches, watch)
	if (!watch->dead && watch->due_us > 0 && watch->due_us < first)
		first = watch->due_us;
	if (first == UINT64_MAX)
		return -1;
	if (first <= now)
		return 0;
	first = (first - now + 999) / 1000;
	return first > INT32_MAX ? INT32_MAX : (int) first;
}

static void call_timers(struct poller *poller)
{
	uint64_t now = clock_monotonic_us(clock_system());
	struct poller_watch *watch;

	DL_FOREACH(poller->watches, watch)
	{
		if (watch->dead || watch->due_us == 0 || watch->due_us > now)
			continue;
		watch->due_us = 0;
		watch->fn(watch->data);
	}
}

static void bury(struct poller *poller)
{
	struct poller_watch *watch, *next;

	DL_FOREACH_SAFE(poller->watches, watch, next)
	if (watch->dead) {
		DL_DELETE(poller->watches, watch);
		free(watch);
	}
}

int poller_run(struct poller *poller)
{
	struct epoll_event events[EVENTS_MAX];

	while (!poller->stopped) {
		int n = epoll_wait(poller->epoll_fd, events, EVENTS_MAX, wait_ms(poller));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n; i++) {
			struct poller_watch *watch = events[i].data.ptr;

			if (!watch->dead)
				watch->fn(watch->data);
		}
		call_timers(poller);
		bury(poller);
	}
	poller->stopped = false;
	return 0;
}

void poller_stop(struct poller *poller)
{
	poller->stopped = true;
}
