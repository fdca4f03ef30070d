#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "control/control_internal.h"
#include "model/instance_patch.h"

static const enum operation_action operation_actions[] = {
	[INSTANCE_START] = OPERATION_START,     [INSTANCE_STOP] = OPERATION_STOP,
	[INSTANCE_RESTART] = OPERATION_RESTART, [INSTANCE_PAUSE] = OPERATION_PAUSE,
	[INSTANCE_RESUME] = OPERATION_RESUME,
};

/* Is the action possible in the present state? */
static int check_action(const struct instance *instance, enum instance_action action,
			struct error *err)
{
	const char *name = instance->meta.name;
	enum instance_state state = instance->status.state;

	if (instance->meta.deleted_ms)
		return error_say(err, -EBUSY, "instance \"%s\" is being deleted", name);
	if (action == INSTANCE_START && instance->spec.target == INSTANCE_TARGET_PAUSED &&
	    state == INSTANCE_PAUSED)
		return error_say(err, -EBUSY, "instance \"%s\" is paused, resume it", name);
	if (action == INSTANCE_PAUSE && state != INSTANCE_RUNNING && state != INSTANCE_PAUSED)
		return error_say(err, -EBUSY,
				 "instance \"%s\" is %s, only a running one can be paused", name,
				 instance_state_name(state));
	if (action == INSTANCE_RESUME && instance->spec.target != INSTANCE_TARGET_PAUSED)
		return error_say(err, -EBUSY, "instance \"%s\" is not paused", name);
	return 0;
}

static bool is_running(const struct instance *instance)
{
	return instance->spec.target != INSTANCE_TARGET_STOPPED && instance_is_active(instance);
}

/* Changes the spec.  What is so already stays as it is: then the operation only waits. */
static void apply_action(struct instance *instance, const struct action_request *action)
{
	struct instance_spec *spec = &instance->spec;
	int64_t override = action->force ? 0 : action->timeout_s;
	enum instance_target target = spec->target;
	uint64_t seq = spec->start_seq;
	bool hurry = false;

	switch (action->action) {
	case INSTANCE_START:
		if (!is_running(instance))
			spec->start_seq++;
		target = INSTANCE_TARGET_RUNNING;
		break;
	case INSTANCE_RESTART:
		spec->start_seq++;
		spec->stop_override_s = override;
		target = INSTANCE_TARGET_RUNNING;
		break;
	case INSTANCE_STOP:
		/* A second, more impatient stop counts, too. */
		hurry = override >= 0 && override != spec->stop_override_s &&
			instance_is_active(instance);
		spec->stop_override_s = override;
		target = INSTANCE_TARGET_STOPPED;
		break;
	case INSTANCE_PAUSE:
		target = INSTANCE_TARGET_PAUSED;
		break;
	case INSTANCE_RESUME:
		target = INSTANCE_TARGET_RUNNING;
		break;
	}
	if (target != spec->target || seq != spec->start_seq || hurry)
		instance->meta.generation++;
	spec->target = target;
}

static int prepare_action(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const struct action_request *action = request->body;
	struct instance *instance;
	struct operation *operation;
	struct verdict verdict;
	struct item *item;
	int r = request_item(request, KIND_INSTANCE, &item, err);

	if (r == 0)
		r = check_action(item_instance(item), action->action, err);
	if (r < 0)
		return r;
	instance = draft_edit(draft, item);
	apply_action(instance, action);
	draft_require(draft, item);
	operation = draft_operation(draft, operation_actions[action->action], KIND_INSTANCE,
				    &instance->meta);
	if (action->action == INSTANCE_START || action->action == INSTANCE_RESTART)
		operation->seq = instance->spec.start_seq;
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);

	judge_instance(operation, instance, NULL, &verdict);
	if (verdict.state != OPERATION_RUNNING)
		operation_end(draft, operation, verdict.state, verdict.error);
	return WORK_COMMIT;
}

