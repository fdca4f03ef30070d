#include "image/tree_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum {
	CACHE_SIZE = 64,
	DEPTH_MAX = 256,
	TIMES_BYTES_MAX = 64 << 20,
	LATER_BYTES_MAX = 16 << 20,
};

/* An attribute that is set at the end. */
struct later {
	struct later *next;
	char *name, *key;
	size_t size;
	char value[];
};

struct folder {
	char *name; /* NULL: unused */
	int fd;
	uint64_t used;
};

struct tree {
	int root_fd;
	struct tree_limits *limits;
	struct folder cache[CACHE_SIZE];
	uint64_t clock;
	struct later *later;
	size_t later_bytes;
	struct strbuf times; /* struct timespec, name, NUL, again and again */
};

struct tree *tree_new(int root_fd, struct tree_limits *limits)
{
	struct tree *tree = mem_new0(struct tree);

	tree->root_fd = root_fd;
	tree->limits = limits;
	return tree;
}

static void forget_folders(struct tree *tree)
{
	for (size_t i = 0; i < CACHE_SIZE; i++) {
		if (!tree->cache[i].name)
			continue;
		close(tree->cache[i].fd);
		free(tree->cache[i].name);
		tree->cache[i] = (struct folder){};
	}
}

void tree_free(struct tree *tree)
{
	if (!tree)
		return;
	forget_folders(tree);
	while (tree->later) {
		struct later *later = tree->later;

		tree->later = later->next;
		free(later->name);
		free(later->key);
		free(later);
	}
	strbuf_done(&tree->times);
	free(tree);
}

int tree_clean_name(const char *name, char **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf clean = {};
	unsigned int depth = 0;

	if (strlen(name) >= PATH_MAX)
		return error_say(err, -ENAMETOOLONG, "'%.60s...': the name is longer than %d bytes",
				 name, PATH_MAX - 1);
	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return error_say(err, -EINVAL, "'%.200s': names with '..' are refused",
					 name);
		if (n > NAME_MAX)
			return error_say(err, -ENAMETOOLONG,
					 "'%.60s...': a name is longer than %d bytes", name,
					 NAME_MAX);
		if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (++depth > DEPTH_MAX)
				return error_say(err, -ENAMETOOLONG,
						 "'%.60s...': folders are nested deeper than %d",
						 name, DEPTH_MAX);
			if (clean.size)
				strbuf_puts(&clean, "/");
			strbuf_append(&clean, p, n);
		}
		p += n;
		while (*p == '/')
			p++;
	}
	*ret = strbuf_take(&clean);
	return 0;
}

static int charge_inode(struct tree *tree, struct error *err)
{
	if (atomic_fetch_add(&tree->limits->inodes, 1) >= tree->limits->inodes_max)
		return error_say(err, -EDQUOT, "the image has more than %llu files",
				 (unsigned long long) tree->limits->inodes_max);
	return 0;
}

int tree_charge(struct tree *tree, uint64_t bytes, struct error *err)
{
	if (atomic_fetch_add(&tree->limits->bytes, bytes) + bytes > tree->limits->bytes_max)
		return error_say(err, -EDQUOT, "the image is larger than %llu bytes when unpacked",
				 (unsigned long long) tree->limits->bytes_max);
	return 0;
}

