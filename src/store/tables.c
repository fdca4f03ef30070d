#include "store/tables_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

enum { APPLICATION_ID = 0x6272756d, SCHEMA_VERSION = 1 };

static const char *const texts[STMT_COUNT] = {
	[STMT_BEGIN] = "BEGIN IMMEDIATE",
	[STMT_COMMIT] = "COMMIT",
	[STMT_ROLLBACK] = "ROLLBACK",
	[STMT_SAVEPOINT] = "SAVEPOINT one",
	[STMT_RELEASE] = "RELEASE one",
	[STMT_ROLLBACK_TO] = "ROLLBACK TO one",
	[STMT_GET] = "SELECT key, value, created, modified, lease FROM kv WHERE key = ?1",
	[STMT_LIST] =
		"SELECT key, value, created, modified, lease FROM kv WHERE key >= ?1 ORDER BY key",
	[STMT_PUT] = "INSERT OR REPLACE INTO kv (key, value, created, modified, lease)"
		     " VALUES (?1, ?2, ?3, ?4, ?5)",
	[STMT_DELETE] = "DELETE FROM kv WHERE key = ?1",
	[STMT_RECORD] = "INSERT OR REPLACE INTO history (revision, key, value, deleted, created)"
			" VALUES (?1, ?2, ?3, ?4, ?5)",
	[STMT_HISTORY] = "SELECT key, value, created, revision, deleted FROM history"
			 " WHERE revision >= ?1 ORDER BY revision, key",
	[STMT_FORGET] = "DELETE FROM history WHERE revision < ?1",
	[STMT_SET] = "INSERT OR REPLACE INTO counter (name, value) VALUES (?1, ?2)",
	[STMT_LEASE_KEYS] = "SELECT key FROM kv WHERE lease = ?1",
	[STMT_LEASE_PUT] = "INSERT INTO lease (id, ttl_ms) VALUES (?1, ?2)",
	[STMT_LEASE_DELETE] = "DELETE FROM lease WHERE id = ?1",
};

static const char schema[] =
	"CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT NOT NULL, created INTEGER NOT NULL,"
	" modified INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX kv_lease ON kv (lease) WHERE lease > 0;"
	"CREATE TABLE history (revision INTEGER, key TEXT, value TEXT NOT NULL, deleted INTEGER "
	"NOT NULL,"
	" created INTEGER NOT NULL, PRIMARY KEY (revision, key)) WITHOUT ROWID;"
	"CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL);"
	"PRAGMA application_id = 1651668333; PRAGMA user_version = 1;";

int tables_errno(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return -EACCES;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	default:
		return -EIO;
	}
}

void tables_bind_text(sqlite3_stmt *stmt, int index, const char *text)
{
	sqlite3_bind_text(stmt, index, text, -1, SQLITE_STATIC);
}

void tables_bind_uint(sqlite3_stmt *stmt, int index, uint64_t value)
{
	sqlite3_bind_int64(stmt, index, (sqlite3_int64) value);
}

int tables_run(struct tables *tables, enum statement which)
{
	sqlite3_stmt *stmt = tables->statements[which];
	int r = tables_errno(sqlite3_step(stmt));

	sqlite3_reset(stmt);
	return r;
}

char *tables_column_text(sqlite3_stmt *stmt, int index)
{
	const unsigned char *text = sqlite3_column_text(stmt, index);

	return mem_strdup(text ? (const char *) text : "");
}

uint64_t tables_column_uint(sqlite3_stmt *stmt, int index)
{
	return (uint64_t) sqlite3_column_int64(stmt, index);
}

/* Only its owner may read it: it holds what nobody else should see.  SQLite gives the other files
 * of the database the same mode. */
static int create_file(const char *path, struct error *err)
{
	AUTO(fd_close) int fd = -1;

	if (strcmp(path, ":memory:") == 0)
		return 0;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 ? error_set(err, -errno, "store %s", path) : 0;
}

static int get_pragma(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	int value = 0;

	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		value = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return value;
}

static int fail(struct tables *tables, int code, const char *path, struct error *err)
{
	int r = tables_errno(code);

	if (r == -EBUSY)
		return error_say(err, r, "store %s: another process has it open", path);
	return error_say(err, r, "store %s: %s", path, sqlite3_errmsg(tables->db));
}

/* Makes the tables when the file is new; refuses what is not ours. */
static int open_schema(struct tables *tables, const char *path, struct error *err)
{
	int r, version;

	r = sqlite3_exec(
		tables->db,
		"PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
		"PRAGMA synchronous = FULL; PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;"
		"PRAGMA journal_size_limit = 4194304; BEGIN IMMEDIATE;",
		NULL, NULL, NULL);
	if (r != SQLITE_OK)
		return fail(tables, r, path, err);
	version = get_pragma(tables->db, "PRAGMA user_version");
	if (version == 0 && get_pragma(tables->db, "SELECT count(*) FROM sqlite_master") == 0)
		r = sqlite3_exec(tables->db, schema, NULL, NULL, NULL);
	else if (get_pragma(tables->db, "PRAGMA application_id") != APPLICATION_ID)
		return error_say(err, -EBADMSG, "store %s: the file is not a brume store", path);
	else if (version != SCHEMA_VERSION)
		return error_say(err, -EBADMSG,
				 "store %s: has format %d, this program knows format %d", path,
				 version, SCHEMA_VERSION);
	if (r == SQLITE_OK)
		r = sqlite3_exec(tables->db, "COMMIT", NULL, NULL, NULL);
	return r == SQLITE_OK ? 0 : fail(tables, r, path, err);
}

int tables_open(const char *path, struct tables *tables, struct error *err)
{
	int r = create_file(path, err);

	if (r < 0)
		return r;
	r = sqlite3_open_v2(path, &tables->db,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (r != SQLITE_OK)
		return fail(tables, r, path, err);
	r = open_schema(tables, path, err);
	if (r < 0)
		return r;
	for (int i = 0; i < STMT_COUNT; i++) {
		r = sqlite3_prepare_v3(tables->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &tables->statements[i], NULL);
		if (r != SQLITE_OK)
			return fail(tables, r, path, err);
	}
	return 0;
}

void tables_close(struct tables *tables)
{
	for (int i = 0; i < STMT_COUNT; i++)
		sqlite3_finalize(tables->statements[i]);
	sqlite3_close(tables->db);
}
