/*
 * A list of what differs.  A folder counts as changed when something in it did, or when its own
 * owner, mode, attributes or time are others; a file that was only opened for writing, and is still
 * the same, does not.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "image/files_internal.h"
#include "image/rootfs.h"
#include "image/upper_internal.h"
#include "image/worker.h"

enum { CHANGES_MAX = 4 << 20, COPY_SIZE = 64 << 10, WRITE_SIZE = 64 << 10, LINK_MAX = 4096 };

struct change {
	char *path;
	char kind;
};

struct changes {
	struct change *list;
	size_t count, capacity;
};

static int add(struct upper *upper, struct changes *changes, char kind, const char *path)
{
	if (changes->count == CHANGES_MAX)
		return error_say(upper->err, -E2BIG, "more than %d files have changed",
				 CHANGES_MAX);
	if (changes->count == changes->capacity) {
		changes->capacity = changes->capacity ? changes->capacity * 2 : 256;
		changes->list =
			mem_realloc(changes->list, changes->capacity, sizeof(*changes->list));
	}
	changes->list[changes->count++] = (struct change){ mem_strdup(path), kind };
	return 0;
}

static bool same_attributes(const struct upper *upper, const struct upper_entry *entry)
{
	const struct stat *a = &entry->st, *b = &entry->lower_st;

	return a->st_mode == b->st_mode &&
	       a->st_uid - upper->owner_base == b->st_uid - (uint32_t) LAYER_UID_BASE &&
	       a->st_gid - upper->owner_base == b->st_gid - (uint32_t) LAYER_UID_BASE;
}

static bool same_xattrs(const struct upper *upper, int fd, int lower_fd)
{
	AUTO(free) char *names = NULL;
	AUTO(free) char *lower_names = NULL;
	AUTO(free) char *value = mem_zalloc(UPPER_XATTR_MAX);
	AUTO(free) char *lower_value = mem_zalloc(UPPER_XATTR_MAX);
	size_t size = upper_xattr_names(fd, &names);

	if (upper_xattr_names(lower_fd, &lower_names) != size ||
	    memcmp(names, lower_names, size) != 0)
		return false;
	for (const char *name = names; name < names + size; name += strlen(name) + 1) {
		ssize_t n = upper_xattr(fd, name, upper->owner_base, value);

		if (upper_xattr(lower_fd, name, LAYER_UID_BASE, lower_value) != n ||
		    (n > 0 && memcmp(value, lower_value, (size_t) n) != 0))
			return false;
	}
	return true;
}

static bool same_time(const struct stat *a, const struct stat *b)
{
	return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool same_bytes(int fd, int lower_fd)
{
	AUTO(free) char *a = mem_zalloc(COPY_SIZE);
	AUTO(free) char *b = mem_zalloc(COPY_SIZE);

	for (off_t at = 0;;) {
		ssize_t n = pread(fd, a, COPY_SIZE, at);

		if (n < 0 || pread(lower_fd, b, COPY_SIZE, at) != n ||
		    memcmp(a, b, (size_t) n) != 0)
			return false;
		if (n == 0)
			return true;
		at += n;
	}
}

static bool same_target(const struct upper_entry *entry)
{
	char a[LINK_MAX], b[LINK_MAX];
	ssize_t n = readlinkat(entry->dir_fd, entry->name, a, sizeof(a));

	return n >= 0 && readlinkat(entry->lower_dir_fd, entry->name, b, sizeof(b)) == n &&
	       memcmp(a, b, (size_t) n) == 0;
}

/* What is no folder, and there before and now. */
static bool is_same(const struct upper *upper, const struct upper_entry *entry)
{
	const struct stat *a = &entry->st, *b = &entry->lower_st;
	AUTO(fd_close) int fd = -1;
	AUTO(fd_close) int lower_fd = -1;

	if (!same_attributes(upper, entry) || !same_time(a, b))
		return false;
	if (S_ISLNK(a->st_mode))
		return same_target(entry);
	if (!S_ISREG(a->st_mode))
		return a->st_rdev == b->st_rdev;
	if (a->st_size != b->st_size)
		return false;
	fd = files_open_child(entry->dir_fd, entry->name, O_RDONLY);
	lower_fd = files_open_child(entry->lower_dir_fd, entry->name, O_RDONLY);
	return fd >= 0 && lower_fd >= 0 && same_xattrs(upper, fd, lower_fd) &&
	       same_bytes(fd, lower_fd);
}

