#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/names.h"
#include "base/strv.h"
#include "image/disk.h"
#include "image/helper_internal.h"
#include "image/kernel.h"
#include "image/kernel_internal.h"
#include "image/rootfs.h"
#include "kern/idmap.h"

#define MODULES "/lib/modules"

/* One that comes into being below a folder of its own. */
struct job {
	const char *dir; /* of the store */
	char *folder;    /* DIR/.new-XXXXXX */
	char *out;       /* FOLDER/out: the worker's, then ours, then DIR/NAME */
	int fd;          /* of `out` */
	char version[KERNEL_VERSION_SIZE];
	const char *architecture;
	struct error *err;
};

static void job_done(struct job *job)
{
	if (job->folder)
		(void) file_remove_tree(AT_FDCWD, job->folder);
	fd_close(job->fd);
	free(job->folder);
	free(job->out);
}

static inline void job_done_autop(struct job *job)
{
	job_done(job);
}

static bool is_package(const char *source)
{
	size_t size = strlen(source);

	return size > 4 && strcmp(source + size - 4, ".deb") == 0;
}

/* -- the worker that takes it apart ---------------------------------------------------------------
 *
 * The agent opens what it was told to; every byte of it is read by brume-image-worker, as user 0 of
 * ids that nobody else has, with nothing to write to but `out`.
 */

static int open_source(struct job *job, const char *source, int *ret)
{
	AUTO(fd_close) int fd = open(source, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(job->err, -errno, "read %s", source);
	if (!S_ISREG(st.st_mode))
		return error_say(job->err, -EINVAL, "%s is not a file", source);
	*ret = TAKE_FD(fd);
	return 0;
}

/* A mount of its own of what is below `path`: no ".." leads out of it. */
static int clone_mount(const char *path, uint64_t attr, int *ret)
{
	struct mount_attr change = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
						 MOUNT_ATTR_NOEXEC | attr };
	AUTO(fd_close) int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &change, sizeof(change)) < 0)
		return -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

/* Where modules are; a folder that is not there is a kernel that needs none. */
static int open_modules(struct job *job, const struct kernel_import *import, int *ret)
{
	bool given = import->modules && import->modules[0];
	const char *path = given ? import->modules : MODULES;
	int r = clone_mount(path, MOUNT_ATTR_RDONLY, ret);

	return r < 0 && r != -ENOENT ? error_set(job->err, r, "the modules in %s", path) : 0;
}

static int take_facts(struct job *job, const json_t *done)
{
	struct json_reader in = { .err = job->err, .where = "kernel" };
	AUTO(free) char *version = NULL;
	AUTO(free) char *architecture = NULL;
	int r;

	json_read_any(&in, done, "type", NULL);
	json_read_string(&in, done, "version", &version);
	json_read_string(&in, done, "architecture", &architecture);
	r = json_reader_finish(&in, done);
	if (r < 0)
		return r;
	job->architecture = kernel_architecture(architecture);
	if (!job->architecture)
		return error_say(job->err, -EBADMSG, "the kernel is for no known architecture");
	snprintf(job->version, sizeof(job->version), "%s", version ? version : "");
	for (const char *p = job->version; *p; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return error_say(job->err, -EBADMSG, "the kernel has no proper version");
	return 0;
}

static int run_worker(struct job *job, const struct kernel_import *import)
{
	uint32_t owner = rootfs_slot_uid(IMAGE_DISK_SLOT);
	const struct idmap_range range = { 0, owner, LAYER_UID_COUNT };
	bool package = is_package(import->source), given = import->modules && import->modules[0];
	AUTO(fd_close) int source_fd = -1;
	AUTO(fd_close) int userns_fd = -1;
	AUTO(fd_close) int modules_fd = -1;
	AUTO(fd_close) int out_fd = -1;
	AUTO(json_decref) json_t *done = NULL;
	json_t *request;
	int r = open_source(job, import->source, &source_fd);

	if (r == 0 && !package)
		r = open_modules(job, import, &modules_fd);
	if (r < 0)
		return r;
	if (fchown(job->fd, owner, owner) < 0)
		return error_set(job->err, -errno, "make %s", job->out);
	r = clone_mount(job->out, 0, &out_fd);
	if (r == 0)
		r = idmap_userns_new(&range, 1, &userns_fd);
	if (r < 0)
		return error_set(job->err, r, "prepare the import");
	request = json_pack("{s:s, s:b, s:b, s:b}", "source", import->source, "package", package,
			    "modules", modules_fd >= 0, "versions", !given);
	if (!request)
		return error_say(job->err, -EINVAL, "source: is not valid UTF-8");
	const struct helper helper = { .worker = import->tools->worker,
				       .action = "kernel",
				       .stream_fd = source_fd,
				       .root_fd = out_fd,
				       .extra_fd = userns_fd,
				       .more_fd = modules_fd,
				       .cancel_fd = -1 };
	r = helper_run(&helper, request, &done, job->err);
	return r < 0 ? r : take_facts(job, done);
}

/* -- what it left ------------------------------------------------------------------------------ */

static int refuse(struct job *job, const char *name)
{
	return error_say(job->err, -EBADMSG,
			 "the worker left '%.80s', which is no part of a kernel", name);
}

/* It becomes root's. */
static int take_file(struct job *job, int dir_fd, const char *name)
{
	AUTO(fd_close)
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
		return refuse(job, name);
	if (fchown(fd, 0, 0) < 0 || fchmod(fd, 0444) < 0 || fsync(fd) < 0)
		return error_set(job->err, -errno, "keep %s", name);
	return 0;
}

static int take_modules(struct job *job)
{
	AUTO(fd_close)
	int fd = openat(job->fd, "modules", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(strv_free) char **names = NULL;
	int r = fd < 0 ? refuse(job, "modules") : names_list(fd, "modules", &names, job->err);

	for (size_t i = 0; r == 0 && names && names[i]; i++)
		r = kernel_module_name_ok(names[i]) || strcmp(names[i], "order") == 0
			    ? take_file(job, fd, names[i])
			    : refuse(job, names[i]);
	if (r == 0 && (fchown(fd, 0, 0) < 0 || fchmod(fd, 0755) < 0))
		r = error_set(job->err, -errno, "keep the modules");
	return r;
}

/* The worker is dead: nobody changes anything any more. */
static int take_over(struct job *job)
{
	AUTO(strv_free) char **names = NULL;
	int r = names_list(job->fd, job->out, &names, job->err);

	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		if (strcmp(names[i], "vmlinux") == 0 || strcmp(names[i], "bzImage") == 0)
			r = take_file(job, job->fd, names[i]);
		else
			r = strcmp(names[i], "modules") == 0 ? take_modules(job)
							     : refuse(job, names[i]);
	}
	if (r == 0 && (fchown(job->fd, 0, 0) < 0 || fchmod(job->fd, 0755) < 0))
		r = error_set(job->err, -errno, "keep %s", job->out);
	return r;
}

/* -- the folder ---------------------------------------------------------------------------------
 */

static int write_meta(struct job *job, const struct kernel_import *import, const char *init_path,
		      const char *name, json_t **ret)
{
	AUTO(free) char *path = mem_printf("%s/vmlinux", job->out);
	char hex[KERNEL_HEX_SIZE], init[KERNEL_HEX_SIZE], created[CLOCK_RFC3339_SIZE];
	AUTO(json_decref) json_t *meta = NULL;
	AUTO(free) char *text = NULL;
	int r = kernel_file_digest(path, hex, job->err);

	if (r == 0)
		r = kernel_file_digest(init_path, init, job->err);
	if (r < 0)
		return r;
	clock_format_rfc3339(clock_realtime_ms(clock_system()), created);
	meta = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "name", name, "version",
			 job->version, "architecture", job->architecture, "source", import->source,
			 "digest", hex, "init_digest", init, "created", created);
	if (!meta)
		return error_say(job->err, -EINVAL, "source: is not valid UTF-8");
	text = json_text(meta);
	r = file_write_atomic(job->fd, "meta.json", text, strlen(text), 0444, 1);
	if (r < 0)
		return error_set(job->err, r, "write %s/meta.json", job->out);
	*ret = TAKE_PTR(meta);
	return 0;
}

