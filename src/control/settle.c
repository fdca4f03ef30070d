#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"
#include "control/control_internal.h"
#include "control/resource.h"
#include "model/instance_patch.h"

/*
 * What follows from the present state of one resource.  Runs after every change, after every status
 * from a node and once for everything at start; writes nothing when nothing follows.  That is why a
 * control that was killed at any point loses nothing: the next one settles everything again.
 */

struct settle {
	struct work work;
	char *key;
	json_t *status; /* the one that this draft applies, borrowed from the item while it is there
			 */
};

static struct item *settle_item(struct settle *settle)
{
	return mirror_find_key(settle->work.control, settle->key);
}

/* Is this uid on its way out, and not removed by this very draft? */
static bool still_going(struct draft *draft, const char *uid)
{
	struct item *item = mirror_find_uid(draft->control, uid);
	struct draft_item *d = item ? draft_find(draft, item) : NULL;

	if (!item || (d && d->remove))
		return false;
	if (item->meta->deleted_ms)
		return true;
	return d && resource_meta(d->kind, d->resource)->deleted_ms != 0;
}

static bool all_gone(struct draft *draft, const struct operation *operation)
{
	bool going = still_going(draft, operation->target_uid);

	for (size_t i = 0; operation->members && operation->members[i] && !going; i++)
		going = still_going(draft, operation->members[i]);
	return !going;
}

void operation_end(struct draft *draft, struct operation *operation, enum operation_state state,
		   const char *error)
{
	operation->state = state;
	operation->ending = OPERATION_RUNNING;
	operation->finished_ms = clock_realtime_ms(draft->control->clock);
	if (error && error[0])
		mem_replace(&operation->error, error);
	mem_replace(&operation->text, NULL);
	json_decref(operation->undo);
	operation->undo = NULL;
	if (state == OPERATION_DONE && operation->total_bytes)
		operation->done_bytes = operation->total_bytes;
}

static void take_image_away(struct draft *draft, struct operation *operation, struct item *item)
{
	struct image *image = draft_edit(draft, item);

	draft_mark_deleted(draft, &image->meta);
	if (operation)
		strv_append(&operation->members, image->meta.uid);
}

/* An image that never became ready, that failed or was made by a launch, and that nobody wants. */
static bool image_is_litter(struct control *control, const struct item *item,
			    const struct image *image, const char *except)
{
	if (image->status.state == IMAGE_READY || image->status.digest || image->meta.deleted_ms)
		return false;
	if (!image->spec.implicit && image->status.state != IMAGE_FAILED)
		return false;
	return !mirror_image_user(control, item, except, false);
}

/* What was in force before was good once: it cannot be refused now. */
static void take_back(struct draft *draft, struct item *item, const json_t *undo)
{
	void *resource = draft_edit(draft, item);

	switch (item->kind) {
	case KIND_NETWORK:
		(void) network_patch(resource, undo, NULL);
		resource_meta(item->kind, resource)->generation++;
		break;
	case KIND_BALANCER:
		/* The ports that it had then are its own still. */
		(void) balancer_patch(resource, undo, NULL);
		resource_meta(item->kind, resource)->generation++;
		break;
	case KIND_GROUP:
		group_restore(draft, resource, undo);
		break;
	case KIND_ROUTER:
		router_take_back(draft, resource, undo);
		break;
	default:
		break;
	}
}

void settle_undo(struct draft *draft, struct operation *operation, enum operation_state ending,
		 const char *error)
{
	struct control *control = draft->control;
	struct item *item = mirror_find_uid(control, operation->target_uid);

	operation->ending = ending;
	mem_replace(&operation->error, error);
	mem_replace(&operation->text, "undoing");
	if (!item) {
		operation_end(draft, operation, ending, error);
		return;
	}
	if (item->kind == KIND_INSTANCE) {
		struct instance *instance = draft_edit(draft, item);
		struct item *image = mirror_find(control, KIND_IMAGE, item->meta->project,
						 instance->spec.image_name);

		instance->spec.stop_override_s = 0;
		draft_mark_deleted(draft, &instance->meta);
		if (image && image_is_litter(control, image, item_image(image), instance->meta.uid))
			take_image_away(draft, operation, image);
	} else if (item->kind == KIND_IMAGE) {
		/* A launch that also waits for it keeps it; otherwise it goes. */
		if (mirror_image_user(control, item, NULL, false))
			operation_end(draft, operation, ending, error);
		else
			take_image_away(draft, NULL, item);
	} else if (item->kind == KIND_NETWORK || item->kind == KIND_BALANCER ||
		   item->kind == KIND_GROUP || item->kind == KIND_ROUTER) {
		if (!operation->undo) {
			draft_mark_deleted(draft,
					   resource_meta(item->kind, draft_edit(draft, item)));
			return;
		}
		take_back(draft, item, operation->undo);
		operation_end(draft, operation, ending, error);
	}
}

