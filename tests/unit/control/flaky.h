#pragma once
/*
 * tests/unit/control/flaky.h - a store in front of another one that fails when it is told to.
 */
#include "base/mem.h"
#include "store/store_internal.h"

struct flaky {
	struct store base;
	struct store *inner;
	unsigned int fail_writes; /* that many next transactions that write */
};

static inline void flaky_submit(struct store *store, struct store_request *request)
{
	struct flaky *flaky = (struct flaky *) store;

	if (request->kind == STORE_REQUEST_TXN && request->txn.then.count > 0 &&
	    flaky->fail_writes > 0) {
		flaky->fail_writes--;
		/* A put under a lease that nobody has is refused by every store. */
		store_ops_put(&request->txn.then, "/flaky", "x", UINT64_MAX / 2);
	}
	flaky->inner->backend->submit(flaky->inner, request);
}

static inline struct store_watch *flaky_watch(struct store *store, const char *prefix,
					      uint64_t from, const struct store_watch_ops *ops,
					      void *data)
{
	return store_watch_new(((struct flaky *) store)->inner, prefix, from, ops, data);
}

static inline void flaky_free(struct store *store)
{
	store_free(((struct flaky *) store)->inner);
	free(store);
}

static inline struct flaky *flaky_new(struct store *inner)
{
	static const struct store_backend backend = { flaky_submit, flaky_watch, NULL, flaky_free };
	struct flaky *flaky = mem_new0(struct flaky);

	flaky->base.backend = &backend;
	flaky->inner = inner;
	return flaky;
}
