/*
 * The changes as a layer: a tar in a fixed order with OCI's whiteouts, gzip without a time, so that
 * the same changes give the same bytes.  Ids are those of the image.
 */
#include <errno.h>
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/digest_stream.h"
#include "codec/hardlinks.h"
#include "image/archive_internal.h"
#include "image/files_internal.h"
#include "image/rootfs.h"
#include "image/upper_internal.h"
#include "image/worker.h"

enum {
	COPY_SIZE = 256 << 10,
	OUT_SIZE = 256 << 10,
	LINK_MAX = 4096,
	LINKS_MAX = 4 << 20,
	PROGRESS_BYTES = 8 << 20,
};

struct layer_writer {
	struct upper *upper;
	struct archive *archive;
	struct isal_zstream gzip;
	uint8_t *level_buffer, *out;
	struct digest_stream *diff_id, *digest;
	uint64_t in_bytes, out_bytes, told_bytes;
	int result; /* of writing, which libarchive does not carry */
	struct hardlinks *links;
	char *buffer, *xattr;
};

/* Compresses what is given, all of it. */
static int deflate_some(struct layer_writer *writer, const void *data, size_t size, bool end)
{
	struct isal_zstream *gzip = &writer->gzip;

	gzip->next_in = (uint8_t *) data;
	gzip->avail_in = (uint32_t) size;
	gzip->end_of_stream = end;
	do {
		size_t ready;
		int r;

		gzip->next_out = writer->out;
		gzip->avail_out = OUT_SIZE;
		if (isal_deflate(gzip) != COMP_OK)
			return -EIO;
		ready = OUT_SIZE - gzip->avail_out;
		digest_stream_add(writer->digest, writer->out, ready);
		writer->out_bytes += ready;
		r = file_write_all(WORKER_INPUT_FD, writer->out, ready);
		if (r < 0)
			return r;
	} while (gzip->avail_in > 0 || gzip->avail_out == 0 ||
		 (end && gzip->internal_state.state != ZSTATE_END));
	return 0;
}

static void tell(struct layer_writer *writer)
{
	if (writer->in_bytes - writer->told_bytes < PROGRESS_BYTES)
		return;
	writer->told_bytes = writer->in_bytes;
	wire_send(writer->upper->wire->fd, json_pack("{s:s, s:I}", "type", "progress", "done",
						     (json_int_t) writer->in_bytes));
}

static la_ssize_t write_out(struct archive *archive, void *data, const void *bytes, size_t size)
{
	struct layer_writer *writer = data;

	digest_stream_add(writer->diff_id, bytes, size);
	writer->in_bytes += size;
	writer->result = deflate_some(writer, bytes, size, false);
	tell(writer);
	if (writer->result == 0)
		return (la_ssize_t) size;
	archive_set_error(archive, -writer->result, "layer");
	return -1;
}

static int archive_fail(struct layer_writer *writer, const char *path)
{
	if (writer->result < 0)
		return error_set(writer->upper->err, writer->result, "write the layer");
	return error_say(writer->upper->err, -EIO, "'%.300s': %.100s", path,
			 archive_error_string(writer->archive));
}

static void add_xattrs(struct layer_writer *writer, struct archive_entry *entry, int fd)
{
	AUTO(free) char *names = NULL;
	size_t size = upper_xattr_names(fd, &names);

	for (const char *name = names; name < names + size; name += strlen(name) + 1) {
		ssize_t n = upper_xattr(fd, name, writer->upper->owner_base, writer->xattr);

		if (n >= 0)
			archive_entry_xattr_add_entry(entry, name, writer->xattr, (size_t) n);
	}
}

/* Ids that are not the instance's own can only be of what came in from outside: nobody's. */
static int64_t image_id(const struct upper *upper, uint32_t id)
{
	enum { NOBODY = 65534 };

	return id - upper->owner_base < (uint32_t) LAYER_UID_COUNT ? id - upper->owner_base
								   : NOBODY;
}

