#include "client/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/hardlinks.h"
#include "codec/tar_put.h"

enum {
	TAR_DEPTH_MAX = 64,
	TAR_TREE_DEPTH_MAX = 500,
	TAR_LINK_MAX = 4096,
};

struct tar_entry {
	char *path;       /* relative to the folder */
	char *name;       /* in the tar; folders end with '/' */
	const char *link; /* name of the entry that this is a hard link to, or NULL */
	uint64_t size;
	int64_t mtime;
	uint32_t mtime_ns;
	mode_t mode; /* with the type */
	uid_t uid;
	gid_t gid;
};

struct tar {
	int folder_fd;
	char *folder;
	bool tree; /* everything that a tar can say, with owners and modes */
	struct tar_entry *entries;
	size_t count, capacity;
	struct hardlinks links;
	size_t next;         /* entry whose header comes next */
	struct strbuf ready; /* headers and padding on their way out */
	int file_fd;         /* of the entry being copied, or -1 */
	uint64_t file_left;  /* bytes of it that must still come */
	size_t file_padding; /* zeros behind it */
	bool ended;          /* the end mark is in `ready` */
};

static int tar_walk(struct tar *tar, int dir_fd, const char *path, const char *name,
		    unsigned int depth, struct error *err);

static void tar_add(struct tar *tar, const char *path, char *name, const struct stat *st)
{
	const char *link = tar->tree ? hardlinks_first(&tar->links, st, name) : NULL;

	if (tar->count == tar->capacity) {
		tar->capacity = tar->capacity ? tar->capacity * 2 : 64;
		tar->entries = mem_realloc(tar->entries, tar->capacity, sizeof(struct tar_entry));
	}
	tar->entries[tar->count++] = (struct tar_entry){
		.path = mem_strdup(path),
		.name = name,
		.link = link,
		.size = S_ISREG(st->st_mode) && !link ? (uint64_t) st->st_size : 0,
		.mtime = st->st_mtime > 0 ? st->st_mtime : 0,
		.mtime_ns = tar->tree ? (uint32_t) st->st_mtim.tv_nsec : 0,
		.mode = tar->tree ? st->st_mode : st->st_mode & (S_IFMT | 0777),
		.uid = tar->tree ? st->st_uid : 0,
		.gid = tar->tree ? st->st_gid : 0,
	};
}

/* What is neither file nor folder: 1: it is left out. */
static int tar_check_kind(const struct tar *tar, const char *path, const struct stat *st,
			  struct error *err)
{
	if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))
		return 0;
	if (!tar->tree)
		return error_say(
			err, -EINVAL,
			"%s/%s is neither a file nor a folder; an OCI layout has nothing else",
			tar->folder, path);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		return error_say(err, -EINVAL, "%s/%s is a device: it is not copied", tar->folder,
				 path);
	return S_ISSOCK(st->st_mode);
}

