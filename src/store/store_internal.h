#pragma once
/*
 * store/store_internal.h - what a back end implements, and the requests it is handed.
 *
 * Private to store/.  store.c checks keys and sizes; back ends see only good requests.
 */
#include "store/store.h"

enum store_request_kind {
	STORE_REQUEST_TXN,
	STORE_REQUEST_LIST,
	STORE_REQUEST_GRANT,
	STORE_REQUEST_KEEP_ALIVE,
	STORE_REQUEST_REVOKE,
	STORE_REQUEST_EXPIRE,
	STORE_REQUEST_COMPACT,
	STORE_REQUEST_WATCH, /* the history of a new watch */
};

struct store_request {
	enum store_request_kind kind;
	struct store_txn txn;
	char *prefix;    /* list, watch */
	uint64_t number; /* lease, ttl_ms, revision; watch: its id */
	uint64_t from;   /* watch */
	store_done_fn done;
	void *data;
	struct store_request *next;

	/* The answer, filled by the back end. */
	struct store_result result;
	char message[256];
	struct store_entry *entries;
	size_t entry_count;
	struct store_change *changes; /* for watches, oldest first */
	size_t change_count;
};

/* A change of one key, owning its strings. */
struct store_change {
	char *key;
	char *value;
	bool deleted;
	uint64_t create_revision;
	uint64_t mod_revision;
};

void store_request_free(struct store_request *request);

/* Append to the answer; strings are handed over. */
void store_request_add_entry(struct store_request *request, struct store_entry entry);
void store_request_add_change(struct store_request *request, struct store_change change);

/* Calls `done` with the answer, unless there is none to call. */
void store_request_answer(struct store_request *request);

struct store_backend {
	/* Takes the request over; answers it by calling its `done`, later and from the loop. */
	void (*submit)(struct store *store, struct store_request *request);
	struct store_watch *(*watch)(struct store *store, const char *prefix, uint64_t from,
				     const struct store_watch_ops *ops, void *data);
	void (*unwatch)(struct store_watch *watch);
	void (*free)(struct store *store);
};

/* First member of every back end's store, and of its watches. */
struct store {
	const struct store_backend *backend;
};

struct store_watch {
	struct store *store;
};
