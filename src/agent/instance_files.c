#include "agent/instance_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/bundle.h"
#include "agent/instance_actor_internal.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "image/info.h"
#include "image/rootfs.h"

enum { MAP_TEXT_MAX = 4096 };

void instance_root_init(struct instance_root *root)
{
	*root = (struct instance_root){};
}

int instance_root_find(struct agent *agent, const char *uid, struct instance_root *ret,
		       struct error *err)
{
	const struct instance_actor *actor = actor_find(agent, uid);

	if (!actor || !actor->want || actor->want->instance->meta.deleted_ms)
		return error_say(err, -ENOENT, "the instance is not on this node");
	switch (actor->seen.run) {
	case PLAN_RUN_RUNNING:
	case PLAN_RUN_PAUSED:
		/* One that runs was asked before anybody came here. */
		if (actor_spec(actor)->type == INSTANCE_VM)
			return error_say(err, -EBUSY, "the instance is paused; resume it first");
		break;
	case PLAN_RUN_NONE:
		if (actor_spec(actor)->type == INSTANCE_VM)
			return error_say(err, -EBUSY,
					 "the instance is a virtual machine: its files can only be "
					 "reached while it runs; start it first");
		if (!actor->has_slot || !actor->has_image)
			return error_say(
				err, -EBUSY,
				"the instance has never been started: it has no files yet");
		if (!actor->task)
			break;
		/* fall through */
	default:
		return error_say(err, -EBUSY, "the instance is being started or stopped");
	}
	/* `uid` may be the one in *ret. */
	memmove(ret->uid, uid, UID_SIZE);
	ret->is_running = actor->seen.run != PLAN_RUN_NONE;
	ret->pid = actor->pid;
	ret->slot = actor->record.slot;
	return 0;
}

/* "//a/./b/" -> "/a/b".  A path with ".." is NULL: only the kernel knows where it leads. */
static char *plain_path(const char *path)
{
	AUTO(strbuf_done) struct strbuf plain = {};

	while (*path) {
		size_t size;

		path += strspn(path, "/");
		size = strcspn(path, "/");
		if (size == 2 && strncmp(path, "..", 2) == 0)
			return NULL;
		if (size > 1 || (size == 1 && *path != '.'))
			strbuf_printf(&plain, "/%.*s", (int) size, path);
		path += size;
	}
	return mem_strdup(strbuf_str(&plain));
}

static bool is_below(const char *path, const char *folder)
{
	size_t size = strlen(folder);

	return strncmp(path, folder, size) == 0 && (path[size] == '/' || !path[size]);
}

int instance_root_check(struct agent *agent, const struct instance_root *root, const char *path,
			bool write, struct error *err)
{
	const struct instance_actor *actor = actor_find(agent, root->uid);
	AUTO(free) char *plain = plain_path(path);
	AUTO(strv_free) char **points = NULL;

	if (root->is_running || !actor || !actor->want)
		return 0;
	if (write && actor_spec(actor)->run.read_only)
		return error_say(err, -EROFS, "%.300s: the instance's root is read-only", path);
	points = plain ? bundle_mount_points(actor_spec(actor)) : NULL;
	for (char **point = points; point && *point; point++)
		if (is_below(plain, *point))
			return error_say(err, -EBUSY,
					 "%.300s: something else is mounted on %.300s when the "
					 "instance runs; start it first",
					 path, *point);
	return 0;
}

/* The process that has the pid must be of this instance: it has the instance's ids. */
static int check_owner(int proc_fd, uint32_t slot, struct error *err)
{
	AUTO(free) char *text = NULL;
	unsigned int inside, outside, count;
	int r = file_read(proc_fd, "uid_map", MAP_TEXT_MAX, &text, NULL);

	if (r < 0)
		return error_set(err, r, "the instance's process");
	if (sscanf(text, "%u %u %u", &inside, &outside, &count) != 3 || inside != 0 ||
	    outside != rootfs_slot_uid(slot) || count != LAYER_UID_COUNT)
		return error_say(err, -EBUSY, "the instance is being stopped");
	return 0;
}

static int open_running(const struct instance_root *root, int *ret_fd, struct error *err)
{
	AUTO(fd_close) int proc_fd = -1;
	AUTO(fd_close) int fd = -1;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/%d", root->pid);
	proc_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (proc_fd < 0)
		return error_say(err, -EBUSY, "the instance is being stopped");
	r = check_owner(proc_fd, root->slot, err);
	if (r < 0)
		return r;
	fd = openat(proc_fd, "ns/mnt", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "the instance's mounts");
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int open_at_rest(const struct agent *agent, const struct instance_root *root, int *ret_fd,
			struct error *err)
{
	AUTO(free) char *upper = agent_state_path(agent, root->uid, "upper");
	AUTO(free) char *work = agent_state_path(agent, root->uid, "work");
	AUTO(image_info_done) struct image_info image = {};
	int r = instance_image_read(agent, root->uid, &image, err);

	if (r < 0)
		return r;
	AUTO(strv_free) char **layers = image_info_layers(&image);
	return rootfs_open(agent->images, layers, upper, work, root->slot, ret_fd, err);
}

int instance_root_open(const struct agent *agent, const struct instance_root *root, int *ret_fd,
		       struct error *err)
{
	return root->is_running ? open_running(root, ret_fd, err)
				: open_at_rest(agent, root, ret_fd, err);
}

int instance_upper_find(struct agent *agent, const char *uid, struct instance_upper *ret,
			struct error *err)
{
	const struct instance_actor *actor = actor_find(agent, uid);

	if (!actor || !actor->want || actor->want->instance->meta.deleted_ms)
		return error_say(err, -ENOENT, "the instance is not on this node");
	if (actor_spec(actor)->type == INSTANCE_VM)
		return error_say(
			err, -EINVAL,
			"the instance is a virtual machine: what it has changed is on a disk "
			"that only its own kernel reads; use `brume cp` while it runs");
	if (!actor->has_slot || !actor->has_image)
		return error_say(err, -EBUSY,
				 "the instance has never been started: it has no files yet");
	*ret = (struct instance_upper){ .dir = agent_state_path(agent, uid, "upper"),
					.slot = actor->record.slot,
					.mount_points = bundle_mount_points(actor_spec(actor)) };
	memcpy(ret->uid, actor->uid, UID_SIZE);
	return 0;
}

void instance_upper_done(struct instance_upper *upper)
{
	free(upper->dir);
	strv_free(upper->mount_points);
	*upper = (struct instance_upper){};
}

void instance_files_ended(struct agent *agent, const char *uid)
{
	struct instance_actor *actor = actor_find(agent, uid);

	if (actor && !actor->task)
		actor_advance(actor);
}
