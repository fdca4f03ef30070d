#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "codec/kmod.h"
#include "image/kernel_internal.h"

enum { DEPTH_MAX = 64 };

DEFINE_AUTO(struct archive *, archive_read_free)

/*
 * What a machine may have before its root is there, and what a command may expect to find: names as
 * the kernel has them ('_' for '-').  Those that are built in have no file.
 */
static const char *const wanted[] = {
	"virtio_pci",     "virtio_mmio", "virtio_blk", "virtio_console",
	"virtio_net",     "virtio_rng",  "erofs",      "crc32c_generic",
	"ext4",           "overlay",     "vsock",      "vmw_vsock_virtio_transport",
	"virtio_balloon", "af_packet",   "button",     "evdev",
};

struct module {
	UT_hash_handle hh;
	char *name;
	int dir_fd; /* borrowed */
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

void module_table_add(struct module_table *table, int dir_fd, const char *path)
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
		module->dir_fd = dir_fd;
		module->path = mem_strdup(path);
		HASH_ADD_KEYPTR(hh, table->modules, module->name, strlen(module->name), module);
		return;
	}
}

static int walk(struct module_table *table, int dir_fd, const char *path, unsigned int depth);

static int walk_entry(struct module_table *table, int dir_fd, const char *path,
		      const struct dirent *entry, unsigned int depth)
{
	AUTO(free)
	char *below =
		path[0] ? mem_printf("%s/%s", path, entry->d_name) : mem_strdup(entry->d_name);
	struct stat st;

	if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
	    fstatat(dir_fd, below, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (S_ISREG(st.st_mode))
		module_table_add(table, dir_fd, below);
	return S_ISDIR(st.st_mode) ? walk(table, dir_fd, below, depth + 1) : 0;
}

static int walk(struct module_table *table, int dir_fd, const char *path, unsigned int depth)
{
	AUTO(fd_close)
	int fd = openat(dir_fd, path[0] ? path : ".",
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *entry;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	int r = 0;

	if (!dir)
		return -errno;
	fd = -1;
	if (depth > DEPTH_MAX)
		r = -ELOOP;
	while (r == 0 && (entry = readdir(dir)))
		r = walk_entry(table, dir_fd, path, entry, depth);
	closedir(dir);
	return r;
}

int module_table_add_tree(struct module_table *table, int dir_fd, struct error *err)
{
	int r = walk(table, dir_fd, "", 0);

	if (r == -EACCES)
		return error_say(err, r, "the folder of modules must be readable for everybody");
	return r < 0 ? error_set(err, r, "the folder of modules") : 0;
}

/* The plain contents of a file that may be compressed. */
static int read_plain(int dir_fd, const char *path, struct strbuf *ret, struct error *err)
{
	AUTO(fd_close) int fd = openat(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(archive_read_free) struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	la_ssize_t n;

	archive_read_support_format_raw(archive);
	archive_read_support_filter_xz(archive);
	archive_read_support_filter_gzip(archive);
	archive_read_support_filter_zstd(archive);
	if (fd < 0)
		return error_set(err, -errno, "open %s", path);
	if (archive_read_open_fd(archive, fd, 64 << 10) != ARCHIVE_OK ||
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
	r = read_plain(module->dir_fd, module->path, &data, err);
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
