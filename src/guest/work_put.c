/*
 * A tar becomes a tree inside the machine, as image/files_put.c makes it for containers: folders on
 * the way are made, links to folders stay, what is no folder does not replace one, devices are
 * refused.  Written in place: what is cut off half-way leaves less than was wanted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "codec/tar.h"
#include "guest/work.h"
#include "kern/statfs.h"

enum { IN_FD = 0, COPY_SIZE = 256 << 10, FOLDERS_MAX = 1 << 20, ID_COUNT = 65536 };

/* A folder whose time is set at the end, when nothing is written into it any more. */
struct folder {
	char *name;
	struct timespec mtime;
};

struct put {
	const struct work_files *files;
	struct folder *folders;
	size_t folder_count;
	char *buffer;
	struct error *err;
};

struct entry {
	struct tar_header header;
	struct tar_records records;
	char *long_name, *long_link; /* of GNU tar */
	char *name;                  /* cleaned */
	const char *link;
	uint64_t size;
	uint32_t uid, gid;
	struct timespec mtime;
};

static void entry_done(struct entry *entry)
{
	tar_records_done(&entry->records);
	free(entry->long_name);
	free(entry->long_link);
	free(entry->name);
	*entry = (struct entry){};
}

static inline void entry_done_autop(struct entry *entry)
{
	entry_done(entry);
}

/* Exactly that much; -EBADMSG at an early end, 1 at an end before the first byte. */
static int read_exactly(struct put *put, void *data, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(IN_FD, (char *) data + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(put->err, -errno, "read the stream");
		if (n == 0)
			return done == 0 ? 1 : error_say(put->err, -EBADMSG, "the tar is cut off");
		done += (size_t) n;
	}
	return 0;
}

static int skip(struct put *put, uint64_t size)
{
	while (size > 0) {
		size_t piece = size < COPY_SIZE ? (size_t) size : COPY_SIZE;
		int r = read_exactly(put, put->buffer, piece);

		if (r != 0)
			return r < 0 ? r : error_say(put->err, -EBADMSG, "the tar is cut off");
		size -= piece;
	}
	return 0;
}

/* What stands behind a header that describes the next one. */
static int read_text(struct put *put, uint64_t size, size_t max, char **ret)
{
	AUTO(free) char *text = NULL;
	int r;

	if (size > max)
		return error_say(put->err, -EFBIG, "the tar has a name of %llu bytes",
				 (unsigned long long) size);
	text = mem_zalloc((size_t) size + 1);
	r = read_exactly(put, text, (size_t) size);
	if (r == 0)
		r = skip(put, tar_padding(size));
	if (r != 0)
		return r < 0 ? r : error_say(put->err, -EBADMSG, "the tar is cut off");
	free(*ret);
	*ret = TAKE_PTR(text);
	return 0;
}

static int read_records(struct put *put, struct entry *entry, uint64_t size)
{
	AUTO(free) char *text = NULL;
	int r = read_text(put, size, TAR_RECORDS_MAX, &text);

	if (r < 0)
		return r;
	tar_records_done(&entry->records);
	entry->records = (struct tar_records){};
	return tar_records_decode(text, (size_t) size, &entry->records, put->err);
}

/* Without "." and empty components; ".." is refused. */
static int clean_name(struct put *put, const char *raw, char **ret)
{
	AUTO(free) char *copy = mem_strdup(raw);
	AUTO(free) char *name = mem_zalloc(strlen(raw) + 1);
	char *rest = copy, *part;
	size_t size = 0;

	while ((part = strsep(&rest, "/"))) {
		size_t n = strlen(part);

		if (n == 0 || strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0)
			return error_say(put->err, -EINVAL, "'%.200s' leads out of the folder",
					 raw);
		if (size > 0)
			name[size++] = '/';
		memcpy(name + size, part, n);
		size += n;
	}
	*ret = TAKE_PTR(name);
	return 0;
}

