#pragma once
/*
 * cli/cli.h - what every verb gets: where to print, how, and the server to talk to.
 *
 * Used by the verbs; made by cli/main.  One thread.  Results go to `out`, everything else
 * (progress, errors, hints) to `err`; a verb prints its result only after it has succeeded.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/table.h"

struct client;
struct error;

/* Options that every verb has. */
struct cli_options {
	const char *project;
	const char *format;
	const char *socket;
	const char *host;
	bool quiet;
	bool no_progress;
	bool help;
};

struct cli {
	FILE *out, *err;
	struct clock *clock;
	struct cli_options options;
	struct table_style style; /* of `out` */
	bool progress;            /* a line on `err` may be rewritten */
	struct client *client;    /* see cli_connect() */
	const char *verb;         /* "brume image pull" */
	bool usage;               /* the error is the user's spelling: exit code 2 */
	char hint[240];           /* printed after the error, "" = none */
};

/* The program.  Returns its exit code. */
int cli_main(char **argv, FILE *out, FILE *err);

/* The client for the server that options and environment name; made once, connects when used. */
int cli_connect(struct cli *cli, struct client **ret, struct error *err);

/* client_request() on that client; an error's hint is kept for the end. */
int cli_request(struct cli *cli, const char *method, const char *path, const json_t *body,
		json_t **ret, struct error *err);

/*
 * Keeps a hint about the call at `path` that just failed with `r`; returns `r`.  The server speaks
 * to programs: where it talks of requests, the words for people are ours.
 */
int cli_failed(struct cli *cli, const char *path, int r);

/* What helps against the error that is being returned. */
void cli_set_hint(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* An error in what was typed: words, exit code 2.  Returns -EINVAL. */
int cli_usage(struct cli *cli, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* "brume: ..." and the hint, in one colour-free piece; both made harmless. */
void cli_print_error(struct cli *cli, const char *message);

/* A remark for people on `err`; nothing with --quiet. */
void cli_note(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Pretty JSON and a line end. */
void cli_print_json(struct cli *cli, const json_t *value);
