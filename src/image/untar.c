#include "image/untar_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "image/archive_internal.h"

enum { UID_COUNT = 65536 };

#define DEFAULT_ACL "system.posix_acl_default"
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct state {
	const struct untar *untar;
	struct tree *tree;
	struct layer_meta *meta;
	struct archive *archive;
	struct error source_err; /* of the source, which libarchive does not carry */
	int source_result;
	struct error *err;
};

static la_ssize_t read_block(struct archive *archive, void *data, const void **buffer)
{
	struct state *state = data;
	ssize_t n = state->untar->source(state->untar->source_data, buffer, &state->source_err);

	if (n < 0) {
		state->source_result = (int) n;
		archive_set_error(archive, (int) -n, "source");
		return ARCHIVE_FATAL;
	}
	return n;
}

static int archive_fail(struct state *state)
{
	const char *text = archive_error_string(state->archive);

	if (state->source_result < 0) {
		if (state->err)
			*state->err = state->source_err;
		return state->source_result;
	}
	return error_say(state->err, -EBADMSG, "the tar is damaged: %.200s", text ? text : "");
}

/*
 * A warning is as bad as an error, but for one: names that are not ASCII cannot be converted to the
 * "C" locale.  They are handed out byte by byte, which is exactly what is wanted.
 */
static bool is_harmless(struct archive *archive)
{
	const char *text = archive_error_string(archive);

	return text && strstr(text, "can't be converted");
}

static bool is_kept_xattr(const char *name)
{
	if (strncmp(name, "user.", 5) == 0)
		return strncmp(name, "user.overlay.", 13) != 0;
	return strcmp(name, "security.capability") == 0 ||
	       strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, DEFAULT_ACL) == 0;
}

static int set_xattrs(struct state *state, struct archive_entry *entry, int fd, const char *name)
{
	const char *key;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK) {
		int r = 0;

		if (!is_kept_xattr(key))
			continue;
		/* At the end, or what is made in the folder would inherit it. */
		if (strcmp(key, DEFAULT_ACL) == 0)
			r = tree_set_later(state->tree, name, key, value, size);
		else if (fsetxattr(fd, key, value, size, 0) < 0)
			r = -errno;
		if (r < 0)
			return error_set(state->err, r, "'%.200s': attribute %.60s", name, key);
	}
	return 0;
}

static int get_attr(struct state *state, struct archive_entry *entry, const char *name,
		    struct tree_attr *ret)
{
	int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

	if (state->untar->archive_only)
		uid = gid = 0;
	if (uid < 0 || uid >= UID_COUNT || gid < 0 || gid >= UID_COUNT)
		return error_say(state->err, -EINVAL,
				 "'%.200s' belongs to %lld:%lld; ids from 0 to %d are right", name,
				 (long long) uid, (long long) gid, UID_COUNT - 1);
	*ret = (struct tree_attr){
		.mode = archive_entry_perm(entry) & 07777,
		.uid = (uint32_t) uid,
		.gid = (uint32_t) gid,
		.mtime = { archive_entry_mtime(entry), archive_entry_mtime_nsec(entry) },
	};
	return 0;
}

/* The file's bytes at their places; between them are holes. */
static int write_data(struct state *state, struct archive_entry *entry, int fd, const char *name)
{
	int64_t end = 0;

	for (;;) {
		const void *data;
		size_t size;
		int64_t offset;
		int r = archive_read_data_block(state->archive, &data, &size, &offset);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK)
			return error_wrap(state->err, archive_fail(state), "'%.200s'", name);
		r = tree_charge(state->tree, size, state->err);
		if (r < 0)
			return error_wrap(state->err, r, "'%.200s'", name);
		state->meta->bytes += size;
		for (size_t done = 0; done < size;) {
			ssize_t n = pwrite(fd, (const char *) data + done, size - done,
					   offset + (int64_t) done);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return error_set(state->err, -errno, "write '%.200s'", name);
			done += (size_t) n;
		}
		end = offset + (int64_t) size;
	}
	if (end < archive_entry_size(entry) && ftruncate(fd, archive_entry_size(entry)) < 0)
		return error_set(state->err, -errno, "write '%.200s'", name);
	return 0;
}

static int unpack_file(struct state *state, struct archive_entry *entry, const char *name,
		       const struct tree_attr *attr)
{
	AUTO(fd_close) int fd = -1;
	int r = tree_create(state->tree, name, &fd, state->err);

	if (r == 0)
		r = write_data(state, entry, fd, name);
	if (r < 0)
		return r;
	r = tree_finish_file(fd, attr);
	if (r < 0)
		return error_set(state->err, r, "'%.200s'", name);
	/* Last: a change of owner or contents takes capabilities away. */
	return set_xattrs(state, entry, fd, name);
}

static int unpack_folder(struct state *state, struct archive_entry *entry, const char *name,
			 const struct tree_attr *attr)
{
	bool replaced;
	int fd, r = tree_mkdir(state->tree, name, attr, &fd, &replaced, state->err);

	if (r < 0)
		return r;
	if (!name[0]) {
		state->meta->has_root = true;
		state->meta->root_mode = attr->mode;
		state->meta->root_uid = attr->uid;
		state->meta->root_gid = attr->gid;
	}
	r = set_xattrs(state, entry, fd, name);
	if (r < 0)
		return r;
	/* A whiteout of the same name: the folder of the layers below is gone, this one is new. */
	return replaced ? state->untar->report_opaque(state->untar->data, name) : 0;
}

