/*
 * The input is copied into a file while it is read behind that, so it may be a pipe, and may be
 * looked at twice: once to see what it is, once to unpack it.  A root file system is unpacked as
 * the one layer of a new image, and the file is its blob.  An archive of an image is unpacked to
 * /job/archive, from where its layers are unpacked and its blobs are moved.  The image of a disk is
 * worker_import_disk.c's business.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/digest_stream.h"
#include "codec/oci_platform.h"
#include "image/inflate_internal.h"
#include "image/worker.h"
#include "image/worker_internal.h"

enum { COPY_SIZE = 256 << 10, PEEK_ENTRIES_MAX = 64, PROGRESS_BYTES = 4 << 20 };

#define INPUT "input"

struct copier {
	struct worker *worker;
	struct spool *spool;
	pthread_t thread;
};

static bool wait_for_input(void)
{
	struct pollfd input = { .fd = WORKER_INPUT_FD, .events = POLLIN };

	return poll(&input, 1, -1) > 0 || errno == EINTR;
}

static int copy_input(struct copier *copier, char *buffer)
{
	uint64_t reported = 0;

	for (;;) {
		ssize_t n = read(WORKER_INPUT_FD, buffer, COPY_SIZE);
		int r;

		if (n < 0 && (errno == EINTR || (errno == EAGAIN && wait_for_input())))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		if (copier->spool->size + (uint64_t) n > copier->worker->blob_bytes_max)
			return -EFBIG;
		r = spool_append(copier->spool, buffer, (size_t) n);
		if (r < 0)
			return r;
		if (copier->spool->size - reported >= PROGRESS_BYTES) {
			reported = copier->spool->size;
			worker_progress(copier->worker, reported, 0, "reading");
		}
	}
}

static void *copier_main(void *data)
{
	struct copier *copier = data;
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);

	spool_end(copier->spool, copy_input(copier, buffer));
	return NULL;
}

/* Reading the first names of the archive. */
struct peek {
	struct spool *spool;
	struct inflate *inflate;
	uint64_t offset;
	struct error err;
	int result;
	char buffer[64 << 10];
};

static ssize_t peek_spool(void *data, void *buffer, size_t size, struct error *err)
{
	struct peek *peek = data;
	ssize_t n = spool_read(peek->spool, peek->offset, buffer, size);

	if (n < 0)
		return error_set(err, (int) n, "read the input");
	peek->offset += (uint64_t) n;
	return n;
}

static la_ssize_t peek_block(struct archive *archive, void *data, const void **ret)
{
	struct peek *peek = data;
	ssize_t n = inflate_read(peek->inflate, peek->buffer, sizeof(peek->buffer), &peek->err);

	if (n < 0) {
		peek->result = (int) n;
		archive_set_error(archive, (int) -n, "input");
		return ARCHIVE_FATAL;
	}
	*ret = peek->buffer;
	return n;
}

/* Does this name tell that the archive holds an image?  -1: it tells nothing. */
static int judge_name(const char *name)
{
	static const char *const marks[] = { "oci-layout", "index.json", "manifest.json",
					     "repositories" };
	size_t hex = strspn(name, "0123456789abcdef");

	if (!name[0] || strcmp(name, "blobs") == 0)
		return -1;
	for (size_t i = 0; i < ARRAY_COUNT(marks); i++)
		if (strcmp(name, marks[i]) == 0)
			return 1;
	if (strncmp(name, "blobs/sha", 9) == 0)
		return 1;
	return hex == 64 && (!name[64] || name[64] == '/' || strcmp(name + 64, ".json") == 0 ||
			     strcmp(name + 64, ".tar") == 0);
}

