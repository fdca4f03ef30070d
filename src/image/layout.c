#include "image/layout_internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

enum { COPY_SIZE = 256 << 10 };

/* Waits until the output takes more; -ECANCELED when that is not wanted any longer. */
static int wait_for_output(int output_fd, int cancel_fd)
{
	struct pollfd fds[] = {
		{ .fd = cancel_fd, .events = POLLIN },
		{ .fd = output_fd, .events = POLLOUT },
	};

	while (poll(fds, ARRAY_COUNT(fds), -1) < 0)
		if (errno != EINTR)
			return -errno;
	return fds[0].revents ? -ECANCELED : 0;
}

ssize_t layout_write(int output_fd, int cancel_fd, const void *bytes, size_t size)
{
	for (;;) {
		int r = wait_for_output(output_fd, cancel_fd);
		ssize_t n;

		if (r < 0)
			return r;
		n = write(output_fd, bytes, size);
		if (n >= 0)
			return n;
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

static la_ssize_t write_output(struct archive *archive, void *data, const void *buffer, size_t size)
{
	struct layout *layout = data;
	ssize_t n = layout_write(layout->output_fd, layout->cancel_fd, buffer, size);

	if (n >= 0)
		return n;
	layout->result = (int) n;
	archive_set_error(archive, -layout->result, "output");
	return -1;
}

static int archive_fail(struct layout *layout, const char *name, struct error *err)
{
	if (layout->result < 0)
		return error_set(err, layout->result, "write the archive");
	return error_say(err, -EIO, "write %s: %s", name, archive_error_string(layout->archive));
}

static int begin_entry(struct layout *layout, const char *name, mode_t type, uint64_t size,
		       struct error *err)
{
	struct archive_entry *entry = archive_entry_new();
	int r;

	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, type);
	archive_entry_set_perm(entry, type == AE_IFDIR ? 0755 : 0644);
	archive_entry_set_size(entry, (int64_t) size);
	archive_entry_set_mtime(entry, 0, 0);
	r = archive_write_header(layout->archive, entry);
	archive_entry_free(entry);
	return r == ARCHIVE_OK ? 0 : archive_fail(layout, name, err);
}

int layout_text(struct layout *layout, const char *name, const char *text, struct error *err)
{
	size_t size = strlen(text);
	int r = begin_entry(layout, name, AE_IFREG, size, err);

	if (r < 0)
		return r;
	return archive_write_data(layout->archive, text, size) == (la_ssize_t) size
		       ? 0
		       : archive_fail(layout, name, err);
}

static int write_index(struct layout *layout, const struct image_info *info, struct error *err)
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
	return layout_text(layout, "index.json", text, err);
}

int layout_file(struct layout *layout, const char *name, int fd, struct error *err)
{
	AUTO(free) char *buffer = mem_zalloc(COPY_SIZE);
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "%s", name);
	r = begin_entry(layout, name, AE_IFREG, (uint64_t) st.st_size, err);
	for (off_t at = 0; r == 0 && at < st.st_size;) {
		off_t left = st.st_size - at;
		ssize_t n = pread(fd, buffer, left < COPY_SIZE ? (size_t) left : COPY_SIZE, at);

		if (n <= 0)
			return error_set(err, n < 0 ? -errno : -EIO, "read %s", name);
		if (archive_write_data(layout->archive, buffer, (size_t) n) != n)
			return archive_fail(layout, name, err);
		at += n;
	}
	return r;
}

int layout_begin(struct layout *layout, int output_fd, int cancel_fd, struct error *err)
{
	*layout = (struct layout){ .output_fd = output_fd,
				   .cancel_fd = cancel_fd,
				   .archive = archive_write_new() };
	archive_write_set_format_pax_restricted(layout->archive);
	archive_write_set_bytes_per_block(layout->archive, COPY_SIZE);
	archive_write_set_bytes_in_last_block(layout->archive, 512);
	if (archive_write_open(layout->archive, layout, NULL, write_output, NULL) != ARCHIVE_OK)
		return archive_fail(layout, "the archive", err);
	return 0;
}

int layout_head(struct layout *layout, const struct image_info *info, struct error *err)
{
	static const char *const folders[] = { "blobs", "blobs/sha256", "blobs/sha512" };
	bool sha512 =
		info->manifest.kind == DIGEST_SHA512 || info->config_digest.kind == DIGEST_SHA512;
	int r = layout_text(layout, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err);

	for (size_t i = 0; i < info->layer_count; i++)
		sha512 |= info->layers[i].digest.kind == DIGEST_SHA512;
	if (r == 0)
		r = write_index(layout, info, err);
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(folders) - !sha512; i++)
		r = begin_entry(layout, folders[i], AE_IFDIR, 0, err);
	return r;
}

int layout_end(struct layout *layout, struct error *err)
{
	return archive_write_close(layout->archive) == ARCHIVE_OK
		       ? 0
		       : archive_fail(layout, "the end", err);
}

void layout_done(struct layout *layout)
{
	if (layout->archive)
		archive_write_free(layout->archive);
	layout->archive = NULL;
}