static int begin(struct job *job)
{
	glob_t leftovers = {};
	AUTO(free) char *pattern = mem_printf("%s/.new-*", job->dir);
	int r = file_mkdir_all(job->dir, 0755);

	if (r < 0)
		return error_set(job->err, r, "make %s", job->dir);
	if (glob(pattern, GLOB_NOSORT, NULL, &leftovers) == 0)
		for (size_t i = 0; i < leftovers.gl_pathc; i++) {
			struct stat st;

			/* One that is at work is younger. */
			if (stat(leftovers.gl_pathv[i], &st) == 0 &&
			    st.st_mtime < clock_realtime_ms(clock_system()) / 1000 - 3600)
				(void) file_remove_tree(AT_FDCWD, leftovers.gl_pathv[i]);
		}
	globfree(&leftovers);
	job->folder = mem_printf("%s/.new-XXXXXX", job->dir);
	if (!mkdtemp(job->folder))
		return error_set(job->err, -errno, "make %s", job->folder);
	job->out = mem_printf("%s/out", job->folder);
	if (mkdir(job->out, 0700) < 0)
		return error_set(job->err, -errno, "make %s", job->out);
	job->fd = open(job->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return job->fd < 0 ? error_set(job->err, -errno, "open %s", job->out) : 0;
}

/* Into the store, under its name. */
static int put(struct job *job, const char *name)
{
	AUTO(free) char *path = mem_printf("%s/%s", job->dir, name);

	if (renameat2(AT_FDCWD, job->out, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
		return error_say(job->err, -errno,
				 "a kernel %s is there already: delete it, or give another name",
				 name);
	return 0;
}

int kernel_import(const char *dir, const struct kernel_import *import, json_t **ret,
		  struct error *err)
{
	AUTO(job_done) struct job job = { .dir = dir, .fd = -1, .err = err };
	AUTO(json_decref) json_t *meta = NULL;
	AUTO(free) char *init = NULL;
	AUTO(free) char *link = NULL;
	const char *name;
	int r;

	if (!import->source || import->source[0] != '/')
		return error_say(err, -EINVAL,
				 "source: must be the absolute path of a kernel on the node");
	if (import->name && import->name[0] && (r = kernel_name_check(import->name, err)) < 0)
		return r;
	r = begin(&job);
	if (r == 0)
		r = run_worker(&job, import);
	if (r == 0)
		r = take_over(&job);
	if (r < 0)
		return r;
	name = import->name && import->name[0] ? import->name : job.version;
	r = kernel_name_check(name, err);
	if (r == 0)
		r = kernel_init_path(import->tools, job.architecture, &init, err);
	if (r == 0)
		r = kernel_initramfs_write(job.fd, init, err);
	if (r == 0)
		r = write_meta(&job, import, init, name, &meta);
	if (r == 0)
		r = put(&job, name);
	if (r < 0)
		return r;
	/* The first one; when there is a default already, it stays. */
	link = kernel_default_path(dir, job.architecture);
	(void) !symlink(name, link);
	*ret = TAKE_PTR(meta);
	return 0;
}