static int judge_entries(struct archive *archive, struct peek *peek, bool *ret, struct error *err)
{
	for (unsigned int i = 0; i < PEEK_ENTRIES_MAX; i++) {
		AUTO(free) char *name = NULL;
		struct archive_entry *entry;
		int r = archive_read_next_header(archive, &entry);

		if (r == ARCHIVE_EOF && i > 0)
			break;
		if (peek->result < 0) {
			*err = peek->err;
			return peek->result;
		}
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return error_say(
				err, -EBADMSG,
				"the input is neither a tar archive (OCI layout, docker save or "
				"root file system; plain, gzip or zstd) nor a disk (qcow2, raw)");
		if (tree_clean_name(archive_entry_pathname(entry) ? archive_entry_pathname(entry)
								  : "",
				    &name, err) < 0)
			return err->code;
		r = judge_name(name);
		if (r >= 0) {
			*ret = r;
			return 0;
		}
	}
	*ret = false;
	return 0;
}

static int is_image_archive(struct spool *spool, bool *ret, struct error *err)
{
	AUTO(free) struct peek *peek = mem_new0(struct peek);
	AUTO(inflate_free) struct inflate *inflate = inflate_new(peek_spool, peek);
	struct archive *archive = archive_read_new();
	int r;

	peek->spool = spool;
	peek->inflate = inflate;
	archive_read_support_format_tar(archive);
	archive_read_open2(archive, peek, NULL, peek_block, NULL, NULL);
	r = judge_entries(archive, peek, ret, err);
	archive_read_free(archive);
	return r;
}

static void fill_platform(struct worker *worker, struct oci_image *image)
{
	const char *slash = strchr(worker->platform, '/');
	const char *second = strchr(slash + 1, '/');

	image->os = mem_strndup(worker->platform, (size_t) (slash - worker->platform));
	image->architecture = second ? mem_strndup(slash + 1, (size_t) (second - slash - 1))
				     : mem_strdup(slash + 1);
	image->variant = second ? mem_strdup(second + 1) : NULL;
}

static int save_documents(struct worker *worker, struct oci_manifest *manifest,
			  const struct oci_image *image, const char *config_text, struct error *err)
{
	struct image_info *info = &worker->info;
	size_t size = strlen(config_text);
	int r;

	digest_compute(DIGEST_SHA256, config_text, size, &manifest->config.digest);
	manifest->config.size_bytes = size;
	r = worker_save(worker, &manifest->config.digest, config_text, size, err);
	if (r < 0)
		return r;
	AUTO(json_decref) json_t *document = oci_manifest_encode(manifest);
	AUTO(free) char *text = json_text(document);
	digest_compute(DIGEST_SHA256, text, strlen(text), &info->manifest);
	info->top = info->manifest;
	info->manifest_size_bytes = strlen(text);
	memcpy(info->manifest_type, OCI_TYPE_MANIFEST, sizeof(OCI_TYPE_MANIFEST));
	r = worker_save(worker, &info->manifest, text, strlen(text), err);
	return r < 0 ? r : worker_describe(worker, manifest, image, err);
}

static void set_layer_type(struct oci_descriptor *layer, int compression)
{
	static const char *const types[] = {
		[INFLATE_NONE] = OCI_TYPE_LAYER,
		[INFLATE_GZIP] = OCI_TYPE_LAYER "+gzip",
		[INFLATE_ZSTD] = OCI_TYPE_LAYER "+zstd",
	};

	snprintf(layer->media_type, sizeof(layer->media_type), "%s", types[compression]);
}

int worker_import_blob(struct worker *worker, struct oci_descriptor *blob,
		       const struct digest *diff_id, const char *input, struct error *err)
{
	struct oci_manifest manifest = { .layers = blob, .layer_count = 1 };
	AUTO(oci_image_done) struct oci_image image = {};
	char name[DIGEST_TEXT_SIZE];
	int r;

	fill_platform(worker, &image);
	image.diff_ids = mem_new0(struct digest);
	image.diff_ids[0] = *diff_id;
	image.layer_count = 1;

	AUTO(json_decref) json_t *config = oci_image_encode(&image);
	AUTO(free) char *text = json_text(config);
	r = save_documents(worker, &manifest, &image, text, err);
	if (r < 0)
		return r;
	digest_format(&blob->digest, name);
	if (renameat(worker->job_fd, input, worker->blobs_fd, name) < 0)
		return error_set(err, -errno, "blob %s", name);
	return worker_negotiate(worker, err);
}

