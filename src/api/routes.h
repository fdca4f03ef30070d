#pragma once
/*
 * api/routes.h - the one table of everything the API answers to.
 *
 * Each row names a method, a path, the query members it knows and its handler; docs/openapi.json is
 * checked against this table by a test.  Used by api/server; the handlers are in the file of their
 * noun (instances.c, images.c, ...).
 */
#include <stdbool.h>
#include <stddef.h>

#include "codec/uri.h"

struct error;
struct request;

enum { ROUTE_ARGS_MAX = 2 };

enum route_kind {
	ROUTE_PLAIN,     /* the handler runs when the whole body is there */
	ROUTE_UPLOAD,    /* the handler runs when the head is there and takes the body bit by bit */
	ROUTE_WEBSOCKET, /* GET with an upgrade */
};

typedef int (*route_fn)(struct request *req, struct error *err);

struct route {
	const char *method;
	const char *path;  /* "{name}" stands for one segment */
	const char *query; /* known query members, separated by spaces; "project" always is */
	enum route_kind kind;
	route_fn handle;
	const char *selector; /* this row only when that query member is true, or NULL */
};

/* All rows; for the dispatcher and for the test of the documentation. */
const struct route *routes_all(size_t *ret_count);

struct route_match {
	const struct route *route;
	const char *args[ROUTE_ARGS_MAX]; /* borrowed from the uri */
	bool path_known;                  /* for 405: the path exists with other methods */
};

/*
 * Finds the row.  HEAD finds GET's.  Otherwise ret->route is NULL and ret->path_known says whether
 * only the method is wrong.
 */
void route_find(const char *method, const struct uri *uri, struct route_match *ret);

/* "GET, HEAD, POST, OPTIONS" for the uri's path.  Caller frees. */
char *route_allowed_methods(const struct uri *uri);

/* "did you mean '/1.0/instances'?" for a path that is not known, or NULL.  Caller frees. */
char *route_hint(const struct uri *uri);

/* -EINVAL names a query member that the route does not know. */
int route_check_query(const struct route *route, const struct uri *uri, struct error *err);
