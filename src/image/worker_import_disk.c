/*
 * The image of a disk is kept as the one file that it is: its header is decoded, its digest
 * computed, and the file becomes the only blob of a new image.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "codec/digest_stream.h"
#include "image/worker_internal.h"

enum { PIECE = 256 << 10 };

static int wanted_format(const struct worker *worker, enum disk_format *ret)
{
	for (enum disk_format known = DISK_NONE; worker->format && disk_format_names[known];
	     known++)
		if (strcmp(worker->format, disk_format_names[known]) == 0) {
			*ret = known;
			return 1;
		}
	return 0;
}

int worker_find_disk(struct worker *worker, struct spool *spool, enum disk_format *ret,
		     struct error *err)
{
	AUTO(free) char *head = mem_zalloc(DISK_IMAGE_HEAD_BYTES);
	size_t size = 0;

	if (wanted_format(worker, ret))
		return 0;
	while (size < DISK_IMAGE_HEAD_BYTES) {
		ssize_t n = spool_read(spool, size, head + size, DISK_IMAGE_HEAD_BYTES - size);

		if (n < 0)
			return error_set(err, (int) n, "read the input");
		if (n == 0)
			break;
		size += (size_t) n;
	}
	return disk_image_guess(head, size, ret, err);
}

/* Waits for all of it; what is zero takes no place on the disk. */
static int hash_input(struct spool *spool, bool sparse, struct digest *ret, uint64_t *ret_bytes,
		      struct error *err)
{
	AUTO(digest_stream_free)
	struct digest_stream *hash = digest_stream_new(DIGEST_SHA256);
	AUTO(free) char *piece = mem_zalloc(PIECE);
	uint64_t offset = 0;
	ssize_t n;

	while ((n = spool_read(spool, offset, piece, PIECE)) > 0) {
		size_t size = (size_t) n;

		digest_stream_add(hash, piece, size);
		/* A file system without holes keeps the zeros. */
		if (sparse && piece[0] == 0 && memcmp(piece, piece + 1, size - 1) == 0)
			(void) fallocate(spool->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 (off_t) offset, (off_t) size);
		offset += size;
	}
	if (n < 0)
		return error_set(err, (int) n, "read the input");
	digest_stream_end(hash, ret);
	*ret_bytes = offset;
	return 0;
}

static int check_input(int fd, enum disk_format format, uint64_t file_bytes,
		       uint64_t *ret_virtual_bytes, struct error *err)
{
	AUTO(free) char *head = mem_zalloc(DISK_IMAGE_HEAD_BYTES);
	ssize_t n = pread(fd, head, DISK_IMAGE_HEAD_BYTES, 0);

	if (n < 0)
		return error_set(err, -errno, "read the input");
	return disk_image_check(format, head, (size_t) n, file_bytes, ret_virtual_bytes, err);
}

int worker_import_disk(struct worker *worker, struct spool *spool, enum disk_format format,
		       const char *input, struct error *err)
{
	struct image_info *info = &worker->info;
	struct oci_descriptor descriptor = {};
	int r = hash_input(spool, format == DISK_RAW, &descriptor.digest, &descriptor.size_bytes,
			   err);

	if (r == 0)
		r = check_input(spool->fd, format, descriptor.size_bytes, &info->virtual_bytes,
				err);
	if (r < 0)
		return r;
	info->disk = format;
	snprintf(descriptor.media_type, sizeof(descriptor.media_type),
		 "application/vnd.brume.disk.v1.%s", disk_format_names[format]);
	return worker_import_blob(worker, &descriptor, &descriptor.digest, input, err);
}