static int import_rootfs(struct worker *worker, struct worker_layer *work, struct error *err)
{
	struct oci_descriptor descriptor = {};
	int r;

	layer_join(&work->layer);
	if (work->layer.result < 0) {
		*err = work->layer.err;
		return work->layer.result;
	}
	if (work->layer.meta.inodes == 0)
		return error_say(err, -EINVAL, "the input is an empty archive");
	descriptor.digest = work->layer.real_digest;
	descriptor.size_bytes = work->layer.spool.size;
	set_layer_type(&descriptor, work->layer.compression);
	r = worker_import_blob(worker, &descriptor, &work->layer.real_diff_id, INPUT, err);
	if (r == 0)
		worker_layer_report(work);
	return r;
}

/* A file of the unpacked archive; symbolic links stay inside of it. */
static int open_archived(int archive_fd, const char *name, struct error *err)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int fd = (int) syscall(SYS_openat2, archive_fd, name, &how, sizeof(how));
	struct stat st;

	if (fd < 0)
		return error_set(err, -errno, "the archive's '%.200s'", name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return error_say(err, -EINVAL, "the archive's '%.200s' is not a file", name);
	}
	return fd;
}

static int read_json(int archive_fd, const char *name, json_t **ret, char **ret_text,
		     size_t *ret_size, struct error *err)
{
	AUTO(free) char *text = NULL;
	AUTO(fd_close) int fd = open_archived(archive_fd, name, err);
	size_t size;
	int r;

	if (fd < 0)
		return fd;
	r = file_read_fd(fd, OCI_DOCUMENT_MAX, &text, &size);
	if (r < 0)
		return error_set(err, r, "the archive's '%.200s'", name);
	r = json_parse(text, size, OCI_DOCUMENT_MAX, ret, err);
	if (r < 0)
		return error_wrap(err, r, "the archive's '%.200s'", name);
	if (ret_text)
		*ret_text = TAKE_PTR(text);
	if (ret_size)
		*ret_size = size;
	return 0;
}

static char *blob_path(const struct digest *digest)
{
	char hex[DIGEST_TEXT_SIZE];

	digest_hex(digest, hex);
	return mem_printf("blobs/%s/%s", digest->kind == DIGEST_SHA512 ? "sha512" : "sha256", hex);
}

/* A document of an OCI layout, verified, and saved for the store. */
static int read_blob(struct worker *worker, int archive_fd, const struct digest *digest,
		     json_t **ret, size_t *ret_size, struct error *err)
{
	AUTO(free) char *path = blob_path(digest);
	AUTO(free) char *text = NULL;
	struct digest real;
	int r = read_json(archive_fd, path, ret, &text, ret_size, err);

	if (r < 0)
		return r;
	digest_compute(digest->kind, text, *ret_size, &real);
	if (!digest_equal(digest, &real))
		return error_say(err, -EBADMSG, "digest mismatch: '%s' has other contents", path);
	return worker_save(worker, digest, text, *ret_size, err);
}

static int describe_layout(struct worker *worker, int archive_fd, char ***ret_files,
			   struct error *err)
{
	AUTO(oci_manifest_done) struct oci_manifest manifest = {};
	AUTO(oci_image_done) struct oci_image image = {};
	AUTO(json_decref) json_t *layout = NULL;
	AUTO(json_decref) json_t *document = NULL;
	AUTO(json_decref) json_t *config = NULL;
	struct digest digest = {};
	size_t size = 0;
	int r = read_json(archive_fd, "oci-layout", &layout, NULL, NULL, err);

