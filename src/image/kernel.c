#include "image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/names.h"
#include "base/strv.h"
#include "image/kernel_internal.h"

enum { META_MAX = 64 << 10 };

const char *kernel_architecture(const char *name)
{
	static const char *const known[] = { "amd64", "arm64" };

	for (size_t i = 0; name && i < ARRAY_COUNT(known); i++)
		if (strcmp(known[i], name) == 0)
			return known[i];
	return NULL;
}

const char *kernel_host_architecture(void)
{
#if defined(__aarch64__)
	return "arm64";
#else
	return "amd64";
#endif
}

static bool is_host(const char *architecture)
{
	return strcmp(architecture, kernel_host_architecture()) == 0;
}

char *kernel_default_path(const char *dir, const char *architecture)
{
	return is_host(architecture) ? mem_printf("%s/default", dir)
				     : mem_printf("%s/default-%s", dir, architecture);
}

int kernel_init_path(const struct kernel_tools *tools, const char *architecture, char **ret,
		     struct error *err)
{
	AUTO(free)
	char *path = is_host(architecture) ? mem_strdup(tools->init)
					   : mem_printf("%s-%s", tools->init, architecture);

	if (!is_host(architecture) && access(path, R_OK) < 0)
		return error_say(
			err, -ENOENT, "%s is not there, the first process of machines of %s%s",
			path, architecture,
			strcmp(architecture, "arm64") == 0
				? ": build brume again with gcc-aarch64-linux-gnu, "
				  "libc6-dev-arm64-cross and what tools/fetch_arm64 fetches"
				: "");
	*ret = TAKE_PTR(path);
	return 0;
}

int kernel_name_check(const char *name, struct error *err)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._+-";
	size_t size = strlen(name);

	if (size == 0 || size > KERNEL_NAME_MAX || strspn(name, letters) != size ||
	    strchr("._+-", name[0]) || strcmp(name, "default") == 0 ||
	    strncmp(name, "default-", strlen("default-")) == 0)
		return error_say(err, -EINVAL,
				 "kernel: '%.80s' is no name: use up to %d letters, digits, '.', "
				 "'_', '+' and '-', and not \"default\"",
				 name, KERNEL_NAME_MAX);
	return 0;
}

static int read_meta(const char *dir, const char *name, json_t **ret, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/%s/meta.json", dir, name);
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, META_MAX, &text, &size);

	if (r == -ENOENT || r == -ENOTDIR)
		return error_say(err, -ENOENT, "there is no kernel %s; see brume kernel list",
				 name);
	if (r < 0)
		return error_set(err, r, "read %s", path);
	r = json_parse(text, size, META_MAX, ret, err);
	return r < 0 ? error_wrap(err, r, "%s", path) : 0;
}

/* Of a kernel that was imported before there were several: the node's. */
static const char *architecture_of(const json_t *meta)
{
	const char *known =
		kernel_architecture(json_string_value(json_object_get(meta, "architecture")));

	return known ? known : kernel_host_architecture();
}

/* "" when there is none. */
static void read_default(const char *dir, const char *architecture, char ret[KERNEL_NAME_MAX + 1])
{
	AUTO(free) char *link = kernel_default_path(dir, architecture);
	ssize_t n = readlink(link, ret, KERNEL_NAME_MAX);

	ret[n < 0 ? 0 : n] = '\0';
	if (n > 0 && kernel_name_check(ret, NULL) < 0)
		ret[0] = '\0';
}

