#pragma once
/*
 * codec/hardlinks.h - which file of a tree came before under another name.
 *
 * Used by those who write a tree as a tar (image/, client/, guest/), each on one thread.  Remembers
 * at most as many files as it is told to: those that come later are written once for each name.
 */
#include <stddef.h>
#include <sys/stat.h>

struct hardlink;

struct hardlinks {
	size_t count_max;
	size_t count;
	struct hardlink *table;
};

/*
 * The name under which this file came before, valid until hardlinks_done(); NULL: this is the first
 * one, and is remembered as `name`.
 */
const char *hardlinks_first(struct hardlinks *links, const struct stat *st, const char *name);

void hardlinks_done(struct hardlinks *links);
static inline void hardlinks_done_autop(struct hardlinks *links)
{
	hardlinks_done(links);
}
