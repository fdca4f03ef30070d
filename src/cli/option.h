#pragma once
/*
 * cli/option.h - command lines: options described by tables, words, and a command of the user's.
 *
 * Used by cli/verb and every verb.  Pure functions.  Understands -x, -xyz, -xVALUE, -x VALUE,
 * --name, --name=VALUE, --name VALUE and --.  Options may stand between and behind words, but not
 * behind the first word of a COMMAND: that belongs to the command.
 */
#include <stdbool.h>
#include <stddef.h>

struct error;

enum option_kind {
	OPTION_FLAG,   /* bool */
	OPTION_STRING, /* const char *, borrowed; the last one wins */
	OPTION_LIST,   /* char **, see base/strv.h: option_release() frees it */
};

/* What a value or a word may be completed with. */
enum completion {
	COMPLETE_NOTHING,
	COMPLETE_INSTANCE,
	COMPLETE_INSTANCE_FILE, /* NAME:PATH, or a file here */
	COMPLETE_IMAGE,
	COMPLETE_NETWORK,
	COMPLETE_BALANCER,
	COMPLETE_ALGORITHM,
	COMPLETE_GROUP,
	COMPLETE_ROUTER,
	COMPLETE_OPERATION,
	COMPLETE_FORMAT,
	COMPLETE_RESTART,
	COMPLETE_PULL,
	COMPLETE_CAPABILITY,
	COMPLETE_SECCOMP,
	COMPLETE_HEALTH,
	COMPLETE_KIND,
	COMPLETE_TUNNEL,
	COMPLETE_CONDITION,
	COMPLETE_DRIVER,
	COMPLETE_MODE,
	COMPLETE_PROTOCOL,
	COMPLETE_FILE,
};

struct option_def {
	char letter;          /* 0: only the long form */
	const char *name;     /* NULL ends a table */
	const char *argument; /* shown in help; NULL for flags */
	enum option_kind kind;
	size_t offset; /* of the member in the target */
	const char *help;
	enum completion completion;
};

/* A table and the struct it fills.  Where two sets have the same letter, the first one's is meant.
 */
struct option_set {
	const struct option_def *options;
	void *target;
};

enum { OPTION_WORDS_MAX = 4096 };

struct arguments {
	char **words; /* borrowed strings in an array of its own, NULL-terminated */
	size_t word_count;
	char **command; /* points into argv, NULL-terminated; NULL when there is none */
};

/*
 * `argv` is NULL-terminated and begins with the first argument.  `words_max` words are taken; what
 * follows is the command when `has_command`, and one word too many otherwise.  `sets` ends with
 * options == NULL.  -EINVAL with words, and a suggestion for a misspelt option.
 */
int option_parse(const struct option_set *sets, char **argv, size_t words_max, bool has_command,
		 struct arguments *ret, struct error *err);

void option_release(const struct option_def *options, void *target);

void arguments_done(struct arguments *arguments);
static inline void arguments_done_autop(struct arguments *arguments)
{
	arguments_done(arguments);
}