/* `path` and `name` of the folder, "" or with '/' at the end; `file` in it. */
static int tar_walk_entry(struct tar *tar, int dir_fd, const char *path, const char *name,
			  const char *file, unsigned int depth, struct error *err)
{
	AUTO(free) char *inside = mem_printf("%s%s", path, file);
	AUTO(free) char *inside_name = mem_printf("%s%s", name, file);
	size_t max = tar->tree ? TAR_TREE_ENTRIES_MAX : TAR_ENTRIES_MAX;
	AUTO(fd_close) int fd = -1;
	struct stat st;
	int r;

	if (fstatat(dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, -errno, "cannot look at %s/%s", tar->folder, inside);
	if (tar->count >= max)
		return error_say(err, -E2BIG, "folder %s has more than %zu files", tar->folder,
				 max);
	r = tar_check_kind(tar, inside, &st, err);
	if (r != 0)
		return r < 0 ? r : 0;
	if (!S_ISDIR(st.st_mode)) {
		tar_add(tar, inside, TAKE_PTR(inside_name), &st);
		return 0;
	}
	if (depth >= (tar->tree ? TAR_TREE_DEPTH_MAX : TAR_DEPTH_MAX))
		return error_say(err, -ELOOP, "folder %s/%s is too deep", tar->folder, inside);
	fd = openat(dir_fd, file, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "cannot open %s/%s", tar->folder, inside);
	AUTO(free) char *deeper = mem_printf("%s/", inside);
	AUTO(free) char *deeper_name = mem_printf("%s/", inside_name);
	tar_add(tar, inside, mem_strdup(deeper_name), &st);
	return tar_walk(tar, fd, deeper, deeper_name, depth + 1, err);
}

static int tar_compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int tar_walk(struct tar *tar, int dir_fd, const char *path, const char *name,
		    unsigned int depth, struct error *err)
{
	struct dirent **list = NULL;
	int count = scandirat(dir_fd, ".", &list, NULL, tar_compare_names);
	int r = 0;

	if (count < 0)
		return error_set(err, -errno, "cannot read the folder %s/%s", tar->folder, path);
	for (int i = 0; i < count; i++) {
		const char *file = list[i]->d_name;

		if (r == 0 && strcmp(file, ".") != 0 && strcmp(file, "..") != 0)
			r = tar_walk_entry(tar, dir_fd, path, name, file, depth, err);
		free(list[i]);
	}
	free(list);
	return r;
}

static struct tar *tar_alloc(const char *folder, bool tree)
{
	struct tar *tar = mem_new0(struct tar);

	tar->file_fd = tar->folder_fd = -1;
	tar->folder = mem_strdup(folder);
	tar->tree = tree;
	tar->links.count_max = TAR_TREE_ENTRIES_MAX;
	return tar;
}

int tar_new(const char *folder, struct tar **ret, struct error *err)
{
	AUTO(tar_free) struct tar *tar = tar_alloc(folder, false);
	int r;

	tar->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tar->folder_fd < 0)
		return error_set(err, -errno, "cannot open the folder %s", folder);
	r = tar_walk(tar, tar->folder_fd, "", "", 0, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(tar);
	return 0;
}

/* One thing that is no folder: its entry is read from the folder it is in. */
static int tar_add_single(struct tar *tar, const char *path, const char *name, bool follow,
			  const struct stat *st, struct error *err)
{
	const char *slash = strrchr(path, '/');
	AUTO(free)
	char *folder = slash ? mem_strndup(path, (size_t) (slash - path) + 1) : mem_strdup(".");
	int r;

	mem_replace(&tar->folder, folder);
	tar->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tar->folder_fd < 0)
		return error_set(err, -errno, "cannot open the folder %s", folder);
	r = tar_check_kind(tar, slash ? slash + 1 : path, st, err);
	if (r > 0)
		return error_say(err, -EINVAL, "%s is a socket: it is not copied", path);
	if (r < 0)
		return r;
	/* Opened at once: a name that is a link is followed only here. */
	if (S_ISREG(st->st_mode)) {
		tar->file_fd =
			open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW));
		if (tar->file_fd < 0)
			return error_set(err, -errno, "cannot open %s", path);
	}
	tar_add(tar, slash ? slash + 1 : path, mem_strdup(name), st);
	return 0;
}

int tar_new_tree(const char *path, const char *name, bool follow, struct tar **ret,
		 struct error *err)
{
	AUTO(tar_free) struct tar *tar = tar_alloc(path, true);
	AUTO(free) char *prefix = name ? mem_printf("%s/", name) : mem_strdup("");
	struct stat st;
	int r;

