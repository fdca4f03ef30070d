#pragma once
/*
 * base/mem.h - small allocations that cannot fail (they abort instead).
 *
 * For sizes that our own code chooses.  A size that an outsider chose is checked against a limit
 * first and allocated with mem_try_alloc().  Used by everything.  Thread-safe.
 */
#include <stddef.h>

/* Returns `size` zeroed bytes; aborts when memory is gone.  Release with free(). */
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull));

/* Returns `size` zeroed bytes or NULL. */
void *mem_try_alloc(size_t size) __attribute__((malloc));

/* Like realloc(), for `count` elements of `size` bytes; aborts when memory is gone. */
void *mem_realloc(void *p, size_t count, size_t size) __attribute__((returns_nonnull));

/* Copies of strings; NULL stays NULL.  Release with free(). */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t size);

/* A new formatted string.  Release with free(). */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* Replaces the owned string *p by a copy of `s` (NULL allowed). */
void mem_replace(char **p, const char *s);

#define mem_new0(type) ((type *) mem_zalloc(sizeof(type)))
#define mem_new0_array(type, count) ((type *) mem_realloc_zero_(count, sizeof(type)))

void *mem_realloc_zero_(size_t count, size_t size);
