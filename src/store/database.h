#pragma once
/*
 * store/database.h - the inside of the SQLite back end: keys, history, leases, and what one request
 * does to them.
 *
 * Used by store/sqlite.c, which decides when requests run and who hears of it.  A database is used
 * by one thread at a time, not always the same one.  Crash: a batch is there entirely or not at
 * all.
 */
#include <stdint.h>

#include "base/cleanup.h"

struct database;
struct error;
struct store_request;

int database_open(const char *path, uint64_t history_max, uint64_t now_ms, struct database **ret,
		  struct error *err);
void database_free(struct database *database);
DEFINE_AUTO(struct database *, database_free)

/* Executes a list of requests in one transaction and fills their answers; when it cannot be
 * committed, all of them have failed. */
void database_run(struct database *database, struct store_request *requests, uint64_t now_ms);

/* When the next lease ends, in the time of `now_ms`; UINT64_MAX = none does. */
uint64_t database_next_expiry_ms(const struct database *database);
