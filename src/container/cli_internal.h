#pragma once
/*
 * container/cli_internal.h - what the verbs share.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "container/runtime.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_verb {
	const char *name;
	const char *usage;    /* behind the name */
	const char *help;     /* one line */
	const char *examples; /* whole commands, one a line */
	int (*run)(const struct runtime_options *options, int argc, char **argv);
};

/* Says what went wrong, to the log and to stderr; returns CLI_FAILED. */
int cli_fail(const struct runtime_options *options, const struct error *err);

/* The same for a command line that makes no sense; returns CLI_USAGE. */
int cli_usage(const struct runtime_options *options, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * getopt_long() that says what was wrong; -1 at the end, '?' after an error was said.  Options end
 * at the first other word, as in runc.
 */
int cli_option(const struct runtime_options *runtime, int argc, char **argv, const char *shorts,
	       const struct option *longs);

/* The one word that must be left; NULL after an error was said. */
const char *cli_only_word(const struct runtime_options *options, int argc, char **argv,
			  const char *what);

/* A whole number of at least 0, or -EINVAL. */
int cli_number(const char *text);

/*
 * Waits for a child that runs in the foreground, passing signals on and, when `console_fd` >= 0,
 * a terminal; signals must be blocked (cli_block_signals) since before it was made.  Its exit code.
 */
int cli_wait(int pidfd, int console_fd, int *ret_code, struct error *err);
void cli_block_signals(void);

/* Closes what came from outside at exec, except stdio and the first `preserve` behind it. */
void cli_seal_fds(unsigned int preserve);

/* A relative path of the command line as an absolute one; NULL for NULL.  The caller frees. */
char *cli_absolute(const char *path);

extern const struct cli_verb cli_create, cli_run, cli_start, cli_state, cli_kill, cli_delete,
	cli_exec, cli_list, cli_pause, cli_resume, cli_features, cli_update, cli_events, cli_ps,
	cli_spec, cli_checkpoint, cli_restore;
