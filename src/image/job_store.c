/*
 * What the worker made goes into the store.  The worker has exited, so nothing changes under our
 * hands any more; but names and file types are its choice, so every path is opened below its
 * folder, without following links and without leaving the file system.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/digest_stream.h"
#include "image/disk.h"
#include "image/disk_blob_internal.h"
#include "image/job_internal.h"
#include "image/rootfs.h"

#include <linux/openat2.h>

static int open_beneath(int fd, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};
	int r = (int) syscall(SYS_openat2, fd, path[0] ? path : ".", &how, sizeof(how));

	return r < 0 ? -errno : r;
}

static int open_layer(struct job *job, size_t index)
{
	AUTO(free) char *name = mem_printf("layers/%zu", index);

	return open_beneath(job->work_fd, name);
}

/* Making something changes the folder's time, which the image had set. */
static void restore_time(int fd, const struct stat *before)
{
	const struct timespec times[] = { before->st_atim, before->st_mtim };

	futimens(fd, times);
}

static int make_device(int layer_fd, const struct job_node *node, struct error *err)
{
	const char *slash = strrchr(node->path, '/');
	AUTO(free)
	char *parent =
		slash ? mem_strndup(node->path, (size_t) (slash - node->path)) : mem_strdup("");
	const char *last = slash ? slash + 1 : node->path;
	AUTO(fd_close) int fd = open_beneath(layer_fd, parent);
	struct stat before;

	if (fd < 0)
		return error_set(err, fd, "device '%.200s'", node->path);
	if (!last[0] || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return error_say(err, -EPROTO, "device '%.200s': not a name", node->path);
	if (fstat(fd, &before) < 0 ||
	    mknodat(fd, last, node->mode & (S_IFMT | 07777), makedev(node->major, node->minor)) <
		    0 ||
	    fchownat(fd, last, LAYER_UID_BASE + node->uid, LAYER_UID_BASE + node->gid,
		     AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(fd, last, node->mode & 07777, 0) < 0)
		return error_set(err, -errno, "device '%.200s'", node->path);
	restore_time(fd, &before);
	return 0;
}

static int make_opaque(int layer_fd, const struct job_node *node, struct error *err)
{
	AUTO(fd_close) int fd = open_beneath(layer_fd, node->path);

	if (fd < 0)
		return error_set(err, fd, "opaque folder '%.200s'", node->path);
	if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
		return error_set(err, -errno, "opaque folder '%.200s'", node->path);
	return 0;
}

static int make_nodes(struct job *job, size_t index, int layer_fd, struct error *err)
{
	for (size_t i = 0; i < job->node_count; i++) {
		const struct job_node *node = &job->nodes[i];
		int r;

		if (node->layer != index)
			continue;
		r = node->opaque ? make_opaque(layer_fd, node, err)
				 : make_device(layer_fd, node, err);
		if (r < 0)
			return error_wrap(err, r, "layer %zu", index + 1);
	}
	return 0;
}

static int store_layer(struct job *job, size_t index, struct error *err)
{
	AUTO(free) char *from = mem_printf("work/layers/%zu", index);
	AUTO(free) char *done = mem_printf("done/%zu", index);
	AUTO(free) char *tree = mem_printf("done/%zu/fs", index);
	AUTO(free) char *meta = mem_printf("done/%zu/meta.json", index);
	AUTO(json_decref) json_t *object = layer_meta_json(&job->layers[index].meta);
	AUTO(free) char *text = json_text(object);
	AUTO(fd_close) int layer_fd = open_layer(job, index);
	int r;

	if (!job->layers[index].done || layer_fd < 0)
		return error_say(err, -EPROTO, "image worker: layer %zu is missing", index + 1);
	r = make_nodes(job, index, layer_fd, err);
	if (r < 0)
		return r;
	if (mkdirat(job->dir_fd, done, 0711) < 0 || fchmodat(job->dir_fd, done, 0711, 0) < 0 ||
	    renameat(job->dir_fd, from, job->dir_fd, tree) < 0)
		return error_set(err, -errno, "layer %zu", index + 1);
	r = file_write_atomic(job->dir_fd, meta, text, strlen(text), 0600, 0);
	if (r < 0)
		return error_set(err, r, "layer %zu", index + 1);
	return store_put_layer(job->store, job->dir_fd, done, &job->info.layers[index].diff_id,
			       err);
}

/* A document is small: it is verified here too. */
static int store_document(struct job *job, const struct digest *digest, struct error *err)
{
	char name[DIGEST_TEXT_SIZE];
	AUTO(free) char *text = NULL;
	AUTO(fd_close) int fd = -1;
	struct digest real;
	size_t size;
	int r;

	if (store_has_blob(job->store, digest))
		return 0;
	digest_format(digest, name);
	fd = openat(job->blobs_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	r = fd < 0 ? -errno : file_read_fd(fd, OCI_DOCUMENT_MAX, &text, &size);
	if (r < 0)
		return error_set(err, r, "document %s", name);
	digest_compute(digest->kind, text, size, &real);
	if (!digest_equal(digest, &real))
		return error_say(err, -EPROTO, "image worker: document %s has another digest",
				 name);
	return store_put_blob(job->store, job->blobs_fd, name, digest, err);
}

/* What the worker says about a disk is true: QEMU will believe it. */
static int check_disk(struct job *job, struct error *err)
{
	AUTO(fd_close) int fd = -1;
	uint64_t virtual_bytes = 0;
	int r = image_disk_open_blob(job->store, &job->info, &fd, err);

	if (r == 0)
		r = disk_blob_check(fd, job->info.disk, &virtual_bytes, err);
	if (r == 0 && virtual_bytes != job->info.virtual_bytes)
		return error_say(err, -EPROTO, "image worker: the disk has another size");
	return r;
}

int job_store_all(struct job *job, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < job->info.layer_count; i++)
		if (job->layers[i].need & WIRE_NEED_LAYER)
			r = store_layer(job, i, err);
	for (size_t i = 0; r == 0 && i < job->info.layer_count; i++) {
		const struct digest *digest = &job->info.layers[i].digest;
		char name[DIGEST_TEXT_SIZE];

		if (!(job->layers[i].need & WIRE_NEED_BLOB))
			continue;
		digest_format(digest, name);
		r = store_put_blob(job->store, job->blobs_fd, name, digest, err);
	}
	if (r == 0)
		r = store_document(job, &job->info.top, err);
	if (r == 0)
		r = store_document(job, &job->info.manifest, err);
	if (r == 0)
		r = store_document(job, &job->info.config_digest, err);
	if (r == 0 && job->info.disk != DISK_NONE)
		r = check_disk(job, err);
	return r;
}

void job_keep_partials(struct job *job)
{
	for (size_t i = 0; job->layers && i < job->info.layer_count; i++) {
		char name[DIGEST_TEXT_SIZE];

		if (!(job->layers[i].need & WIRE_NEED_BLOB))
			continue;
		digest_format(&job->info.layers[i].digest, name);
		store_keep_partial(job->store, job->blobs_fd, name, &job->info.layers[i].digest);
	}
}
