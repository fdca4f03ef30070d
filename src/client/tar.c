#include "client/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum {
	TAR_BLOCK = 512,
	TAR_NAME_MAX = 100,
	TAR_DEPTH_MAX = 64,
};

/* What the eleven octal digits of ustar can say. */
#define TAR_OCTAL_MAX UINT64_C(077777777777)

struct tar_entry {
	char *name; /* relative; folders end with '/' */
	uint64_t size;
	int64_t mtime;
	mode_t mode;
};

struct tar {
	int folder_fd;
	char *folder;
	struct tar_entry *entries;
	size_t count, capacity;
	size_t next;         /* entry whose header comes next */
	struct strbuf ready; /* headers and padding on their way out */
	int file_fd;         /* of the entry being copied, or -1 */
	uint64_t file_left;  /* bytes of it that must still come */
	size_t file_padding; /* zeros behind it */
	bool ended;          /* the end mark is in `ready` */
};

static int tar_walk(struct tar *tar, int dir_fd, const char *prefix, unsigned int depth,
		    struct error *err);

static void tar_add(struct tar *tar, char *name, const struct stat *st)
{
	if (tar->count == tar->capacity) {
		tar->capacity = tar->capacity ? tar->capacity * 2 : 64;
		tar->entries = mem_realloc(tar->entries, tar->capacity, sizeof(struct tar_entry));
	}
	tar->entries[tar->count++] = (struct tar_entry){
		.name = name,
		.size = S_ISREG(st->st_mode) ? (uint64_t) st->st_size : 0,
		.mtime = st->st_mtime > 0 ? st->st_mtime : 0,
		.mode = st->st_mode & 0777,
	};
}

static int tar_walk_entry(struct tar *tar, int dir_fd, const char *prefix, const char *name,
			  unsigned int depth, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s%s", prefix, name);
	AUTO(fd_close) int fd = -1;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, -errno, "cannot look at %s/%s", tar->folder, path);
	if (tar->count >= TAR_ENTRIES_MAX)
		return error_say(err, -E2BIG, "folder %s has more than %d files", tar->folder,
				 TAR_ENTRIES_MAX);
	if (S_ISREG(st.st_mode)) {
		tar_add(tar, TAKE_PTR(path), &st);
		return 0;
	}
	if (!S_ISDIR(st.st_mode))
		return error_say(
			err, -EINVAL,
			"%s/%s is neither a file nor a folder; an OCI layout has nothing else",
			tar->folder, path);
	if (depth >= TAR_DEPTH_MAX)
		return error_say(err, -ELOOP, "folder %s/%s is too deep", tar->folder, path);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "cannot open %s/%s", tar->folder, path);
	tar_add(tar, mem_printf("%s/", path), &st);
	return tar_walk(tar, fd, tar->entries[tar->count - 1].name, depth + 1, err);
}

static int tar_compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int tar_walk(struct tar *tar, int dir_fd, const char *prefix, unsigned int depth,
		    struct error *err)
{
	struct dirent **list = NULL;
	int count = scandirat(dir_fd, ".", &list, NULL, tar_compare_names);
	int r = 0;

