#include "agent/instance_task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/bundle.h"
#include "agent/grant.h"
#include "agent/instance_vm.h"
#include "agent/limits.h"
#include "agent/native.h"
#include "agent/oci.h"
#include "agent/settings.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/rootfs.h"
#include "image/store.h"
#include "kern/cgroup.h"
#include "machine/machine.h"

enum { IMAGE_RECORD_MAX = 4 << 20, MARKER_MAX = 64 };

static int make_folder(const char *path, struct error *err)
{
	int r = file_mkdir_all(path, 0711);

	return r < 0 ? error_set(err, r, "make %s", path) : 0;
}

int instance_image_read(const struct agent *agent, const char *uid, struct image_info *ret,
			struct error *err)
{
	AUTO(free) char *path = agent_state_path(agent, uid, "image.json");
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, IMAGE_RECORD_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "%s", path);
	r = json_parse(text, size, IMAGE_RECORD_MAX, &document, err);
	if (r == 0)
		r = image_info_read(document, ret, err);
	return r < 0 ? error_wrap(err, r, "%s", path) : 0;
}

/*
 * The image as the first run of this instance saw it: later pulls under the same name must not
 * change what its upper layer lies on.
 */
static int load_image(struct instance_task *task, struct image_info *ret)
{
	AUTO(free) char *path = agent_state_path(task->agent, task->uid, "image.json");
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *text = NULL;
	int r;

	if (access(path, F_OK) == 0)
		return instance_image_read(task->agent, task->uid, ret, &task->err);
	r = image_store_lookup(task->agent->images, task->image_uid, ret, &task->err);
	if (r < 0)
		return error_wrap(&task->err, r, "image %s", task->instance->spec.image);
	document = image_info_json(ret);
	text = json_text(document);
	r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);
	return r < 0 ? error_set(&task->err, r, "write %s", path) : 0;
}

static int open_rootfs(struct instance_task *task, const struct image_info *image)
{
	AUTO(free) char *upper = agent_state_path(task->agent, task->uid, "upper");
	AUTO(free) char *work = agent_state_path(task->agent, task->uid, "work");
	AUTO(strv_free) char **layers = image_info_layers(image);

	return rootfs_open(task->agent->images, layers, upper, work, task->record.slot,
			   &task->rootfs_fd, &task->err);
}

/* What the launch wants of the node, as far as the policy gives it. */
static int open_grants(struct instance_task *task)
{
	const struct agent_options *options = task->agent->options;
	const struct run_options *run = &task->instance->spec.run;
	AUTO(free) char *policy = agent_policy_path(task->agent);
	AUTO(free) char *devices = agent_state_path(task->agent, task->uid, "devices");
	struct grants_args args = { .policy_path = policy,
				    .project = task->instance->meta.project,
				    .run = run,
				    .devices_dir = devices,
				    .root_uid = rootfs_slot_uid(task->record.slot),
				    .state = options->state,
				    .run_dir = options->run };

	if (run_options_grants(run) == 0 && !run->cap_add && !run->privileged &&
	    !run->seccomp_profile)
		return 0;
	return grants_open(&args, &task->grants, &task->err);
}

static int write_settings(struct instance_task *task, const struct image_info *image)
{
	AUTO(free) char *path = agent_run_path(task->agent, task->uid, "settings.json");

	return settings_write(path, &task->instance->spec, &image->config, &task->err);
}

static int write_bundle(struct instance_task *task, const struct image_info *image)
{
	AUTO(free) char *dir = agent_run_path(task->agent, task->uid, NULL);
	AUTO(free) char *root = agent_run_path(task->agent, task->uid, "rootfs");
	struct instance_names names;
	struct bundle bundle = { .dir = dir,
				 .uid = task->uid,
				 .name = task->instance->meta.name,
				 .prefix = task->agent->options->prefix,
				 .spec = &task->instance->spec,
				 .image = &image->config,
				 .root_fd = task->rootfs_fd,
				 .slot = task->record.slot,
				 .nameserver4 = names.server4,
				 .nameserver6 = names.server6,
				 .zone = names.zone,
				 .dns_domain = names.domain,
				 .init = task->agent->options->tini,
				 .grants = task->grants };
	int r = make_folder(root, &task->err);

	struct instance_limits limits = instance_limits_of(&task->instance->spec);

	instance_networks_names(&task->instance->spec, &task->networks, &names);
	if (r == 0)
		r = write_settings(task, image);
	if (r == 0)
		r = limits_write(task->agent, task->uid, &limits, &task->err);
	return r < 0 ? r : bundle_write(&bundle, &task->owner, &task->err);
}

