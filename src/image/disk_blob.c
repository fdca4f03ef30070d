/*
 * Disks that came as such: the immutable file of an image, and the qcow2 of an instance above it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/qcow2.h"
#include "image/disk.h"
#include "image/disk_blob_internal.h"
#include "image/store_internal.h"

int disk_blob_check(int fd, enum disk_format format, uint64_t *ret_virtual_bytes, struct error *err)
{
	AUTO(free) char *head = mem_zalloc(DISK_IMAGE_HEAD_BYTES);
	ssize_t n = pread(fd, head, DISK_IMAGE_HEAD_BYTES, 0);
	struct stat st;

	if (n < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "read the disk of the image");
	return disk_image_check(format, head, (size_t) n, (uint64_t) st.st_size, ret_virtual_bytes,
				err);
}

int image_disk_open_blob(struct image_store *store, const struct image_info *info, int *ret_fd,
			 struct error *err)
{
	char name[STORE_NAME_SIZE];
	int fd;

	if (info->disk == DISK_NONE || info->layer_count != 1)
		return error_say(err, -EINVAL, "the image is no disk");
	store_blob_name(&info->layers[0].digest, name);
	fd = openat(store->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_set(err, -errno, "open the disk of the image");
	*ret_fd = fd;
	return 0;
}

int image_disk_make_overlay(const char *path, uint64_t size_bytes, struct error *err)
{
	AUTO(strbuf_done) struct strbuf image = {};
	int r;

	if (size_bytes < IMAGE_DISK_SIZE_MIN || size_bytes > QCOW2_VIRTUAL_BYTES_MAX)
		return error_say(err, -EINVAL, "a disk must have from %d MiB to 64 TiB",
				 IMAGE_DISK_SIZE_MIN >> 20);
	if (access(path, F_OK) == 0)
		return error_set(err, -EEXIST, "%s", path);
	qcow2_append_empty(&image, size_bytes);
	r = file_write_atomic(AT_FDCWD, path, image.data, image.size, 0600, 0);
	return r < 0 ? error_set(err, r, "make %s", path) : 0;
}
