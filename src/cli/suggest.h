#pragma once
/*
 * cli/suggest.h - the name that a misspelt word was probably meant to be.
 *
 *	struct suggestion best = { .wanted = "lunch" };
 *	suggestion_offer(&best, "launch"); ...
 *	if (best.name) ...
 */

struct suggestion {
	const char *wanted;
	const char *name; /* borrowed; NULL when nothing offered is near */
	unsigned int distance;
};

void suggestion_offer(struct suggestion *best, const char *name);

/* Edits (insert, delete, replace, swap neighbours) between two words; words over 31 characters
 * differ a lot. */
unsigned int suggestion_distance(const char *a, const char *b);
