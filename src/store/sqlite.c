#include "store/sqlite.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "store/database.h"
#include "store/store_internal.h"

struct sqlite_watch {
	struct store_watch base;
	uint64_t id;
	char *prefix;
	const struct store_watch_ops *ops;
	void *data;
	bool live;  /* its history was delivered, it hears of new changes */
	bool freed; /* by a callback while the list was walked */
	struct sqlite_watch *next;
};

struct sqlite_store {
	struct store base;
	sd_event *event;
	sd_event_source *lease_timer;
	struct pool *pool; /* one thread: the database's */
	struct clock *clock;
	struct database *database;
	struct store_request *waiting, **waiting_last;
	struct store_request *batch; /* the worker has it */
	struct sqlite_watch *watches;
	uint64_t next_watch;
	uint64_t next_expiry_ms;
	bool delivering;
};

static uint64_t now_ms(struct sqlite_store *store)
{
	return clock_monotonic_us(store->clock) / 1000;
}

static void work_batch(void *data)
{
	struct sqlite_store *store = data;

	database_run(store->database, store->batch, now_ms(store));
	store->next_expiry_ms = database_next_expiry_ms(store->database);
}

static void watch_release(struct sqlite_watch *watch)
{
	free(watch->prefix);
	free(watch);
}

static void sweep_watches(struct sqlite_store *store)
{
	for (struct sqlite_watch **p = &store->watches; *p;) {
		struct sqlite_watch *watch = *p;

		if (watch->freed) {
			*p = watch->next;
			watch_release(watch);
		} else {
			p = &watch->next;
		}
	}
}

/* Tells one watch of those changes that it wants. */
static void deliver_changes(struct sqlite_watch *watch, const struct store_request *request)
{
	struct store_event *events;
	size_t count = 0;

	events = mem_new0_array(struct store_event, request->change_count);
	for (size_t i = 0; i < request->change_count; i++) {
		const struct store_change *change = &request->changes[i];

		if (strncmp(change->key, watch->prefix, strlen(watch->prefix)) == 0)
			events[count++] =
				(struct store_event){ change->key, change->value, change->deleted,
						      change->create_revision,
						      change->mod_revision };
	}
	if (count > 0)
		watch->ops->events(events, count, request->result.revision, watch->data);
	free(events);
}

/* The history of a new watch has been read. */
static void deliver_history(struct sqlite_store *store, const struct store_request *request)
{
	for (struct sqlite_watch *watch = store->watches; watch; watch = watch->next) {
		if (watch->id != request->number || watch->freed)
			continue;
		if (request->result.error < 0) {
			watch->ops->ended(request->result.error, request->message, watch->data);
			return;
		}
		watch->live = true;
		deliver_changes(watch, request);
		return;
	}
}

static void deliver(struct sqlite_store *store, struct store_request *request)
{
	if (request->kind == STORE_REQUEST_WATCH) {
		deliver_history(store, request);
		return;
	}
	for (struct sqlite_watch *watch = store->watches; request->change_count > 0 && watch;
	     watch = watch->next)
		if (watch->live && !watch->freed)
			deliver_changes(watch, request);
	store_request_answer(request);
}

static int on_lease_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct sqlite_store *store = data;

	(void) source;
	(void) usec;
	store_lease_expire(&store->base);
	return 0;
}

static void arm_lease_timer(struct sqlite_store *store)
{
	uint64_t now = now_ms(store), usec = 0;

	if (store->next_expiry_ms == UINT64_MAX) {
		store->lease_timer = sd_event_source_disable_unref(store->lease_timer);
		return;
	}
	sd_event_now(store->event, CLOCK_MONOTONIC, &usec);
	if (store->next_expiry_ms > now)
		usec += (store->next_expiry_ms - now) * 1000;
	if (!store->lease_timer) {
		sd_event_add_time(store->event, &store->lease_timer, CLOCK_MONOTONIC, usec, 1000,
				  on_lease_timer, store);
		return;
	}
	sd_event_source_set_time(store->lease_timer, usec);
	sd_event_source_set_enabled(store->lease_timer, SD_EVENT_ONESHOT);
}

static void start_batch(struct sqlite_store *store);

