#pragma once
/*
 * base/names.h - the names in a folder, sorted, and how far we go with them.
 *
 * Used by those who read trees that are strangers' (image/, guest/).  No state, thread-safe.
 */
#include <stddef.h>

struct error;

enum { NAMES_BYTES_MAX = 64 << 20 };

/* A strv in the order of the bytes, without "." and "..".  `shown` is for errors. */
int names_list(int dir_fd, const char *shown, char ***ret, struct error *err);
