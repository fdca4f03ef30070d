/*
 * A tree becomes a tar, in a fixed order.  What a name is decides the file that was opened, not a
 * look before; what grows or shrinks meanwhile keeps the size it was announced with.
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
#include "base/file.h"
#include "base/mem.h"
#include "base/names.h"
#include "base/strv.h"
#include "codec/hardlinks.h"
#include "image/archive_internal.h"
#include "image/files_internal.h"
#include "image/worker.h"
#include "kern/statfs.h"

enum {
	COPY_SIZE = 256 << 10,
	DEPTH_MAX = 1000,
	TRIES_MAX = 8,
	LINKS_MAX = 1 << 20,
	LINK_MAX = 4096,
	XATTRS_MAX = 64 << 10,
	XATTR_MAX = 64 << 10,
};

struct get {
	struct archive *archive;
	struct hardlinks *links;
	char *buffer;
	int result; /* of writing, which libarchive does not carry */
	struct error *err;
};

static la_ssize_t write_out(struct archive *archive, void *data, const void *bytes, size_t size)
{
	struct get *get = data;

	get->result = file_write_all(WORKER_INPUT_FD, bytes, size);
	if (get->result == 0)
		return (la_ssize_t) size;
	archive_set_error(archive, -get->result, "stream");
	return -1;
}

static int archive_fail(struct get *get, const char *name)
{
	if (get->result < 0)
		return error_set(get->err, get->result, "write to the stream");
	return error_say(get->err, -EIO, "'%.300s': %.100s", name,
			 archive_error_string(get->archive));
}

static void add_xattrs(struct get *get, struct archive_entry *entry, int fd)
{
	AUTO(free) char *names = mem_zalloc(XATTRS_MAX + 1);
	ssize_t size = flistxattr(fd, names, XATTRS_MAX);

	for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
		ssize_t n;

		if (strncmp(name, "user.", 5) != 0 && strcmp(name, "security.capability") != 0)
			continue;
		n = fgetxattr(fd, name, get->buffer, XATTR_MAX);
		if (n >= 0)
			archive_entry_xattr_add_entry(entry, name, get->buffer, (size_t) n);
	}
}

static int put_header(struct get *get, struct archive_entry *entry, const struct stat *st,
		      const char *name)
{
	const char *first = hardlinks_first(get->links, st, name);

	archive_entry_set_pathname(entry, name);
	archive_entry_set_mode(entry, st->st_mode);
	archive_entry_set_uid(entry, st->st_uid);
	archive_entry_set_gid(entry, st->st_gid);
	archive_entry_set_mtime(entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	archive_entry_set_size(entry, S_ISREG(st->st_mode) && !first ? st->st_size : 0);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		archive_entry_set_rdevmajor(entry, major(st->st_rdev));
		archive_entry_set_rdevminor(entry, minor(st->st_rdev));
	}
	if (first)
		archive_entry_set_hardlink(entry, first);
	if (archive_write_header(get->archive, entry) != ARCHIVE_OK)
		return archive_fail(get, name);
	return first ? 1 : 0;
}

/* Exactly `size` bytes: what is missing in the end is zeros. */
static int put_data(struct get *get, int fd, int64_t size, const char *name)
{
	while (size > 0) {
		size_t want = size < COPY_SIZE ? (size_t) size : COPY_SIZE;
		ssize_t n = read(fd, get->buffer, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(get->err, -errno, "read '%.300s'", name);
		if (n == 0) {
			memset(get->buffer, 0, want);
			n = (ssize_t) want;
		}
		if (archive_write_data(get->archive, get->buffer, (size_t) n) != n)
			return archive_fail(get, name);
		size -= n;
	}
	return 0;
}

static int put_symlink(struct get *get, int fd, const struct stat *st, const char *name)
{
	AUTO(archive_entry_free) struct archive_entry *entry = archive_entry_new();
	char target[LINK_MAX + 1];
	ssize_t n = readlinkat(fd, "", target, LINK_MAX);
	int r;

	if (n < 0)
		return error_set(get->err, -errno, "read the link '%.300s'", name);
	target[n] = '\0';
	archive_entry_set_symlink(entry, target);
	r = put_header(get, entry, st, name);
	return r < 0 ? r : 0;
}

static int put_file(struct get *get, int fd, const struct stat *st, const char *name)
{
	AUTO(archive_entry_free) struct archive_entry *entry = archive_entry_new();
	int r;

	add_xattrs(get, entry, fd);
	r = put_header(get, entry, st, name);
	return r != 0 ? (r < 0 ? r : 0) : put_data(get, fd, st->st_size, name);
}

static int put_special(struct get *get, const struct stat *st, const char *name)
{
	AUTO(archive_entry_free) struct archive_entry *entry = archive_entry_new();
	int r = put_header(get, entry, st, name);

	return r < 0 ? r : 0;
}

static int put_name(struct get *get, int dir_fd, const char *file, const char *name,
		    unsigned int depth);

static int put_folder(struct get *get, int fd, const struct stat *st, const char *name,
		      unsigned int depth)
{
	AUTO(archive_entry_free) struct archive_entry *entry = archive_entry_new();
	AUTO(strv_free) char **names = NULL;
	int r;

	if (depth >= DEPTH_MAX)
		return error_say(get->err, -ELOOP, "'%.300s' is deeper than %d folders", name,
				 DEPTH_MAX);
	add_xattrs(get, entry, fd);
	r = put_header(get, entry, st, name);
	if (r < 0)
		return r;
	/* What the kernel makes up is not a file: endless ones are among it. */
	if (statfs_made_up(fd))
		return 0;
	r = names_list(fd, name, &names, get->err);
	for (size_t i = 0; r == 0 && names[i]; i++) {
		AUTO(free) char *inside = mem_printf("%s/%s", name, names[i]);

		r = put_name(get, fd, names[i], inside, depth + 1);
	}
	return r;
}

/*
 * By the descriptors: `path_fd` is an O_PATH one, `file_fd` the file or folder opened for reading.
 * -ESTALE: they are not the same kind any more.
 */
static int put_opened(struct get *get, int path_fd, int file_fd, const char *name,
		      unsigned int depth)
{
	struct stat st;

	if (fstat(file_fd >= 0 ? file_fd : path_fd, &st) < 0)
		return error_set(get->err, -errno, "'%.300s'", name);
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return file_fd < 0 ? -ESTALE : put_file(get, file_fd, &st, name);
	case S_IFDIR:
		return file_fd < 0 ? -ESTALE : put_folder(get, file_fd, &st, name, depth);
	case S_IFLNK:
		return put_symlink(get, path_fd, &st, name);
	case S_IFSOCK:
		return 0; /* a tar has no word for it */
	default:
		return put_special(get, &st, name);
	}
}

