/*
 * The upper folder and the layers side by side.  overlayfs' own marks - a character device 0:0 for
 * a name that is gone, an attribute on a folder that hides the layers - are read here and nowhere
 * else. The instance may change its files meanwhile: what is gone when we come to it is left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/names.h"
#include "base/strv.h"
#include "image/files_internal.h"
#include "image/rootfs.h"
#include "image/upper_internal.h"

static void lower_done(struct upper_lower *lower)
{
	for (size_t i = 0; i < lower->count; i++)
		close(lower->fds[i]);
	free(lower->fds);
	*lower = (struct upper_lower){};
}

static void lower_done_autop(struct upper_lower *lower)
{
	lower_done(lower);
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static bool is_opaque(int dir_fd)
{
	char value = 0;

	return fgetxattr(dir_fd, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

/* What the layers show under this name; for a folder, where it is in all of them. */
static int look_below(const struct upper_lower *lower, struct upper_entry *entry)
{
	entry->lower_dir_fd = -1;
	entry->lower.fds = mem_new0_array(int, lower->count + 1);
	for (size_t i = 0; i < lower->count; i++) {
		struct stat st;
		int fd;

		if (fstatat(lower->fds[i], entry->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue;
			return -errno;
		}
		if (is_whiteout(&st))
			break;
		if (entry->has_lower && !S_ISDIR(st.st_mode))
			break;
		if (!entry->has_lower) {
			entry->lower_st = st;
			entry->lower_dir_fd = lower->fds[i];
		}
		entry->has_lower = true;
		if (!S_ISDIR(st.st_mode))
			break;
		fd = files_open_child(lower->fds[i], entry->name, O_RDONLY | O_DIRECTORY);
		if (fd < 0)
			return fd;
		entry->lower.fds[entry->lower.count++] = fd;
		if (is_opaque(fd))
			break;
	}
	return 0;
}

/* Are there only places to mount on in the folder? */
static bool only_noise(struct upper *upper, int dir_fd, const char *path);

static bool is_point(struct upper *upper, const char *path, bool *ret_above)
{
	size_t size = strlen(path);
	bool exact = false;

	*ret_above = false;
	for (char **p = upper->mount_points; p && *p; p++) {
		exact |= strcmp(*p, path) == 0;
		*ret_above |= strncmp(*p, path, size) == 0 && (*p)[size] == '/';
	}
	return exact;
}

/* A place that brume made to mount on, or a folder that it made on the way to one. */
static bool is_noise(struct upper *upper, const char *path, int dir_fd, const char *name,
		     const struct stat *st)
{
	bool above, exact = is_point(upper, path, &above);
	AUTO(fd_close) int fd = -1;

	if (!exact && !above)
		return false;
	if (S_ISREG(st->st_mode))
		return exact && st->st_size == 0;
	if (!S_ISDIR(st->st_mode))
		return false;
	fd = files_open_child(dir_fd, name, O_RDONLY | O_DIRECTORY);
	return fd >= 0 && only_noise(upper, fd, path);
}

static bool only_noise(struct upper *upper, int dir_fd, const char *path)
{
	AUTO(strv_free) char **names = NULL;

	if (names_list(dir_fd, path, &names, NULL) < 0)
		return false;
	for (size_t i = 0; names[i]; i++) {
		AUTO(free) char *inside = mem_printf("%s/%s", path, names[i]);
		struct stat st;

		if (fstatat(dir_fd, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !is_noise(upper, inside, dir_fd, names[i], &st))
			return false;
	}
	/* An empty folder that is not itself a place is somebody's. */
	bool above;
	return names[0] || is_point(upper, path, &above);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Does one of the layers above number `count` say something about the name? */
static bool is_above(const struct upper_lower *lower, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (faccessat(lower->fds[i], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return true;
	return false;
}

/* Goes through the names of the layers' folder that the upper one, sorted in `own`, has not got. */
static int walk_hidden(struct upper *upper, const struct upper_ops *ops, char **own,
		       const struct upper_lower *lower, const char *path, void *data)
{
	size_t own_count = strv_count(own);

	for (size_t i = 0; i < lower->count; i++) {
		AUTO(strv_free) char **names = NULL;
		int r = names_list(lower->fds[i], path, &names, upper->err);

		for (size_t j = 0; r == 0 && names[j]; j++) {
			AUTO(free) char *inside = mem_printf("%s/%s", path, names[j]);
			struct stat st;

			if (bsearch(&names[j], own, own_count, sizeof(*own), compare) ||
			    is_above(lower, i, names[j]))
				continue;
			if (fstatat(lower->fds[i], names[j], &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			    !is_whiteout(&st))
				r = ops->hidden(upper, inside, data);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int walk_folder(struct upper *upper, const struct upper_ops *ops,
		       const struct upper_entry *folder, unsigned int depth, bool *ret_noise,
		       void *data);

static int walk_into(struct upper *upper, const struct upper_ops *ops, struct upper_entry *entry,
		     unsigned int depth, void *data)
{
	bool noise = false;
	int r;

	if (depth >= UPPER_DEPTH_MAX)
		return error_say(upper->err, -ELOOP, "'%.300s' is deeper than %d folders",
				 entry->path, UPPER_DEPTH_MAX);
	r = ops->visit(upper, entry, data);
	if (r == 0)
		r = walk_folder(upper, ops, entry, depth, &noise, data);
	return r < 0 ? r : ops->leave(upper, entry, noise, data);
}

static int walk_name(struct upper *upper, const struct upper_ops *ops,
		     const struct upper_entry *folder, const char *name, unsigned int depth,
		     bool *ret_noise, void *data)
{
	AUTO(free) char *path = mem_printf("%s/%s", folder->path, name);
	AUTO(lower_done) struct upper_lower below = {};
	AUTO(fd_close) int fd = -1;
	struct upper_entry entry = { .path = path, .name = name, .dir_fd = folder->fd, .fd = -1 };
	int r;

	if (fstatat(folder->fd, name, &entry.st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_set(upper->err, -errno, "'%.300s'", path);
	entry.whiteout = is_whiteout(&entry.st);
	r = look_below(&folder->lower, &entry);
	below = entry.lower;
	if (r < 0)
		return error_set(upper->err, r, "'%.300s' in the layers", path);
	if (entry.whiteout)
		return entry.has_lower ? ops->visit(upper, &entry, data) : 0;
	if (!entry.has_lower && is_noise(upper, path, folder->fd, name, &entry.st)) {
		*ret_noise = true;
		return 0;
	}
	if (!S_ISDIR(entry.st.st_mode))
		return ops->visit(upper, &entry, data);
	entry.fd = fd = files_open_child(folder->fd, name, O_RDONLY | O_DIRECTORY);
	/* Replaced meanwhile: what it is now, the next look will show. */
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0;
	if (fd < 0)
		return error_set(upper->err, fd, "'%.300s'", path);
	entry.opaque = is_opaque(fd);
	entry.hides = entry.opaque || folder->hides;
	return walk_into(upper, ops, &entry, depth + 1, data);
}

static int walk_folder(struct upper *upper, const struct upper_ops *ops,
		       const struct upper_entry *folder, unsigned int depth, bool *ret_noise,
		       void *data)
{
	AUTO(strv_free) char **names = NULL;
	int r = names_list(folder->fd, folder->path, &names, upper->err);

	if (r == 0 && folder->hides)
		r = walk_hidden(upper, ops, names, &folder->lower, folder->path, data);
	for (size_t i = 0; r == 0 && names[i]; i++)
		r = walk_name(upper, ops, folder, names[i], depth, ret_noise, data);
	return r;
}

int upper_walk(struct upper *upper, const struct upper_ops *ops, void *data)
{
	struct upper_entry root = { .path = "",
				    .name = "",
				    .dir_fd = -1,
				    .lower_dir_fd = -1,
				    .fd = upper->upper_fd,
				    .has_lower = upper->lower.count > 0,
				    .lower = upper->lower };

	if (fstat(upper->upper_fd, &root.st) < 0 ||
	    (root.has_lower && fstat(upper->lower.fds[0], &root.lower_st) < 0))
		return error_set(upper->err, -errno, "the root folder");
	return walk_into(upper, ops, &root, 0, data);
}

size_t upper_xattr_names(int fd, char **ret)
{
	AUTO(free) char *all = mem_zalloc(UPPER_XATTR_MAX + 1);
	AUTO(strv_free) char **names = NULL;
	ssize_t size = flistxattr(fd, all, UPPER_XATTR_MAX);
	size_t out = 0;

	for (const char *p = all; size > 0 && p < all + size; p += strlen(p) + 1)
		if (strncmp(p, "trusted.", 8) != 0 && strcmp(p, "security.selinux") != 0)
			strv_append(&names, p);
	if (names)
		qsort(names, strv_count(names), sizeof(*names), compare);
	*ret = mem_zalloc(UPPER_XATTR_MAX + 1);
	for (char **p = names; p && *p; p++) {
		memcpy(*ret + out, *p, strlen(*p) + 1);
		out += strlen(*p) + 1;
	}
	return out;
}

static uint32_t read_le32(const uint8_t *p)
{
	return p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static void write_le32(uint8_t *p, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t) (value >> (8 * i));
}

/* Capabilities of a file that count for one root only: they become those of the image's root. */
static size_t map_capability(uint8_t *data, size_t size, uint32_t base)
{
	enum { V2_SIZE = 20, V3_SIZE = 24, V3 = 3, V2 = 2, REVISION = 24 };
	uint32_t magic = size >= 4 ? read_le32(data) : 0;

	if (size != V3_SIZE || magic >> REVISION != V3 || read_le32(data + V2_SIZE) != base)
		return size;
	write_le32(data, (magic & 0xffffff) | (uint32_t) V2 << REVISION);
	return V2_SIZE;
}

/* The users and groups that an access list names. */
static void map_acl(uint8_t *data, size_t size, uint32_t base)
{
	enum { HEADER = 4, ENTRY = 8, USER = 2, GROUP = 8 };

	for (size_t at = HEADER; at + ENTRY <= size; at += ENTRY) {
		unsigned int tag = data[at] | (unsigned int) data[at + 1] << 8;
		uint32_t id = read_le32(data + at + 4);

		if ((tag == USER || tag == GROUP) && id - base < (uint32_t) LAYER_UID_COUNT)
			write_le32(data + at + 4, id - base);
	}
}

ssize_t upper_xattr(int fd, const char *name, uint32_t owner_base, void *buffer)
{
	ssize_t size = fgetxattr(fd, name, buffer, UPPER_XATTR_MAX);

	if (size < 0)
		return -errno;
	if (strcmp(name, "security.capability") == 0)
		return (ssize_t) map_capability(buffer, (size_t) size, owner_base);
	if (strncmp(name, "system.posix_acl_", 17) == 0)
		map_acl(buffer, (size_t) size, owner_base);
	return size;
}
