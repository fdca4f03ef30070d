#include "store/database.h"

#include <assert.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "store/store_internal.h"
#include "store/tables_internal.h"

enum { HISTORY_DEFAULT = 4096 };

struct lease {
	uint64_t id;
	uint64_t ttl_ms;
	uint64_t expires_ms;
};

struct database {
	struct tables tables;
	uint64_t history_max;
	uint64_t revision;
	uint64_t oldest;     /* history before this revision is gone */
	uint64_t next_lease; /* ids are never used again */
	struct lease *leases;
	size_t lease_count;
	size_t lease_capacity;
};

static sqlite3_stmt *statement(struct database *database, enum statement which)
{
	return database->tables.statements[which];
}

static int run(struct database *database, enum statement which)
{
	return tables_run(&database->tables, which);
}

static struct store_entry column_entry(sqlite3_stmt *stmt)
{
	return (struct store_entry){ tables_column_text(stmt, 0), tables_column_text(stmt, 1),
				     tables_column_uint(stmt, 2), tables_column_uint(stmt, 3),
				     tables_column_uint(stmt, 4) };
}

/* 1 and *ret (strings are the caller's), 0 when the key is absent, -errno. */
static int get(struct database *database, const char *key, struct store_entry *ret)
{
	sqlite3_stmt *stmt = statement(database, STMT_GET);
	int r;

	tables_bind_text(stmt, 1, key);
	r = sqlite3_step(stmt);
	if (r == SQLITE_ROW)
		*ret = column_entry(stmt);
	sqlite3_reset(stmt);
	return r == SQLITE_ROW ? 1 : tables_errno(r);
}