static void set_exit_code(struct operation *operation, int64_t exit_code)
{
	if (exit_code < 0)
		return;
	json_decref(operation->result);
	operation->result = json_pack("{s:I}", "exit_code", (json_int_t) exit_code);
}

static void apply_verdict(struct draft *draft, struct operation *operation,
			  const struct verdict *verdict)
{
	if (verdict->state == OPERATION_RUNNING)
		return;
	set_exit_code(operation, verdict->exit_code);
	if (verdict->undo) {
		settle_undo(draft, operation, verdict->state, verdict->error);
		return;
	}
	operation_end(draft, operation, verdict->state, verdict->error);
}

/* Operations that wait for a resource of which nothing is left. */
static void end_with_target(struct draft *draft, struct item *running)
{
	struct operation *operation;

	if (!all_gone(draft, item_operation(running)))
		return;
	operation = draft_edit(draft, running);
	if (operation->ending != OPERATION_RUNNING)
		operation_end(draft, operation, operation->ending, NULL);
	else if (operation->action == OPERATION_DELETE || operation->action == OPERATION_PRUNE)
		operation_end(draft, operation, OPERATION_DONE, NULL);
	else
		operation_end(draft, operation, OPERATION_FAILED, "it was deleted meanwhile");
}

static bool waits_for(const struct operation *operation, const char *uid)
{
	if (strcmp(operation->target_uid, uid) == 0)
		return true;
	for (size_t i = 0; operation->members && operation->members[i]; i++)
		if (strcmp(operation->members[i], uid) == 0)
			return true;
	return false;
}

/* Who asks for it now cannot ask the instance any more. */
static void tell_how_it_ended(struct draft *draft, struct item *running,
			      const struct instance *instance)
{
	const struct operation *now = item_operation(running);

	if (now->action == OPERATION_DELETE && strcmp(now->target_uid, instance->meta.uid) == 0 &&
	    instance->status.exit_code >= 0)
		set_exit_code(draft_edit(draft, running), instance->status.exit_code);
}

/* The resource is gone: its key goes, and what it had reserved, and operations end. */
static void settle_gone(struct draft *draft, struct item *item)
{
	const struct instance *instance =
		item->kind == KIND_INSTANCE ? draft_edit(draft, item) : NULL;
	struct item *running;

	draft_remove(draft, item);
	DL_FOREACH2(draft->control->running, running, running_next)
	{
		if (!waits_for(item_operation(running), item->meta->uid))
			continue;
		if (instance)
			tell_how_it_ended(draft, running, instance);
		end_with_target(draft, running);
	}
}

static void release_claims(struct draft *draft, const struct item *item)
{
	struct claim *claim, *next;

	HASH_ITER(by_key, draft->control->claims, claim, next)
	{
		if (strcmp(claim->uid, item->meta->uid) == 0)
			store_ops_delete(&draft->txn.then, claim->key);
	}
}

/* ---- instances */

static bool exited_for_good(const struct instance *instance)
{
	const struct instance_status *status = &instance->status;

	return (status->state == INSTANCE_STOPPED || status->state == INSTANCE_FAILED) &&
	       status->start_seq > 0 && status->start_seq >= instance->spec.start_seq &&
	       status->generation >= instance->meta.generation;
}

