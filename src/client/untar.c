#include "client/untar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/tar.h"

enum { COMPONENTS_MAX = 4096, HOLE_SIZE = 4096 };

/* A folder gets its mode and time when nothing is written into it any more. */
struct folder {
	char *name;
	mode_t mode;
	uint32_t uid, gid;
	struct timespec mtime;
};

enum state { HEADER, RECORDS, DATA, PADDING, END };

struct untar {
	struct untar_options options;
	enum state state;
	struct strbuf in; /* an incomplete block, or records */
	struct tar_header header;
	struct tar_records records; /* of the entry that comes */
	uint64_t left;              /* bytes of the data, or of the records */
	size_t padding;
	int file_fd; /* of the data; -1: they are dropped */
	uint64_t offset;
	char *file_name;
	struct folder *folders;
	size_t folder_count;
	char *last_parent;
	int last_fd;
	unsigned int skipped, lowered;
};

struct untar *untar_new(const struct untar_options *options)
{
	struct untar *untar = mem_new0(struct untar);

	untar->options = *options;
	untar->file_fd = untar->last_fd = -1;
	return untar;
}

/* Drops empty components and "."; the first one is exchanged.  "": the folder itself. */
static int clean_name(const struct untar *untar, const char *name, char **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf out = {};
	unsigned int count = 0;

	for (const char *p = name; *p;) {
		size_t size = strcspn(p, "/");

		if (size == 2 && memcmp(p, "..", 2) == 0)
			return error_say(err, -EBADMSG, "the tar has a name with '..': refused");
		/* "." as the first component is the name of a root. */
		if (size > 0 && (count == 0 || size != 1 || *p != '.')) {
			if (++count > COMPONENTS_MAX)
				return error_say(err, -EBADMSG, "the tar has a name too deep");
			if (count == 1 && untar->options.name)
				strbuf_puts(&out, untar->options.name);
			else if (count > 1) {
				strbuf_puts(&out, out.size > 0 ? "/" : "");
				strbuf_append(&out, p, size);
			}
		}
		p += size + (p[size] == '/');
	}
	*ret = strbuf_take(&out);
	return 0;
}

/* Opens a folder, component by component; what is missing is made when `make`. */
static int open_folder(struct untar *untar, const char *name, bool make, struct error *err)
{
	AUTO(fd_close) int fd = fcntl(untar->options.dir_fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return error_set(err, -errno, "folder");
	for (const char *p = name; *p;) {
		size_t size = strcspn(p, "/");
		AUTO(free) char *part = mem_strndup(p, size);
		int next;

		if (make && mkdirat(fd, part, 0700) < 0 && errno != EEXIST)
			return error_set(err, -errno, "make the folder %.300s", name);
		next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0 && (errno == ENOTDIR || errno == ELOOP))
			return error_say(err, -EEXIST,
					 "%.300s is no folder here: nothing is written through it",
					 name);
		if (next < 0)
			return error_set(err, -errno, "open the folder %.300s", name);
		close(fd);
		fd = next;
		p += size + (p[size] == '/');
	}
	return TAKE_FD(fd);
}

static void forget_parent(struct untar *untar)
{
	fd_close(untar->last_fd);
	untar->last_fd = -1;
	free(TAKE_PTR(untar->last_parent));
}

/* The folder that an entry goes into; borrowed. */
static int open_parent(struct untar *untar, const char *name, const char **ret_last,
		       struct error *err)
{
	const char *slash = strrchr(name, '/');
	AUTO(free)
	char *parent = slash ? mem_strndup(name, (size_t) (slash - name)) : mem_strdup("");
	int fd;

	*ret_last = slash ? slash + 1 : name;
	if (untar->last_parent && strcmp(untar->last_parent, parent) == 0)
		return untar->last_fd;
	fd = open_folder(untar, parent, true, err);
	if (fd < 0)
		return fd;
	forget_parent(untar);
	untar->last_fd = fd;
	untar->last_parent = TAKE_PTR(parent);
	return fd;
}

