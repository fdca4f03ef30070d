#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/seccomp_user.h"
#include "control/control_internal.h"
#include "control/name.h"

/* Launch: instance, addresses, ports, use of the image and the operation in one transaction. */

static int choose_name(struct request *request, struct instance *instance, struct error *err)
{
	struct control *control = request->work.control;
	const struct launch_request *launch = request->body;
	char name[NAME_TEXT_SIZE];
	struct item *item;

	if (launch->name && launch->name[0]) {
		item = mirror_find(control, KIND_INSTANCE, request->project, launch->name);
		if (item)
			return error_say(err, -EEXIST, "instance \"%s\" %s", launch->name,
					 item->meta->deleted_ms ? "is still being deleted"
								: "exists already");
		meta_new(control, &instance->meta, request->project, launch->name, launch->labels);
		return 0;
	}
	for (unsigned int attempt = 0;; attempt++) {
		name_make(control->rng, attempt, name);
		if (!mirror_find(control, KIND_INSTANCE, request->project, name))
			break;
	}
	meta_new(control, &instance->meta, request->project, name, launch->labels);
	return 0;
}

static int take_host_ports(struct draft *draft, struct instance *instance, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < instance->spec.publish_count; i++)
		r = host_port_take(draft, &instance->spec.publish[i], instance->meta.uid, err);
	return r;
}

static void copy_user_spec(struct instance *instance, const struct launch_request *launch)
{
	struct instance wrapped = { .spec = launch->spec };
	struct instance *copy = instance_copy(&wrapped);

	instance->spec = copy->spec;
	free(copy);
}

/* What gives the seat belts up needs the project's leave; granting it is root's. */
static int check_privileges(struct request *request, const struct run_options *run,
			    struct error *err)
{
	struct item *item = mirror_find(request->work.control, KIND_PROJECT, "_", request->project);
	const struct project *project = item ? item_project(item) : NULL;
	const char *what = run->privileged                      ? "privileged"
			   : run->seccomp == SECCOMP_UNCONFINED ? "seccomp unconfined"
								: NULL;

	if (!what || (project && project->allow_privileged))
		return 0;
	return error_say(err, -EACCES,
			 "%s: project \"%s\" may not; root can allow it: brume project set %s "
			 "allow_privileged true",
			 what, request->project, request->project);
}

/* Said now, not when it starts: for an instance that has everything, and one that has nothing. */
static int check_seccomp(const struct run_options *run, struct error *err)
{
	static const struct seccomp_user_host hosts[] = { { UINT64_MAX, UINT32_MAX, 0 }, {} };
	AUTO(json_decref) json_t *profile = NULL;
	int r = 0;

	if (run->seccomp_profile)
		profile = json_loads(run->seccomp_profile, 0, NULL);
	for (size_t i = 0; r == 0 && run->seccomp_profile && i < ARRAY_COUNT(hosts); i++) {
		AUTO(json_decref) json_t *resolved = NULL;

		r = seccomp_user_resolve(profile, &hosts[i], &resolved, err);
	}
	return r < 0 ? error_wrap(err, r, "seccomp_profile") : 0;
}

static int prepare_launch(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const struct launch_request *launch = request->body;
	AUTO(instance_free) struct instance *instance = mem_new0(struct instance);
	struct instance_spec *spec = &instance->spec;
	char image_uid[UID_SIZE], key[CLAIM_KEY_SIZE];
	int r;

	instance_status_init(&instance->status);
	copy_user_spec(instance, launch);
	r = require_project(work->control, request->project, err);
	if (r == 0)
		r = check_privileges(request, &spec->run, err);
	if (r == 0)
		r = check_seccomp(&spec->run, err);
	if (r == 0)
		r = choose_name(request, instance, err);
	if (r == 0)
		r = image_for_launch(draft, request->project, launch, &spec->image_name, image_uid,
				     err);
	if (r == 0)
		r = ports_take(draft, instance, err);
	if (r == 0)
		r = take_host_ports(draft, instance, err);
	if (r < 0)
		return r;

	mem_replace(&spec->node, work->control->node);
	spec->target = launch->start ? INSTANCE_TARGET_RUNNING : INSTANCE_TARGET_STOPPED;
	spec->start_seq = launch->start;
	snprintf(key, sizeof(key), "/imageuse/%s/%s", image_uid, instance->meta.uid);
	draft_claim(draft, key, instance->meta.uid);

	struct operation *operation =
		draft_operation(draft, OPERATION_LAUNCH, KIND_INSTANCE, &instance->meta);
	operation->seq = spec->start_seq;
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	draft_create(draft, KIND_INSTANCE, TAKE_PTR(instance));
	return WORK_COMMIT;
}

static struct launch_request *launch_copy(const struct launch_request *launch)
{
	struct launch_request *copy = launch_request_new();
	struct instance wrapped = {};

	copy_user_spec(&wrapped, launch);
	copy->name = mem_strdup(launch->name);
	copy->labels = strv_copy(launch->labels);
	copy->spec = wrapped.spec;
	copy->start = launch->start;
	copy->pull = launch->pull;
	copy->insecure = launch->insecure;
	copy->platform = mem_strdup(launch->platform);
	return copy;
}

static void launch_free(void *launch)
{
	launch_request_free(launch);
}

void control_instance_launch(struct control *control, const char *project,
			     const struct launch_request *launch, control_done_fn done, void *data)
{
	struct request *request = request_new(project, NULL, done, data);

	request->body = launch_copy(launch);
	request->body_free = launch_free;
	request_start(control, request, prepare_launch);
}