/* Nobody has asked for this deletion, but its operation keeps how the instance has ended. */
static void remove_what_has_exited(struct draft *draft, struct instance *instance)
{
	struct operation *operation;

	if (!instance->spec.remove_on_exit || instance->meta.deleted_ms ||
	    !exited_for_good(instance))
		return;
	draft_mark_deleted(draft, &instance->meta);
	operation = draft_operation(draft, OPERATION_DELETE, KIND_INSTANCE, &instance->meta);
	set_exit_code(operation, instance->status.exit_code);
}

static void show_progress(struct operation *operation, const struct verdict *verdict,
			  const struct image *image)
{
	mem_replace(&operation->text, verdict->text);
	if (!image)
		return;
	operation->done_bytes = image->status.done_bytes;
	operation->total_bytes = image->status.total_bytes;
}

/*
 * Updates that the node has refused, and ports that it could not make, are taken back, the newest
 * first: the spec is again what is in force.  Those that end well meanwhile keep what they have
 * changed.
 */
static int take_back_updates(struct draft *draft, struct instance *instance, struct error *err)
{
	struct item *first = draft->control->running, *running = first;
	AUTO(json_decref) json_t *before = instance_spec_encode(&instance->spec);
	AUTO(json_decref) json_t *after = NULL;
	int r = 0;

	do {
		struct verdict verdict;

		running = running ? running->running_prev : NULL;
		if (!running)
			break;
		const struct operation *operation = item_operation(running);
		if (!operation->undo || strcmp(operation->target_uid, instance->meta.uid) != 0)
			continue;
		judge_instance(operation, instance, NULL, &verdict);
		if (verdict.state != OPERATION_FAILED)
			continue;
		if (operation->action == OPERATION_ATTACH)
			ports_take_back(instance, operation->undo);
		else
			r = groups_take_back(draft, instance, operation->undo, err);
	} while (r == 0 && running != first);
	if (r < 0)
		return r;
	after = instance_spec_encode(&instance->spec);
	if (!json_equal(before, after))
		instance->meta.generation++;
	return 0;
}

static int settle_instance(struct draft *draft, struct item *item, struct instance *instance,
			   bool news, struct error *err)
{
	struct control *control = draft->control;
	struct item *running, *image_item;
	struct image *image;

	if (news)
		mem_replace(&instance->status.node, control->node);
	bool refused = instance->status.update_error || instance->status.ports_error;
	bool carried_out = instance->status.generation >= instance->meta.generation;
	image_item =
		mirror_find(control, KIND_IMAGE, item->meta->project, instance->spec.image_name);
	image = image_item ? item_image(image_item) : NULL;
	DL_FOREACH2(control->running, running, running_next)
	{
		const struct operation *now = item_operation(running);
		struct operation *operation;
		struct verdict verdict;

		if (strcmp(now->target_uid, item->meta->uid) != 0 ||
		    now->ending != OPERATION_RUNNING)
			continue;
		judge_instance(now, instance, image, &verdict);
		if (verdict.state == OPERATION_RUNNING && !news)
			continue;
		operation = draft_edit(draft, running);
		if (verdict.state == OPERATION_RUNNING)
			show_progress(operation, &verdict, NULL);
		apply_verdict(draft, operation, &verdict);
	}
	remove_what_has_exited(draft, instance);
	if (carried_out && ports_settle(draft, instance))
		instance->meta.generation++;
	if (groups_settle(draft, instance))
		instance->meta.generation++;
	return refused ? take_back_updates(draft, instance, err) : 0;
}

/* ---- images */

/* Launches that wait for this image show how far it is. */
static void show_launch_progress(struct draft *draft, const struct item *item,
				 const struct image *image)
{
	struct control *control = draft->control;
	struct item *running;

	DL_FOREACH2(control->running, running, running_next)
	{
		const struct operation *now = item_operation(running);
		struct item *target = mirror_find_uid(control, now->target_uid);
		struct verdict verdict = { .text = "pulling the image" };

		if (now->action != OPERATION_LAUNCH || now->ending != OPERATION_RUNNING ||
		    !target ||
		    strcmp(item_instance(target)->spec.image_name, item->meta->name) != 0 ||
		    strcmp(target->meta->project, item->meta->project) != 0)
			continue;
		show_progress(draft_edit(draft, running), &verdict, image);
	}
}

