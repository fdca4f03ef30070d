/*
 * A tar becomes a tree inside an instance.  Folders on the way are looked up inside the root, links
 * among them stay inside; the last name is made new and never followed.  Written in place: what is
 * cut off half-way leaves no temporary file behind, only less than was wanted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "image/archive_internal.h"
#include "image/files_internal.h"
#include "image/rootfs.h"
#include "image/tree_internal.h"
#include "image/worker.h"
#include "kern/statfs.h"

enum { READ_SIZE = 256 << 10, HOLE_SIZE = 4096, FOLDERS_MAX = 1 << 20 };

/* A folder whose time is set at the end, when nothing is written into it any more. */
struct folder {
	char *path;
	struct timespec mtime;
};

struct put {
	const struct files_work *work;
	struct archive *archive;
	struct folder *folders;
	size_t folder_count;
	char *last_parent; /* of the entry before, and its descriptor */
	int last_fd;
	struct error *err;
	char buffer[READ_SIZE];
};

static la_ssize_t read_in(struct archive *archive, void *data, const void **ret)
{
	struct put *put = data;
	ssize_t n;

	do
		n = read(WORKER_INPUT_FD, put->buffer, sizeof(put->buffer));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		archive_set_error(archive, errno, "the stream");
	*ret = put->buffer;
	return n;
}

static int archive_fail(struct put *put)
{
	const char *text = archive_error_string(put->archive);

	return error_say(put->err, -EINVAL, "the tar is damaged: %.200s", text ? text : "");
}

/* Names that are not ASCII are handed out byte by byte, which is what is wanted. */
static bool is_harmless(struct archive *archive)
{
	const char *text = archive_error_string(archive);

	return text && strstr(text, "can't be converted");
}

static char *join(const struct put *put, const char *name)
{
	return mem_printf("%s/%s", put->work->path, name);
}

/* Makes a folder on the way when it is not there. */
static int make_way(struct put *put, const char *name)
{
	AUTO(free) char *path = join(put, name);
	size_t start = strlen(put->work->path) + 1;

	for (char *p = path + start; *p; p++) {
		AUTO(fd_close) int fd = -1;
		const char *last;

		if (*p != '/' && p[1])
			continue;
		char *end = *p == '/' ? p : p + 1;
		char kept = *end;

		*end = '\0';
		fd = files_open_below(put->work->root_fd, path, O_PATH | O_DIRECTORY);
		if (fd == -ENOENT) {
			last = strrchr(path, '/');
			AUTO(free) char *above = mem_strndup(path, (size_t) (last - path));
			AUTO(fd_close)
			int above_fd = files_open_below(put->work->root_fd, above[0] ? above : "/",
							O_PATH | O_DIRECTORY);

			if (above_fd < 0)
				return above_fd;
			if (mkdirat(above_fd, last + 1, 0755) < 0 && errno != EEXIST)
				return -errno;
		} else if (fd < 0) {
			return fd;
		}
		*end = kept;
	}
	return 0;
}

/* The folder that an entry goes into; borrowed. */
static int open_parent(struct put *put, const char *name, const char **ret_last)
{
	const char *slash = strrchr(name, '/');
	AUTO(free)
	char *parent = slash ? mem_strndup(name, (size_t) (slash - name)) : mem_strdup("");
	AUTO(free) char *path = join(put, parent);
	int fd;

	*ret_last = slash ? slash + 1 : name;
	if (put->last_parent && strcmp(put->last_parent, parent) == 0)
		return put->last_fd;
	fd = files_open_below(put->work->root_fd, path, O_PATH | O_DIRECTORY);
	if (fd == -ENOENT && parent[0]) {
		int r = make_way(put, parent);

		fd = r < 0 ? r : files_open_below(put->work->root_fd, path, O_PATH | O_DIRECTORY);
	}
	if (fd < 0)
		return error_set(put->err, fd, "%.300s", path);
	fd_close(put->last_fd);
	free(put->last_parent);
	put->last_fd = fd;
	put->last_parent = TAKE_PTR(parent);
	return fd;
}

