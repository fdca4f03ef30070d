#pragma once
/*
 * base/strv.h - NULL-terminated arrays of strings, as exec() takes them.  NULL is an empty one.
 * The array and its strings belong to the holder; strv_free() releases both.
 */
#include <stddef.h>

#include "base/cleanup.h"

size_t strv_count(char *const *strv);
char **strv_copy(char *const *strv);           /* NULL for NULL */
void strv_append(char ***strv, const char *s); /* copies s */
void strv_append_take(char ***strv, char *s);  /* s is handed over */
int strv_equal(char *const *a, char *const *b);
int strv_contains(char *const *strv, const char *s);

/* "NAME=value" lists: the value of NAME (borrowed) or NULL; set replaces or appends, unset
 * removes. */
const char *strv_env_get(char *const *strv, const char *name);
void strv_env_set(char ***strv, const char *name, const char *value);
void strv_env_unset(char ***strv, const char *name);

void strv_free(char **strv);
DEFINE_AUTO(char **, strv_free)
