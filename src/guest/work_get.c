/*
 * A tree becomes a tar: ustar with pax records where it has no room, in a fixed order, as
 * image/files_get.c makes it for containers.  By hand, because libarchive would double the size of
 * brume-init.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/names.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "codec/hardlinks.h"
#include "codec/tar_put.h"
#include "guest/work.h"
#include "kern/statfs.h"

enum { OUT_FD = 1, COPY_SIZE = 256 << 10, DEPTH_MAX = 1000, LINKS_MAX = 1 << 20, LINK_MAX = 4096 };

struct get {
	struct hardlinks links;
	char *buffer;
	struct error *err;
};

static int put_out(struct get *get, const void *data, size_t size)
{
	int r = file_write_all(OUT_FD, data, size);

	return r < 0 ? error_set(get->err, r, "write to the stream") : 0;
}

/* Exactly `size` bytes and the padding: what is missing in the end is zeros. */
static int put_data(struct get *get, int fd, uint64_t size, const char *name)
{
	uint64_t left = size;

	while (left > 0) {
		size_t want = left < COPY_SIZE ? (size_t) left : COPY_SIZE;
		ssize_t n = read(fd, get->buffer, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(get->err, -errno, "read '%.300s'", name);
		if (n == 0) {
			memset(get->buffer, 0, want);
			n = (ssize_t) want;
		}
		if (put_out(get, get->buffer, (size_t) n) < 0)
			return get->err->code;
		left -= (uint64_t) n;
	}
	memset(get->buffer, 0, TAR_BLOCK_SIZE);
	return put_out(get, get->buffer, tar_padding(size));
}

static char type_of(const struct stat *st)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFDIR:
		return TAR_FOLDER;
	case S_IFLNK:
		return TAR_SYMLINK;
	case S_IFIFO:
		return TAR_FIFO;
	case S_IFCHR:
		return TAR_CHAR;
	case S_IFBLK:
		return TAR_BLOCK_DEVICE;
	default:
		return TAR_FILE;
	}
}

static int put_entry(struct get *get, int dir_fd, const char *file, const char *name,
		     const struct stat *st, bool *ret_again)
{
	AUTO(strbuf_done) struct strbuf out = {};
	char target[LINK_MAX + 1] = "";
	struct tar_put entry = { .type = type_of(st),
				 .name = name,
				 .link = hardlinks_first(&get->links, st, name),
				 .mode = st->st_mode & 07777,
				 .uid = st->st_uid,
				 .gid = st->st_gid,
				 .mtime = st->st_mtim.tv_sec,
				 .mtime_ns = (uint32_t) st->st_mtim.tv_nsec,
				 .device = st->st_rdev };

	*ret_again = entry.link != NULL;
	if (entry.link) {
		entry.type = TAR_HARDLINK;
	} else if (entry.type == TAR_SYMLINK) {
		ssize_t n = readlinkat(dir_fd, file, target, LINK_MAX);

		if (n < 0)
			return error_set(get->err, -errno, "read the link '%.300s'", name);
		target[n] = '\0';
		entry.link = target;
	} else if (entry.type == TAR_FILE) {
		entry.size = (uint64_t) st->st_size;
	}
	tar_put_header(&out, &entry);
	return put_out(get, out.data, out.size);
}

static int put_name(struct get *get, int dir_fd, const char *file, const char *name, bool follow,
		    unsigned int depth);

static int put_folder(struct get *get, int fd, const char *name, unsigned int depth)
{
	AUTO(strv_free) char **names = NULL;
	int r;

	if (depth >= DEPTH_MAX)
		return error_say(get->err, -ELOOP, "'%.300s' is deeper than %d folders", name,
				 DEPTH_MAX);
	/* What the kernel makes up is not a file: endless ones are among it. */
	if (statfs_made_up(fd))
		return 0;
	r = names_list(fd, name, &names, get->err);
	for (size_t i = 0; r == 0 && names[i]; i++) {
		AUTO(free) char *inside = mem_printf("%s/%s", name, names[i]);

		r = put_name(get, fd, names[i], inside, false, depth + 1);
	}
	return r;
}

static int put_name(struct get *get, int dir_fd, const char *file, const char *name, bool follow,
		    unsigned int depth)
{
	int flags = follow ? 0 : O_NOFOLLOW, r;
	AUTO(fd_close) int fd = -1;
	bool again;
	struct stat st;

	if (fstatat(dir_fd, file, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0) {
		/* Gone since the folder was read. */
		if (errno == ENOENT && depth > 0)
			return 0;
		return error_set(get->err, -errno, "'%.300s'", name);
	}
	if (S_ISSOCK(st.st_mode))
		return 0; /* a tar has no word for it */
	/* Only files and folders are opened: the others might do something. */
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
		fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
		if (fd < 0 || fstat(fd, &st) < 0)
			return errno == ENOENT && depth > 0
				       ? 0
				       : error_set(get->err, -errno, "open '%.300s'", name);
		if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
			return error_say(get->err, -EBUSY, "'%.300s' was replaced meanwhile", name);
	}
	r = put_entry(get, dir_fd, file, name, &st, &again);
	if (r < 0 || again)
		return r;
	if (S_ISDIR(st.st_mode))
		return put_folder(get, fd, name, depth);
	return S_ISREG(st.st_mode) ? put_data(get, fd, (uint64_t) st.st_size, name) : 0;
}

int work_get(const struct work_files *files, const char *name, struct error *err)
{
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);
	struct get get = { .links.count_max = LINKS_MAX, .buffer = buffer, .err = err };
	int r = put_name(&get, AT_FDCWD, files->path, name, files->follow, 0);

	if (r < 0)
		return r;
	memset(buffer, 0, 2 * (size_t) TAR_BLOCK_SIZE);
	return put_out(&get, buffer, 2 * (size_t) TAR_BLOCK_SIZE);
}
