#pragma once
/*
 * cli/log_follow.h - shows a log that the server keeps, to its end or until Ctrl-C.
 *
 * Used by logs and network flows.  Nothing is lost or doubled when the server, or the node's agent,
 * is started again: the connection is made anew with the cursor of what was shown last.
 */
#include "cli/stream.h"

struct cli;
struct error;

struct log_source {
	const char *path; /* with a query, behind which the server is asked for cursors */
	/* Added to the query (log_range.h); afterwards the cursor goes on, and its end stays. */
	const char *range;
	stream_piece_fn show; /* of a stream that may be cut anywhere */
	void *userdata;
};

/* 0 at its end and after Ctrl-C; -errno when the server has said no or stays away, or `show` fails.
 */
int log_follow(struct cli *cli, const struct log_source *source, struct error *err);