	if (count < 0)
		return error_set(err, -errno, "cannot read the folder %s/%s", tar->folder, prefix);
	for (int i = 0; i < count; i++) {
		const char *name = list[i]->d_name;

		if (r == 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
			r = tar_walk_entry(tar, dir_fd, prefix, name, depth, err);
		free(list[i]);
	}
	free(list);
	return r;
}

int tar_new(const char *folder, struct tar **ret, struct error *err)
{
	AUTO(tar_free) struct tar *tar = mem_new0(struct tar);
	int r;

	tar->file_fd = -1;
	tar->folder = mem_strdup(folder);
	tar->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tar->folder_fd < 0)
		return error_set(err, -errno, "cannot open the folder %s", folder);
	r = tar_walk(tar, tar->folder_fd, "", 0, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(tar);
	return 0;
}

static void tar_put_header(struct tar *tar, const char *name, char type, mode_t mode, uint64_t size,
			   int64_t mtime)
{
	char *header = strbuf_reserve(&tar->ready, TAR_BLOCK);
	unsigned int sum = 0;

	memset(header, 0, TAR_BLOCK);
	memcpy(header, name, strnlen(name, TAR_NAME_MAX));
	snprintf(header + 100, 8, "%07o", (unsigned int) mode);
	snprintf(header + 108, 8, "%07o", 0);
	snprintf(header + 116, 8, "%07o", 0);
	snprintf(header + 124, 12, "%011llo",
		 (unsigned long long) (size > TAR_OCTAL_MAX ? TAR_OCTAL_MAX : size));
	snprintf(header + 136, 12, "%011llo", (unsigned long long) mtime & TAR_OCTAL_MAX);
	memset(header + 148, ' ', 8);
	header[156] = type;
	memcpy(header + 257, "ustar\00000", 8);
	for (int i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char) header[i];
	snprintf(header + 148, 8, "%06o", sum);
	strbuf_grown(&tar->ready, TAR_BLOCK);
}

static void tar_put_padding(struct tar *tar, size_t size)
{
	memset(strbuf_reserve(&tar->ready, size + 1), 0, size);
	strbuf_grown(&tar->ready, size);
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void tar_put_pax_record(struct strbuf *pax, const char *key, const char *value)
{
	size_t rest = strlen(key) + strlen(value) + 3, size = rest, before;

	do {
		before = size;
		size = rest + (size_t) snprintf(NULL, 0, "%zu", size);
	} while (size != before);
	strbuf_printf(pax, "%zu %s=%s\n", size, key, value);
}

static void tar_put_entry(struct tar *tar, const struct tar_entry *entry)
{
	AUTO(strbuf_done) struct strbuf pax = {};
	size_t size = strlen(entry->name);
	bool folder = entry->name[size - 1] == '/';

	if (size > TAR_NAME_MAX)
		tar_put_pax_record(&pax, "path", entry->name);
	if (entry->size > TAR_OCTAL_MAX) {
		AUTO(free) char *text = mem_printf("%llu", (unsigned long long) entry->size);

		tar_put_pax_record(&pax, "size", text);
	}
	if (pax.size > 0) {
		tar_put_header(tar, "PaxHeaders/entry", 'x', 0644, pax.size, entry->mtime);
		strbuf_append(&tar->ready, pax.data, pax.size);
		tar_put_padding(tar, (TAR_BLOCK - pax.size % TAR_BLOCK) % TAR_BLOCK);
	}
	tar_put_header(tar, entry->name, folder ? '5' : '0', entry->mode, entry->size,
		       entry->mtime);
}

/* Opens below the folder without following a link that was put there meanwhile. */
static int tar_open_file(struct tar *tar, const struct tar_entry *entry, struct error *err)
{
	struct stat st;

	tar->file_fd = openat(tar->folder_fd, entry->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (tar->file_fd < 0 || fstat(tar->file_fd, &st) < 0)
		return error_set(err, -errno, "cannot read %s/%s", tar->folder, entry->name);
	if (!S_ISREG(st.st_mode) || (uint64_t) st.st_size != entry->size)
		return error_say(err, -ESTALE, "%s/%s was changed while it was read", tar->folder,
				 entry->name);
	tar->file_left = entry->size;
	tar->file_padding = (size_t) ((TAR_BLOCK - entry->size % TAR_BLOCK) % TAR_BLOCK);
	return 0;
}

/* Puts what comes next into `ready`, or opens the next file. */
static int tar_advance(struct tar *tar, struct error *err)
{
	const struct tar_entry *entry;

	if (tar->next == tar->count) {
		tar_put_padding(tar, 2 * (size_t) TAR_BLOCK);
		tar->ended = true;
		return 0;
	}
	entry = &tar->entries[tar->next++];
	tar_put_entry(tar, entry);
	return entry->size > 0 ? tar_open_file(tar, entry, err) : 0;
}

static ssize_t tar_read_file(struct tar *tar, void *data, size_t size, struct error *err)
{
	const char *name = tar->entries[tar->next - 1].name;
	ssize_t n;

	if (size > tar->file_left)
		size = (size_t) tar->file_left;
	do
		n = read(tar->file_fd, data, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, -errno, "cannot read %s/%s", tar->folder, name);
	if (n == 0)
		return error_say(err, -ESTALE, "%s/%s was changed while it was read", tar->folder,
				 name);
	tar->file_left -= (uint64_t) n;
	if (tar->file_left == 0) {
		fd_close(TAKE_FD(tar->file_fd));
		tar_put_padding(tar, tar->file_padding);
	}
	return n;
}

ssize_t tar_read(struct tar *tar, void *data, size_t size, struct error *err)
{
	for (;;) {
		int r;

		if (tar->ready.size > 0) {
			size_t n = size < tar->ready.size ? size : tar->ready.size;

			memcpy(data, tar->ready.data, n);
			strbuf_consume(&tar->ready, n);
			return (ssize_t) n;
		}
		if (tar->file_fd >= 0)
			return tar_read_file(tar, data, size, err);
		if (tar->ended)
			return 0;
		r = tar_advance(tar, err);
		if (r < 0)
			return r;
	}
}

void tar_free(struct tar *tar)
{
	if (!tar)
		return;
	for (size_t i = 0; i < tar->count; i++)
		free(tar->entries[i].name);
	free(tar->entries);
	free(tar->folder);
	strbuf_done(&tar->ready);
	fd_close(tar->file_fd);
	fd_close(tar->folder_fd);
	free(tar);
}