void control_instance_action(struct control *control, const char *project, const char *name,
			     const struct action_request *action, uint64_t if_match,
			     control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);
	struct action_request *copy = mem_new0(struct action_request);

	*copy = *action;
	request->body = copy;
	request->body_free = free;
	request->if_match = if_match;
	request_start(control, request, prepare_action);
}

static int prepare_delete(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct instance *instance;
	struct item *item;
	int r = request_item(request, KIND_INSTANCE, &item, err);

	if (r < 0)
		return r;
	instance = draft_edit(draft, item);
	if (!instance->meta.deleted_ms && instance_is_active(instance) && !request->force)
		return error_say(err, -EBUSY,
				 "instance \"%s\" is %s: stop it first, or delete it with force",
				 request->name, instance_state_name(instance->status.state));
	if (request->force)
		instance->spec.stop_override_s = 0;
	return request_delete(request, draft, item);
}

void control_instance_delete(struct control *control, const char *project, const char *name,
			     bool force, uint64_t if_match, control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->force = force;
	request->if_match = if_match;
	request_start(control, request, prepare_delete);
}

static int prepare_rename(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const char *name = request->body;
	struct operation *operation;
	struct instance *instance;
	struct item *item, *other;
	int r = request_item(request, KIND_INSTANCE, &item, err);

	if (r < 0)
		return r;
	if (item->meta->deleted_ms)
		return error_say(err, -EBUSY, "instance \"%s\" is being deleted", request->name);
	other = mirror_find(work->control, KIND_INSTANCE, request->project, name);
	if (other && other != item)
		return error_say(err, -EEXIST, "instance \"%s\" %s", name,
				 other->meta->deleted_ms ? "is still being deleted"
							 : "exists already");
	instance = draft_edit(draft, item);
	if (!other)
		draft_rename(draft, item, name);
	draft_require(draft, item);
	operation = draft_operation(draft, OPERATION_RENAME, KIND_INSTANCE, &instance->meta);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	if (other)
		operation_end(draft, operation, OPERATION_DONE, NULL);
	return WORK_COMMIT;
}

void control_instance_rename(struct control *control, const char *project, const char *name,
			     const char *new_name, uint64_t if_match, control_done_fn done,
			     void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->body = mem_strdup(new_name);
	request->body_free = free;
	request->if_match = if_match;
	request_start(control, request, prepare_rename);
}

/* What is changed must go with the image as what was launched did. */
static int check_image(struct control *control, const struct instance *instance, struct error *err)
{
	const struct item *item =
		mirror_find(control, KIND_IMAGE, instance->meta.project, instance->spec.image_name);
	const struct image *image = item ? item_image(item) : NULL;

	return image && image->status.state == IMAGE_READY
		       ? instance_image_check(&instance->spec, image->status.disk_format, err)
		       : 0;
}

static int prepare_update(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const json_t *patch = request->body;
	AUTO(json_decref) json_t *before = NULL, *after = NULL, *undo = NULL;
	struct instance *instance;
	struct item *item;
	int r = request_item(request, KIND_INSTANCE, &item, err);

	if (r < 0)
		return r;
	if (item->meta->deleted_ms)
		return error_say(err, -EBUSY, "instance \"%s\" is being deleted", request->name);
	instance = draft_edit(draft, item);
	before = instance_spec_encode(&instance->spec);
	undo = instance_patch_undo(instance, patch);
	r = instance_patch(instance, patch, err);
	if (r == 0)
		r = check_image(work->control, instance, err);
	if (r == 0)
		r = ports_check_limits(work->control, &instance->spec, err);
	if (r == 0)
		r = groups_update(draft, instance, item_instance(item)->spec.ports, err);
	if (r < 0)
		return r;
	after = instance_spec_encode(&instance->spec);
	return request_update(request, draft, item, &instance->meta, !json_equal(before, after),
			      undo);
}

void control_instance_update(struct control *control, const char *project, const char *name,
			     const json_t *patch, uint64_t if_match, control_done_fn done,
			     void *data)
{
	request_start(control, request_of_patch(project, name, patch, if_match, done, data),
		      prepare_update);
}
