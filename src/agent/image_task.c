#include "agent/image_task.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/freeze.h"
#include "agent/instance_task.h"
#include "agent/settings.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/commit.h"
#include "image/import.h"
#include "image/rootfs.h"
#include "image/store.h"
#include "model/member.h"

enum { SEQ_TEXT_MAX = 32, IMAGE_RECORD_MAX = 4 << 20 };

struct image_task *image_task_new(const struct agent *agent, enum image_task_kind kind,
				  const char *uid)
{
	struct image_task *task = mem_new0(struct image_task);

	task->agent = agent;
	task->kind = kind;
	snprintf(task->uid, sizeof(task->uid), "%s", uid);
	task->input_fd = -1;
	task->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&task->lock, NULL);
	return task;
}

static char *seq_path(const struct image_task *task)
{
	return mem_printf("%s/agent/images/%s", task->agent->options->state, task->uid);
}

static void on_progress(uint64_t done_bytes, uint64_t total_bytes, const char *text, void *data)
{
	struct image_task *task = data;

	pthread_mutex_lock(&task->lock);
	task->progress.done_bytes = done_bytes;
	task->progress.total_bytes = total_bytes;
	snprintf(task->progress.text, sizeof(task->progress.text), "%s", text ? text : "");
	pthread_mutex_unlock(&task->lock);
}

void image_task_progress(struct image_task *task, struct image_task_progress *ret)
{
	pthread_mutex_lock(&task->lock);
	*ret = task->progress;
	pthread_mutex_unlock(&task->lock);
}

void image_task_cancel(struct image_task *task)
{
	uint64_t one = 1;

	if (write(task->cancel_fd, &one, sizeof(one)) < 0) {
		/* EAGAIN: it is readable already. */
	}
}

static void put_healthcheck(json_t *config, const struct oci_healthcheck *from)
{
	AUTO(health_check_done) struct health_check check = {};

	if (json_object_del(config, "healthcheck") < 0)
		return;
	settings_check_of_image(from, &check);
	json_object_set_new(config, "healthcheck", health_check_encode(&check));
}

/* "NAME=value" strings as an object; what has no name says nothing. */
static void put_map(json_t *config, const char *name, char *const *strv)
{
	AUTO(strv_free) char **map = NULL;

	json_object_del(config, name);
	for (; strv && *strv; strv++) {
		if ((*strv)[0] == '=' || !(*strv)[0])
			continue;
		strv_append_take(&map,
				 strchr(*strv, '=') ? mem_strdup(*strv) : mem_printf("%s=", *strv));
	}
	member_put_map(config, name, map);
}

/* The image as brumed wants to hear of it: the members of model/image.h's status. */
static json_t *status_members(const struct image_info *info)
{
	json_t *members = image_info_status(info);
	const char *created = json_string_value(json_object_get(members, "created"));
	json_t *config = json_object_get(members, "config");
	int64_t ms;

	if (created && clock_parse_rfc3339(created, &ms) < 0)
		json_object_del(members, "created");
	json_object_set(config, "command", json_object_get(config, "cmd"));
	json_object_del(config, "cmd");
	put_healthcheck(config, &info->config.healthcheck);
	put_map(config, "env", info->config.env);
	put_map(config, "labels", info->config.labels);
	return members;
}

static int lookup(struct image_task *task)
{
	AUTO(image_info_done) struct image_info info = {};
	AUTO(free) char *path = seq_path(task);
	AUTO(free) char *text = NULL;
	int r = image_store_lookup(task->agent->images, task->uid, &info, &task->err);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	task->info = status_members(&info);
	/* Without a record of the number it is that of the first pull. */
	task->done_seq = 1;
	if (file_read(AT_FDCWD, path, SEQ_TEXT_MAX, &text, NULL) == 0)
		task->done_seq = strtoull(text, NULL, 10);
	return 0;
}

static int record_seq(struct image_task *task)
{
	AUTO(free) char *path = seq_path(task);
	char text[SEQ_TEXT_MAX];
	int r;

	snprintf(text, sizeof(text), "%llu\n", (unsigned long long) task->pull_seq);
	r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);
	return r < 0 ? error_set(&task->err, r, "write %s", path) : 0;
}

static int pull(struct image_task *task, struct image_info *info)
{
	struct image_pull order = { .uid = task->uid,
				    .reference = task->reference,
				    .default_registry = task->agent->options->registry,
				    .platform = task->platform,
				    .insecure = task->insecure,
				    .username = task->username,
				    .password = task->password,
				    .cancel_fd = task->cancel_fd };

	return image_pull(task->agent->images, &order, on_progress, task, info, &task->err);
}