static void batch_done(void *data)
{
	struct sqlite_store *store = data;
	struct store_request *batch = TAKE_PTR(store->batch);

	/* The next batch commits while the answers of this one are worked on. */
	start_batch(store);
	store->delivering = true;
	while (batch) {
		struct store_request *request = batch;

		batch = request->next;
		deliver(store, request);
		store_request_free(request);
	}
	store->delivering = false;
	sweep_watches(store);
	if (!store->batch) {
		start_batch(store);
		if (!store->batch)
			arm_lease_timer(store);
	}
}

static void start_batch(struct sqlite_store *store)
{
	if (store->batch || !store->waiting)
		return;
	store->batch = TAKE_PTR(store->waiting);
	pool_submit(store->pool, work_batch, batch_done, store);
}

static void sqlite_submit(struct store *base, struct store_request *request)
{
	struct sqlite_store *store = (struct sqlite_store *) base;

	if (!store->waiting)
		store->waiting_last = &store->waiting;
	*store->waiting_last = request;
	store->waiting_last = &request->next;
	/* What callbacks ask for goes out together, when all of them have been called. */
	if (!store->delivering)
		start_batch(store);
}

static struct store_watch *sqlite_watch(struct store *base, const char *prefix, uint64_t from,
					const struct store_watch_ops *ops, void *data)
{
	struct sqlite_store *store = (struct sqlite_store *) base;
	struct sqlite_watch *watch = mem_new0(struct sqlite_watch);
	struct store_request *request = mem_new0(struct store_request);

	watch->base.store = base;
	watch->id = ++store->next_watch;
	watch->prefix = mem_strdup(prefix);
	watch->ops = ops;
	watch->data = data;
	watch->next = store->watches;
	store->watches = watch;
	*request = (struct store_request){ .kind = STORE_REQUEST_WATCH,
					   .prefix = mem_strdup(prefix),
					   .from = from,
					   .number = watch->id };
	sqlite_submit(base, request);
	return &watch->base;
}

static void sqlite_unwatch(struct store_watch *base)
{
	struct sqlite_store *store = (struct sqlite_store *) base->store;

	((struct sqlite_watch *) base)->freed = true;
	if (!store->delivering)
		sweep_watches(store);
}

static void cancel_all(struct store_request *request)
{
	while (request) {
		struct store_request *next = request->next;

		request->result.error = -ECANCELED;
		snprintf(request->message, sizeof(request->message), "the store was closed");
		store_request_answer(request);
		store_request_free(request);
		request = next;
	}
}

static void sqlite_free(struct store *base)
{
	struct sqlite_store *store = (struct sqlite_store *) base;

	/* Finishes the batch that the worker has; its answers are lost, its changes are not. */
	pool_free(store->pool);
	store->delivering = true; /* whoever asks again during the cancellation waits for ever */
	cancel_all(TAKE_PTR(store->batch));
	cancel_all(TAKE_PTR(store->waiting));
	cancel_all(TAKE_PTR(store->waiting));
	for (struct sqlite_watch *watch = store->watches; watch; watch = watch->next)
		watch->freed = true;
	sweep_watches(store);
	sd_event_source_disable_unref(store->lease_timer);
	database_free(store->database);
	sd_event_unref(store->event);
	free(store);
}

static const struct store_backend sqlite_backend = {
	.submit = sqlite_submit,
	.watch = sqlite_watch,
	.unwatch = sqlite_unwatch,
	.free = sqlite_free,
};

int store_sqlite_open(sd_event *event, const struct store_sqlite_config *config, struct store **ret,
		      struct error *err)
{
	AUTO(store_free) struct store *base = NULL;
	struct sqlite_store *store = mem_new0(struct sqlite_store);
	int r;

	base = &store->base;
	base->backend = &sqlite_backend;
	store->event = sd_event_ref(event);
	store->clock = config->clock;
	store->next_expiry_ms = UINT64_MAX;
	r = pool_new(event, 1, &store->pool, err);
	if (r < 0)
		return r;
	r = database_open(config->path, config->history_max, now_ms(store), &store->database, err);
	if (r < 0)
		return r;
	if (database_next_expiry_ms(store->database) != UINT64_MAX)
		store_lease_expire(base);
	*ret = TAKE_PTR(base);
	return 0;
}
