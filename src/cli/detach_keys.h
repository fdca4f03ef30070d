#pragma once
/*
 * cli/detach_keys.h - the keys that leave an instance without ending it.  Pure.
 *
 * Used by attach and launch.  Keys that begin the sequence are held back until the next one says
 * whether it goes on.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/strbuf.h"

struct error;

enum { DETACH_KEYS_MAX = 8 };

#define DETACH_KEYS_DEFAULT "ctrl-p,ctrl-q"

struct detach_keys {
	char keys[DETACH_KEYS_MAX];
	size_t count; /* 0: nothing leaves */
	size_t held;  /* how many were typed already */
};

/* "ctrl-p,ctrl-q", "ctrl-]", "a,b", "" for none.  -EINVAL with words. */
int detach_keys_parse(const char *text, struct detach_keys *ret, struct error *err);

/* Appends what goes on to the instance to `out`.  True when the whole sequence was typed. */
bool detach_keys_feed(struct detach_keys *keys, const char *data, size_t size, struct strbuf *out);