/* Only files and folders are opened: the others might do something. */
static bool is_opened(int path_fd)
{
	struct stat st;

	return fstat(path_fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

static int try_name(struct get *get, int dir_fd, const char *file, const char *name,
		    unsigned int depth)
{
	AUTO(fd_close) int path_fd = files_open_child(dir_fd, file, O_PATH);
	AUTO(fd_close) int file_fd = -1;

	if (path_fd == -ENOENT)
		return 0; /* gone since the folder was read */
	if (path_fd < 0)
		return error_set(get->err, path_fd, "'%.300s'", name);
	if (is_opened(path_fd)) {
		file_fd = files_open_child(dir_fd, file, O_RDONLY);
		if (file_fd == -ELOOP || file_fd == -ENXIO)
			return -ESTALE;
		if (file_fd == -ENOENT)
			return 0;
		if (file_fd < 0)
			return error_set(get->err, file_fd, "open '%.300s'", name);
	}
	return put_opened(get, path_fd, file_fd, name, depth);
}

/* The instance may put one thing in the place of another while we look. */
static int put_name(struct get *get, int dir_fd, const char *file, const char *name,
		    unsigned int depth)
{
	int r = -ESTALE;

	for (unsigned int i = 0; i < TRIES_MAX && r == -ESTALE; i++)
		r = try_name(get, dir_fd, file, name, depth);
	if (r == -ESTALE)
		return error_say(get->err, -EBUSY, "'%.300s' is replaced all the time", name);
	return r;
}

static int try_top(struct get *get, const struct files_work *work, const char *name)
{
	int flags = work->follow ? 0 : O_NOFOLLOW;
	AUTO(fd_close) int path_fd = files_open_below(work->root_fd, work->path, O_PATH | flags);
	AUTO(fd_close) int file_fd = -1;

	if (path_fd < 0)
		return error_set(get->err, path_fd, "%.300s", work->path);
	if (is_opened(path_fd)) {
		file_fd = files_open_below(work->root_fd, work->path, O_RDONLY | flags);
		if (file_fd == -ELOOP || file_fd == -ENXIO)
			return -ESTALE;
		if (file_fd < 0)
			return error_set(get->err, file_fd, "open %.300s", work->path);
	}
	return put_opened(get, path_fd, file_fd, name, 0);
}

static int put_top(struct get *get, const struct files_work *work, const char *name)
{
	int r = -ESTALE;

	for (unsigned int i = 0; i < TRIES_MAX && r == -ESTALE; i++)
		r = try_top(get, work, name);
	if (r == -ESTALE)
		return error_say(get->err, -EBUSY, "%.300s is replaced all the time", work->path);
	return r;
}

int files_get(const struct files_work *work, const char *name, struct error *err)
{
	AUTO(archive_write_free) struct archive *archive = archive_write_new();
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);
	AUTO(hardlinks_done) struct hardlinks links = { .count_max = LINKS_MAX };
	struct get get = { .archive = archive, .buffer = buffer, .links = &links, .err = err };
	int r;

	archive_write_set_format_pax_restricted(archive);
	archive_write_set_format_option(archive, "pax", "xattrheader", "SCHILY");
	archive_write_set_bytes_per_block(archive, COPY_SIZE);
	archive_write_set_bytes_in_last_block(archive, 512);
	if (archive_write_open(archive, &get, NULL, write_out, NULL) != ARCHIVE_OK)
		return archive_fail(&get, name);
	r = put_top(&get, work, name);
	if (r == 0 && archive_write_close(archive) != ARCHIVE_OK)
		r = archive_fail(&get, name);
	/* On the way out of a failure nothing more may be written: a cut tar must look cut. */
	if (r < 0)
		close(WORKER_INPUT_FD);
	return r;
}
