#pragma once
/*
 * store/sqlite.h - the store of one node: an SQLite database.
 *
 * WAL and synchronous=FULL.  Requests queue while the worker thread commits; then all that queued
 * are executed in one SQLite transaction, each in its own savepoint, and answered together: one
 * fsync for many.  Crash: SQLite's own recovery; an unanswered transaction is there or not.
 */
#include <stdint.h>
#include <systemd/sd-event.h>

struct clock;
struct error;
struct store;

struct store_sqlite_config {
	const char *path; /* ":memory:" for tests */
	struct clock *clock;
	uint64_t history_max; /* revisions that watches can go back; 0 = 4096 */
};

/* -EBUSY when another process has it open; -EBADMSG when the file is not ours or damaged. */
int store_sqlite_open(sd_event *event, const struct store_sqlite_config *config, struct store **ret,
		      struct error *err);
