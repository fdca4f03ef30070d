#pragma once
/*
 * tests/unit/model/model_test.h - what all tests of the models include, and JSON in one line.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

/* The document that a text with ' instead of " means. */
static inline json_t *parse(const char *text)
{
	char *copy = mem_strdup(text);
	json_error_t error;

	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	json_t *doc = json_loads(copy, JSON_DECODE_ANY, &error);
	if (!doc)
		fail_msg("%s: %s", copy, error.text);
	free(copy);
	return doc;
}

static inline void assert_json_equal(json_t *a, json_t *b)
{
	char *x = json_text(a), *y = json_text(b);

	assert_string_equal(x, y);
	free(x);
	free(y);
}