	if (r == 0)
		r = oci_layout_decode(layout, err);
	if (r == 0)
		r = read_json(archive_fd, "index.json", &document, NULL, NULL, err);
	while (r == 0 && oci_document_kind(document, NULL) == OCI_INDEX) {
		AUTO(oci_index_done) struct oci_index index = {};
		size_t chosen = 0;

		r = oci_index_decode(document, &index, err);
		if (r == 0)
			r = oci_index_select(&index, worker->platform, &chosen, err);
		if (r < 0)
			return r;
		if (index.manifests[chosen].digest.kind == digest.kind &&
		    digest_equal(&index.manifests[chosen].digest, &digest))
			return error_say(err, -ELOOP, "index.json names itself");
		digest = index.manifests[chosen].digest;
		json_decref(document);
		document = NULL;
		r = read_blob(worker, archive_fd, &digest, &document, &size, err);
	}
	if (r == 0)
		r = oci_manifest_decode(document, &manifest, err);
	if (r < 0)
		return r;
	worker->info.top = worker->info.manifest = digest;
	worker->info.manifest_size_bytes = size;
	memcpy(worker->info.manifest_type, manifest.media_type, sizeof(manifest.media_type));
	r = read_blob(worker, archive_fd, &manifest.config.digest, &config, &size, err);
	if (r == 0)
		r = oci_image_decode(config, &image, err);
	for (size_t i = 0; r == 0 && i < manifest.layer_count; i++)
		strv_append_take(ret_files, blob_path(&manifest.layers[i].digest));
	return r < 0 ? r : worker_describe(worker, &manifest, &image, err);
}

/* Which of several saved images: the one with the name of the import. */
static int choose_saved(const struct worker *worker, const struct oci_docker_save *images,
			size_t count, size_t *ret, struct error *err)
{
	*ret = 0;
	if (count == 1)
		return 0;
	for (size_t i = 0; i < count; i++)
		for (char **tag = images[i].repo_tags; tag && *tag; tag++)
			if (strcmp(*tag, worker->name) == 0) {
				*ret = i;
				return 0;
			}
	return error_say(
		err, -EINVAL,
		"the archive holds %zu images; save one of them, or import with the name of one "
		"(like '%.100s')",
		count, images[0].repo_tags && images[0].repo_tags[0] ? images[0].repo_tags[0] : "");
}

/* The digest of a saved layer, which is its diff id unless somebody compressed it. */
static int describe_file(int archive_fd, const char *name, const struct digest *diff_id,
			 struct oci_descriptor *ret, struct error *err)
{
	AUTO(fd_close) int fd = open_archived(archive_fd, name, err);
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);
	AUTO(digest_stream_free) struct digest_stream *hash = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || (n = pread(fd, buffer, 4, 0)) < 0)
		return error_set(err, -errno, "the archive's '%.200s'", name);
	ret->size_bytes = (uint64_t) st.st_size;
	ret->digest = *diff_id;
	set_layer_type(ret, INFLATE_NONE);
	if (n < 4 ||
	    (memcmp(buffer, "\x1f\x8b", 2) != 0 && memcmp(buffer, "\x28\xb5\x2f\xfd", 4) != 0))
		return 0;
	set_layer_type(ret, buffer[0] == 0x1f ? INFLATE_GZIP : INFLATE_ZSTD);
	hash = digest_stream_new(DIGEST_SHA256);
	while ((n = read(fd, buffer, COPY_SIZE)) > 0)
		digest_stream_add(hash, buffer, (size_t) n);
	digest_stream_end(hash, &ret->digest);
	return n < 0 ? error_set(err, -errno, "the archive's '%.200s'", name) : 0;
}

