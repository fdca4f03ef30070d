#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "codec/digest.h"
#include "codec/kmod.h"
#include "image/initramfs.h"
#include "image/kernel_internal.h"

enum { DEPTH_MAX = 64, TREE_FDS = 32 };

DEFINE_AUTO(struct archive *, archive_read_free)

/*
 * What a machine may have before its root is there, and what a command may expect to find: names as
 * the kernel has them ('_' for '-').  Those that are built in have no file.
 */
static const char *const wanted[] = {
	"virtio_pci",     "virtio_mmio", "virtio_blk", "virtio_console",
	"virtio_net",     "virtio_rng",  "erofs",      "crc32c_generic",
	"ext4",           "overlay",     "vsock",      "vmw_vsock_virtio_transport",
	"virtio_balloon", "af_packet",   "button",
};

struct module {
	UT_hash_handle hh;
	char *name;
	char *path;
	bool copied;
};

struct module_table {
	struct module *modules;
};

struct module_table *module_table_new(void)
{
	return mem_new0(struct module_table);
}

void module_table_free(struct module_table *table)
{
	struct module *module, *next;

	if (!table)
		return;
	HASH_ITER(hh, table->modules, module, next)
	{
		HASH_DEL(table->modules, module);
		free(module->name);
		free(module->path);
		free(module);
	}
	free(table);
}

void module_table_add(struct module_table *table, const char *path)
{
	static const char *const endings[] = { ".ko", ".ko.xz", ".ko.gz", ".ko.zst" };
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	struct module *module;

	for (size_t i = 0; i < ARRAY_COUNT(endings); i++) {
		size_t size = strlen(base), end = strlen(endings[i]);
		char *name;

		if (size <= end || strcmp(base + size - end, endings[i]) != 0)
			continue;
		name = mem_strndup(base, size - end);
		for (char *p = name; *p; p++)
			*p = *p == '-' ? '_' : *p;
		HASH_FIND_STR(table->modules, name, module);
		if (module) {
			free(name);
			return;
		}
		module = mem_new0(struct module);
		module->name = name;
		module->path = mem_strdup(path);
		HASH_ADD_KEYPTR(hh, table->modules, module->name, strlen(module->name), module);
		return;
	}
}

/* nftw() has no argument for its callback. */
static __thread struct module_table *walked;

static int on_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void) st;
	if (type == FTW_F)
		module_table_add(walked, path);
	return ftw->level > DEPTH_MAX;
}

void module_table_add_tree(struct module_table *table, const char *folder)
{
	walked = table;
	nftw(folder, on_file, TREE_FDS, FTW_PHYS);
	walked = NULL;
}

/* The plain contents of a file that may be compressed. */
static int read_plain(const char *path, struct strbuf *ret, struct error *err)
{
	AUTO(archive_read_free) struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	la_ssize_t n;

	archive_read_support_format_raw(archive);
	archive_read_support_filter_xz(archive);
	archive_read_support_filter_gzip(archive);
	archive_read_support_filter_zstd(archive);
	if (archive_read_open_filename(archive, path, 64 << 10) != ARCHIVE_OK ||
	    archive_read_next_header(archive, &entry) != ARCHIVE_OK)
		return error_say(err, -EBADMSG, "%s: %.200s", path, archive_error_string(archive));
	for (;;) {
		n = archive_read_data(archive, strbuf_reserve(ret, 64 << 10), 64 << 10);
		if (n < 0)
			return error_say(err, -EBADMSG, "%s: %.200s", path,
					 archive_error_string(archive));
		if (n == 0)
			return 0;
		strbuf_grown(ret, (size_t) n);
		if (ret->size > KERNEL_MODULE_MAX)
			return error_say(err, -EFBIG, "%s is larger than %d MiB", path,
					 KERNEL_MODULE_MAX >> 20);
	}
}

static int write_file(int dir_fd, const char *name, const void *data, size_t size,
		      struct error *err)
{
	int r = file_write_atomic(dir_fd, name, data, size, 0644, 0);

	return r < 0 ? error_set(err, r, "write %s", name) : 0;
}

/* First what it needs, then itself. */
static int copy_module(struct module_table *table, const char *name, int modules_fd,
		       struct strbuf *order, unsigned int depth, struct error *err)
{
	AUTO(strbuf_done) struct strbuf data = {};
	AUTO(strv_free) char **depends = NULL;
	AUTO(free) char *file = mem_printf("%s.ko", name);
	struct module *module;
	int r;

	HASH_FIND_STR(table->modules, name, module);
	if (!module || module->copied)
		return 0;
	if (depth > DEPTH_MAX)
		return error_say(err, -ELOOP, "the module %s needs itself", name);
	r = read_plain(module->path, &data, err);
	if (r == 0)
		r = kmod_depends(data.data, data.size, &depends, err);
	if (r < 0)
		return error_wrap(err, r, "%s", module->path);
	module->copied = true;
	for (size_t i = 0; r == 0 && depends && depends[i]; i++)
		r = copy_module(table, depends[i], modules_fd, order, depth + 1, err);
	if (r == 0)
		r = write_file(modules_fd, file, data.data, data.size, err);
	if (r == 0)
		strbuf_printf(order, "%s\n", file);
	return r;
}

int kernel_modules_copy(struct module_table *table, int modules_fd, struct error *err)
{
	AUTO(strbuf_done) struct strbuf order = {};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(wanted); i++)
		r = copy_module(table, wanted[i], modules_fd, &order, 0, err);
	return r < 0 ? r : write_file(modules_fd, "order", strbuf_str(&order), order.size, err);
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
	return write_file(kernel_fd, "initramfs", out.data, out.size, err);
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