static int list(struct database *database, const char *prefix, struct store_request *request)
{
	sqlite3_stmt *stmt = statement(database, STMT_LIST);
	size_t size = strlen(prefix);
	int r;

	tables_bind_text(stmt, 1, prefix);
	while ((r = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *key = (const char *) sqlite3_column_text(stmt, 0);

		if (!key || strncmp(key, prefix, size) != 0)
			break;
		store_request_add_entry(request, column_entry(stmt));
	}
	sqlite3_reset(stmt);
	return tables_errno(r);
}

/* 1 when no key has the prefix. */
static int prefix_is_empty(struct database *database, const char *prefix)
{
	sqlite3_stmt *stmt = statement(database, STMT_LIST);
	int r, empty = 1;

	tables_bind_text(stmt, 1, prefix);
	r = sqlite3_step(stmt);
	if (r == SQLITE_ROW) {
		const char *key = (const char *) sqlite3_column_text(stmt, 0);

		empty = !key || strncmp(key, prefix, strlen(prefix)) != 0;
	}
	sqlite3_reset(stmt);
	return tables_errno(r) < 0 ? tables_errno(r) : empty;
}

/* 1 when the compare holds. */
static int compare_holds(struct database *database, const struct store_compare *compare)
{
	struct store_entry entry = {};
	int r;

	if (compare->kind == STORE_PREFIX_EMPTY)
		return prefix_is_empty(database, compare->key);
	r = get(database, compare->key, &entry);
	free(entry.key);
	free(entry.value);
	if (r < 0)
		return r;
	return (compare->kind == STORE_MOD_REVISION ? entry.mod_revision : entry.create_revision) ==
	       compare->revision;
}

static int record(struct database *database, struct store_request *request, const char *key,
		  char *value, bool deleted, uint64_t create_revision)
{
	sqlite3_stmt *stmt = statement(database, STMT_RECORD);
	uint64_t revision = database->revision + 1;

	tables_bind_uint(stmt, 1, revision);
	tables_bind_text(stmt, 2, key);
	tables_bind_text(stmt, 3, value);
	tables_bind_uint(stmt, 4, deleted);
	tables_bind_uint(stmt, 5, create_revision);
	store_request_add_change(request, (struct store_change){ mem_strdup(key), value, deleted,
								 create_revision, revision });
	return run(database, STMT_RECORD);
}

static bool lease_exists(const struct database *database, uint64_t id)
{
	for (size_t i = 0; i < database->lease_count; i++)
		if (database->leases[i].id == id)
			return true;
	return false;
}

static int put(struct database *database, struct store_request *request, const struct store_op *op)
{
	struct store_entry old = { .create_revision = database->revision + 1 };
	sqlite3_stmt *stmt = statement(database, STMT_PUT);
	int r;

	if (op->lease && !lease_exists(database, op->lease))
		return -ENOENT;
	r = get(database, op->key, &old);
	free(old.key);
	free(old.value);
	if (r < 0)
		return r;
	tables_bind_text(stmt, 1, op->key);
	tables_bind_text(stmt, 2, op->value);
	tables_bind_uint(stmt, 3, old.create_revision);
	tables_bind_uint(stmt, 4, database->revision + 1);
	tables_bind_uint(stmt, 5, op->lease);
	r = run(database, STMT_PUT);
	if (r < 0)
		return r;
	return record(database, request, op->key, mem_strdup(op->value), false,
		      old.create_revision);
}

static int delete_key(struct database *database, struct store_request *request, const char *key)
{
	struct store_entry old = {};
	int r = get(database, key, &old);

	if (r <= 0)
		return r;
	tables_bind_text(statement(database, STMT_DELETE), 1, key);
	r = run(database, STMT_DELETE);
	if (r < 0)
		free(old.value);
	else
		r = record(database, request, key, old.value, true, old.create_revision);
	free(old.key);
	return r;
}

static int run_ops(struct database *database, struct store_request *request,
		   const struct store_ops_list *ops)
{
	struct store_entry entry;
	int r = 0;

	for (size_t i = 0; i < ops->count && r >= 0; i++) {
		const struct store_op *op = &ops->ops[i];

		if (op->kind == STORE_PUT) {
			r = put(database, request, op);
		} else if (op->kind == STORE_DELETE) {
			r = delete_key(database, request, op->key);
		} else {
			r = get(database, op->key, &entry);
			if (r > 0)
				store_request_add_entry(request, entry);
		}
	}
	return r;
}

static int run_txn(struct database *database, struct store_request *request)
{
	bool holds = true;

	for (size_t i = 0; i < request->txn.compare_count && holds; i++) {
		int r = compare_holds(database, &request->txn.compares[i]);

		if (r < 0)
			return r;
		holds = r;
	}
	request->result.succeeded = holds;
	return run_ops(database, request, holds ? &request->txn.then : &request->txn.otherwise);
}

static int set_counter(struct database *database, const char *name, uint64_t value)
{
	tables_bind_text(statement(database, STMT_SET), 1, name);
	tables_bind_uint(statement(database, STMT_SET), 2, value);
	return run(database, STMT_SET);
}

static int forget_before(struct database *database, uint64_t revision)
{
	int r;

	if (revision > database->revision + 1)
		revision = database->revision + 1;
	if (revision <= database->oldest)
		return 0;
	tables_bind_uint(statement(database, STMT_FORGET), 1, revision);
	r = run(database, STMT_FORGET);
	if (r == 0)
		r = set_counter(database, "oldest", revision);
	if (r == 0)
		database->oldest = revision;
	return r;
}

static int run_watch(struct database *database, struct store_request *request)
{
	sqlite3_stmt *stmt = statement(database, STMT_HISTORY);
	size_t size = strlen(request->prefix);
	int r;

	if (request->from < database->oldest) {
		snprintf(request->message, sizeof(request->message),
			 "revision %llu is compacted, the oldest one known is %llu",
			 (unsigned long long) request->from, (unsigned long long) database->oldest);
		return -ESTALE;
	}
	tables_bind_uint(stmt, 1, request->from);
	while ((r = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *key = (const char *) sqlite3_column_text(stmt, 0);

		if (!key || strncmp(key, request->prefix, size) != 0)
			continue;
		store_request_add_change(
			request,
			(struct store_change){ .key = tables_column_text(stmt, 0),
					       .value = tables_column_text(stmt, 1),
					       .create_revision = tables_column_uint(stmt, 2),
					       .mod_revision = tables_column_uint(stmt, 3),
					       .deleted = tables_column_uint(stmt, 4) });
	}
	sqlite3_reset(stmt);
	return tables_errno(r);
}

static void lease_add(struct database *database, uint64_t id, uint64_t ttl_ms, uint64_t now_ms)
{
	if (database->lease_count == database->lease_capacity) {
		database->lease_capacity =
			database->lease_capacity ? database->lease_capacity * 2 : 4;
		database->leases = mem_realloc(database->leases, database->lease_capacity,
					       sizeof(*database->leases));
	}
	database->leases[database->lease_count++] = (struct lease){ id, ttl_ms, now_ms + ttl_ms };
}

static int lease_grant(struct database *database, struct store_request *request, uint64_t now_ms)
{
	uint64_t id = database->next_lease;
	sqlite3_stmt *stmt = statement(database, STMT_LEASE_PUT);
	int r;

	tables_bind_uint(stmt, 1, id);
	tables_bind_uint(stmt, 2, request->number);
	r = run(database, STMT_LEASE_PUT);
	if (r == 0)
		r = set_counter(database, "next_lease", id + 1);
	if (r < 0)
		return r;
	database->next_lease = id + 1;
	lease_add(database, id, request->number, now_ms);
	request->result.lease = id;
	return 0;
}

static int lease_end(struct database *database, struct store_request *request, size_t index)
{
	sqlite3_stmt *stmt = statement(database, STMT_LEASE_KEYS);
	uint64_t id = database->leases[index].id;
	int r;

	for (;;) {
		char *key = NULL;

		tables_bind_uint(stmt, 1, id);
		r = sqlite3_step(stmt);
		if (r == SQLITE_ROW)
			key = tables_column_text(stmt, 0);
		sqlite3_reset(stmt);
		if (!key)
			break;
		r = delete_key(database, request, key);
		free(key);
		if (r < 0)
			return r;
	}
	if (tables_errno(r) < 0)
		return tables_errno(r);
	tables_bind_uint(statement(database, STMT_LEASE_DELETE), 1, id);
	r = run(database, STMT_LEASE_DELETE);
	if (r == 0)
		database->leases[index] = database->leases[--database->lease_count];
	return r;
}

static int lease_keep_alive(struct database *database, uint64_t id, uint64_t now_ms)
{
	for (size_t i = 0; i < database->lease_count; i++) {
		struct lease *lease = &database->leases[i];

		if (lease->id == id && lease->expires_ms > now_ms) {
			lease->expires_ms = now_ms + lease->ttl_ms;
			return 0;
		}
	}
	return -ENOENT;
}

static int lease_revoke(struct database *database, struct store_request *request)
{
	for (size_t i = 0; i < database->lease_count; i++)
		if (database->leases[i].id == request->number)
			return lease_end(database, request, i);
	return -ENOENT;
}

static int lease_expire(struct database *database, struct store_request *request, uint64_t now_ms)
{
	int r = 0;

	for (size_t i = database->lease_count; i > 0 && r == 0; i--)
		if (database->leases[i - 1].expires_ms <= now_ms)
			r = lease_end(database, request, i - 1);
	return r;
}

uint64_t database_next_expiry_ms(const struct database *database)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < database->lease_count; i++)
		if (database->leases[i].expires_ms < next)
			next = database->leases[i].expires_ms;
	return next;
}

