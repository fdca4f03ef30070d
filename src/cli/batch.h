#pragma once
/*
 * cli/batch.h - one request for each of several names, then waits for all of them.
 *
 * Used by start, stop, restart, pause, resume and the delete verbs.  All requests are sent first,
 * so that the server works on them at the same time.  A name that fails does not stop the others;
 * each failure is one line, and the exit code is 1.
 */
#include <jansson.h>
#include <stdbool.h>

struct arguments;
struct cli;
struct error;

struct batch {
	const char *doing;      /* "stopping" */
	const char *done;       /* "stopped" */
	const char *method;     /* "PUT" */
	const char *collection; /* "instances" */
	const char *suffix;     /* behind the name: "/state", "?force=1" */
	const json_t *body;     /* or NULL */
	bool force_hint;        /* it is in use: --force helps */
};

int batch_run(struct cli *cli, const struct batch *batch, const struct arguments *arguments,
	      struct error *err);
