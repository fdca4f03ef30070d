#pragma once
/*
 * api/near.h - "did you mean ...?": the known words nearest to one that is not known.
 *
 * Used for paths and for names of resources.  Pure; bounded by the length of the words.
 */
#include <stddef.h>

enum { NEAR_WORD_MAX = 96, NEAR_SHOWN = 3 };

/* Single-character edits that make `b` of `a`; words longer than NEAR_WORD_MAX are far from all. */
unsigned int near_distance(const char *a, const char *b);

struct near {
	const char *wanted;
	const char *best[NEAR_SHOWN]; /* borrowed, nearest first */
	unsigned int distance[NEAR_SHOWN];
};

/* Offers a known word; what is too far to be a slip of the fingers is dropped. */
void near_offer(struct near *near, const char *known);

/* "did you mean a, b or c?", or NULL when nothing is near.  Caller frees. */
char *near_hint(const struct near *near);
