#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/store_internal.h"

/* Arrays grow when their count reaches a power of two, so that they need no capacity of their own.
 */
static void *array_grow(void *array, size_t count, size_t size)
{
	if ((count & (count - 1)) != 0)
		return array;
	return mem_realloc(array, count ? count * 2 : 1, size);
}

static void check_key(const char *key)
{
	assert(key && strlen(key) <= STORE_KEY_MAX);
}

void store_txn_compare(struct store_txn *txn, enum store_compare_kind kind, const char *key,
		       uint64_t revision)
{
	check_key(key);
	txn->compares = array_grow(txn->compares, txn->compare_count, sizeof(*txn->compares));
	txn->compares[txn->compare_count++] =
		(struct store_compare){ kind, mem_strdup(key), revision };
}

static void ops_append(struct store_ops_list *list, struct store_op op)
{
	check_key(op.key);
	list->ops = array_grow(list->ops, list->count, sizeof(*list->ops));
	list->ops[list->count++] = op;
}

void store_ops_put(struct store_ops_list *list, const char *key, const char *value, uint64_t lease)
{
	assert(strlen(value) <= STORE_VALUE_MAX);
	ops_append(list, (struct store_op){ STORE_PUT, mem_strdup(key), mem_strdup(value), lease });
}

void store_ops_delete(struct store_ops_list *list, const char *key)
{
	ops_append(list, (struct store_op){ .kind = STORE_DELETE, .key = mem_strdup(key) });
}

void store_ops_get(struct store_ops_list *list, const char *key)
{
	ops_append(list, (struct store_op){ .kind = STORE_GET, .key = mem_strdup(key) });
}

static void ops_done(struct store_ops_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->ops[i].key);
		free(list->ops[i].value);
	}
	free(list->ops);
}

void store_txn_done(struct store_txn *txn)
{
	for (size_t i = 0; i < txn->compare_count; i++)
		free(txn->compares[i].key);
	free(txn->compares);
	ops_done(&txn->then);
	ops_done(&txn->otherwise);
	*txn = (struct store_txn){};
}

void store_request_add_entry(struct store_request *request, struct store_entry entry)
{
	request->entries =
		array_grow(request->entries, request->entry_count, sizeof(*request->entries));
	request->entries[request->entry_count++] = entry;
}

void store_request_add_change(struct store_request *request, struct store_change change)
{
	request->changes =
		array_grow(request->changes, request->change_count, sizeof(*request->changes));
	request->changes[request->change_count++] = change;
}

void store_request_answer(struct store_request *request)
{
	request->result.message = request->message;
	request->result.entries = request->entries;
	request->result.entry_count = request->entry_count;
	if (request->done)
		request->done(&request->result, request->data);
}

void store_request_free(struct store_request *request)
{
	if (!request)
		return;
	store_txn_done(&request->txn);
	free(request->prefix);
	for (size_t i = 0; i < request->entry_count; i++) {
		free(request->entries[i].key);
		free(request->entries[i].value);
	}
	free(request->entries);
	for (size_t i = 0; i < request->change_count; i++) {
		free(request->changes[i].key);
		free(request->changes[i].value);
	}
	free(request->changes);
	free(request);
}

static void submit(struct store *store, struct store_request request)
{
	struct store_request *copy = mem_new0(struct store_request);

	*copy = request;
	store->backend->submit(store, copy);
}

void store_commit(struct store *store, struct store_txn *txn, store_done_fn done, void *data)
{
	struct store_txn taken = *txn;

	*txn = (struct store_txn){};
	submit(store,
	       (struct store_request){
		       .kind = STORE_REQUEST_TXN, .txn = taken, .done = done, .data = data });
}

void store_get(struct store *store, const char *key, store_done_fn done, void *data)
{
	struct store_txn txn = {};

	store_ops_get(&txn.then, key);
	store_commit(store, &txn, done, data);
}

void store_list(struct store *store, const char *prefix, store_done_fn done, void *data)
{
	submit(store, (struct store_request){ .kind = STORE_REQUEST_LIST,
					      .prefix = mem_strdup(prefix),
					      .done = done,
					      .data = data });
}

static void submit_number(struct store *store, enum store_request_kind kind, uint64_t number,
			  store_done_fn done, void *data)
{
	submit(store, (struct store_request){
			      .kind = kind, .number = number, .done = done, .data = data });
}

void store_lease_grant(struct store *store, uint64_t ttl_ms, store_done_fn done, void *data)
{
	submit_number(store, STORE_REQUEST_GRANT, ttl_ms, done, data);
}

void store_lease_keep_alive(struct store *store, uint64_t lease, store_done_fn done, void *data)
{
	submit_number(store, STORE_REQUEST_KEEP_ALIVE, lease, done, data);
}

void store_lease_revoke(struct store *store, uint64_t lease, store_done_fn done, void *data)
{
	submit_number(store, STORE_REQUEST_REVOKE, lease, done, data);
}

void store_lease_expire(struct store *store)
{
	submit_number(store, STORE_REQUEST_EXPIRE, 0, NULL, NULL);
}

void store_compact(struct store *store, uint64_t revision, store_done_fn done, void *data)
{
	submit_number(store, STORE_REQUEST_COMPACT, revision, done, data);
}

struct store_watch *store_watch_new(struct store *store, const char *prefix, uint64_t from,
				    const struct store_watch_ops *ops, void *data)
{
	return store->backend->watch(store, prefix, from, ops, data);
}

void store_watch_free(struct store_watch *watch)
{
	if (watch)
		watch->store->backend->unwatch(watch);
}

void store_free(struct store *store)
{
	if (store)
		store->backend->free(store);
}

size_t store_events_of_transaction(const struct store_event *events, size_t count)
{
	size_t n = 0;

	while (n < count && events[n].mod_revision == events[0].mod_revision)
		n++;
	return n;
}