/* 1: a hard link, which has no data. */
static int put_header(struct layer_writer *writer, struct archive_entry *entry,
		      const struct stat *st, const char *name)
{
	const char *first = hardlinks_first(writer->links, st, name);

	archive_entry_set_pathname(entry, name);
	archive_entry_set_mode(entry, st->st_mode);
	archive_entry_set_uid(entry, image_id(writer->upper, st->st_uid));
	archive_entry_set_gid(entry, image_id(writer->upper, st->st_gid));
	archive_entry_set_mtime(entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	archive_entry_set_size(entry, S_ISREG(st->st_mode) && !first ? st->st_size : 0);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		archive_entry_set_rdevmajor(entry, major(st->st_rdev));
		archive_entry_set_rdevminor(entry, minor(st->st_rdev));
	}
	if (first)
		archive_entry_set_hardlink(entry, first);
	if (archive_write_header(writer->archive, entry) != ARCHIVE_OK)
		return archive_fail(writer, name);
	return first != NULL;
}

/* Exactly `size` bytes: what is missing in the end is zeros. */
static int put_data(struct layer_writer *writer, int fd, int64_t size, const char *name)
{
	while (size > 0) {
		size_t want = size < COPY_SIZE ? (size_t) size : COPY_SIZE;
		ssize_t n = read(fd, writer->buffer, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(writer->upper->err, -errno, "read '%.300s'", name);
		if (n == 0) {
			memset(writer->buffer, 0, want);
			n = (ssize_t) want;
		}
		if (archive_write_data(writer->archive, writer->buffer, (size_t) n) != n)
			return archive_fail(writer, name);
		size -= n;
	}
	return 0;
}

/* An empty file whose name says it all. */
static int put_mark(struct layer_writer *writer, const char *name)
{
	AUTO(archive_entry_free) struct archive_entry *entry = archive_entry_new();
	struct stat st = { .st_mode = S_IFREG | 0644,
			   .st_nlink = 1,
			   .st_uid = writer->upper->owner_base,
			   .st_gid = writer->upper->owner_base };

	return put_header(writer, entry, &st, name);
}

static int put_whiteout(struct layer_writer *writer, const char *path)
{
	const char *slash = strrchr(path, '/');
	AUTO(free) char *name = mem_printf("%.*s.wh.%s", (int) (slash + 1 - path), path, slash + 1);

	return put_mark(writer, name + 1);
}

static int put_file(struct layer_writer *writer, const struct upper_entry *entry, const char *name)
{
	AUTO(archive_entry_free) struct archive_entry *header = archive_entry_new();
	AUTO(fd_close) int fd = files_open_child(entry->dir_fd, entry->name, O_RDONLY);
	struct stat st;
	int r;

	/* Gone or replaced meanwhile. */
	if (fd == -ENOENT || fd == -ELOOP || fd == -ENXIO)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(writer->upper->err, fd < 0 ? fd : -errno, "'%.300s'", name);
	if (!S_ISREG(st.st_mode))
		return 0;
	add_xattrs(writer, header, fd);
	r = put_header(writer, header, &st, name);
	return r != 0 ? (r < 0 ? r : 0) : put_data(writer, fd, st.st_size, name);
}

static int put_other(struct layer_writer *writer, const struct upper_entry *entry, const char *name)
{
	AUTO(archive_entry_free) struct archive_entry *header = archive_entry_new();
	char target[LINK_MAX + 1];
	ssize_t n;
	int r;

	if (S_ISLNK(entry->st.st_mode)) {
		n = readlinkat(entry->dir_fd, entry->name, target, LINK_MAX);
		if (n < 0)
			return 0; /* replaced meanwhile */
		target[n] = '\0';
		archive_entry_set_symlink(header, target);
	}
	r = put_header(writer, header, &entry->st, name);
	return r < 0 ? r : 0;
}

static int put_folder(struct layer_writer *writer, const struct upper_entry *entry,
		      const char *name)
{
	AUTO(archive_entry_free) struct archive_entry *header = archive_entry_new();
	AUTO(free) char *path = mem_printf("%s/", name[0] ? name : ".");
	int r;

	add_xattrs(writer, header, entry->fd);
	r = put_header(writer, header, &entry->st, path);
	if (r < 0 || !entry->opaque || !entry->has_lower || !S_ISDIR(entry->lower_st.st_mode))
		return r;
	AUTO(free) char *mark = mem_printf("%s.wh..wh..opq", path);
	return put_mark(writer, mark);
}

static int visit(struct upper *upper, const struct upper_entry *entry, void *data)
{
	struct layer_writer *writer = data;
	const char *name = entry->path[0] ? entry->path + 1 : "";

	/* OCI has taken these names for itself. */
	if (strncmp(entry->name, ".wh.", 4) == 0)
		return error_say(upper->err, -EINVAL,
				 "'%.300s': a layer cannot hold a name that begins with .wh.",
				 entry->path);
	if (entry->whiteout)
		return put_whiteout(writer, entry->path);
	switch (entry->st.st_mode & S_IFMT) {
	case S_IFREG:
		return put_file(writer, entry, name);
	case S_IFDIR:
		return put_folder(writer, entry, name);
	case S_IFSOCK:
		return 0;
	default:
		return put_other(writer, entry, name);
	}
}

static int leave(struct upper *upper, const struct upper_entry *entry, bool noise, void *data)
{
	(void) upper;
	(void) entry;
	(void) noise;
	(void) data;
	return 0;
}

static int hidden(struct upper *upper, const char *path, void *data)
{
	(void) upper;
	(void) path;
	(void) data;
	return 0;
}

static int open_writer(struct layer_writer *writer)
{
	isal_deflate_init(&writer->gzip);
	writer->gzip.level = 2;
	writer->gzip.level_buf_size = ISAL_DEF_LVL2_DEFAULT;
	writer->gzip.level_buf = writer->level_buffer = mem_zalloc(ISAL_DEF_LVL2_DEFAULT);
	writer->gzip.gzip_flag = IGZIP_GZIP;
	archive_write_set_format_pax_restricted(writer->archive);
	archive_write_set_format_option(writer->archive, "pax", "xattrheader", "SCHILY");
	archive_write_set_bytes_per_block(writer->archive, COPY_SIZE);
	archive_write_set_bytes_in_last_block(writer->archive, 512);
	return archive_write_open(writer->archive, writer, NULL, write_out, NULL) == ARCHIVE_OK
		       ? 0
		       : archive_fail(writer, "");
}

static int write_layer(struct layer_writer *writer, json_t **ret)
{
	static const struct upper_ops ops = { visit, leave, hidden };
	char digest_text[DIGEST_TEXT_SIZE], diff_text[DIGEST_TEXT_SIZE];
	struct digest digest, diff_id;
	int r = open_writer(writer);

	if (r == 0)
		r = upper_walk(writer->upper, &ops, writer);
	if (r == 0 && archive_write_close(writer->archive) != ARCHIVE_OK)
		r = archive_fail(writer, "");
	if (r < 0)
		return r;
	r = deflate_some(writer, NULL, 0, true);
	if (r < 0)
		return error_set(writer->upper->err, r, "write the layer");
	digest_stream_end(writer->digest, &digest);
	digest_stream_end(writer->diff_id, &diff_id);
	digest_format(&digest, digest_text);
	digest_format(&diff_id, diff_text);
	*ret = json_pack("{s:s, s:s, s:s, s:I}", "type", "done", "digest", digest_text, "diff_id",
			 diff_text, "size", (json_int_t) writer->out_bytes);
	return 0;
}

int upper_layer(struct upper *upper, json_t **ret)
{
	AUTO(digest_stream_free) struct digest_stream *diff_id = digest_stream_new(DIGEST_SHA256);
	AUTO(digest_stream_free) struct digest_stream *digest = digest_stream_new(DIGEST_SHA256);
	AUTO(free) uint8_t *out = mem_zalloc(OUT_SIZE);
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);
	AUTO(free) char *xattr = mem_zalloc(UPPER_XATTR_MAX);
	AUTO(hardlinks_done) struct hardlinks links = { .count_max = LINKS_MAX };
	AUTO(free) struct layer_writer *writer = mem_new0(struct layer_writer);
	/* The last one: releasing it writes, with all of the above. */
	AUTO(archive_write_free) struct archive *archive = archive_write_new();

	writer->upper = upper;
	writer->archive = archive;
	writer->links = &links;
	writer->diff_id = diff_id;
	writer->digest = digest;
	writer->out = out;
	writer->buffer = buffer;
	writer->xattr = xattr;
	return write_layer(writer, ret);
}