static int prepare(struct instance_task *task)
{
	AUTO(image_info_done) struct image_info image = {};
	AUTO(free) char *dir = agent_state_path(task->agent, task->uid, NULL);
	AUTO(free) char *path = agent_state_path(task->agent, task->uid, "node.json");
	int r = make_folder(dir, &task->err);

	/* The slot is on record before anything belongs to its ids. */
	if (r == 0)
		r = record_store(path, &task->record, &task->err);
	if (r == 0)
		r = load_image(task, &image);
	if (r < 0)
		return r;
	digest_format(&image.manifest, task->record.image_digest);
	r = instance_image_check(&task->instance->spec, image.disk != DISK_NONE, &task->err);
	if (r < 0)
		return r;
	if (task->instance->spec.type == INSTANCE_VM)
		return instance_vm_prepare(task, &image);
	r = native_check(image.architecture, machine_host_architecture(), NATIVE_BINFMT,
			 &task->err);
	if (r == 0)
		r = open_rootfs(task, &image);
	if (r == 0)
		r = open_grants(task);
	if (r == 0)
		r = write_bundle(task, &image);
	return r;
}

/* What the ports are inside is told inside, too, to what runs already. */
static int attach(struct instance_task *task)
{
	AUTO(free) char *dir = agent_run_path(task->agent, task->uid, NULL);
	const struct instance_spec *spec = &task->instance->spec;
	struct instance_names names;
	struct bundle bundle = { .dir = dir,
				 .name = task->instance->meta.name,
				 .spec = spec,
				 .nameserver4 = names.server4,
				 .nameserver6 = names.server6,
				 .zone = names.zone,
				 .dns_domain = names.domain };
	int r = instance_ports_attach(task);

	if (!task->runs || task->stuck || spec->type == INSTANCE_VM)
		return r;
	instance_networks_names(spec, &task->networks, &names);
	return r < 0 ? r : bundle_refresh_names(&bundle, &task->err);
}

/* Does a command; an error is none when the container is then in the state that was wanted. */
static int do_until(struct instance_task *task, const char *command, enum oci_status wanted)
{
	struct error state_err = {};
	enum oci_status status;
	int r = oci_do(task->agent->options, command, task->uid, &task->err);

	if (r < 0 && oci_state(task->agent->options, task->uid, &status, &state_err) == 0 &&
	    status == wanted)
		return 0;
	return r;
}

static int write_marker(struct instance_task *task, const char *name, int64_t value)
{
	AUTO(free) char *path = agent_run_path(task->agent, task->uid, name);
	char text[32];
	int r;

	snprintf(text, sizeof(text), "%lld\n", (long long) value);
	r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);
	return r < 0 ? error_set(&task->err, r, "write %s", path) : 0;
}

static int start(struct instance_task *task)
{
	int r = do_until(task, "start", OCI_STATUS_RUNNING);

	if (r < 0)
		return r;
	task->started_ms = clock_realtime_ms(clock_system());
	return write_marker(task, "started", task->started_ms);
}

static int pause_it(struct instance_task *task)
{
	int r = do_until(task, "pause", OCI_STATUS_PAUSED);

	return r < 0 ? r : write_marker(task, "paused", 1);
}

static int resume_it(struct instance_task *task)
{
	AUTO(free) char *path = agent_run_path(task->agent, task->uid, "paused");
	int r = do_until(task, "resume", OCI_STATUS_RUNNING);

	if (r == 0 && unlink(path) < 0 && errno != ENOENT)
		r = error_set(&task->err, -errno, "remove %s", path);
	return r;
}

static int limit(struct instance_task *task)
{
	struct instance_limits limits;

	if (!task->instance)
		return 0;
	if (task->instance->spec.type == INSTANCE_VM)
		return instance_vm_limit(task);
	limits = instance_limits_of(&task->instance->spec);
	return limits_apply(task->agent, task->uid, &limits, &task->err);
}

int instance_read_started(const struct agent *agent, const char *uid, int64_t *ret_started_ms,
			  bool *ret_paused)
{
	AUTO(free) char *started = agent_run_path(agent, uid, "started");
	AUTO(free) char *paused = agent_run_path(agent, uid, "paused");
	AUTO(free) char *text = NULL;
	int r = file_read(AT_FDCWD, started, MARKER_MAX, &text, NULL);

	if (r < 0)
		return r;
	*ret_started_ms = strtoll(text, NULL, 10);
	*ret_paused = access(paused, F_OK) == 0;
	return 0;
}

