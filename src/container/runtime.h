#pragma once
/*
 * container/runtime.h - what the command line said, for all verbs.
 */
#include <stdbool.h>

struct runtime_options {
	const char *root; /* folder of the records */
	const char *log;  /* file, or NULL: stderr */
	bool log_json;
};
