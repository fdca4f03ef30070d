#pragma once
/*
 * store/store.h - the revisioned store: what brume remembers.
 *
 * Keys are paths ("/instance/default/web"), values opaque text.  Every transaction that changes
 * something gets the next revision.  Compares make it safe for several writers; a watch tells of
 * every change since a revision, in order and exactly once.  The interface is what both SQLite (one
 * node) and etcd (a cluster) can do; store/sqlite.h opens the former.
 *
 * Asynchronous: answers come as callbacks on the event loop, in the order of the requests, and
 * never inside the call that asked.  What was answered with success is on the disk.  Events of a
 * transaction reach watches before its answer reaches the caller (SQLite) or soon after (etcd):
 * who needs them compares revisions.
 * Threads: all functions and callbacks belong to the loop's thread.
 * Crash: the back end's; a transaction is there entirely or not at all.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct store;
struct store_watch;

enum { STORE_KEY_MAX = 1024, STORE_VALUE_MAX = 1024 * 1024 };

enum store_compare_kind {
	STORE_MOD_REVISION,    /* of the key's last write; 0 = the key is absent */
	STORE_CREATE_REVISION, /* since when the key is there: the fencing token of a lock */
	STORE_PREFIX_EMPTY,    /* no key starts with `key` */
};

enum store_op_kind { STORE_PUT, STORE_DELETE, STORE_GET };

struct store_compare {
	enum store_compare_kind kind;
	char *key;
	uint64_t revision;
};

struct store_op {
	enum store_op_kind kind;
	char *key;
	char *value;
	uint64_t lease; /* put: the key goes with this lease; 0 = it stays */
};

struct store_ops_list {
	struct store_op *ops;
	size_t count;
};

/* "If all compares hold do `then`, else do `otherwise`", as one step.  A zeroed struct is empty. */
struct store_txn {
	struct store_compare *compares;
	size_t compare_count;
	struct store_ops_list then;
	struct store_ops_list otherwise;
};

void store_txn_compare(struct store_txn *txn, enum store_compare_kind kind, const char *key,
		       uint64_t revision);
void store_ops_put(struct store_ops_list *list, const char *key, const char *value, uint64_t lease);
void store_ops_delete(struct store_ops_list *list, const char *key);
void store_ops_get(struct store_ops_list *list, const char *key);
void store_txn_done(struct store_txn *txn);
static inline void store_txn_done_autop(struct store_txn *txn)
{
	store_txn_done(txn);
}

struct store_entry {
	char *key;
	char *value;
	uint64_t create_revision;
	uint64_t mod_revision;
	uint64_t lease;
};

/* Valid during the callback. */
struct store_result {
	int error;           /* 0, or -errno: nothing was done */
	const char *message; /* why, in words; "" */
	uint64_t revision;   /* of this transaction, or the present one when nothing changed */
	bool succeeded;      /* all compares held */
	uint64_t lease;      /* store_lease_grant() */
	const struct store_entry *entries; /* of gets (those that exist) and lists, sorted by key */
	size_t entry_count;
};

typedef void (*store_done_fn)(const struct store_result *result, void *data);

/* Takes over the contents of `txn`, which is empty afterwards.  `done` may be NULL. */
void store_commit(struct store *store, struct store_txn *txn, store_done_fn done, void *data);

void store_get(struct store *store, const char *key, store_done_fn done, void *data);

/* All keys that start with `prefix`, at one revision. */
void store_list(struct store *store, const char *prefix, store_done_fn done, void *data);

/*
 * Leases: keys that must not outlive their writer.  A lease lives for `ttl_ms` since the grant or
 * the last keep-alive (and since the store was opened again); then its keys are deleted in one
 * transaction.  A lock is a key put with a lease if absent; its create revision is the fencing
 * token, which every write under the lock compares.  Keep-alive of an ended lease is -ENOENT.
 */
void store_lease_grant(struct store *store, uint64_t ttl_ms, store_done_fn done, void *data);
void store_lease_keep_alive(struct store *store, uint64_t lease, store_done_fn done, void *data);
void store_lease_revoke(struct store *store, uint64_t lease, store_done_fn done, void *data);

/* Looks at the clock now; real time does so by itself, tests that turn the clock call it. */
void store_lease_expire(struct store *store);

struct store_event {
	const char *key;
	const char *value; /* the new value; when `deleted`, the last one */
	bool deleted;
	uint64_t create_revision;
	uint64_t mod_revision; /* of this change */
};

/* How many events at the start of `events` are of one transaction. */
size_t store_events_of_transaction(const struct store_event *events, size_t count);

struct store_watch_ops {
	/* Changes of one or more transactions, complete up to `revision`. */
	void (*events)(const struct store_event *events, size_t count, uint64_t revision,
		       void *data);
	/* The watch has ended: -ESTALE = `from` is compacted away, others = the store failed. */
	void (*ended)(int error, const char *message, void *data);
};

/* Every change of keys with `prefix` at revision `from` and later.  May be freed in callbacks. */
struct store_watch *store_watch_new(struct store *store, const char *prefix, uint64_t from,
				    const struct store_watch_ops *ops, void *data);
void store_watch_free(struct store_watch *watch);
DEFINE_AUTO(struct store_watch *, store_watch_free)

/* Forgets the history before `revision`: watches from there are refused. */
void store_compact(struct store *store, uint64_t revision, store_done_fn done, void *data);

/* Work that has begun is finished; unanswered requests get -ECANCELED.  Not inside a callback. */
void store_free(struct store *store);
DEFINE_AUTO(struct store *, store_free)