static int import(struct image_task *task, struct image_info *info)
{
	struct image_import order = { .uid = task->uid,
				      .name = task->reference,
				      .platform = task->platform,
				      .format = task->format,
				      .input_fd = task->input_fd,
				      .cancel_fd = task->cancel_fd };

	return image_import(task->agent->images, &order, on_progress, task, info, &task->err);
}

static void files_read(void *data)
{
	freeze_end(data);
}

static int commit(struct image_task *task, struct image_info *info)
{
	const struct image_commit_spec *spec = &task->commit;
	AUTO(image_info_done) struct image_info base = {};
	AUTO(freeze_end) struct freeze freeze = { .lock_fd = -1 };
	int r = instance_image_read(task->agent, task->upper.uid, &base, &task->err);

	if (r == 0 && spec->pause)
		r = freeze_begin(task->agent, task->upper.uid, &freeze, &task->err);
	if (r < 0)
		return r;
	const struct image_commit order = {
		.uid = task->uid,
		.name = task->reference,
		.base = &base,
		.upper = { .dir = task->upper.dir,
			   .owner_base = rootfs_slot_uid(task->upper.slot),
			   .mount_points = task->upper.mount_points },
		.changes = spec->changes,
		.author = spec->author,
		.message = spec->message,
		.created_by = spec->created_by,
		.now_ms = clock_realtime_ms(clock_system()),
		.cancel_fd = task->cancel_fd,
		.files_read = files_read,
		.data = &freeze,
	};
	return image_commit(task->agent->images, &order, on_progress, task, info, &task->err);
}

static int fetch(struct image_task *task)
{
	AUTO(image_info_done) struct image_info info = {};
	int r = task->kind == IMAGE_TASK_PULL     ? pull(task, &info)
		: task->kind == IMAGE_TASK_COMMIT ? commit(task, &info)
						  : import(task, &info);

	if (r == 0)
		r = record_seq(task);
	if (r < 0)
		return r;
	task->info = status_members(&info);
	task->done_seq = task->pull_seq;
	return 0;
}

static int remove_image(struct image_task *task)
{
	AUTO(free) char *path = seq_path(task);
	int r = image_store_remove(task->agent->images, task->uid, &task->err);

	if (r == 0 && unlink(path) < 0 && errno != ENOENT)
		r = error_set(&task->err, -errno, "remove %s", path);
	return r < 0 ? r : images_collect(task->agent, &task->err);
}

void image_task_run(struct image_task *task)
{
	switch (task->kind) {
	case IMAGE_TASK_LOOKUP:
		task->result = lookup(task);
		break;
	case IMAGE_TASK_PULL:
	case IMAGE_TASK_IMPORT:
	case IMAGE_TASK_COMMIT:
		task->result = fetch(task);
		break;
	case IMAGE_TASK_REMOVE:
		task->result = remove_image(task);
		break;
	}
}

void image_task_free(struct image_task *task)
{
	if (!task)
		return;
	free(task->reference);
	free(task->platform);
	free(task->format);
	free(task->username);
	if (task->password)
		explicit_bzero(task->password, strlen(task->password));
	free(task->password);
	fd_close(task->input_fd);
	fd_close(task->cancel_fd);
	json_decref(task->info);
	instance_upper_done(&task->upper);
	image_commit_spec_done(&task->commit);
	pthread_mutex_destroy(&task->lock);
	free(task);
}

static int add_layers_of(int dir_fd, const char *uid, char ***layers, struct error *err)
{
	AUTO(image_info_done) struct image_info info = {};
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *path = mem_printf("%s/image.json", uid);
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(dir_fd, path, IMAGE_RECORD_MAX, &text, &size);

	/* No image yet, or just going away. */
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r == 0)
		r = json_parse(text, size, IMAGE_RECORD_MAX, &document, err);
	if (r == 0)
		r = image_info_read(document, &info, err);
	if (r < 0)
		return error_wrap(err, r, "instances/%s", path);
	AUTO(strv_free) char **own = image_info_layers(&info);
	for (size_t i = 0; own && own[i]; i++)
		strv_append(layers, own[i]);
	return 0;
}

static int live_layers(const struct agent *agent, char ***ret, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/instances", agent->options->state);
	AUTO(strv_free) char **layers = NULL;
	DIR *dir = opendir(path);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return error_set(err, -errno, "open %s", path);
	while (r == 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			r = add_layers_of(dirfd(dir), entry->d_name, &layers, err);
	closedir(dir);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(layers);
	return 0;
}

int images_collect(const struct agent *agent, struct error *err)
{
	AUTO(strv_free) char **layers = NULL;
	/* Whose layers are not known keeps everything: garbage costs less than a lost layer. */
	int r = live_layers(agent, &layers, err);

	return r < 0 ? r : image_store_gc(agent->images, layers, NULL, err);
}
