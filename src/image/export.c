#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "image/disk.h"
#include "image/import.h"
#include "image/layout_internal.h"
#include "image/store_internal.h"

enum { COPY_SIZE = 256 << 10 };

static int write_blob(struct image_store *store, struct layout *layout, const struct digest *digest,
		      struct error *err)
{
	char name[STORE_NAME_SIZE];
	AUTO(fd_close) int fd = -1;

	store_blob_name(digest, name);
	fd = openat(store->dir_fd, name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_set(err, -errno, "%s", name) : layout_file(layout, name, fd, err);
}

/* Two layers, or a layer and a document, may be the same blob; it is written once. */
static int write_blobs(struct image_store *store, struct layout *layout,
		       const struct image_info *info, struct error *err)
{
	int r = write_blob(store, layout, &info->manifest, err);

	if (r == 0)
		r = write_blob(store, layout, &info->config_digest, err);
	for (size_t i = 0; r == 0 && i < info->layer_count; i++) {
		bool again = false;

		for (size_t j = 0; j < i; j++)
			again |= digest_equal(&info->layers[i].digest, &info->layers[j].digest);
		if (!again)
			r = write_blob(store, layout, &info->layers[i].digest, err);
	}
	return r;
}

/* The image of a disk leaves as the file that it came as. */
static int write_disk(struct image_store *store, const struct image_info *info, int output_fd,
		      int cancel_fd, struct error *err)
{
	AUTO(free) char *piece = mem_zalloc(COPY_SIZE);
	AUTO(fd_close) int fd = -1;
	int r = image_disk_open_blob(store, info, &fd, err);
	ssize_t n;

	if (r < 0)
		return r;
	while ((n = read(fd, piece, COPY_SIZE)) > 0) {
		for (ssize_t at = 0; at < n;) {
			ssize_t written =
				layout_write(output_fd, cancel_fd, piece + at, (size_t) (n - at));

			if (written < 0)
				return error_set(err, (int) written, "write the disk");
			at += written;
		}
	}
	return n < 0 ? error_set(err, -errno, "read the disk") : 0;
}

static int run(struct image_store *store, struct claim *claim, const char *uid, int output_fd,
	       int cancel_fd, struct error *err)
{
	AUTO(image_info_done) struct image_info info = {};
	struct layout layout = {};
	int r = store_claim_record(store, claim, uid, &info, err);

	if (r == 0 && info.disk != DISK_NONE)
		return write_disk(store, &info, output_fd, cancel_fd, err);
	if (r == 0)
		r = layout_begin(&layout, output_fd, cancel_fd, err);
	if (r == 0)
		r = layout_head(&layout, &info, err);
	if (r == 0)
		r = write_blobs(store, &layout, &info, err);
	if (r == 0)
		r = layout_end(&layout, err);
	layout_done(&layout);
	return r;
}

int image_export(struct image_store *store, const char *uid, int output_fd, int cancel_fd,
		 struct error *err)
{
	struct claim claim;
	int r = store_claim_begin(store, &claim);

	if (r < 0)
		return error_set(err, r, "image store");
	r = run(store, &claim, uid, output_fd, cancel_fd, err);
	store_claim_end(store, &claim);
	return r;
}
