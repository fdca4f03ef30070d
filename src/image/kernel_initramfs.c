/* The part of the initramfs that all machines of a kernel share: brume-init and its modules. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/digest_stream.h"
#include "image/initramfs.h"
#include "image/kernel_internal.h"

enum { MODULE_NAME_MAX = 55 }; /* the kernel has no longer ones */

bool kernel_module_name_ok(const char *name)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789_-";
	size_t size = strspn(name, letters);

	return size > 0 && size <= MODULE_NAME_MAX && strcmp(name + size, ".ko") == 0;
}

static int add_modules(struct strbuf *out, int kernel_fd, struct error *err)
{
	AUTO(free) char *order = NULL;
	char *rest, *name;
	size_t size;
	int r = file_read(kernel_fd, "modules/order", KERNEL_ORDER_MAX, &order, &size);

	if (r < 0)
		return error_set(err, r, "read modules/order");
	initramfs_add_folder(out, "modules");
	initramfs_add_file(out, "modules/order", 0644, order, size);
	rest = order;
	while ((name = strsep(&rest, "\n"))) {
		AUTO(free) char *path = mem_printf("modules/%s", name);
		AUTO(free) char *data = NULL;

		if (!name[0])
			continue;
		if (!kernel_module_name_ok(name))
			return error_say(err, -EBADMSG, "modules/order: '%.80s' is no module",
					 name);
		r = file_read(kernel_fd, path, KERNEL_MODULE_MAX, &data, &size);
		if (r < 0)
			return error_set(err, r, "read %s", path);
		initramfs_add_file(out, path, 0644, data, size);
	}
	return 0;
}

int kernel_initramfs_write(int kernel_fd, const char *init, struct error *err)
{
	AUTO(strbuf_done) struct strbuf out = {};
	AUTO(free) char *program = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, init, KERNEL_INIT_MAX, &program, &size);

	if (r < 0)
		return error_set(err, r, "read %s", init);
	initramfs_add_folder(&out, "dev");
	initramfs_add_file(&out, "init", 0755, program, size);
	r = add_modules(&out, kernel_fd, err);
	if (r < 0)
		return r;
	initramfs_end(&out);
	r = file_write_atomic(kernel_fd, "initramfs", out.data, out.size, 0644, 0);
	return r < 0 ? error_set(err, r, "write initramfs") : 0;
}

int kernel_file_digest(const char *path, char ret[KERNEL_HEX_SIZE], struct error *err)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct digest_stream *stream = digest_stream_new(DIGEST_SHA256);
	AUTO(free) char *buffer = mem_zalloc(1 << 20);
	char hex[DIGEST_TEXT_SIZE];
	struct digest digest;
	ssize_t n = fd < 0 ? -1 : 0;

	while (fd >= 0 && (n = read(fd, buffer, 1 << 20)) > 0)
		digest_stream_add(stream, buffer, (size_t) n);
	if (n < 0) {
		digest_stream_free(stream);
		return error_set(err, -errno, "read %s", path);
	}
	digest_stream_end(stream, &digest);
	digest_stream_free(stream);
	digest_hex(&digest, hex);
	memcpy(ret, hex, KERNEL_HEX_SIZE);
	return 0;
}