static int visit(struct upper *upper, const struct upper_entry *entry, void *data)
{
	if (entry->whiteout)
		return add(upper, data, 'D', entry->path);
	if (!entry->has_lower)
		return add(upper, data, 'A', entry->path);
	if (S_ISDIR(entry->st.st_mode))
		return S_ISDIR(entry->lower_st.st_mode) ? 0 : add(upper, data, 'C', entry->path);
	return is_same(upper, entry) ? 0 : add(upper, data, 'C', entry->path);
}

/* Is something of what is below the folder in the list?  It was added last. */
static bool has_child(const struct changes *changes, const char *path)
{
	size_t size = strlen(path);
	const char *last = changes->count > 0 ? changes->list[changes->count - 1].path : "";

	return strncmp(last, path, size) == 0 && last[size] == '/';
}

static int leave(struct upper *upper, const struct upper_entry *entry, bool noise, void *data)
{
	struct changes *changes = data;

	if (!entry->has_lower || !S_ISDIR(entry->lower_st.st_mode) || !entry->path[0])
		return 0;
	/* Making a place to mount on changes the folder's time. */
	if (!has_child(changes, entry->path) && same_attributes(upper, entry) &&
	    (noise || same_time(&entry->st, &entry->lower_st)) &&
	    (entry->lower.count == 0 || same_xattrs(upper, entry->fd, entry->lower.fds[0])))
		return 0;
	return add(upper, changes, 'C', entry->path);
}

static int hidden(struct upper *upper, const char *path, void *data)
{
	return add(upper, data, 'D', path);
}

/* A folder before what is in it, and that before its next neighbour. */
static int compare(const void *a, const void *b)
{
	const unsigned char *x = (const unsigned char *) ((const struct change *) a)->path;
	const unsigned char *y = (const unsigned char *) ((const struct change *) b)->path;

	while (*x && *x == *y)
		x++, y++;
	if (*x == '/' || *y == '/')
		return *x == *y ? 0 : *x == '\0' ? -1 : *y == '\0' ? 1 : *x == '/' ? -1 : 1;
	return *x - *y;
}

/* Bytes that are not UTF-8 become U+FFFD, one each. */
static json_t *path_json(const char *path)
{
	json_t *value = json_string(path);
	AUTO(strbuf_done) struct strbuf out = {};

	for (const char *p = path; !value && *p; p++) {
		size_t size = 4;
		json_t *one = NULL;

		/* The longest piece that is a character. */
		for (; size > 0 && !one; size--)
			one = strnlen(p, size) == size ? json_stringn(p, size) : NULL;
		if (one && json_string_length(one) > 0) {
			strbuf_append(&out, p, json_string_length(one));
			p += json_string_length(one) - 1;
		} else {
			strbuf_puts(&out, "\xef\xbf\xbd");
		}
		json_decref(one);
	}
	return value ? value : json_string(strbuf_str(&out));
}

static int print(struct upper *upper, const struct changes *changes)
{
	AUTO(strbuf_done) struct strbuf out = {};
	int r = 0;

	strbuf_puts(&out, "{\"type\":\"sync\",\"metadata\":[");
	for (size_t i = 0; r == 0 && i < changes->count; i++) {
		const struct change *change = &changes->list[i];
		AUTO(json_decref)
		json_t *one = json_pack("{s:s%, s:o}", "kind", &change->kind, (size_t) 1, "path",
					path_json(change->path));
		AUTO(free) char *text = json_text(one);

		strbuf_printf(&out, "%s%s", i > 0 ? "," : "", text);
		if (out.size >= WRITE_SIZE) {
			r = file_write_all(WORKER_INPUT_FD, out.data, out.size);
			out.size = 0;
		}
	}
	strbuf_puts(&out, "]}");
	if (r == 0)
		r = file_write_all(WORKER_INPUT_FD, out.data, out.size);
	return r < 0 ? error_set(upper->err, r, "write to the stream") : 0;
}

int upper_changes(struct upper *upper)
{
	static const struct upper_ops ops = { visit, leave, hidden };
	struct changes changes = {};
	int r = upper_walk(upper, &ops, &changes);

	if (r == 0) {
		qsort(changes.list, changes.count, sizeof(*changes.list), compare);
		r = print(upper, &changes);
	}
	for (size_t i = 0; i < changes.count; i++)
		free(changes.list[i].path);
	free(changes.list);
	return r;
}
