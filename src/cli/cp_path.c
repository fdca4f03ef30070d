#include "cli/cp_path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

bool cp_place_parse(const char *word, struct cp_place *ret)
{
	const char *colon = strchr(word, ':');
	const char *slash = strchr(word, '/');

	if (!colon || colon == word || word[0] == '.' || (slash && slash < colon))
		return false;
	ret->instance = mem_strndup(word, (size_t) (colon - word));
	ret->path = mem_printf("%s%s", colon[1] == '/' ? "" : "/", colon + 1);
	return true;
}

void cp_place_done(struct cp_place *place)
{
	free(place->instance);
	free(place->path);
}

/* The part behind the last slash, slashes at the end not counted; "" for "/". */
static char *last_name(const char *path)
{
	size_t size = strlen(path), start;

	while (size > 0 && path[size - 1] == '/')
		size--;
	for (start = size; start > 0 && path[start - 1] != '/'; start--)
		;
	return mem_strndup(path + start, size - start);
}

static char *folder_of(const char *path)
{
	size_t size = strlen(path);

	while (size > 0 && path[size - 1] == '/')
		size--;
	while (size > 0 && path[size - 1] != '/')
		size--;
	if (size == 0)
		return mem_strdup(".");
	while (size > 1 && path[size - 1] == '/')
		size--;
	return mem_strndup(path, size);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool ends_with_slash(const char *path)
{
	return path[0] && path[strlen(path) - 1] == '/';
}

/* Under a name of its own: what DEST calls it. */
static int plan_new(const char *dest, struct cp_target *ret, struct error *err)
{
	AUTO(free) char *name = last_name(dest);

	if (!name[0] || is_dots(name))
		return error_say(err, -EINVAL, "%s: is no name for a copy", dest);
	ret->folder = folder_of(dest);
	ret->name = TAKE_PTR(name);
	return 0;
}

int cp_plan(const char *source, enum cp_kind source_kind, const char *dest, enum cp_kind dest_kind,
	    struct cp_target *ret, struct error *err)
{
	AUTO(free) char *name = last_name(source);

	if (dest_kind == CP_FOLDER) {
		ret->folder = mem_strdup(dest);
		/* ".", "..", "/": they have no name that a copy could have. */
		if (name[0] && !is_dots(name))
			ret->name = TAKE_PTR(name);
		return 0;
	}
	if (source_kind == CP_FOLDER) {
		if (dest_kind == CP_FILE)
			return error_say(err, -ENOTDIR,
					 "%s is a file: a folder cannot be copied onto it", dest);
		return plan_new(dest, ret, err);
	}
	if (ends_with_slash(dest))
		return error_say(err, -ENOTDIR, "%s is no folder", dest);
	return plan_new(dest, ret, err);
}

void cp_target_done(struct cp_target *target)
{
	free(target->folder);
	free(target->name);
}
