#include "codec/file_stat.h"

#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/mem.h"

char *file_stat_name(const char *path)
{
	size_t size = strlen(path), start;

	for (;;) {
		while (size > 0 && path[size - 1] == '/')
			size--;
		if (size < 2 || path[size - 1] != '.' || path[size - 2] != '/')
			break;
		size--;
	}
	for (start = size; start > 0 && path[start - 1] != '/'; start--)
		;
	if (size == start || (size - start == 2 && memcmp(path + start, "..", 2) == 0))
		return mem_strdup(".");
	return mem_strndup(path + start, size - start);
}

/* Text for people: what is not UTF-8 becomes '?'. */
static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);

	if (value)
		return value;
	AUTO(free) char *copy = mem_strdup(text);
	for (char *p = copy; *p; p++)
		if ((unsigned char) *p >= 0x80)
			*p = '?';
	return json_string(copy);
}

static const char *type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "folder";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "device";
	}
}

char *file_stat_line(const char *name, const struct stat *st, const char *link_target)
{
	AUTO(json_decref)
	json_t *line = json_pack("{s:o, s:s, s:i, s:I, s:I, s:I}", "name", text_json(name), "type",
				 type_of(st->st_mode), "mode", (int) (st->st_mode & 07777), "uid",
				 (json_int_t) st->st_uid, "gid", (json_int_t) st->st_gid,
				 "size_bytes", (json_int_t) st->st_size);

	json_put_time(line, "mtime",
		      (int64_t) st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000);
	if (link_target)
		json_object_set_new(line, "link_target", text_json(link_target));
	AUTO(free) char *text = json_text(line);
	return mem_printf("%s\n", text);
}