/* Opens one component; `name` is the whole entry, for the error. */
static int open_component(struct tree *tree, int parent_fd, const char *component, const char *name,
			  bool create, struct error *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(parent_fd, component, flags);
	struct stat st;
	int r;

	if (fd < 0 && errno == ENOENT && create) {
		r = charge_inode(tree, err);
		if (r < 0)
			return r;
		if (mkdirat(parent_fd, component, 0755) < 0)
			return error_set(err, -errno, "'%.200s'", name);
		fd = openat(parent_fd, component, flags);
	}
	if (fd >= 0)
		return fd;
	r = -errno;
	if ((r == -ENOTDIR || r == -ELOOP) &&
	    fstatat(parent_fd, component, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return error_say(
			err, -EINVAL, "'%.200s' goes through '%.100s', which is %s: refused", name,
			component, S_ISLNK(st.st_mode) ? "a symbolic link" : "not a folder");
	return error_set(err, r, "'%.200s'", name);
}

static struct folder *find_folder(struct tree *tree, const char *name, size_t size)
{
	for (size_t i = 0; i < CACHE_SIZE; i++) {
		struct folder *folder = &tree->cache[i];

		if (folder->name && strncmp(folder->name, name, size) == 0 && !folder->name[size]) {
			folder->used = ++tree->clock;
			return folder;
		}
	}
	return NULL;
}

static void keep_folder(struct tree *tree, const char *name, size_t size, int fd)
{
	struct folder *oldest = &tree->cache[0];

	for (size_t i = 1; i < CACHE_SIZE && oldest->name; i++)
		if (!tree->cache[i].name || tree->cache[i].used < oldest->used)
			oldest = &tree->cache[i];
	if (oldest->name) {
		close(oldest->fd);
		free(oldest->name);
	}
	*oldest = (struct folder){ mem_strndup(name, size), fd, ++tree->clock };
}

/*
 * The fd of the folder `name[0..size)`, borrowed until the next call.  Works upwards to a folder
 * that is open and down again.
 */
static int open_folder(struct tree *tree, const char *name, size_t size, const char *entry,
		       bool create, struct error *err)
{
	size_t known = size;
	struct folder *folder = NULL;
	int fd;

	while (known > 0 && !(folder = find_folder(tree, name, known)))
		while (known > 0 && name[--known] != '/')
			;
	fd = folder ? folder->fd : tree->root_fd;
	while (known < size) {
		size_t start = known + (known > 0), n = strcspn(name + start, "/");
		AUTO(free) char *component = NULL;

		if (start + n > size)
			n = size - start;
		component = mem_strndup(name + start, n);
		fd = open_component(tree, fd, component, entry, create, err);
		if (fd < 0)
			return fd;
		known = start + n;
		keep_folder(tree, name, known, fd);
	}
	return fd;
}

/* The fd of the parent folder, and the last component. */
static int open_parent(struct tree *tree, const char *name, bool create, const char **ret_last,
		       struct error *err)
{
	const char *slash = strrchr(name, '/');

	*ret_last = slash ? slash + 1 : name;
	if (!slash)
		return tree->root_fd;
	return open_folder(tree, name, (size_t) (slash - name), name, create, err);
}

/* Removes what is in the way. */
static int remove_old(struct tree *tree, int parent_fd, const char *last, const char *name,
		      struct error *err)
{
	int r;

	if (unlinkat(parent_fd, last, 0) == 0 || errno == ENOENT)
		return 0;
	forget_folders(tree);
	parent_fd = open_parent(tree, name, true, &last, err);
	if (parent_fd < 0)
		return parent_fd;
	r = file_remove_tree(parent_fd, last);
	return r < 0 ? error_set(err, r, "'%.200s'", name) : 0;
}

/* Parent folder of an entry that is made newly; what was there is gone afterwards. */
static int make_place(struct tree *tree, const char *name, const char **ret_last, struct error *err)
{
	int parent_fd, r;

	if (!name[0])
		return error_say(err, -EINVAL, "the root of an image must be a folder");
	parent_fd = open_parent(tree, name, true, ret_last, err);
	if (parent_fd < 0)
		return parent_fd;
	r = remove_old(tree, parent_fd, *ret_last, name, err);
	return r < 0 ? r : open_parent(tree, name, true, ret_last, err);
}

int tree_parents(struct tree *tree, const char *name, struct error *err)
{
	const char *last = NULL;
	int parent_fd = open_parent(tree, name, true, &last, err);

	return parent_fd < 0 ? parent_fd : 0;
}

int tree_prepare(struct tree *tree, const char *name, struct error *err)
{
	const char *last = NULL;
	int parent_fd = make_place(tree, name, &last, err);

	if (parent_fd < 0)
		return parent_fd;
	return charge_inode(tree, err);
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int set_times(struct tree *tree, struct error *err)
{
	for (size_t at = 0; at < tree->times.size;) {
		const char *name = tree->times.data + at + sizeof(struct timespec);
		struct timespec times[2];
		struct error ignored;
		const char *last = NULL;
		int r = 0;

		memcpy(&times[0], tree->times.data + at, sizeof(times[0]));
		times[1] = times[0];
		at += sizeof(struct timespec) + strlen(name) + 1;
		if (!name[0]) {
			r = futimens(tree->root_fd, times) < 0 ? -errno : 0;
		} else {
			/* It may have been replaced by something else meanwhile. */
			int parent_fd = open_parent(tree, name, false, &last, &ignored);

			if (parent_fd >= 0 &&
			    utimensat(parent_fd, last, times, AT_SYMLINK_NOFOLLOW) < 0)
				r = -errno;
		}
		if (r < 0 && r != -ENOENT)
			return error_set(err, r, "time of '%.200s'", name);
	}
	return 0;
}

static int remember_time(struct tree *tree, const char *name, const struct timespec *mtime)
{
	int r = 0;

	if (tree->times.size > TIMES_BYTES_MAX) {
		r = set_times(tree, NULL);
		strbuf_done(&tree->times);
	}
	strbuf_append(&tree->times, mtime, sizeof(*mtime));
	strbuf_append(&tree->times, name, strlen(name) + 1);
	return r;
}

/* Owners before modes: a change of owner takes set-user-id bits away. */
static int set_attr(int fd, const struct tree_attr *attr, bool force_mode)
{
	if ((attr->uid != 0 || attr->gid != 0) && fchown(fd, attr->uid, attr->gid) < 0)
		return -errno;
	if ((force_mode || (attr->mode & 07000)) && fchmod(fd, attr->mode) < 0)
		return -errno;
	return 0;
}

int tree_mkdir(struct tree *tree, const char *name, const struct tree_attr *attr, int *ret_fd,
	       bool *ret_replaced, struct error *err)
{
	const char *last = name;
	int fd = tree->root_fd, r;
	struct stat st;

	*ret_replaced = false;
	if (name[0]) {
		int parent_fd = open_parent(tree, name, true, &last, err);

		if (parent_fd < 0)
			return parent_fd;
		if (fstatat(parent_fd, last, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    !S_ISDIR(st.st_mode)) {
			*ret_replaced = is_whiteout(&st);
			r = remove_old(tree, parent_fd, last, name, err);
			if (r < 0)
				return r;
		}
		fd = open_folder(tree, name, strlen(name), name, true, err);
		if (fd < 0)
			return fd;
	}
	/* It may have been made before with another owner. */
	if (fchown(fd, attr->uid, attr->gid) < 0)
		r = -errno;
	else
		r = set_attr(fd, attr, true);
	if (r == 0)
		r = remember_time(tree, name, &attr->mtime);
	if (r < 0)
		return error_set(err, r, "'%.200s'", name);
	*ret_fd = fd;
	return 0;
}

int tree_create(struct tree *tree, const char *name, int *ret_fd, struct error *err)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	const char *last = NULL;
	int parent_fd, fd, r;

	if (!name[0])
		return error_say(err, -EINVAL, "the root of an image must be a folder");
	r = charge_inode(tree, err);
	if (r < 0)
		return r;
	parent_fd = open_parent(tree, name, true, &last, err);
	if (parent_fd < 0)
		return parent_fd;
	fd = openat(parent_fd, last, flags, 0600);
	if (fd < 0 && errno == EEXIST) {
		parent_fd = make_place(tree, name, &last, err);
		if (parent_fd < 0)
			return parent_fd;
		fd = openat(parent_fd, last, flags, 0600);
	}
	if (fd < 0)
		return error_set(err, -errno, "'%.200s'", name);
	*ret_fd = fd;
	return 0;
}

int tree_finish_file(int fd, const struct tree_attr *attr)
{
	const struct timespec times[] = { attr->mtime, attr->mtime };
	int r = set_attr(fd, attr, true);

	if (r == 0 && futimens(fd, times) < 0)
		r = -errno;
	return r;
}

/* Owner and time of something that cannot be opened. */
static int set_attr_at(int parent_fd, const char *last, const struct tree_attr *attr)
{
	const struct timespec times[] = { attr->mtime, attr->mtime };

	if (fchownat(parent_fd, last, attr->uid, attr->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    utimensat(parent_fd, last, times, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

int tree_symlink(struct tree *tree, const char *name, const char *target,
		 const struct tree_attr *attr, struct error *err)
{
	const char *last = NULL;
	int parent_fd = make_place(tree, name, &last, err);
	int r = parent_fd < 0 ? parent_fd : charge_inode(tree, err);

	if (r < 0)
		return r;
	r = symlinkat(target, parent_fd, last) < 0 ? -errno : set_attr_at(parent_fd, last, attr);
	return r < 0 ? error_set(err, r, "symbolic link '%.200s'", name) : 0;
}

int tree_link(struct tree *tree, const char *name, const char *target, struct error *err)
{
	const char *last = NULL, *target_last = NULL;
	AUTO(fd_close) int target_fd = -1;
	int parent_fd, r;

	if (strcmp(name, target) == 0)
		return 0;
	r = open_parent(tree, target, false, &target_last, err);
	if (r < 0)
		return error_wrap(err, r, "hard link '%.150s'", name);
	target_fd = fcntl(r, F_DUPFD_CLOEXEC, 0);
	if (target_fd < 0)
		return error_set(err, -errno, "hard link '%.200s'", name);
	if (!target[0] || faccessat(target_fd, target_last, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return error_say(err, -EINVAL,
				 "hard link '%.150s' leads to '%.150s', which is not in this layer",
				 name, target);
	parent_fd = make_place(tree, name, &last, err);
	if (parent_fd < 0)
		return parent_fd;
	if (linkat(target_fd, target_last, parent_fd, last, 0) < 0)
		return error_set(err, -errno, "hard link '%.150s' to '%.150s'", name, target);
	return 0;
}

int tree_fifo(struct tree *tree, const char *name, const struct tree_attr *attr, struct error *err)
{
	const char *last = NULL;
	int parent_fd = make_place(tree, name, &last, err);
	int r = parent_fd < 0 ? parent_fd : charge_inode(tree, err);

	if (r < 0)
		return r;
	r = mknodat(parent_fd, last, S_IFIFO | attr->mode, 0) < 0
		    ? -errno
		    : set_attr_at(parent_fd, last, attr);
	return r < 0 ? error_set(err, r, "fifo '%.200s'", name) : 0;
}

int tree_whiteout(struct tree *tree, const char *name, bool *ret_folder, struct error *err)
{
	const char *last = NULL;
	struct stat st;
	int parent_fd = open_parent(tree, name, true, &last, err);
	int r;

	if (parent_fd < 0)
		return parent_fd;
	*ret_folder = false;
	if (fstatat(parent_fd, last, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		*ret_folder = S_ISDIR(st.st_mode);
		return 0;
	}
	r = charge_inode(tree, err);
	if (r < 0)
		return r;
	if (mknodat(parent_fd, last, S_IFCHR, makedev(0, 0)) < 0)
		return error_set(err, -errno, "whiteout of '%.200s'", name);
	return 0;
}

int tree_set_later(struct tree *tree, const char *name, const char *key, const void *value,
		   size_t size)
{
	struct later *later;

	tree->later_bytes += sizeof(*later) + strlen(name) + size;
	if (tree->later_bytes > LATER_BYTES_MAX)
		return -E2BIG;
	later = mem_zalloc(sizeof(*later) + size);
	later->name = mem_strdup(name);
	later->key = mem_strdup(key);
	later->size = size;
	memcpy(later->value, value, size);
	later->next = tree->later;
	tree->later = later;
	return 0;
}

static int set_later(struct tree *tree, struct error *err)
{
	for (const struct later *later = tree->later; later; later = later->next) {
		int fd = later->name[0] ? open_folder(tree, later->name, strlen(later->name),
						      later->name, false, NULL)
					: tree->root_fd;

		/* A folder that something else replaced meanwhile has no attributes to set. */
		if (fd >= 0 && fsetxattr(fd, later->key, later->value, later->size, 0) < 0)
			return error_set(err, -errno, "'%.200s': attribute %.60s", later->name,
					 later->key);
	}
	return 0;
}

int tree_finish(struct tree *tree, struct error *err)
{
	int r = set_later(tree, err);

	return r < 0 ? r : set_times(tree, err);
}
