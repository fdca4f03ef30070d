#include "net/mix_internal.h"

#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/mem.h"
#include "base/strv.h"
#include "net/name.h"

struct mix_key {
	char bridge[IF_NAMESIZE];
	uint32_t combination;
};

struct mix_use {
	struct mix_key key;
	size_t count;
	UT_hash_handle hh;
};

/* Of a list: who is on which bridge. */
struct mix_stranger {
	char owner[NAME_UID_MAX + 1];
	char bridge[IF_NAMESIZE];
	UT_hash_handle hh;
};

static void list_done(struct mix_stranger *list)
{
	struct mix_stranger *stranger, *next;

	HASH_ITER(hh, list, stranger, next)
	{
		HASH_DEL(list, stranger);
		free(stranger);
	}
}

void mix_done(struct mix *mix)
{
	struct mix_use *use, *next_use;

	HASH_ITER(hh, mix->uses, use, next_use)
	{
		HASH_DEL(mix->uses, use);
		free(use);
	}
	list_done(mix->strangers);
	list_done(mix->logged);
}

void mix_count(struct mix *mix, const char *bridge, uint32_t combination, int change)
{
	struct mix_key key = { .combination = combination };
	struct mix_use *use;

	memcpy(key.bridge, bridge, strnlen(bridge, IF_NAMESIZE - 1));
	HASH_FIND(hh, mix->uses, &key, sizeof(key), use);
	if (!use) {
		use = mem_new0(struct mix_use);
		use->key = key;
		HASH_ADD(hh, mix->uses, key, sizeof(key), use);
	}
	use->count += (size_t) change;
	if (use->count > 0)
		return;
	HASH_DEL(mix->uses, use);
	free(use);
}

static void list_set(struct mix_stranger **list, const char *owner, const char *bridge)
{
	struct mix_stranger *stranger;

	HASH_FIND_STR(*list, owner, stranger);
	if (stranger && !bridge) {
		HASH_DEL(*list, stranger);
		free(stranger);
	}
	if (!bridge)
		return;
	if (!stranger) {
		stranger = mem_new0(struct mix_stranger);
		memcpy(stranger->owner, owner, strnlen(owner, NAME_UID_MAX));
		HASH_ADD_STR(*list, owner, stranger);
	}
	memset(stranger->bridge, 0, sizeof(stranger->bridge));
	memcpy(stranger->bridge, bridge, strnlen(bridge, IF_NAMESIZE - 1));
}

static bool list_has(const struct mix_stranger *stranger, const char *bridge)
{
	for (; stranger; stranger = stranger->hh.next)
		if (strncmp(stranger->bridge, bridge, IF_NAMESIZE) == 0)
			return true;
	return false;
}

void mix_set_stranger(struct mix *mix, const char *owner, const char *bridge)
{
	list_set(&mix->strangers, owner, bridge);
}

void mix_set_logged(struct mix *mix, const char *owner, const char *bridge)
{
	list_set(&mix->logged, owner, bridge);
}

size_t mix_combinations(const struct mix *mix, const char *bridge, uint32_t **ret)
{
	const struct mix_use *use;
	uint32_t *list = NULL;
	size_t count = 0;

	for (use = mix->uses; use; use = use->hh.next) {
		if (strncmp(use->key.bridge, bridge, IF_NAMESIZE) != 0)
			continue;
		list = mem_realloc(list, count + 1, sizeof(*list));
		list[count++] = use->key.combination;
	}
	*ret = list;
	return count;
}

bool mix_has_stranger(const struct mix *mix, const char *bridge)
{
	return list_has(mix->strangers, bridge);
}

bool mix_is_logged(const struct mix *mix, const char *bridge)
{
	return list_has(mix->logged, bridge);
}

char **mix_bridges(const struct mix *mix, uint32_t combination)
{
	const struct mix_use *use;
	char **bridges = NULL;

	for (use = mix->uses; use; use = use->hh.next)
		if (use->key.combination == combination)
			strv_append(&bridges, use->key.bridge);
	return bridges;
}
