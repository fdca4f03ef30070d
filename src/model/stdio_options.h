#pragma once
/*
 * model/stdio_options.h - an instance's terminal, its input and the files of its log.
 *
 * Part of an instance's spec (the members stand in the spec itself).  Shared by the command line,
 * the API and the agent.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct json_reader;

enum stdin_mode {
	STDIN_NONE, /* reads nothing */
	STDIN_OPEN, /* can be written to by whoever attaches, and never ends */
	STDIN_ONCE, /* ends when the input of the first who attaches with input ends */
};
extern const char *const stdin_mode_names[];

#define LOG_BYTES_MIN (UINT64_C(64) << 10)
#define LOG_BYTES_MAX (UINT64_C(1) << 30)
enum { LOG_FILES_MIN = 2, LOG_FILES_MAX = 64 };

struct stdio_options {
	bool tty;
	enum stdin_mode stdin_mode;
	uint64_t log_max_bytes; /* of one file; 0 = 16 MiB */
	uint32_t log_max_files; /* 0 = 2 */
};

/* Members tty, stdin and log {max_bytes, max_files}. */
void stdio_options_read(struct json_reader *in, const json_t *object, struct stdio_options *stdio);
void stdio_options_put(json_t *object, const struct stdio_options *stdio);
