#pragma once
/*
 * store/tables_internal.h - the file of the SQLite back end: its tables and the statements that are
 * prepared on them.
 *
 * Used by store/database.c, which knows what they mean; one thread at a time.
 */
#include <sqlite3.h>
#include <stdint.h>

struct error;

enum statement {
	STMT_BEGIN,
	STMT_COMMIT,
	STMT_ROLLBACK,
	STMT_SAVEPOINT,
	STMT_RELEASE,
	STMT_ROLLBACK_TO,
	STMT_GET,
	STMT_LIST,
	STMT_PUT,
	STMT_DELETE,
	STMT_RECORD,
	STMT_HISTORY,
	STMT_FORGET,
	STMT_SET,
	STMT_LEASE_KEYS,
	STMT_LEASE_PUT,
	STMT_LEASE_DELETE,
	STMT_COUNT,
};

struct tables {
	sqlite3 *db;
	sqlite3_stmt *statements[STMT_COUNT];
};

/* `tables` is zeroed.  Makes the file when it is not there; tables_close() also when it fails. */
int tables_open(const char *path, struct tables *tables, struct error *err);
void tables_close(struct tables *tables);

/* What SQLite answers, as -errno; 0 for rows and for their end. */
int tables_errno(int code);

void tables_bind_text(sqlite3_stmt *stmt, int index, const char *text); /* borrowed */
void tables_bind_uint(sqlite3_stmt *stmt, int index, uint64_t value);

/* Runs a bound statement that gives no rows. */
int tables_run(struct tables *tables, enum statement which);

char *tables_column_text(sqlite3_stmt *stmt, int index); /* the caller frees */
uint64_t tables_column_uint(sqlite3_stmt *stmt, int index);