	if (fstatat(AT_FDCWD, path, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, -errno, "cannot open %s", path);
	if (!S_ISDIR(st.st_mode)) {
		if (!name)
			return error_say(err, -ENOTDIR, "%s is no folder", path);
		st.st_nlink = 1;
		r = tar_add_single(tar, path, name, follow, &st, err);
	} else {
		tar->folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (tar->folder_fd < 0)
			return error_set(err, -errno, "cannot open the folder %s", path);
		if (name)
			tar_add(tar, "", mem_strdup(prefix), &st);
		r = tar_walk(tar, tar->folder_fd, "", prefix, 0, err);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(tar);
	return 0;
}

static void tar_put_zeros(struct tar *tar, size_t size)
{
	memset(strbuf_reserve(&tar->ready, size + 1), 0, size);
	strbuf_grown(&tar->ready, size);
}

static char tar_type(const struct tar_entry *entry)
{
	if (entry->link)
		return TAR_HARDLINK;
	switch (entry->mode & S_IFMT) {
	case S_IFDIR:
		return TAR_FOLDER;
	case S_IFLNK:
		return TAR_SYMLINK;
	case S_IFIFO:
		return TAR_FIFO;
	default:
		return TAR_FILE;
	}
}

static int tar_put_entry(struct tar *tar, const struct tar_entry *entry, struct error *err)
{
	char target[TAR_LINK_MAX + 1] = "";
	struct tar_put put = { .type = tar_type(entry),
			       .name = entry->name,
			       .link = entry->link,
			       .size = entry->size,
			       .mode = entry->mode,
			       .uid = entry->uid,
			       .gid = entry->gid,
			       .mtime = entry->mtime,
			       .mtime_ns = entry->mtime_ns };

	if (put.type == TAR_SYMLINK) {
		ssize_t n = readlinkat(tar->folder_fd, entry->path, target, TAR_LINK_MAX);

		if (n < 0)
			return error_set(err, -errno, "cannot read the link %s/%s", tar->folder,
					 entry->path);
		target[n] = '\0';
		put.link = target;
	}
	tar_put_header(&tar->ready, &put);
	return 0;
}

/* Opens below the folder without following a link that was put there meanwhile. */
static int tar_open_file(struct tar *tar, struct tar_entry *entry, struct error *err)
{
	struct stat st;

	if (tar->file_fd < 0)
		tar->file_fd = openat(tar->folder_fd, entry->path,
				      O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (tar->file_fd < 0 || fstat(tar->file_fd, &st) < 0)
		return error_set(err, -errno, "cannot read %s/%s", tar->folder, entry->path);
	/* A log that grows is copied as long as it is now. */
	if (S_ISREG(st.st_mode) && tar->tree)
		entry->size = (uint64_t) st.st_size;
	if (!S_ISREG(st.st_mode) || (uint64_t) st.st_size != entry->size)
		return error_say(err, -ESTALE, "%s/%s was changed while it was read", tar->folder,
				 entry->path);
	tar->file_left = entry->size;
	tar->file_padding = tar_padding(entry->size);
	if (entry->size == 0)
		fd_close(TAKE_FD(tar->file_fd));
	return 0;
}

/* Puts what comes next into `ready`, or opens the next file. */
static int tar_advance(struct tar *tar, struct error *err)
{
	struct tar_entry *entry;
	int r = 0;

	if (tar->next == tar->count) {
		tar_put_zeros(tar, 2 * (size_t) TAR_BLOCK_SIZE);
		tar->ended = true;
		return 0;
	}
	entry = &tar->entries[tar->next++];
	if (tar_type(entry) == TAR_FILE && (entry->size > 0 || tar->tree))
		r = tar_open_file(tar, entry, err);
	return r < 0 ? r : tar_put_entry(tar, entry, err);
}

static ssize_t tar_read_file(struct tar *tar, void *data, size_t size, struct error *err)
{
	const char *name = tar->entries[tar->next - 1].path;
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
		tar_put_zeros(tar, tar->file_padding);
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
		if (tar->file_left > 0)
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
	for (size_t i = 0; i < tar->count; i++) {
		free(tar->entries[i].name);
		free(tar->entries[i].path);
	}
	free(tar->entries);
	hardlinks_done(&tar->links);
	free(tar->folder);
	strbuf_done(&tar->ready);
	fd_close(tar->file_fd);
	fd_close(tar->folder_fd);
	free(tar);
}