static int unpack_node(struct state *state, struct archive_entry *entry, const char *name,
		       const struct tree_attr *attr)
{
	struct untar_node node = {
		.mode = archive_entry_filetype(entry) | attr->mode,
		.uid = attr->uid,
		.gid = attr->gid,
		.major = (uint32_t) archive_entry_rdevmajor(entry),
		.minor = (uint32_t) archive_entry_rdevminor(entry),
	};
	bool folder;
	int r;

	if (state->untar->archive_only)
		return 0;
	/* Tools that saved an overlayfs folder as it is write whiteouts this way. */
	if (S_ISCHR(node.mode) && node.major == 0 && node.minor == 0)
		return tree_whiteout(state->tree, name, &folder, state->err);
	r = tree_prepare(state->tree, name, state->err);
	if (r < 0)
		return r;
	r = state->untar->report_node(state->untar->data, name, &node);
	return r < 0 ? error_set(state->err, r, "device '%.200s'", name) : 0;
}

static int unpack_whiteout(struct state *state, const char *name, const char *last)
{
	AUTO(free) char *hidden = NULL;
	bool folder;
	int r;

	if (strcmp(last, WHITEOUT_OPAQUE) == 0) {
		AUTO(free)
		char *parent = last > name ? mem_strndup(name, (size_t) (last - name - 1))
					   : mem_strdup("");
		AUTO(free) char *inside = mem_printf("%s%sx", parent, parent[0] ? "/" : "");

		/* Only to have the parent made. */
		r = tree_parents(state->tree, inside, state->err);
		return r < 0 ? r : state->untar->report_opaque(state->untar->data, parent);
	}
	if (strncmp(last, WHITEOUT_META, strlen(WHITEOUT_META)) == 0)
		return 0; /* notes of a file system that nobody uses any more */
	last += strlen(WHITEOUT);
	if (!last[0] || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return error_say(state->err, -EINVAL, "'%.200s' hides nothing: refused", name);
	hidden = mem_printf("%.*s%s", (int) (last - name) - (int) strlen(WHITEOUT), name, last);
	r = tree_whiteout(state->tree, hidden, &folder, state->err);
	if (r < 0)
		return r;
	return folder ? state->untar->report_opaque(state->untar->data, hidden) : 0;
}

static int unpack_link(struct state *state, struct archive_entry *entry, const char *name)
{
	AUTO(free) char *target = NULL;
	int r = tree_clean_name(archive_entry_hardlink(entry), &target, state->err);

	if (r < 0)
		return error_wrap(state->err, r, "hard link '%.150s'", name);
	return tree_link(state->tree, name, target, state->err);
}

static int unpack_entry(struct state *state, struct archive_entry *entry)
{
	const char *raw = archive_entry_pathname(entry), *last;
	AUTO(free) char *name = NULL;
	struct tree_attr attr;
	int r;

	if (!raw)
		return error_say(state->err, -EBADMSG, "the tar has an entry without a name");
	r = tree_clean_name(raw, &name, state->err);
	if (r < 0)
		return r;
	last = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
	if (!state->untar->archive_only && strncmp(last, WHITEOUT, strlen(WHITEOUT)) == 0)
		return unpack_whiteout(state, name, last);
	state->meta->inodes++;
	if (archive_entry_hardlink(entry))
		return unpack_link(state, entry, name);
	r = get_attr(state, entry, name, &attr);
	if (r < 0)
		return r;

	switch (archive_entry_filetype(entry)) {
	case AE_IFREG:
		return unpack_file(state, entry, name, &attr);
	case AE_IFDIR:
		return unpack_folder(state, entry, name, &attr);
	case AE_IFLNK:
		return tree_symlink(state->tree, name, archive_entry_symlink(entry), &attr,
				    state->err);
	case AE_IFIFO:
		return tree_fifo(state->tree, name, &attr, state->err);
	case AE_IFCHR:
	case AE_IFBLK:
		return unpack_node(state, entry, name, &attr);
	default:
		return error_say(state->err, -EINVAL, "'%.200s' is of a kind that nobody knows",
				 name);
	}
}

int untar(const struct untar *untar, struct tree *tree, struct layer_meta *ret, struct error *err)
{
	AUTO(archive_read_free) struct archive *archive = archive_read_new();
	struct layer_meta meta = {};
	struct state state = {
		.untar = untar, .tree = tree, .meta = &meta, .archive = archive, .err = err
	};
	struct archive_entry *entry;
	int r;

	if (!archive)
		return error_set(err, -ENOMEM, "tar");
	archive_read_support_format_tar(archive);
	archive_read_support_format_empty(archive);
	r = archive_read_open2(archive, &state, NULL, read_block, NULL, NULL);
	if (r != ARCHIVE_OK)
		return archive_fail(&state);
	while ((r = archive_read_next_header(archive, &entry)) != ARCHIVE_EOF) {
		if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && is_harmless(archive)))
			return archive_fail(&state);
		r = unpack_entry(&state, entry);
		if (r < 0)
			return r;
	}
	r = tree_finish(tree, err);
	if (r < 0)
		return r;
	*ret = meta;
	return 0;
}
