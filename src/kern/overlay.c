#include "kern/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum {
	FSCONFIG_VALUE_MAX = 255, /* the kernel's limit for one string */
	CLASSIC_OPTIONS_MAX = 4095,
};

/* What the kernel itself says about a failed mount, if anything. */
static int fail(int fs_fd, int code, const char *what, struct error *err)
{
	char text[200];
	ssize_t n = read(fs_fd, text, sizeof(text) - 1);

	if (n <= 2)
		return error_set(err, code, "overlay: %s", what);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return error_set(err, code, "overlay: %s: %s", what, text + 2); /* after "e " */
}

static int check(const struct overlay_config *config, struct error *err)
{
	if (config->lower_count == 0)
		return error_say(err, -EINVAL, "overlay: at least one layer is needed");
	if (config->lower_count > OVERLAY_LOWER_MAX)
		return error_say(err, -E2BIG, "overlay: %zu layers, at most %d can be stacked",
				 config->lower_count, OVERLAY_LOWER_MAX);
	return 0;
}

/* Names a folder by a descriptor, so that its path may be of any length. */
static int set_folder(int fs_fd, const char *key, const char *path, int *ret_fd, struct error *err)
{
	char name[64];

	*ret_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (*ret_fd < 0)
		return error_set(err, -errno, "overlay: %s", path);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", *ret_fd);
	if (fsconfig(fs_fd, FSCONFIG_SET_STRING, key, name, 0) < 0)
		return fail(fs_fd, -errno, key, err);
	return 0;
}

int overlay_mount_fsconfig(const struct overlay_config *config, int *ret_fd, struct error *err)
{
	AUTO(fd_close) int fs_fd = fsopen("overlay", FSOPEN_CLOEXEC);
	AUTO(fd_close) int lower_fd = -1, upper_fd = -1, work_fd = -1, mount_fd = -1;
	int r = check(config, err);

	if (r < 0)
		return r;
	if (fs_fd < 0)
		return error_set(err, -errno, "overlay: fsopen");
	r = idmap_clone_mount(config->base_fd, config->base_userns_fd, true, &lower_fd);
	if (r < 0)
		return error_set(err, r, "overlay: idmapped mount of the layers");

	for (size_t i = 0; i < config->lower_count; i++) {
		char name[FSCONFIG_VALUE_MAX + 1];

		if (snprintf(name, sizeof(name), "/proc/self/fd/%d/%s", lower_fd,
			     config->lower[i]) >= (int) sizeof(name))
			return error_say(err, -ENAMETOOLONG, "overlay: layer name '%s' is too long",
					 config->lower[i]);
		if (fsconfig(fs_fd, FSCONFIG_SET_STRING, "lowerdir+", name, 0) < 0)
			return fail(fs_fd, -errno, config->lower[i], err);
	}
	r = set_folder(fs_fd, "upperdir", config->upper, &upper_fd, err);
	if (r == 0)
		r = set_folder(fs_fd, "workdir", config->work, &work_fd, err);
	if (r < 0)
		return r;
	/* What is in the upper folder can be read without overlayfs, whatever the kernel's
	 * defaults. */
	if (fsconfig(fs_fd, FSCONFIG_SET_STRING, "redirect_dir", "nofollow", 0) < 0 ||
	    fsconfig(fs_fd, FSCONFIG_SET_STRING, "metacopy", "off", 0) < 0)
		return fail(fs_fd, -errno, "options", err);
	if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fail(fs_fd, -errno, "mount", err);
	mount_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, 0);
	if (mount_fd < 0)
		return fail(fs_fd, -errno, "fsmount", err);
	*ret_fd = TAKE_FD(mount_fd);
	return 0;
}

struct classic {
	const struct overlay_config *config;
	struct error *err;
	int r;
	int mount_fd;
};

/*
 * Below the working folder, a tmpfs: `l` the idmapped layers, and a symbolic link with a short name
 * for every folder that the options have to name.
 */
static int classic_names(const struct overlay_config *config, int lower_fd, struct strbuf *options,
			 struct error *err)
{
	if (mkdir("l", 0700) < 0 || mkdir("m", 0700) < 0 || symlink(config->upper, "u") < 0 ||
	    symlink(config->work, "w") < 0)
		return error_set(err, -errno, "overlay: names of the layers");
	if (move_mount(lower_fd, "", AT_FDCWD, "l", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set(err, -errno, "overlay: attach the layers");

	strbuf_puts(options, "redirect_dir=nofollow,metacopy=off,upperdir=u,workdir=w,lowerdir=");
	for (size_t i = 0; i < config->lower_count; i++) {
		AUTO(free) char *target = mem_printf("l/%s", config->lower[i]);
		char name[32];

		snprintf(name, sizeof(name), "%zx", i);
		if (symlink(target, name) < 0)
			return error_set(err, -errno, "overlay: names of the layers");
		strbuf_printf(options, "%s%s", i ? ":" : "", name);
	}
	if (options->size > CLASSIC_OPTIONS_MAX)
		return error_say(err, -E2BIG, "overlay: this kernel cannot stack %zu layers",
				 config->lower_count);
	return 0;
}

static int classic_mount(const struct overlay_config *config, int *ret_fd, struct error *err)
{
	AUTO(strbuf_done) struct strbuf options = {};
	AUTO(fd_close) int lower_fd = -1;
	int r;

	r = idmap_clone_mount(config->base_fd, config->base_userns_fd, true, &lower_fd);
	if (r < 0)
		return error_set(err, r, "overlay: idmapped mount of the layers");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(err, -errno, "overlay: mount namespace");
	/* Over /proc/sys: it exists, and nothing below needs it. */
	if (mount("tmpfs", "/proc/sys", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=1m") < 0 ||
	    chdir("/proc/sys") < 0)
		return error_set(err, -errno, "overlay: working folder");
	r = classic_names(config, lower_fd, &options, err);
	if (r < 0)
		return r;
	if (mount("overlay", "m", "overlay", 0, strbuf_str(&options)) < 0)
		return error_set(err, -errno, "overlay: mount");
	*ret_fd = open_tree(AT_FDCWD, "m", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return *ret_fd < 0 ? error_set(err, -errno, "overlay: detach") : 0;
}

static void *classic_main(void *data)
{
	struct classic *classic = data;

	classic->r = classic_mount(classic->config, &classic->mount_fd, classic->err);
	return NULL;
}

int overlay_mount_classic(const struct overlay_config *config, int *ret_fd, struct error *err)
{
	struct classic classic = { .config = config, .err = err, .mount_fd = -1 };
	pthread_t thread;
	int r = check(config, err);

	if (r < 0)
		return r;
	/* The thread's namespace, and with it all but the result, ends with the thread. */
	r = -pthread_create(&thread, NULL, classic_main, &classic);
	if (r < 0)
		return error_set(err, r, "overlay: thread");
	pthread_join(thread, NULL);
	if (classic.r == 0)
		*ret_fd = classic.mount_fd;
	return classic.r;
}

int overlay_mount(const struct overlay_config *config, int *ret_fd, struct error *err)
{
	int r = overlay_mount_fsconfig(config, ret_fd, err);

	/* What an older kernel does not know it calls invalid. */
	return r == -EINVAL || r == -ENOSYS ? overlay_mount_classic(config, ret_fd, err) : r;
}