/* How often the kernel killed in this cgroup because of its memory limit. */
static bool memory_ran_out(const struct instance_task *task)
{
	AUTO(free) char *path = mem_printf("/%s/%s", task->agent->options->prefix, task->uid);
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	AUTO(free) char *text = NULL;

	if (cgroup_open(task->agent->cgroups, path, false, &cgroup) < 0)
		return false;
	bool v2 = cgroup_is_v2(cgroup, "memory");
	if (cgroup_read(cgroup, "memory", v2 ? "memory.events" : "memory.oom_control", &text) < 0)
		return false;
	const char *count = strstr(text, "oom_kill ");
	return count && strtoull(count + strlen("oom_kill "), NULL, 10) > 0;
}

/*
 * The container and its control groups.  What has ended leaves two folders, and to remove them no
 * program is needed; when anything is in the way, brume-oci knows what to do about it.
 */
static int remove_container(struct instance_task *task)
{
	const struct agent_options *options = task->agent->options;
	AUTO(free) char *cgroup = mem_printf("/%s/%s", options->prefix, task->uid);
	int r = -EBUSY;

	if (task->reaped)
		r = cgroup_remove(task->agent->cgroups, cgroup);
	if ((r == 0 || r == -ENOENT) && oci_forget(options, task->uid, NULL) == 0)
		return 0;
	int result = oci_delete(options, task->uid, &task->err);
	r = cgroup_remove(task->agent->cgroups, cgroup);
	if (result == 0 && r < 0 && r != -ENOENT)
		result = error_set(&task->err, r, "remove cgroup %s", cgroup);
	return result;
}

static int clean(struct instance_task *task)
{
	AUTO(free) char *record = agent_state_path(task->agent, task->uid, "node.json");
	AUTO(free) char *dir = agent_run_path(task->agent, task->uid, NULL);
	int r;

	if (task->killed && task->instance && !task->record.error && memory_ran_out(task))
		task->record.error = mem_printf(
			"killed because it used more than its memory limit of %llu bytes",
			(unsigned long long) task->instance->spec.memory_bytes);
	if (task->crashed && !task->record.error)
		task->record.error = instance_vm_epitaph(task);
	/* First what must not be forgotten, then what could be found again. */
	if (task->instance) {
		r = record_store(record, &task->record, &task->err);
		/* Removed already, but a keeper that died had not heard that its job is forgotten.
		 */
		if (r < 0 && r != -ENOENT)
			return r;
	}
	int result = remove_container(task);
	/* Of one that nobody knows any more the next collection finds the parts. */
	if (result == 0 && task->instance)
		result = instance_ports_detach(task);
	if (result < 0)
		return result;
	r = file_remove_tree(AT_FDCWD, dir);
	return r < 0 ? error_set(&task->err, r, "remove %s", dir) : 0;
}

static int remove_all(struct instance_task *task)
{
	AUTO(free) char *run = agent_run_path(task->agent, task->uid, NULL);
	AUTO(free) char *state = agent_state_path(task->agent, task->uid, NULL);
	int r = file_remove_tree(AT_FDCWD, run);

	if (r == 0)
		r = file_remove_tree(AT_FDCWD, state);
	return r < 0 ? error_set(&task->err, r, "remove %s", state) : 0;
}

void instance_task_run(struct instance_task *task)
{
	switch (task->step) {
	case PLAN_PREPARE:
		task->result = prepare(task);
		break;
	case PLAN_ATTACH:
		task->result = attach(task);
		break;
	case PLAN_START:
		task->result = start(task);
		break;
	case PLAN_PAUSE:
		task->result = pause_it(task);
		break;
	case PLAN_RESUME:
		task->result = resume_it(task);
		break;
	case PLAN_LIMIT:
		task->result = limit(task);
		break;
	case PLAN_CLEAN:
		task->result = clean(task);
		break;
	case PLAN_REMOVE:
		task->result = remove_all(task);
		break;
	default:
		task->result = error_say(&task->err, -EINVAL, "%s is not a step for a worker",
					 plan_step_name(task->step));
	}
}

void instance_task_free(struct instance_task *task)
{
	if (!task)
		return;
	fd_close(task->rootfs_fd);
	grants_free(task->grants);
	instance_vm_fds_free(task->vm_fds);
	record_done(&task->record);
	json_decref(task->network);
	free(task);
}