static void forget_parent(struct put *put)
{
	fd_close(put->last_fd);
	put->last_fd = -1;
	free(TAKE_PTR(put->last_parent));
}

static int get_attr(struct put *put, struct archive_entry *entry, const char *name,
		    struct tree_attr *ret)
{
	bool keep = put->work->keep_ids;
	int64_t uid = keep ? archive_entry_uid(entry) : 0,
		gid = keep ? archive_entry_gid(entry) : 0;

	if (uid < 0 || uid >= LAYER_UID_COUNT || gid < 0 || gid >= LAYER_UID_COUNT)
		return error_say(put->err, -EINVAL,
				 "'%.200s' belongs to %lld:%lld; an instance has ids from 0 to %d",
				 name, (long long) uid, (long long) gid, LAYER_UID_COUNT - 1);
	*ret = (struct tree_attr){
		.mode = archive_entry_perm(entry) & 07777,
		.uid = (uint32_t) uid,
		.gid = (uint32_t) gid,
		.mtime = { archive_entry_mtime(entry), archive_entry_mtime_nsec(entry) },
	};
	return 0;
}

/* Makes place for something that is no folder. */
static int clear(struct put *put, int dir_fd, const char *last, const char *name)
{
	if (unlinkat(dir_fd, last, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR)
		return error_say(put->err, -EEXIST,
				 "%.200s/%.200s is a folder: what is no folder does not replace it",
				 put->work->path, name);
	return error_set(put->err, -errno, "replace %.200s/%.200s", put->work->path, name);
}

static int create(struct put *put, int dir_fd, const char *last, const char *name)
{
	int flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	int r = clear(put, dir_fd, last, name), fd;

	/* A mounted file stays where it is and gets the new contents. */
	if (r == -EBUSY)
		fd = openat(dir_fd, last, flags | O_TRUNC);
	else if (r < 0)
		return r;
	else
		fd = openat(dir_fd, last, flags | O_CREAT | O_EXCL, 0600);
	return fd < 0 ? error_set(put->err, -errno, "write %.200s/%.200s", put->work->path, name)
		      : fd;
}

static bool is_zero(const char *data, size_t size)
{
	return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

/* Blocks of zeros become holes. */
static int write_block(int fd, const char *data, size_t size, int64_t offset)
{
	while (size > 0) {
		size_t piece = HOLE_SIZE - (size_t) (offset % HOLE_SIZE);
		ssize_t n;

		piece = piece < size ? piece : size;
		n = is_zero(data, piece) ? (ssize_t) piece : pwrite(fd, data, piece, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		offset += n;
		size -= (size_t) n;
	}
	return 0;
}

static int write_data(struct put *put, struct archive_entry *entry, int fd, const char *name)
{
	for (;;) {
		const void *data;
		size_t size;
		int64_t offset;
		int r = archive_read_data_block(put->archive, &data, &size, &offset);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK)
			return archive_fail(put);
		r = size > 0 ? write_block(fd, data, size, offset) : 0;
		if (r < 0)
			return error_set(put->err, r, "write %.200s/%.200s", put->work->path, name);
	}
	if (ftruncate(fd, archive_entry_size(entry)) < 0)
		return error_set(put->err, -errno, "write %.200s/%.200s", put->work->path, name);
	return 0;
}

static int set_xattrs(struct put *put, struct archive_entry *entry, int fd, const char *name)
{
	const char *key;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK) {
		bool kept = strncmp(key, "user.", 5) == 0 ||
			    (put->work->keep_ids && strcmp(key, "security.capability") == 0);

		if (kept && fsetxattr(fd, key, value, size, 0) < 0 && errno != EOPNOTSUPP)
			return error_set(put->err, -errno, "'%.200s': attribute %.60s", name, key);
	}
	return 0;
}

static int put_file(struct put *put, struct archive_entry *entry, const char *name,
		    const struct tree_attr *attr)
{
	AUTO(fd_close) int fd = -1;
	const char *last;
	int r = open_parent(put, name, &last);

	if (r < 0)
		return r;
	fd = create(put, r, last, name);
	if (fd < 0)
		return fd;
	r = write_data(put, entry, fd, name);
	if (r < 0)
		return r;
	r = tree_finish_file(fd, attr);
	return r < 0 ? error_set(put->err, r, "'%.300s'", name) : set_xattrs(put, entry, fd, name);
}

static int put_folder(struct put *put, struct archive_entry *entry, const char *name,
		      const struct tree_attr *attr)
{
	AUTO(fd_close) int fd = -1;
	AUTO(free) char *path = join(put, name);
	const char *last;
	int r = open_parent(put, name, &last);

	if (r < 0)
		return r;
	if (mkdirat(r, last, 0700) < 0 && errno != EEXIST)
		return error_set(put->err, -errno, "make %.300s", path);
	/* A link to a folder stays one: /lib of many images. */
	fd = files_open_below(put->work->root_fd, path, O_RDONLY | O_DIRECTORY);
	if (fd == -ENOTDIR)
		return error_say(put->err, -EEXIST,
				 "%.300s is no folder: a folder does not replace it", path);
	if (fd < 0)
		return error_set(put->err, fd, "%.300s", path);
	if (fchown(fd, attr->uid, attr->gid) < 0 || fchmod(fd, attr->mode) < 0)
		return error_set(put->err, -errno, "%.300s", path);
	if (put->folder_count < FOLDERS_MAX) {
		if ((put->folder_count & (put->folder_count + 1)) == 0)
			put->folders = mem_realloc(put->folders, 2 * put->folder_count + 2,
						   sizeof(*put->folders));
		put->folders[put->folder_count++] = (struct folder){ TAKE_PTR(path), attr->mtime };
	}
	return set_xattrs(put, entry, fd, name);
}

static int put_link(struct put *put, struct archive_entry *entry, const char *name)
{
	AUTO(free) char *target = NULL;
	AUTO(free) char *above = NULL;
	AUTO(free) char *path = NULL;
	AUTO(fd_close) int target_fd = -1;
	const char *last, *slash;
	int dir_fd, r = tree_clean_name(archive_entry_hardlink(entry), &target, put->err);

	if (r < 0)
		return error_wrap(put->err, r, "hard link '%.150s'", name);
	slash = strrchr(target, '/');
	above = slash ? mem_strndup(target, (size_t) (slash - target)) : mem_strdup("");
	path = join(put, above);
	target_fd = files_open_below(put->work->root_fd, path, O_PATH | O_DIRECTORY);
	if (target_fd < 0)
		return error_set(put->err, target_fd, "hard link '%.150s': %.150s", name, target);
	dir_fd = open_parent(put, name, &last);
	if (dir_fd < 0)
		return dir_fd;
	if (strcmp(target, name) == 0)
		return 0;
	r = clear(put, dir_fd, last, name);
	if (r < 0)
		return r;
	if (linkat(target_fd, slash ? slash + 1 : target, dir_fd, last, 0) < 0)
		return error_set(put->err, -errno, "hard link '%.150s' to '%.150s'", name, target);
	return 0;
}

/* A symbolic link or a pipe. */
static int put_other(struct put *put, struct archive_entry *entry, const char *name,
		     const struct tree_attr *attr)
{
	const struct timespec times[] = { attr->mtime, attr->mtime };
	const char *target = archive_entry_symlink(entry), *last;
	int r, dir_fd = open_parent(put, name, &last);

	if (dir_fd < 0)
		return dir_fd;
	r = clear(put, dir_fd, last, name);
	if (r < 0)
		return r;
	if (archive_entry_filetype(entry) == AE_IFLNK)
		r = symlinkat(target ? target : "", dir_fd, last);
	else
		r = mknodat(dir_fd, last, S_IFIFO | (attr->mode & 0777), 0);
	if (r < 0 || fchownat(dir_fd, last, attr->uid, attr->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    utimensat(dir_fd, last, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(put->err, -errno, "make %.200s/%.200s", put->work->path, name);
	return 0;
}

static int put_entry(struct put *put, struct archive_entry *entry)
{
	const char *raw = archive_entry_pathname(entry);
	AUTO(free) char *name = NULL;
	struct tree_attr attr;
	int r;

	if (!raw)
		return error_say(put->err, -EINVAL, "the tar has an entry without a name");
	r = tree_clean_name(raw, &name, put->err);
	/* The folder itself is there already, and stays as it is. */
	if (r < 0 || !name[0])
		return r;
	if (archive_entry_hardlink(entry))
		return put_link(put, entry, name);
	r = get_attr(put, entry, name, &attr);
	if (r < 0)
		return r;
	switch (archive_entry_filetype(entry)) {
	case AE_IFREG:
		return put_file(put, entry, name, &attr);
	case AE_IFDIR:
		return put_folder(put, entry, name, &attr);
	case AE_IFLNK:
	case AE_IFIFO:
		/* What was a folder a moment ago may be a link now. */
		forget_parent(put);
		return put_other(put, entry, name, &attr);
	default:
		return error_say(put->err, -EPERM,
				 "'%.200s' is a device: an instance gets none by copying", name);
	}
}

static void set_times(struct put *put)
{
	for (size_t i = put->folder_count; i-- > 0;) {
		const struct timespec times[] = { put->folders[i].mtime, put->folders[i].mtime };
		AUTO(fd_close)
		int fd = files_open_below(put->work->root_fd, put->folders[i].path,
					  O_RDONLY | O_DIRECTORY);

		/* The instance may have removed it again. */
		if (fd >= 0)
			(void) futimens(fd, times);
	}
}

static int put_all(struct put *put)
{
	struct archive_entry *entry;
	int r;

	archive_read_support_format_tar(put->archive);
	archive_read_support_format_empty(put->archive);
	archive_read_support_filter_gzip(put->archive);
	archive_read_support_filter_zstd(put->archive);
	if (archive_read_open(put->archive, put, NULL, read_in, NULL) != ARCHIVE_OK)
		return archive_fail(put);
	while ((r = archive_read_next_header(put->archive, &entry)) != ARCHIVE_EOF) {
		if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && is_harmless(put->archive)))
			return archive_fail(put);
		r = put_entry(put, entry);
		if (r < 0)
			return r;
	}
	set_times(put);
	return 0;
}

int files_put(const struct files_work *work, struct error *err)
{
	AUTO(archive_read_free) struct archive *archive = archive_read_new();
	AUTO(fd_close) int dest_fd = files_open_below(work->root_fd, work->path, O_PATH);
	AUTO(free) struct put *put = mem_new0(struct put);
	struct stat st;
	int r;

	if (dest_fd < 0 || fstat(dest_fd, &st) < 0)
		return error_set(err, dest_fd < 0 ? dest_fd : -errno, "%.300s", work->path);
	if (!S_ISDIR(st.st_mode))
		return error_say(err, -EINVAL, "%.300s is not a folder", work->path);
	if (statfs_made_up(dest_fd))
		return error_say(err, -EINVAL,
				 "%.300s is made by the kernel (%s): nothing is copied there",
				 work->path, statfs_made_up(dest_fd));
	put->work = work;
	put->archive = archive;
	put->last_fd = -1;
	put->err = err;
	r = put_all(put);
	forget_parent(put);
	for (size_t i = 0; i < put->folder_count; i++)
		free(put->folders[i].path);
	free(put->folders);
	return r;
}
