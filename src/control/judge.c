#include <stdio.h>
#include <string.h>

#include "control/control_internal.h"

/*
 * The rules of "when is it done".  An operation is done when the status has reached its generation
 * (and its start_seq or pull_seq) and its target state, failed when the status says why.
 */

bool instance_is_active(const struct instance *instance)
{
	const struct instance_status *status = &instance->status;

	switch (status->state) {
	case INSTANCE_GONE:
		return false;
	case INSTANCE_PENDING:
		return instance->spec.target != INSTANCE_TARGET_STOPPED;
	case INSTANCE_STOPPED:
	case INSTANCE_FAILED:
		/* It has ended, unless a newer start was asked for. */
		return instance->spec.target != INSTANCE_TARGET_STOPPED &&
		       status->start_seq < instance->spec.start_seq &&
		       status->generation < instance->meta.generation;
	default:
		return true;
	}
}

static void say(struct verdict *ret, enum operation_state state, const char *error)
{
	ret->state = state;
	snprintf(ret->error, sizeof(ret->error), "%s", error);
}

static const char *state_text(enum instance_state state)
{
	switch (state) {
	case INSTANCE_PULLING:
		return "pulling the image";
	case INSTANCE_CREATING:
		return "creating the instance";
	case INSTANCE_STOPPING:
		return "stopping the instance";
	default:
		return NULL;
	}
}

/* A launch waits for its image first. */
static bool image_stops_launch(const struct instance *instance, const struct image *image,
			       struct verdict *ret)
{
	const struct instance_status *status = &instance->status;

	if (status->state != INSTANCE_PENDING && status->state != INSTANCE_PULLING)
		return false;
	if (!image || image->meta.deleted_ms) {
		snprintf(ret->error, sizeof(ret->error), "image %s was deleted",
			 instance->spec.image_name);
	} else if (image->status.state == IMAGE_FAILED &&
		   image->status.pull_seq >= image->spec.pull_seq) {
		snprintf(ret->error, sizeof(ret->error), "%s",
			 image->status.error ? image->status.error : "the image failed");
	} else {
		if (image->status.state == IMAGE_PULLING)
			ret->text = "pulling the image";
		return false;
	}
	ret->state = OPERATION_FAILED;
	ret->undo = true;
	return true;
}

static void judge_running(const struct operation *operation, const struct instance *instance,
			  struct verdict *ret)
{
	const struct instance_status *status = &instance->status;
	bool started = status->start_seq >= operation->seq;

	switch (status->state) {
	case INSTANCE_RUNNING:
	case INSTANCE_PAUSED:
		if (started)
			ret->state = OPERATION_DONE;
		break;
	case INSTANCE_FAILED:
		say(ret, OPERATION_FAILED, status->error ? status->error : "the instance failed");
		ret->exit_code = status->exit_code;
		ret->undo = operation->action == OPERATION_LAUNCH;
		break;
	case INSTANCE_STOPPED:
		if (started) {
			ret->state = OPERATION_DONE;
			ret->exit_code = status->exit_code;
		} else if (instance->spec.target == INSTANCE_TARGET_STOPPED &&
			   status->generation >= instance->meta.generation) {
			say(ret, OPERATION_FAILED, "it was stopped before it had started");
		}
		break;
	default:
		break;
	}
}

static void judge_other(const struct operation *operation, const struct instance *instance,
			struct verdict *ret)
{
	enum instance_state state = instance->status.state;
	bool ended = state == INSTANCE_STOPPED || state == INSTANCE_FAILED;

	switch (operation->action) {
	case OPERATION_RENAME:
		/* The node knows the name: its generation says so. */
		ret->state = OPERATION_DONE;
		break;
	case OPERATION_ATTACH:
		if (instance->status.ports_error)
			say(ret, OPERATION_FAILED, instance->status.ports_error);
		else
			ret->state = OPERATION_DONE;
		break;
	case OPERATION_DETACH:
		ret->state = OPERATION_DONE;
		break;
	case OPERATION_UPDATE:
		if (instance->status.update_error)
			say(ret, OPERATION_FAILED, instance->status.update_error);
		else if (instance->status.ports_error && json_object_get(operation->undo, "ports"))
			say(ret, OPERATION_FAILED, instance->status.ports_error);
		else
			ret->state = OPERATION_DONE;
		break;
	case OPERATION_STOP:
		if (ended)
			ret->state = OPERATION_DONE;
		else if (instance->meta.generation > operation->generation &&
			 instance->spec.target != INSTANCE_TARGET_STOPPED)
			say(ret, OPERATION_FAILED, "it was started again before it had stopped");
		break;
	case OPERATION_PAUSE:
		if (state == INSTANCE_PAUSED)
			ret->state = OPERATION_DONE;
		else if (ended)
			say(ret, OPERATION_FAILED, "the instance does not run any more");
		else if (instance->spec.target != INSTANCE_TARGET_PAUSED)
			say(ret, OPERATION_FAILED, "something else was asked for meanwhile");
		break;
	case OPERATION_RESUME:
		if (state == INSTANCE_RUNNING)
			ret->state = OPERATION_DONE;
		else if (ended)
			say(ret, OPERATION_FAILED, "the instance does not run any more");
		else if (instance->spec.target != INSTANCE_TARGET_RUNNING)
			say(ret, OPERATION_FAILED, "something else was asked for meanwhile");
		break;
	default:
		break;
	}
}

