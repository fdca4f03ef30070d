#pragma once
/*
 * cli/log_range.h - which part of a log is asked for.  Used by logs and network flows.
 */
struct clock;
struct error;

struct log_range {
	const char *tail, *since, *until; /* as typed; NULL: not given */
};

/* "&tail=-1&since_ms=...": for the query.  The caller frees. */
int log_range_query(const struct log_range *range, struct clock *clock, char **ret,
		    struct error *err);

/* The same for who has read up to `cursor` (NULL: nothing yet): its end stays.  The caller frees.
 */
char *log_range_rest(const char *query, const char *cursor);