static int describe_one_saved(struct worker *worker, int archive_fd,
			      const struct oci_docker_save *saved, struct error *err)
{
	AUTO(oci_manifest_done) struct oci_manifest manifest = {};
	AUTO(oci_image_done) struct oci_image image = {};
	AUTO(json_decref) json_t *config = NULL;
	AUTO(free) char *text = NULL;
	size_t count = strv_count(saved->layers), size = 0;
	int r = read_json(archive_fd, saved->config, &config, &text, &size, err);

	if (r == 0)
		r = oci_image_decode(config, &image, err);
	if (r < 0)
		return r;
	if (count != image.layer_count || strlen(text) != size)
		return error_say(err, -EINVAL, "manifest.json and '%.100s' do not fit each other",
				 saved->config);
	manifest.layers = mem_new0_array(struct oci_descriptor, count);
	manifest.layer_count = count;
	for (size_t i = 0; r == 0 && i < count; i++)
		r = describe_file(archive_fd, saved->layers[i], &image.diff_ids[i],
				  &manifest.layers[i], err);
	return r < 0 ? r : save_documents(worker, &manifest, &image, text, err);
}

static int describe_saved(struct worker *worker, int archive_fd, char ***ret_files,
			  struct error *err)
{
	AUTO(json_decref) json_t *document = NULL;
	struct oci_docker_save *images = NULL;
	size_t count = 0, chosen = 0;
	int r = read_json(archive_fd, "manifest.json", &document, NULL, NULL, err);

	if (r == 0)
		r = oci_docker_save_decode(document, &images, &count, err);
	if (r < 0)
		return r;
	r = choose_saved(worker, images, count, &chosen, err);
	if (r == 0)
		r = describe_one_saved(worker, archive_fd, &images[chosen], err);
	if (r == 0)
		*ret_files = strv_copy(images[chosen].layers);
	oci_docker_save_free(images, count);
	return r;
}

static int copy_file(int from_fd, int to_fd)
{
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = read(from_fd, buffer, COPY_SIZE)) > 0)
		r = file_write_all(to_fd, buffer, (size_t) n);
	return r < 0 ? r : n < 0 ? -errno : 0;
}

/* Moves a layer's file among the blobs; several names may lead to one file, so a link is copied. */
static int place_blob(struct worker *worker, int archive_fd, const char *file, size_t index,
		      struct error *err)
{
	char name[DIGEST_TEXT_SIZE];
	AUTO(fd_close) int from_fd = -1;
	AUTO(fd_close) int to_fd = -1;
	struct stat st, at;
	int r;

	digest_format(&worker->info.layers[index].digest, name);
	from_fd = open_archived(archive_fd, file, err);
	if (from_fd < 0)
		return from_fd;
	if (fstat(from_fd, &st) == 0 && st.st_nlink == 1 &&
	    fstatat(archive_fd, file, &at, AT_SYMLINK_NOFOLLOW) == 0 && at.st_ino == st.st_ino &&
	    renameat(archive_fd, file, worker->blobs_fd, name) == 0)
		return 0;
	to_fd = openat(worker->blobs_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = to_fd < 0 ? -errno : copy_file(from_fd, to_fd);
	return r < 0 ? error_set(err, r, "blob %s", name) : 0;
}

static int begin_layer(struct worker *worker, size_t index, struct worker_layer *ret,
		       struct error *err)
{
	uint64_t size;
	int r = worker_layer_open(worker, index, ret, &size, err);

