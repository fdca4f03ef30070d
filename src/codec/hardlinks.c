#include "codec/hardlinks.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/mem.h"

struct hardlink {
	UT_hash_handle hh;
	struct {
		uint64_t dev, ino;
	} key;
	char *name;
};

const char *hardlinks_first(struct hardlinks *links, const struct stat *st, const char *name)
{
	struct hardlink *link, look;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return NULL;
	memset(&look, 0, sizeof(look));
	look.key.dev = st->st_dev;
	look.key.ino = st->st_ino;
	HASH_FIND(hh, links->table, &look.key, sizeof(look.key), link);
	if (link)
		return link->name;
	if (links->count >= links->count_max)
		return NULL;
	link = mem_new0(struct hardlink);
	link->key = look.key;
	link->name = mem_strdup(name);
	HASH_ADD(hh, links->table, key, sizeof(link->key), link);
	links->count++;
	return NULL;
}

void hardlinks_done(struct hardlinks *links)
{
	struct hardlink *link, *next;

	HASH_ITER(hh, links->table, link, next)
	{
		HASH_DEL(links->table, link);
		free(link->name);
		free(link);
	}
	links->count = 0;
}
