#pragma once
/*
 * net/ovs_db_internal.h - OVSDB's JSON-RPC (RFC 7047) to the local Open vSwitch, one transaction
 * for each connection.
 *
 *	json_t *operations = json_pack("[{s:s, ...}]", "op", "select", ...);
 *	r = ovs_db_transact(socket, operations, &results, err);
 *
 * What the daemon says is bounded and checked as if a stranger said it.  Used by ovs.c.  Blocks, up
 * to OVS_DB_PATIENCE_MS in all.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

struct error;

enum { OVS_DB_PATIENCE_MS = 8000, OVS_DB_MESSAGE_MAX = 4 * 1024 * 1024 };

/*
 * Carries out `operations` (an array, handed over) of database Open_vSwitch: all or nothing.
 * *ret_results has one object for each.  -ENOENT, -ECONNREFUSED: nobody listens, `err` says so.
 */
int ovs_db_transact(const char *socket, json_t *operations, json_t **ret_results,
		    struct error *err);

/* ---- pure parts, for tests */

/* Finds the end of the JSON object that `data` begins with. */
struct ovs_db_frame {
	size_t at; /* looked at so far */
	unsigned int depth;
	bool string, escaped;
};

/* The object's size; 0: more is needed; -EBADMSG: it is none.  `data` only grows between calls. */
long ovs_db_frame(struct ovs_db_frame *frame, const char *data, size_t size);

/*
 * What a message means: 1 and the results of `count` operations, 0 and an answer to be sent (*ret;
 * NULL: none), or an error.
 */
int ovs_db_decode(const char *data, size_t size, size_t count, json_t **ret, struct error *err);

/* Of a row; borrowed.  NULL: not there, or of another type. */
const char *ovs_db_text(const json_t *row, const char *column);
const char *ovs_db_uuid(const json_t *row);
const char *ovs_db_map_get(const json_t *row, const char *column, const char *key);

/* Whether a column that is a set of references (or one) has `uuid`. */
bool ovs_db_refers(const json_t *row, const char *column, const char *uuid);

/* The rows of a select, borrowed; an empty array when there are none. */
const json_t *ovs_db_rows(const json_t *results, size_t index);
