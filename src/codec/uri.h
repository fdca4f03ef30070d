#pragma once
/*
 * codec/uri.h - the target of an HTTP request: path segments and query, percent-decoded.
 *
 * Pure functions; the input is a stranger's.  A slash that was written as %2F stays inside its
 * segment, so image references can be names in a path.  Used by api/ and, for encoding, by client/.
 */
#include <stddef.h>

#include "base/cleanup.h"

struct error;

enum { URI_SIZE_MAX = 8192, URI_SEGMENTS_MAX = 16, URI_QUERY_MAX = 32 };

struct uri {
	char **segments; /* strv: "/1.0/images/a%2Fb" -> "1.0", "images", "a/b" */
	char **query;    /* strv of "NAME=value", each name once */
};

/*
 * Parses "/path?query".  -EINVAL with words for: no leading slash, a broken or NUL escape, bytes
 * that are not UTF-8, a control character, empty, "." or ".." segments, a query name twice.
 * -ENAMETOOLONG beyond the limits above.  One trailing slash is accepted.
 */
int uri_parse(const char *target, struct uri *ret, struct error *err);

/* The decoded value of a query member (borrowed; "" when it was given without '='), or NULL. */
const char *uri_query(const struct uri *uri, const char *name);

/* A new text in which everything but A-Z a-z 0-9 - . _ ~ is percent-encoded. */
char *uri_encode(const char *text);

void uri_done(struct uri *uri);
static inline void uri_done_autop(struct uri *uri)
{
	uri_done(uri);
}