static int run_request(struct database *database, struct store_request *request, uint64_t now_ms)
{
	switch (request->kind) {
	case STORE_REQUEST_TXN:
		return run_txn(database, request);
	case STORE_REQUEST_LIST:
		return list(database, request->prefix, request);
	case STORE_REQUEST_GRANT:
		return lease_grant(database, request, now_ms);
	case STORE_REQUEST_KEEP_ALIVE:
		return lease_keep_alive(database, request->number, now_ms);
	case STORE_REQUEST_REVOKE:
		return lease_revoke(database, request);
	case STORE_REQUEST_EXPIRE:
		return lease_expire(database, request, now_ms);
	case STORE_REQUEST_COMPACT:
		return forget_before(database, request->number);
	case STORE_REQUEST_WATCH:
		return run_watch(database, request);
	}
	return -EOPNOTSUPP;
}

static void request_failed(struct database *database, struct store_request *request, int error)
{
	request->result.error = error;
	request->result.succeeded = false;
	for (size_t i = 0; i < request->change_count; i++) {
		free(request->changes[i].key);
		free(request->changes[i].value);
	}
	request->change_count = 0;
	free(request->changes);
	request->changes = NULL;
	if (request->message[0])
		return;
	if (error == -ENOENT)
		snprintf(request->message, sizeof(request->message), "the lease has ended");
	else
		snprintf(request->message, sizeof(request->message), "%s: %s",
			 sqlite3_errmsg(database->tables.db), strerror(-error));
}