static int clear(int dir_fd, const char *last, const char *name, struct error *err)
{
	if (unlinkat(dir_fd, last, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR || errno == EPERM)
		return error_say(err, -EEXIST,
				 "%.300s is a folder here: what is no folder does not replace it",
				 name);
	return error_set(err, -errno, "replace %.300s", name);
}

static mode_t kept_mode(struct untar *untar)
{
	if (untar->header.mode & (S_ISUID | S_ISGID) && untar->header.type != TAR_FOLDER)
		untar->lowered++;
	return untar->header.mode & (untar->header.type == TAR_FOLDER ? 01777 : 0777);
}

static struct timespec mtime_of(const struct untar *untar)
{
	return (struct timespec){ untar->header.mtime, untar->records.mtime_ns };
}

static int begin_file(struct untar *untar, const char *name, struct error *err)
{
	const char *last;
	int r, dir_fd = open_parent(untar, name, &last, err);

	if (dir_fd < 0)
		return dir_fd;
	r = clear(dir_fd, last, name, err);
	if (r < 0)
		return r;
	untar->file_fd =
		openat(dir_fd, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (untar->file_fd < 0)
		return error_set(err, -errno, "write %.300s", name);
	untar->offset = 0;
	mem_replace(&untar->file_name, name);
	return 0;
}

static int end_file(struct untar *untar, struct error *err)
{
	const struct timespec times[] = { mtime_of(untar), mtime_of(untar) };
	AUTO(fd_close) int fd = TAKE_FD(untar->file_fd);

	if (fd < 0)
		return 0;
	/* Without the right to give it away it stays ours, as with cp -a. */
	if (untar->options.keep_ids && fchown(fd, untar->header.uid, untar->header.gid) < 0 &&
	    errno != EPERM)
		return error_set(err, -errno, "the owner of %.300s", untar->file_name);
	if (ftruncate(fd, (off_t) untar->offset) < 0 || fchmod(fd, kept_mode(untar)) < 0 ||
	    futimens(fd, times) < 0)
		return error_set(err, -errno, "write %.300s", untar->file_name);
	return 0;
}

static bool is_zero(const char *data, size_t size)
{
	return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

/* Blocks of zeros become holes. */
static int write_data(struct untar *untar, const char *data, size_t size, struct error *err)
{
	while (size > 0 && untar->file_fd >= 0) {
		size_t piece = HOLE_SIZE - (size_t) (untar->offset % HOLE_SIZE);
		ssize_t n;

		piece = piece < size ? piece : size;
		n = is_zero(data, piece)
			    ? (ssize_t) piece
			    : pwrite(untar->file_fd, data, piece, (off_t) untar->offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, -errno, "write %.300s", untar->file_name);
		data += n;
		size -= (size_t) n;
		untar->offset += (uint64_t) n;
	}
	return 0;
}

static int make_folder(struct untar *untar, const char *name, struct error *err)
{
	int fd;

	/* The folder itself is there already, and stays as it is. */
	if (!name[0])
		return 0;
	fd = open_folder(untar, name, true, err);
	if (fd < 0)
		return fd;
	close(fd);
	if ((untar->folder_count & (untar->folder_count + 1)) == 0)
		untar->folders = mem_realloc(untar->folders, 2 * untar->folder_count + 2,
					     sizeof(*untar->folders));
	untar->folders[untar->folder_count++] =
		(struct folder){ mem_strdup(name), kept_mode(untar), untar->header.uid,
				 untar->header.gid, mtime_of(untar) };
	return 0;
}

static int make_link(struct untar *untar, const char *name, struct error *err)
{
	const char *raw = untar->records.linkpath ? untar->records.linkpath : untar->header.link;
	AUTO(free) char *target = NULL;
	AUTO(free) char *above = NULL;
	AUTO(fd_close) int target_fd = -1;
	const char *slash, *last;
	int dir_fd, r = clean_name(untar, raw, &target, err);

	if (r < 0)
		return r;
	slash = strrchr(target, '/');
	above = slash ? mem_strndup(target, (size_t) (slash - target)) : mem_strdup("");
	target_fd = open_folder(untar, above, false, err);
	if (target_fd < 0)
		return target_fd;
	dir_fd = open_parent(untar, name, &last, err);
	if (dir_fd < 0)
		return dir_fd;
	if (strcmp(target, name) == 0)
		return 0;
	r = clear(dir_fd, last, name, err);
	if (r == 0 && linkat(target_fd, slash ? slash + 1 : target, dir_fd, last, 0) < 0)
		r = error_set(err, -errno, "link %.200s to %.200s", name, target);
	return r;
}

static int make_other(struct untar *untar, const char *name, struct error *err)
{
	const char *target = untar->records.linkpath ? untar->records.linkpath : untar->header.link;
	const struct timespec times[] = { mtime_of(untar), mtime_of(untar) };
	const char *last;
	int r, dir_fd;

	/* What was a folder a moment ago may be a link now. */
	forget_parent(untar);
	dir_fd = open_parent(untar, name, &last, err);
	if (dir_fd < 0)
		return dir_fd;
	r = clear(dir_fd, last, name, err);
	if (r < 0)
		return r;
	if (untar->header.type == TAR_SYMLINK)
		r = symlinkat(target, dir_fd, last);
	else
		r = mkfifoat(dir_fd, last, untar->header.mode & 0777);
	if (r < 0)
		return error_set(err, -errno, "make %.300s", name);
	if (untar->options.keep_ids)
		(void) !fchownat(dir_fd, last, untar->header.uid, untar->header.gid,
				 AT_SYMLINK_NOFOLLOW);
	utimensat(dir_fd, last, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

/* What the records say goes into the header. */
static void merge(struct untar *untar)
{
	const struct tar_records *records = &untar->records;
	struct tar_header *header = &untar->header;

	if (records->has_size)
		header->size = records->size;
	if (records->has_uid)
		header->uid = records->uid;
	if (records->has_gid)
		header->gid = records->gid;
	if (records->has_mtime)
		header->mtime = records->mtime;
}

static int begin_entry(struct untar *untar, struct error *err)
{
	const char *raw = untar->records.path ? untar->records.path : untar->header.name;
	AUTO(free) char *name = NULL;
	size_t size = strlen(raw);
	int r = clean_name(untar, raw, &name, err);

	if (r < 0)
		return r;
	/* Old tars say it so. */
	if (untar->header.type == TAR_FILE && size > 0 && raw[size - 1] == '/')
		untar->header.type = TAR_FOLDER;
	if (!name[0] && untar->header.type != TAR_FOLDER)
		return error_say(err, -EBADMSG, "the tar has a file where a folder must be");
	switch (untar->header.type) {
	case TAR_FILE:
		return begin_file(untar, name, err);
	case TAR_FOLDER:
		return make_folder(untar, name, err);
	case TAR_HARDLINK:
		return make_link(untar, name, err);
	case TAR_SYMLINK:
	case TAR_FIFO:
		return make_other(untar, name, err);
	default:
		untar->skipped++;
		return 0;
	}
}

static bool is_records(char type)
{
	return type == TAR_PAX || type == TAR_PAX_GLOBAL || type == TAR_LONG_NAME ||
	       type == TAR_LONG_LINK;
}

static void begin_data(struct untar *untar, enum state state)
{
	untar->left = untar->header.size;
	untar->padding = tar_padding(untar->header.size);
	untar->state = state;
}

static int take_header(struct untar *untar, struct error *err)
{
	int r = tar_header_decode(untar->in.data, &untar->header, err);

	strbuf_consume(&untar->in, TAR_BLOCK_SIZE);
	if (r == 1)
		untar->state = END;
	if (r != 0)
		return r < 0 ? r : 0;
	if (is_records(untar->header.type)) {
		if (untar->header.size > TAR_RECORDS_MAX)
			return error_say(err, -EBADMSG, "the tar is damaged: records too large");
		begin_data(untar, RECORDS);
		return 0;
	}
	merge(untar);
	r = begin_entry(untar, err);
	/* Only files have data; what others say of a size means nothing. */
	if (untar->header.type != TAR_FILE && strchr("123456", untar->header.type))
		untar->header.size = 0;
	begin_data(untar, DATA);
	return r;
}

static int take_records(struct untar *untar, struct error *err)
{
	const char *text = strbuf_str(&untar->in);
	size_t size = (size_t) untar->header.size;
	int r = 0;

	switch (untar->header.type) {
	case TAR_PAX:
		r = tar_records_decode(text, size, &untar->records, err);
		break;
	case TAR_LONG_NAME:
	case TAR_LONG_LINK:
		if (size == 0 || size > TAR_TEXT_MAX)
			return error_say(err, -EBADMSG, "the tar is damaged: a long name");
		char **to = untar->header.type == TAR_LONG_NAME ? &untar->records.path
								: &untar->records.linkpath;
		free(*to);
		*to = mem_strndup(text, strnlen(text, size));
		break;
	default: /* for all entries: nothing in them matters here */
		break;
	}
	strbuf_consume(&untar->in, size);
	return r;
}

static size_t smaller(uint64_t a, size_t b)
{
	return a < b ? (size_t) a : b;
}

static int step(struct untar *untar, const char **data, size_t *size, struct error *err)
{
	size_t n;
	int r = 0;

	switch (untar->state) {
	case HEADER:
		n = smaller(TAR_BLOCK_SIZE - untar->in.size, *size);
		strbuf_append(&untar->in, *data, n);
		if (untar->in.size == TAR_BLOCK_SIZE)
			r = take_header(untar, err);
		break;
	case RECORDS:
		n = smaller(untar->left, *size);
		strbuf_append(&untar->in, *data, n);
		untar->left -= n;
		if (untar->left == 0) {
			r = take_records(untar, err);
			untar->state = PADDING;
		}
		break;
	case DATA:
		n = smaller(untar->left, *size);
		r = write_data(untar, *data, n, err);
		untar->left -= n;
		if (r == 0 && untar->left == 0) {
			r = end_file(untar, err);
			tar_records_done(&untar->records);
			untar->state = PADDING;
		}
		break;
	case PADDING:
		n = smaller(untar->padding, *size);
		untar->padding -= n;
		if (untar->padding == 0)
			untar->state = HEADER;
		break;
	default: /* behind the end */
		n = *size;
	}
	*data += n;
	*size -= n;
	return r;
}

/* Steps that need no more bytes: an empty file, no padding. */
static bool goes_on(const struct untar *untar)
{
	return ((untar->state == DATA || untar->state == RECORDS) && untar->left == 0) ||
	       (untar->state == PADDING && untar->padding == 0);
}

int untar_feed(struct untar *untar, const void *bytes, size_t size, struct error *err)
{
	const char *data = bytes;
	int r = 0;

	while (r == 0 && (size > 0 || goes_on(untar)))
		r = step(untar, &data, &size, err);
	return r;
}

int untar_end(struct untar *untar, struct error *err)
{
	if (untar->state != END)
		return error_say(err, -EBADMSG, "the tar is cut off");
	for (size_t i = untar->folder_count; i-- > 0;) {
		const struct folder *folder = &untar->folders[i];
		const struct timespec times[] = { folder->mtime, folder->mtime };
		AUTO(fd_close) int fd = open_folder(untar, folder->name, false, err);

		if (fd < 0)
			return fd;
		if (untar->options.keep_ids && fchown(fd, folder->uid, folder->gid) < 0 &&
		    errno != EPERM)
			return error_set(err, -errno, "the owner of %.300s", folder->name);
		if (fchmod(fd, folder->mode) < 0 || futimens(fd, times) < 0)
			return error_set(err, -errno, "%.300s", folder->name);
	}
	return 0;
}

unsigned int untar_skipped(const struct untar *untar)
{
	return untar->skipped;
}

unsigned int untar_lowered(const struct untar *untar)
{
	return untar->lowered;
}

void untar_free(struct untar *untar)
{
	if (!untar)
		return;
	for (size_t i = 0; i < untar->folder_count; i++)
		free(untar->folders[i].name);
	free(untar->folders);
	forget_parent(untar);
	fd_close(untar->file_fd);
	free(untar->file_name);
	tar_records_done(&untar->records);
	strbuf_done(&untar->in);
	free(untar);
}