static bool pull_is_running(struct control *control, const char *uid)
{
	struct item *running;

	DL_FOREACH2(control->running, running, running_next)
	{
		const struct operation *operation = item_operation(running);

		if ((operation->action == OPERATION_PULL || operation->action == OPERATION_IMPORT ||
		     operation->action == OPERATION_COMMIT) &&
		    operation->ending == OPERATION_RUNNING &&
		    strcmp(operation->target_uid, uid) == 0)
			return true;
	}
	return false;
}

/* The password is needed until the pull has ended. */
static void drop_secrets(struct image *image)
{
	bool ended = image->status.state == IMAGE_READY || image->status.state == IMAGE_FAILED;

	if (!ended || image->status.pull_seq < image->spec.pull_seq)
		return;
	mem_replace(&image->spec.username, NULL);
	mem_replace(&image->spec.password, NULL);
}

static void settle_image_operations(struct draft *draft, struct item *item, struct image *image,
				    bool news)
{
	struct item *running;

	DL_FOREACH2(draft->control->running, running, running_next)
	{
		const struct operation *now = item_operation(running);
		struct operation *operation;
		struct verdict verdict;

		if (strcmp(now->target_uid, item->meta->uid) != 0 ||
		    now->ending != OPERATION_RUNNING)
			continue;
		judge_image(now, image, &verdict);
		if (verdict.state == OPERATION_RUNNING && !news)
			continue;
		operation = draft_edit(draft, running);
		if (verdict.state == OPERATION_DONE && image->status.digest) {
			operation->result = json_object();
			json_put_string(operation->result, "digest", image->status.digest);
		}
		show_progress(operation, &verdict, image);
		apply_verdict(draft, operation, &verdict);
	}
}

static void settle_image(struct draft *draft, struct item *item, struct image *image, bool news)
{
	drop_secrets(image);
	settle_image_operations(draft, item, image, news);
	if (news && image->status.state == IMAGE_PULLING)
		show_launch_progress(draft, item, image);
	if (image_is_litter(draft->control, item, image, NULL) &&
	    !pull_is_running(draft->control, item->meta->uid))
		draft_mark_deleted(draft, &image->meta);
}

/* ---- what else a node carries out */

static void judge(enum kind kind, const struct operation *operation, const void *resource,
		  struct verdict *ret)
{
	switch (kind) {
	case KIND_BALANCER:
		judge_balancer(operation, resource, ret);
		break;
	case KIND_GROUP:
		judge_group(operation, resource, ret);
		break;
	case KIND_ROUTER:
		judge_router(operation, resource, ret);
		break;
	default:
		judge_network(operation, resource, ret);
		break;
	}
}

static void settle_operations(struct draft *draft, const struct item *item, const void *resource)
{
	struct item *running;

	DL_FOREACH2(draft->control->running, running, running_next)
	{
		const struct operation *now = item_operation(running);
		struct verdict verdict;

		if (strcmp(now->target_uid, item->meta->uid) != 0 ||
		    now->ending != OPERATION_RUNNING)
			continue;
		judge(item->kind, now, resource, &verdict);
		if (verdict.state != OPERATION_RUNNING)
			apply_verdict(draft, draft_edit(draft, running), &verdict);
	}
}

static void settle_balancer(struct draft *draft, struct item *item, struct balancer *balancer)
{
	bool carried_out = balancer->status.generation >= balancer->meta.generation;

	settle_operations(draft, item, balancer);
	balancer_settle(draft, item, balancer, carried_out);
}

static void settle_router(struct draft *draft, const struct item *item, struct router *router)
{
	settle_operations(draft, item, router);
	if (!router->meta.deleted_ms && router_settle(draft, router))
		router->meta.generation++;
}

/* ---- operations: those whose target has gone in somebody else's transaction */

static int settle_operation(struct draft *draft, struct item *item)
{
	const struct operation *operation = item_operation(item);
	bool ends_with_target = operation->ending != OPERATION_RUNNING ||
				!mirror_find_uid(draft->control, operation->target_uid);

	if (operation->state != OPERATION_RUNNING || !ends_with_target)
		return WORK_NOTHING;
	end_with_target(draft, item);
	return WORK_COMMIT;
}