void judge_instance(const struct operation *operation, const struct instance *instance,
		    const struct image *image, struct verdict *ret)
{
	*ret = (struct verdict){ .exit_code = -1, .text = state_text(instance->status.state) };
	if (operation->action == OPERATION_DELETE)
		return; /* ends when the key is gone */
	if (operation->action == OPERATION_LAUNCH && image_stops_launch(instance, image, ret))
		return;
	if (instance->status.generation < operation->generation)
		return;
	switch (operation->action) {
	case OPERATION_LAUNCH:
	case OPERATION_START:
	case OPERATION_RESTART:
		judge_running(operation, instance, ret);
		break;
	default:
		judge_other(operation, instance, ret);
	}
}

void judge_image(const struct operation *operation, const struct image *image, struct verdict *ret)
{
	const struct image_status *status = &image->status;

	*ret = (struct verdict){ .exit_code = -1,
				 .text = status->progress_text            ? status->progress_text
					 : status->state == IMAGE_PULLING ? "pulling"
									  : NULL };
	if (operation->action != OPERATION_PULL && operation->action != OPERATION_IMPORT &&
	    operation->action != OPERATION_COMMIT)
		return;
	if (status->generation < operation->generation || status->pull_seq < operation->seq)
		return;
	if (status->state == IMAGE_READY) {
		ret->state = OPERATION_DONE;
	} else if (status->state == IMAGE_FAILED) {
		say(ret, OPERATION_FAILED, status->error ? status->error : "the image failed");
		ret->undo = !status->digest;
	}
}

void judge_group(const struct operation *operation, const struct security_group *group,
		 struct verdict *ret)
{
	const struct security_group_status *status = &group->status;

	*ret = (struct verdict){ .exit_code = -1 };
	if ((operation->action != OPERATION_CREATE && operation->action != OPERATION_UPDATE) ||
	    status->generation < operation->generation)
		return;
	if (status->state == SECURITY_GROUP_READY) {
		ret->state = OPERATION_DONE;
	} else if (status->state == SECURITY_GROUP_FAILED) {
		say(ret, OPERATION_FAILED, status->error ? status->error : "the group failed");
		ret->undo = true;
	}
}

void judge_balancer(const struct operation *operation, const struct balancer *balancer,
		    struct verdict *ret)
{
	const struct balancer_status *status = &balancer->status;

	*ret = (struct verdict){ .exit_code = -1 };
	if ((operation->action != OPERATION_CREATE && operation->action != OPERATION_UPDATE) ||
	    status->generation < operation->generation)
		return;
	if (status->state == BALANCER_READY || status->state == BALANCER_DOWN) {
		ret->state = OPERATION_DONE;
	} else if (status->state == BALANCER_FAILED) {
		say(ret, OPERATION_FAILED, status->error ? status->error : "the balancer failed");
		ret->undo = true;
	}
}

void judge_network(const struct operation *operation, const struct network *network,
		   struct verdict *ret)
{
	const struct network_status *status = &network->status;

	*ret = (struct verdict){ .exit_code = -1 };
	if ((operation->action != OPERATION_CREATE && operation->action != OPERATION_UPDATE) ||
	    status->generation < operation->generation)
		return;
	if (status->state == NETWORK_READY) {
		ret->state = OPERATION_DONE;
	} else if (status->state == NETWORK_FAILED) {
		say(ret, OPERATION_FAILED, status->error ? status->error : "the network failed");
		ret->undo = true;
	}
}

void judge_router(const struct operation *operation, const struct router *router,
		  struct verdict *ret)
{
	const struct router_status *status = &router->status;

	*ret = (struct verdict){ .exit_code = -1 };
	if ((operation->action != OPERATION_CREATE && operation->action != OPERATION_UPDATE) ||
	    status->generation < operation->generation)
		return;
	if (status->state == ROUTER_READY) {
		ret->state = OPERATION_DONE;
	} else if (status->state == ROUTER_FAILED) {
		say(ret, OPERATION_FAILED, status->error ? status->error : "the router failed");
		ret->undo = true;
	}
}
