#include "image/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/strbuf.h"

enum { MODE_FOLDER = 040755, MODE_FILE = 0100000, ALIGNMENT = 4 };

static void align(struct strbuf *out, size_t start)
{
	size_t missing = (ALIGNMENT - (out->size - start) % ALIGNMENT) % ALIGNMENT;

	strbuf_append(out, "\0\0\0", missing);
}

/* "newc": numbers of eight hexadecimal digits; all times and devices are zero. */
static void add(struct strbuf *out, const char *name, uint32_t mode, const void *data, size_t size)
{
	size_t start = out->size;

	strbuf_printf(out, "070701%08zx%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x",
		      out->size / ALIGNMENT + 1, mode, 0u, 0u, 1u, 0u, size, 0u, 0u, 0u, 0u,
		      strlen(name) + 1, 0u);
	strbuf_append(out, name, strlen(name) + 1);
	align(out, start);
	if (size > 0)
		strbuf_append(out, data, size);
	align(out, start);
}

void initramfs_add_folder(struct strbuf *out, const char *name)
{
	add(out, name, MODE_FOLDER, NULL, 0);
}

void initramfs_add_file(struct strbuf *out, const char *name, uint32_t mode, const void *data,
			size_t size)
{
	add(out, name, MODE_FILE | mode, data, size);
}

void initramfs_end(struct strbuf *out)
{
	add(out, "TRAILER!!!", 0, NULL, 0);
}

int initramfs_of_instance(const char *guest_json, int *ret_fd, struct error *err)
{
	AUTO(fd_close) int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	AUTO(strbuf_done) struct strbuf out = {};
	int r;

	initramfs_add_folder(&out, "brume");
	initramfs_add_file(&out, "brume/guest.json", 0600, guest_json, strlen(guest_json));
	initramfs_end(&out);
	r = fd < 0 ? -errno : file_write_all(fd, out.data, out.size);
	if (r == 0 &&
	    (lseek(fd, 0, SEEK_SET) < 0 ||
	     fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0))
		r = -errno;
	if (r < 0)
		return error_set(err, r, "initramfs of the instance");
	*ret_fd = TAKE_FD(fd);
	return 0;
}