/* Puts together what the header and the records before it say. */
static int complete(struct put *put, struct entry *entry)
{
	const struct tar_records *records = &entry->records;
	const struct tar_header *header = &entry->header;
	bool keep = put->files->keep_ids;
	const char *raw = records->path      ? records->path
			  : entry->long_name ? entry->long_name
					     : header->name;

	entry->link = records->linkpath  ? records->linkpath
		      : entry->long_link ? entry->long_link
					 : header->link;
	entry->size = records->has_size ? records->size : header->size;
	entry->uid = !keep ? 0 : records->has_uid ? records->uid : header->uid;
	entry->gid = !keep ? 0 : records->has_gid ? records->gid : header->gid;
	entry->mtime.tv_sec = records->has_mtime ? records->mtime : header->mtime;
	entry->mtime.tv_nsec = records->has_mtime ? records->mtime_ns : 0;
	if (entry->uid >= ID_COUNT || entry->gid >= ID_COUNT)
		return error_say(put->err, -EINVAL,
				 "'%.200s' belongs to %u:%u; an instance has ids from 0 to %d", raw,
				 entry->uid, entry->gid, ID_COUNT - 1);
	return clean_name(put, raw, &entry->name);
}

/* The folders on the way. */
static int make_way(struct put *put, const char *name)
{
	AUTO(free) char *path = mem_strdup(name);

	for (char *p = path; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return error_set(put->err, -errno, "make '%.300s'", path);
		*p = '/';
	}
	return 0;
}

/* Makes place for something that is no folder. */
static int clear(struct put *put, const char *name)
{
	if (unlink(name) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR)
		return error_say(put->err, -EEXIST,
				 "%.200s/%.200s is a folder: what is no folder does not replace it",
				 put->files->path, name);
	return error_set(put->err, -errno, "replace %.200s/%.200s", put->files->path, name);
}

static int fail(struct put *put, const char *name)
{
	return error_set(put->err, -errno, "write %.200s/%.200s", put->files->path, name);
}

static int copy_data(struct put *put, int fd, uint64_t size, const char *name)
{
	while (size > 0) {
		size_t piece = size < COPY_SIZE ? (size_t) size : COPY_SIZE;
		int r = read_exactly(put, put->buffer, piece);

		if (r != 0)
			return r < 0 ? r : error_say(put->err, -EBADMSG, "the tar is cut off");
		r = file_write_all(fd, put->buffer, piece);
		if (r < 0)
			return error_set(put->err, r, "write %.200s/%.200s", put->files->path,
					 name);
		size -= piece;
	}
	return 0;
}

