#pragma once
/*
 * cli/progress.h - what an operation is doing: one rewritten line on a terminal, nothing elsewhere.
 *
 * Used by cli/wait.  One thread; prints to cli->err.
 */
#include <jansson.h>

#include "base/strbuf.h"

struct cli;

struct progress {
	struct cli *cli;
	const char *title; /* "pulling nginx" */
	size_t drawn;      /* columns on the terminal */
};

/* Redraws from an operation's status.progress. */
void progress_update(struct progress *progress, const json_t *operation);

/* Wipes the line. */
void progress_clear(struct progress *progress);

/* The line itself: "title  text  [#####.....]  12 MiB / 80 MiB", cut to `width` columns. */
void progress_put_line(struct strbuf *out, const char *title, const json_t *operation,
		       size_t width);