/* One request in its own savepoint, so that its failure is not its neighbours'. */
static void run_one(struct database *database, struct store_request *request, uint64_t now_ms)
{
	int r = run(database, STMT_SAVEPOINT);

	if (r == 0)
		r = run_request(database, request, now_ms);
	if (r >= 0 && request->change_count > 0 && request->kind != STORE_REQUEST_WATCH) {
		r = set_counter(database, "revision", database->revision + 1);
		if (r == 0)
			database->revision++;
	}
	if (r < 0) {
		request_failed(database, request, r);
		run(database, STMT_ROLLBACK_TO);
	}
	run(database, STMT_RELEASE);
	request->result.revision = database->revision;
}

static void load(struct database *database, uint64_t now_ms)
{
	sqlite3_stmt *stmt = NULL;

	database->revision = 0;
	database->oldest = 1;
	database->next_lease = 1;
	database->lease_count = 0;
	sqlite3_prepare_v2(database->tables.db, "SELECT name, value FROM counter", -1, &stmt, NULL);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		const char *name = (const char *) sqlite3_column_text(stmt, 0);

		if (strcmp(name, "revision") == 0)
			database->revision = tables_column_uint(stmt, 1);
		else if (strcmp(name, "oldest") == 0)
			database->oldest = tables_column_uint(stmt, 1);
		else if (strcmp(name, "next_lease") == 0)
			database->next_lease = tables_column_uint(stmt, 1);
	}
	sqlite3_finalize(stmt);
	sqlite3_prepare_v2(database->tables.db, "SELECT id, ttl_ms FROM lease", -1, &stmt, NULL);
	while (sqlite3_step(stmt) == SQLITE_ROW)
		lease_add(database, tables_column_uint(stmt, 0), tables_column_uint(stmt, 1),
			  now_ms);
	sqlite3_finalize(stmt);
}

void database_run(struct database *database, struct store_request *requests, uint64_t now_ms)
{
	uint64_t revision = database->revision;
	int r = run(database, STMT_BEGIN);

	for (struct store_request *request = requests; request && r == 0; request = request->next)
		run_one(database, request, now_ms);
	if (r == 0 && database->revision > database->oldest + database->history_max * 5 / 4)
		r = forget_before(database, database->revision - database->history_max);
	if (r == 0)
		r = run(database, STMT_COMMIT);
	if (r == 0)
		return;

	for (struct store_request *request = requests; request; request = request->next) {
		request_failed(database, request, r);
		request->result.revision = revision;
	}
	run(database, STMT_ROLLBACK);
	load(database, now_ms);
}

int database_open(const char *path, uint64_t history_max, uint64_t now_ms, struct database **ret,
		  struct error *err)
{
	AUTO(database_free) struct database *database = mem_new0(struct database);
	int r = tables_open(path, &database->tables, err);

	if (r < 0)
		return r;
	database->history_max = history_max ? history_max : HISTORY_DEFAULT;
	load(database, now_ms);
	*ret = TAKE_PTR(database);
	return 0;
}

void database_free(struct database *database)
{
	if (!database)
		return;
	tables_close(&database->tables);
	free(database->leases);
	free(database);
}