/* What a node carries out: the status it told is taken over, and what is gone goes. */
static int settle_resource(struct draft *draft, struct item *item, const json_t *status,
			   struct error *err)
{
	void *resource = draft_edit(draft, item);
	bool news = status != NULL;
	int r = news ? resource_set_status(item->kind, resource, status, err) : 0;

	if (r < 0)
		return r;
	if (resource_is_gone(item->kind, resource)) {
		release_claims(draft, item);
		settle_gone(draft, item);
		return WORK_COMMIT;
	}
	if (item->kind == KIND_INSTANCE)
		r = settle_instance(draft, item, resource, news, err);
	else if (item->kind == KIND_IMAGE)
		settle_image(draft, item, resource, news);
	else if (item->kind == KIND_BALANCER)
		settle_balancer(draft, item, resource);
	else if (item->kind == KIND_ROUTER)
		settle_router(draft, item, resource);
	else
		settle_operations(draft, item, resource);
	return r < 0 ? r : WORK_COMMIT;
}

static int settle_prepare(struct work *work, struct draft *draft, struct error *err)
{
	struct settle *settle = (struct settle *) work;
	struct item *item = settle_item(settle);

	if (!item)
		return WORK_NOTHING;
	json_decref(settle->status);
	settle->status = NULL;
	if (item->status && item->flush_us <= clock_monotonic_us(work->control->clock))
		settle->status = json_incref(item->status);
	switch (item->kind) {
	case KIND_INSTANCE:
	case KIND_IMAGE:
	case KIND_NETWORK:
	case KIND_BALANCER:
	case KIND_GROUP:
	case KIND_ROUTER:
		return settle_resource(draft, item, settle->status, err);
	case KIND_OPERATION:
		return settle_operation(draft, item);
	default:
		return WORK_NOTHING;
	}
}

static void settle_finish(struct work *work, int result, const struct error *err)
{
	struct settle *settle = (struct settle *) work;
	struct control *control = work->control;
	struct item *item = settle_item(settle);

	if (result == -ECANCELED)
		return;
	if (result < 0) {
		log_error("%s: %s; trying again", settle->key, err->msg);
		control->recheck_us = clock_monotonic_us(control->clock) + 1000 * 1000;
	}
	if (item) {
		item->settling = false;
		if (result == 0 && settle->status && item->status == settle->status)
			status_drop(control, item);
		if (item->dirty_again) {
			item->dirty_again = false;
			mark_dirty(control, item);
		}
	}
	status_schedule(control);
	settle_dirty(control);
}

static void settle_free(struct work *work)
{
	struct settle *settle = (struct settle *) work;

	json_decref(settle->status);
	free(settle->key);
	free(settle);
}

/* Whether there is anything to write is tried before a work is begun: most changes need nothing. */
static bool settle_is_needed(struct control *control, struct item *item)
{
	struct settle settle = { .work = { .control = control }, .key = item->key };
	struct draft draft = { .control = control };
	int r = settle_prepare(&settle.work, &draft, NULL);
	bool needed = r < 0 || (r == WORK_COMMIT && draft_finish(&draft, NULL) != WORK_NOTHING);

	draft_done(&draft);
	json_decref(settle.status);
	return needed;
}

void settle_dirty(struct control *control)
{
	while (control->dirty && !control->failed) {
		struct item *item = control->dirty;
		struct settle *settle;

		control->dirty = item->dirty_next;
		item->dirty = false;
		if (item->settling) {
			item->dirty_again = true;
			continue;
		}
		if (!settle_is_needed(control, item)) {
			/* A status that changes nothing has been dealt with. */
			if (item->status && item->flush_us <= clock_monotonic_us(control->clock))
				status_drop(control, item);
			continue;
		}
		settle = mem_new0(struct settle);
		settle->key = mem_strdup(item->key);
		settle->work.prepare = settle_prepare;
		settle->work.finish = settle_finish;
		settle->work.free = settle_free;
		item->settling = true;
		work_start(control, &settle->work);
	}
}
