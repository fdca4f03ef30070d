#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "image/import.h"
#include "image/store_internal.h"

enum { COPY_SIZE = 256 << 10 };

struct export
{
	struct image_store *store;
	int output_fd, cancel_fd;
	int result; /* of writing, which libarchive does not carry */
	struct archive *archive;
};

DEFINE_AUTO(struct archive *, archive_write_free)

/* Waits until the output takes more; -ECANCELED when that is not wanted any longer. */
static int wait_for_output(const struct export *export)
{
	struct pollfd fds[] = {
		{ .fd = export->cancel_fd, .events = POLLIN },
		{ .fd = export->output_fd, .events = POLLOUT },
	};

	while (poll(fds, ARRAY_COUNT(fds), -1) < 0)
		if (errno != EINTR)
			return -errno;
	return fds[0].revents ? -ECANCELED : 0;
}

static la_ssize_t write_output(struct archive *archive, void *data, const void *buffer, size_t size)
{
	struct export *export = data;

	for (;;) {
		ssize_t n;

		export->result = wait_for_output(export);
		if (export->result < 0)
			break;
		n = write(export->output_fd, buffer, size);
		if (n >= 0)
			return n;
		if (errno == EINTR || errno == EAGAIN)
			continue;
		export->result = -errno;
		break;
	}
	archive_set_error(archive, -export->result, "output");
	return -1;
}

static int archive_fail(struct export *export, const char *name, struct error *err)
{
	if (export->result < 0)
		return error_set(err, export->result, "write the archive");
	return error_say(err, -EIO, "write %s: %s", name, archive_error_string(export->archive));
}

static int begin_entry(struct export *export, const char *name, mode_t type, uint64_t size,
		       struct error *err)
{
	struct archive_entry *entry = archive_entry_new();
	int r;

	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, type);
	archive_entry_set_perm(entry, type == AE_IFDIR ? 0755 : 0644);
	archive_entry_set_size(entry, (int64_t) size);
	archive_entry_set_mtime(entry, 0, 0);
	r = archive_write_header(export->archive, entry);
	archive_entry_free(entry);
	return r == ARCHIVE_OK ? 0 : archive_fail(export, name, err);
}

static int write_text(struct export *export, const char *name, const char *text, struct error *err)
{
	size_t size = strlen(text);
	int r = begin_entry(export, name, AE_IFREG, size, err);

	if (r < 0)
		return r;
	return archive_write_data(export->archive, text, size) == (la_ssize_t) size
		       ? 0
		       : archive_fail(export, name, err);
}

static int write_blob(struct export *export, const struct digest *digest, struct error *err)
{
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);
	char name[STORE_NAME_SIZE];
	AUTO(fd_close) int fd = -1;
	struct stat st;
	int r;

	store_blob_name(digest, name);
	fd = openat(export->store->dir_fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "%s", name);
	r = begin_entry(export, name, AE_IFREG, (uint64_t) st.st_size, err);
	for (off_t left = st.st_size; r == 0 && left > 0;) {
		ssize_t n = read(fd, buffer, left < COPY_SIZE ? (size_t) left : COPY_SIZE);

		if (n <= 0)
			return error_set(err, n < 0 ? -errno : -EIO, "read %s", name);
		if (archive_write_data(export->archive, buffer, (size_t) n) != n)
			return archive_fail(export, name, err);
		left -= n;
	}
	return r;
}

static int write_index(struct export *export, const struct image_info *info, struct error *err)
{
	struct oci_descriptor manifest = {
		.digest = info->manifest,
		.size_bytes = info->manifest_size_bytes,
		.ref_name = info->reference,
	};
	const struct oci_index index = { .manifests = &manifest, .count = 1 };

	memcpy(manifest.media_type, info->manifest_type, sizeof(manifest.media_type));
	snprintf(manifest.os, sizeof(manifest.os), "%s", info->os ? info->os : "");
	snprintf(manifest.architecture, sizeof(manifest.architecture), "%s",
		 info->architecture ? info->architecture : "");
	AUTO(json_decref) json_t *document = oci_index_encode(&index);
	AUTO(free) char *text = json_text(document);
	return write_text(export, "index.json", text, err);
}

/* Two layers, or a layer and a document, may be the same blob; it is written once. */
static int write_blobs(struct export *export, const struct image_info *info, struct error *err)
{
	int r = write_blob(export, &info->manifest, err);

	if (r == 0)
		r = write_blob(export, &info->config_digest, err);
	for (size_t i = 0; r == 0 && i < info->layer_count; i++) {
		bool again = false;

		for (size_t j = 0; j < i; j++)
			again |= digest_equal(&info->layers[i].digest, &info->layers[j].digest);
		if (!again)
			r = write_blob(export, &info->layers[i].digest, err);
	}
	return r;
}

static int write_all(struct export *export, const struct image_info *info, struct error *err)
{
	static const char *const folders[] = { "blobs", "blobs/sha256", "blobs/sha512" };
	bool sha512 =
		info->manifest.kind == DIGEST_SHA512 || info->config_digest.kind == DIGEST_SHA512;
	int r = write_text(export, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err);

	for (size_t i = 0; i < info->layer_count; i++)
		sha512 |= info->layers[i].digest.kind == DIGEST_SHA512;
	if (r == 0)
		r = write_index(export, info, err);
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(folders) - !sha512; i++)
		r = begin_entry(export, folders[i], AE_IFDIR, 0, err);
	if (r == 0)
		r = write_blobs(export, info, err);
	if (r == 0 && archive_write_close(export->archive) != ARCHIVE_OK)
		r = archive_fail(export, "the end", err);
	return r;
}

static int run(struct export *export, struct claim *claim, const char *uid, struct error *err)
{
	AUTO(image_info_done) struct image_info info = {};
	AUTO(archive_write_free) struct archive *archive = archive_write_new();
	int r = store_claim_record(export->store, claim, uid, &info, err);

	if (r < 0)
		return r;
	export->archive = archive;
	archive_write_set_format_pax_restricted(archive);
	archive_write_set_bytes_per_block(archive, COPY_SIZE);
	archive_write_set_bytes_in_last_block(archive, 512);
	if (archive_write_open(archive, export, NULL, write_output, NULL) != ARCHIVE_OK)
		return archive_fail(export, "the archive", err);
	return write_all(export, &info, err);
}

int image_export(struct image_store *store, const char *uid, int output_fd, int cancel_fd,
		 struct error *err)
{
	struct export export = { .store = store, .output_fd = output_fd, .cancel_fd = cancel_fd };
	struct claim claim;
	int r = store_claim_begin(store, &claim);

	if (r < 0)
		return error_set(err, r, "image store");
	r = run(&export, &claim, uid, err);
	store_claim_end(store, &claim);
	return r;
}