static int put_file(struct put *put, const struct entry *entry)
{
	const struct timespec times[] = { entry->mtime, entry->mtime };
	int flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	AUTO(fd_close) int fd = -1;
	int r = clear(put, entry->name);

	/* A mounted file stays where it is and gets the new contents. */
	if (r == -EBUSY)
		fd = open(entry->name, flags | O_TRUNC);
	else if (r < 0)
		return r;
	else
		fd = open(entry->name, flags | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fail(put, entry->name);
	r = copy_data(put, fd, entry->size, entry->name);
	if (r == 0)
		r = skip(put, tar_padding(entry->size));
	if (r < 0)
		return r;
	if (fchown(fd, entry->uid, entry->gid) < 0 || fchmod(fd, entry->header.mode & 07777) < 0 ||
	    futimens(fd, times) < 0)
		return fail(put, entry->name);
	return 0;
}

static int put_folder(struct put *put, const struct entry *entry)
{
	AUTO(fd_close) int fd = -1;

	if (mkdir(entry->name, 0700) < 0 && errno != EEXIST)
		return fail(put, entry->name);
	/* A link to a folder stays one: /lib of many images. */
	fd = open(entry->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOTDIR)
		return error_say(put->err, -EEXIST,
				 "%.200s/%.200s is no folder: a folder does not replace it",
				 put->files->path, entry->name);
	if (fd < 0 || fchown(fd, entry->uid, entry->gid) < 0 ||
	    fchmod(fd, entry->header.mode & 07777) < 0)
		return fail(put, entry->name);
	if (put->folder_count < FOLDERS_MAX) {
		if ((put->folder_count & (put->folder_count + 1)) == 0)
			put->folders = mem_realloc(put->folders, 2 * put->folder_count + 2,
						   sizeof(*put->folders));
		put->folders[put->folder_count++] =
			(struct folder){ mem_strdup(entry->name), entry->mtime };
	}
	return 0;
}

static int put_hardlink(struct put *put, const struct entry *entry)
{
	AUTO(free) char *target = NULL;
	int r = clean_name(put, entry->link, &target);

	if (r < 0 || strcmp(target, entry->name) == 0)
		return r;
	r = clear(put, entry->name);
	if (r == 0 && link(target, entry->name) < 0)
		return error_set(put->err, -errno, "hard link '%.150s' to '%.150s'", entry->name,
				 target);
	return r;
}

static int put_other(struct put *put, const struct entry *entry)
{
	const struct timespec times[] = { entry->mtime, entry->mtime };
	int r = clear(put, entry->name);

	if (r < 0)
		return r;
	if (entry->header.type == TAR_SYMLINK)
		r = symlink(entry->link, entry->name);
	else
		r = mkfifo(entry->name, entry->header.mode & 0777);
	if (r < 0 || lchown(entry->name, entry->uid, entry->gid) < 0 ||
	    utimensat(AT_FDCWD, entry->name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(put, entry->name);
	return 0;
}

static int put_entry(struct put *put, struct entry *entry)
{
	int r = complete(put, entry);

	if (r < 0)
		return r;
	/* The folder itself is there already, and stays as it is. */
	if (!entry->name[0])
		return skip(put, entry->size + tar_padding(entry->size));
	r = make_way(put, entry->name);
	if (r < 0)
		return r;
	switch (entry->header.type) {
	case TAR_FILE:
	case '\0':
	case '7':
		return put_file(put, entry);
	case TAR_FOLDER:
		return put_folder(put, entry);
	case TAR_HARDLINK:
		return put_hardlink(put, entry);
	case TAR_SYMLINK:
	case TAR_FIFO:
		return put_other(put, entry);
	case TAR_CHAR:
	case TAR_BLOCK_DEVICE:
		return error_say(put->err, -EPERM,
				 "'%.200s' is a device: an instance gets none by copying",
				 entry->name);
	default:
		return error_say(put->err, -EINVAL, "'%.200s' is of an unknown kind", entry->name);
	}
}

/* Takes one header and all that belongs to it; 1 at the end. */
static int take(struct put *put, struct entry *entry)
{
	char block[TAR_BLOCK_SIZE];
	int r = read_exactly(put, block, sizeof(block));

	if (r != 0)
		return r;
	if (memcmp(block, "\x1f\x8b", 2) == 0 || memcmp(block, "\x28\xb5\x2f\xfd", 4) == 0)
		return error_say(put->err, -EINVAL,
				 "the tar is compressed; a virtual machine takes plain ones");
	r = tar_header_decode(block, &entry->header, put->err);
	if (r != 0)
		return r;
	switch (entry->header.type) {
	case TAR_PAX:
		return read_records(put, entry, entry->header.size);
	case TAR_PAX_GLOBAL:
		return skip(put, entry->header.size + tar_padding(entry->header.size));
	case TAR_LONG_NAME:
		return read_text(put, entry->header.size, TAR_TEXT_MAX, &entry->long_name);
	case TAR_LONG_LINK:
		return read_text(put, entry->header.size, TAR_TEXT_MAX, &entry->long_link);
	default:
		r = put_entry(put, entry);
		entry_done(entry);
		return r;
	}
}

static void set_times(struct put *put)
{
	for (size_t i = put->folder_count; i-- > 0;) {
		const struct timespec times[] = { put->folders[i].mtime, put->folders[i].mtime };

		/* The instance may have removed it again. */
		(void) utimensat(AT_FDCWD, put->folders[i].name, times, AT_SYMLINK_NOFOLLOW);
	}
}

int work_put(const struct work_files *files, struct error *err)
{
	AUTO(fd_close) int dir_fd = open(files->path, O_PATH | O_CLOEXEC);
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);
	AUTO(entry_done) struct entry entry = {};
	struct put put = { .files = files, .buffer = buffer, .err = err };
	struct stat st;
	int r;

	if (dir_fd < 0 || fstat(dir_fd, &st) < 0)
		return error_set(err, -errno, "%.300s", files->path);
	if (!S_ISDIR(st.st_mode))
		return error_say(err, -EINVAL, "%.300s is not a folder", files->path);
	if (statfs_made_up(dir_fd))
		return error_say(err, -EINVAL,
				 "%.300s is made by the kernel (%s): nothing is copied there",
				 files->path, statfs_made_up(dir_fd));
	if (fchdir(dir_fd) < 0)
		return error_set(err, -errno, "%.300s", files->path);
	umask(0);
	do
		r = take(&put, &entry);
	while (r == 0);
	if (r < 0)
		return r;
	set_times(&put);
	/* The blocks behind the end mark: who sends them must not find the pipe closed. */
	while (read(IN_FD, buffer, COPY_SIZE) > 0)
		;
	return 0;
}