	if (r < 0)
		return r;
	spool_init(&ret->layer.spool, ret->blob_fd, size);
	spool_end(&ret->layer.spool, 0);
	return layer_start(&ret->layer, err);
}

static int end_layer(struct worker_layer *work, struct error *err)
{
	int r;

	layer_join(&work->layer);
	spool_done(&work->layer.spool);
	r = work->layer.result;
	if (r == 0)
		worker_layer_report(work);
	else if (err->code == 0)
		*err = work->layer.err, error_wrap(err, r, "layer %zu", work->index + 1);
	worker_layer_close(work);
	return r;
}

/* In groups, each as parallel as layers of a pull. */
static int unpack_layers(struct worker *worker, int archive_fd, char **files, struct error *err)
{
	struct worker_layer group[WORKER_PARALLEL];
	size_t index = 0, count = worker->info.layer_count;
	int r = 0;

	while (r == 0 && index < count) {
		size_t begun = 0;

		for (; r == 0 && begun < WORKER_PARALLEL && index < count; index++) {
			if (!worker->need[index])
				continue;
			r = place_blob(worker, archive_fd, files[index], index, err);
			if (r == 0)
				r = begin_layer(worker, index, &group[begun], err);
			begun += r == 0;
		}
		worker_progress(worker, index, count, "unpacking layers");
		for (size_t i = 0; i < begun; i++) {
			int ended = end_layer(&group[i], err);

			r = r < 0 ? r : ended;
		}
	}
	return r;
}

static int import_archive(struct worker *worker, int archive_fd, struct error *err)
{
	AUTO(strv_free) char **files = NULL;
	bool layout = faccessat(archive_fd, "oci-layout", F_OK, 0) == 0;
	int r;

	if (!layout && faccessat(archive_fd, "manifest.json", F_OK, 0) < 0)
		return error_say(
			err, -EINVAL,
			"the archive has neither oci-layout nor manifest.json: it is no image");
	r = layout ? describe_layout(worker, archive_fd, &files, err)
		   : describe_saved(worker, archive_fd, &files, err);
	if (r == 0)
		r = worker_negotiate(worker, err);
	return r < 0 ? r : unpack_layers(worker, archive_fd, files, err);
}

static int unpack_archive(struct worker *worker, struct worker_layer *work, struct error *err)
{
	layer_join(&work->layer);
	unlinkat(worker->job_fd, INPUT, 0);
	if (work->layer.result < 0) {
		*err = work->layer.err;
		return work->layer.result;
	}
	return import_archive(worker, work->layer.tree_fd, err);
}

/* Decides what the input is, and begins to unpack it. */
static int begin_unpacking(struct worker *worker, struct worker_layer *work, bool *ret_archive,
			   struct error *err)
{
	int r = is_image_archive(&work->layer.spool, ret_archive, err);

	if (r < 0)
		return r;
	if (*ret_archive) {
		work->layer.untar.archive_only = true;
		if (mkdirat(worker->job_fd, "archive", 0755) < 0)
			return error_set(err, -errno, "archive");
		work->layer.tree_fd =
			openat(worker->job_fd, "archive", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (work->layer.tree_fd < 0)
			return error_set(err, -errno, "archive");
	} else {
		r = worker_layer_folder(work, err);
	}
	return r < 0 ? r : layer_start(&work->layer, err);
}

int worker_import(struct worker *worker, struct error *err)
{
	struct worker_layer work = { .worker = worker, .blob_fd = -1, .layer = { .tree_fd = -1 } };
	struct copier copier = { .worker = worker, .spool = &work.layer.spool };
	enum disk_format disk = DISK_NONE;
	bool archive = false;
	int r;

	work.blob_fd = openat(worker->job_fd, INPUT, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (work.blob_fd < 0)
		return error_set(err, -errno, "input");
	worker_layer_prepare(&work);
	spool_init(&work.layer.spool, work.blob_fd, 0);
	r = -pthread_create(&copier.thread, NULL, copier_main, &copier);
	if (r < 0)
		return error_set(err, r, "thread");
	r = worker_find_disk(worker, &work.layer.spool, &disk, err);
	if (r == 0 && disk != DISK_NONE)
		return worker_import_disk(worker, &work.layer.spool, disk, INPUT, err);
	if (r == 0)
		r = begin_unpacking(worker, &work, &archive, err);
	/* After a failure the process ends, and the copying with it. */
	if (r < 0)
		return r;
	if (archive)
		return unpack_archive(worker, &work, err);
	return import_rootfs(worker, &work, err);
}