int kernel_list(const char *dir, json_t **ret, struct error *err)
{
	AUTO(fd_close) int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO(json_decref) json_t *list = json_array();
	AUTO(strv_free) char **names = NULL;
	int r;

	if (dir_fd < 0 && errno != ENOENT)
		return error_set(err, -errno, "open %s", dir);
	if (dir_fd >= 0) {
		r = names_list(dir_fd, dir, &names, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; names && names[i]; i++) {
		char chosen[KERNEL_NAME_MAX + 1];
		json_t *meta = NULL;

		if (kernel_name_check(names[i], NULL) < 0 ||
		    read_meta(dir, names[i], &meta, NULL) < 0)
			continue;
		read_default(dir, architecture_of(meta), chosen);
		json_object_set_new(meta, "default", json_boolean(strcmp(names[i], chosen) == 0));
		json_array_append_new(list, meta);
	}
	*ret = TAKE_PTR(list);
	return 0;
}

int kernel_set_default(const char *dir, const char *name, struct error *err)
{
	AUTO(free) char *partial = mem_printf("%s/.default-%d", dir, (int) gettid());
	AUTO(free) char *link = NULL;
	AUTO(json_decref) json_t *meta = NULL;
	int r = kernel_name_check(name, err);

	if (r == 0)
		r = read_meta(dir, name, &meta, err);
	if (r < 0)
		return r;
	link = kernel_default_path(dir, architecture_of(meta));
	unlink(partial);
	if (symlink(name, partial) < 0 || rename(partial, link) < 0)
		return error_set(err, -errno, "%s", link);
	return 0;
}

/* The last one of an architecture in the list, NULL when there is none. */
static const char *last_of(const json_t *all, const char *architecture, size_t *ret_count)
{
	const char *name = NULL;
	const json_t *meta;
	size_t i, count = 0;

	json_array_foreach(all, i, meta)
	{
		if (strcmp(architecture_of(meta), architecture) != 0)
			continue;
		name = json_string_value(json_object_get(meta, "name"));
		count++;
	}
	if (ret_count)
		*ret_count = count;
	return name;
}

int kernel_delete(const char *dir, const char *name, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/%s", dir, name);
	AUTO(free) char *trash = mem_printf("%s/.new-deleted-%d", dir, (int) gettid());
	AUTO(free) char *link = NULL;
	AUTO(json_decref) json_t *meta = NULL;
	AUTO(json_decref) json_t *all = NULL;
	char chosen[KERNEL_NAME_MAX + 1];
	size_t count = 0;
	int r = kernel_name_check(name, err);

	if (r == 0)
		r = read_meta(dir, name, &meta, err);
	if (r == 0)
		r = kernel_list(dir, &all, err);
	if (r < 0)
		return r;
	link = kernel_default_path(dir, architecture_of(meta));
	read_default(dir, architecture_of(meta), chosen);
	(void) last_of(all, architecture_of(meta), &count);
	if (strcmp(chosen, name) == 0) {
		if (count > 1)
			return error_say(err, -EBUSY,
					 "%s is the default: make another one the default first",
					 name);
		unlink(link);
	}
	if (rename(path, trash) < 0)
		return error_set(err, -errno, "delete %s", path);
	r = file_remove_tree(AT_FDCWD, trash);
	return r < 0 ? error_set(err, r, "delete %s", trash) : 0;
}

/* -- opening ------------------------------------------------------------------------------------
 */

static int import_file(const char *dir, const char *source, const struct kernel_tools *tools,
		       struct error *err)
{
	const struct kernel_import import = { .source = source, .tools = tools };
	AUTO(json_decref) json_t *meta = NULL;

	return kernel_import(dir, &import, &meta, err);
}

static int import_package(const char *dir, const char *architecture,
			  const struct kernel_tools *tools, struct error *err)
{
	AUTO(free) char *folder = mem_printf("%s/.new-XXXXXX", dir);
	AUTO(free) char *package = NULL;
	int r = file_mkdir_all(dir, 0755);

	if (r < 0 || !mkdtemp(folder))
		return error_set(err, r < 0 ? r : -errno, "make %s", folder);
	r = kernel_fetch(folder, architecture, &package, err);
	if (r == 0)
		r = import_file(dir, package, tools, err);
	(void) file_remove_tree(AT_FDCWD, folder);
	return r;
}

/* There is no default yet: with one kernel it is that, else the host's, else Debian's. */
static int make_default(const char *dir, const char *architecture, const struct kernel_tools *tools,
			struct error *err)
{
	AUTO(json_decref) json_t *all = NULL;
	glob_t found = {};
	const char *name;
	int r = kernel_list(dir, &all, err);

	if (r < 0)
		return r;
	name = last_of(all, architecture, NULL);
	if (name)
		return kernel_set_default(dir, name, err);
	if (is_host(architecture) && glob("/boot/vmlinuz-*cloud*", 0, NULL, &found) == 0)
		r = import_file(dir, found.gl_pathv[found.gl_pathc - 1], tools, err);
	else
		r = import_package(dir, architecture, tools, err);
	globfree(&found);
	return r < 0 ? error_wrap(err, r,
				  "there is no kernel for virtual machines of %s: import one with "
				  "brume kernel import FILE; Debian's could not be taken",
				  architecture)
		     : 0;
}

/* Of a kernel that was named: it is one for such machines. */
static int check_architecture(const char *dir, const char *name, const char *architecture,
			      struct error *err)
{
	AUTO(json_decref) json_t *meta = NULL;
	int r = read_meta(dir, name, &meta, err);

	if (r < 0 || strcmp(architecture_of(meta), architecture) == 0)
		return r;
	return error_say(err, -ENOEXEC, "the kernel %s is for %s, the image for %s", name,
			 architecture_of(meta), architecture);
}

static int refresh_initramfs(const char *dir, const char *name, const char *init, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/%s", dir, name);
	AUTO(json_decref) json_t *meta = NULL;
	AUTO(fd_close) int kernel_fd = -1;
	AUTO(free) char *text = NULL;
	char hex[KERNEL_HEX_SIZE];
	const char *before;
	int r = read_meta(dir, name, &meta, err);

	if (r == 0)
		r = kernel_file_digest(init, hex, err);
	if (r < 0)
		return r;
	before = json_string_value(json_object_get(meta, "init_digest"));
	if (before && strcmp(before, hex) == 0)
		return 0;
	kernel_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (kernel_fd < 0)
		return error_set(err, -errno, "open %s", path);
	r = kernel_initramfs_write(kernel_fd, init, err);
	if (r < 0)
		return r;
	json_object_set_new(meta, "init_digest", json_string(hex));
	text = json_text(meta);
	r = file_write_atomic(kernel_fd, "meta.json", text, strlen(text), 0444, 1);
	return r < 0 ? error_set(err, r, "write %s/meta.json", path) : 0;
}

static int open_files(const char *dir, const char *name, struct kernel_files *ret,
		      struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/%s", dir, name);
	AUTO(fd_close) int kernel_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO(kernel_files_done)
	struct kernel_files files = { .vmlinux_fd = -1, .bzimage_fd = -1, .initramfs_fd = -1 };

	if (kernel_fd < 0)
		return error_set(err, -errno, "open %s", path);
	files.vmlinux_fd = openat(kernel_fd, "vmlinux", O_RDONLY | O_CLOEXEC);
	files.bzimage_fd = openat(kernel_fd, "bzImage", O_RDONLY | O_CLOEXEC);
	files.initramfs_fd = openat(kernel_fd, "initramfs", O_RDONLY | O_CLOEXEC);
	if (files.vmlinux_fd < 0 || files.initramfs_fd < 0)
		return error_set(err, -errno, "the kernel %s is not complete", name);
	snprintf(files.name, sizeof(files.name), "%s", name);
	*ret = files;
	files = (struct kernel_files){ .vmlinux_fd = -1, .bzimage_fd = -1, .initramfs_fd = -1 };
	return 0;
}

int kernel_open(const char *dir, const char *name, const char *architecture,
		const struct kernel_tools *tools, struct kernel_files *ret, struct error *err)
{
	AUTO(fd_close) int lock_fd = -1;
	AUTO(free) char *init = NULL;
	char chosen[KERNEL_NAME_MAX + 1];
	int r = name && name[0] ? kernel_name_check(name, err) : 0;

	if (r == 0)
		r = kernel_init_path(tools, architecture, &init, err);
	if (r == 0 && (r = file_mkdir_all(dir, 0755)) < 0)
		error_set(err, r, "make %s", dir);
	if (r < 0)
		return r;
	/* One import of a default at a time, and one making of an initramfs. */
	lock_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX) < 0)
		return error_set(err, -errno, "lock %s", dir);
	if (name && name[0])
		snprintf(chosen, sizeof(chosen), "%s", name);
	else
		read_default(dir, architecture, chosen);
	if (!chosen[0]) {
		r = make_default(dir, architecture, tools, err);
		read_default(dir, architecture, chosen);
	}
	if (r == 0)
		r = check_architecture(dir, chosen, architecture, err);
	if (r == 0)
		r = refresh_initramfs(dir, chosen, init, err);
	return r < 0 ? r : open_files(dir, chosen, ret, err);
}

void kernel_files_done(struct kernel_files *files)
{
	fd_close(files->vmlinux_fd);
	fd_close(files->bzimage_fd);
	fd_close(files->initramfs_fd);
	files->vmlinux_fd = files->bzimage_fd = files->initramfs_fd = -1;
}
