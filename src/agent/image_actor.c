#include "agent/image_actor.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/actors.h"
#include "agent/agent_internal.h"
#include "agent/image_task.h"
#include "agent/retry.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/image.h"

/* At most four times a second the progress of a pull is told. */
enum { PROGRESS_MS = 250, REMOVE_RETRY_FIRST_MS = 1000, REMOVE_RETRY_MAX_MS = 60000 };

struct image_actor {
	struct actor base;
	struct image *want;  /* NULL: nobody wants it */
	bool looked;         /* what is in the store is known */
	uint64_t done_seq;   /* of the pull that the store has */
	uint64_t failed_seq; /* of the pull that failed last */
	char *error;
	json_t *info; /* of the image in the store, or NULL */
	bool removed;
	struct image_task *task; /* on a worker */
	struct image_task_progress progress;
	struct retry timer;          /* progress, or another try to remove */
	int import_fd;               /* the bytes of an import that has not begun, or -1 */
	struct instance_upper upper; /* for the commit that begins */
	image_import_done_fn import_done;
	void *import_data;
};

static void advance(struct image_actor *actor);

static void on_timer(void *data);

static void init(struct actor *base)
{
	struct image_actor *actor = (struct image_actor *) base;

	actor->import_fd = -1;
	actor->timer = (struct retry){ .fire = on_timer, .data = actor };
}

static void import_ended(struct image_actor *actor, int result, const struct error *err)
{
	image_import_done_fn import_done = actor->import_done;

	actor->import_done = NULL;
	if (import_done)
		import_done(actor->import_data, result, err);
}

static void release(struct actor *base)
{
	struct image_actor *actor = (struct image_actor *) base;
	struct error err = {};

	import_ended(actor, error_say(&err, -ECANCELED, "nobody wants the image any more"), &err);
	fd_close(actor->import_fd);
	retry_stop(&actor->timer);
	image_free(actor->want);
	json_decref(actor->info);
	free(actor->error);
}

static bool wanted(const struct image_actor *actor)
{
	return actor->want && !actor->want->meta.deleted_ms;
}

static bool is_import(const struct image_actor *actor)
{
	return actor->want->spec.source == IMAGE_IMPORT;
}

static bool is_commit(const struct image_actor *actor)
{
	return actor->want->spec.source == IMAGE_COMMIT;
}

/* What was asked for last has been tried and did not work. */
static bool has_failed(const struct image_actor *actor)
{
	return actor->error && actor->failed_seq >= actor->want->spec.pull_seq;
}

static bool is_ready(const struct image_actor *actor)
{
	return actor->info && (is_import(actor) || is_commit(actor) ||
			       actor->done_seq >= actor->want->spec.pull_seq);
}

static enum image_state state_of(const struct image_actor *actor)
{
	if (actor->removed)
		return IMAGE_GONE;
	if (actor->task && actor->task->kind != IMAGE_TASK_LOOKUP)
		return IMAGE_PULLING;
	if (is_ready(actor))
		return IMAGE_READY;
	return has_failed(actor) ? IMAGE_FAILED : IMAGE_PENDING;
}

static json_t *make_status(const struct image_actor *actor)
{
	enum image_state state = state_of(actor);
	json_t *status = actor->info ? json_copy(actor->info) : json_object();
	uint64_t seq = state == IMAGE_FAILED ? actor->failed_seq : actor->done_seq;

	json_object_set_new(status, "state", json_string(image_state_name(state)));
	json_object_set_new(status, "generation",
			    json_integer((json_int_t) actor->base.generation));
	json_object_set_new(status, "pull_seq", json_integer((json_int_t) seq));
	if (state == IMAGE_FAILED)
		json_put_string(status, "error", actor->error);
	if (state != IMAGE_PULLING)
		return status;
	json_t *progress =
		json_pack("{s:I, s:I}", "done_bytes", (json_int_t) actor->progress.done_bytes,
			  "total_bytes", (json_int_t) actor->progress.total_bytes);
	json_put_string(progress, "text", actor->progress.text);
	json_object_set_new(status, "progress", progress);
	return status;
}

static void tell(struct image_actor *actor)
{
	if (!actor->want || !link_connected(actor->base.agent->link))
		return;
	AUTO(json_decref) json_t *status = make_status(actor);
	actors_tell_status(&actor->base, status);
}

static void on_timer(void *data)
{
	struct image_actor *actor = data;

	if (!actor->task) {
		advance(actor);
		return;
	}
	image_task_progress(actor->task, &actor->progress);
	tell(actor);
	retry_in(&actor->timer, actor->base.agent->event, PROGRESS_MS);
}

static void work(void *data)
{
	image_task_run(data);
}

/* Images are made by strangers: what brumed would not accept makes the image unusable here. */
static void check_info(struct image_task *task)
{
	struct image_status status = {};

	if (task->result < 0 || !task->info)
		return;
	task->result = image_status_decode(task->info, &status, &task->err);
	if (task->result < 0)
		error_wrap(&task->err, task->result, "the image's description");
	else
		image_status_done(&status);
}

static void take_failure(struct image_actor *actor, struct image_task *task)
{
	switch (task->kind) {
	case IMAGE_TASK_PULL:
	case IMAGE_TASK_IMPORT:
	case IMAGE_TASK_COMMIT:
		mem_replace(&actor->error, task->err.msg);
		actor->failed_seq = task->pull_seq;
		if (task->result != -ECANCELED || wanted(actor))
			log_warning("image %s: %s", actor->base.uid, task->err.msg);
		break;
	case IMAGE_TASK_LOOKUP:
		/* A record that cannot be read is as good as none: it is pulled again. */
		log_error("image %s: %s, doing without it", actor->base.uid, task->err.msg);
		actor->looked = true;
		break;
	case IMAGE_TASK_REMOVE:
		log_error("image %s: %s, trying again", actor->base.uid, task->err.msg);
		retry_later(&actor->timer, actor->base.agent->event, REMOVE_RETRY_FIRST_MS,
			    REMOVE_RETRY_MAX_MS);
		break;
	}
}

static void take_success(struct image_actor *actor, struct image_task *task)
{
	if (task->kind == IMAGE_TASK_REMOVE) {
		actor->removed = true;
		return;
	}
	actor->looked = true;
	actor->done_seq = task->done_seq;
	if (task->kind != IMAGE_TASK_LOOKUP) {
		mem_replace(&actor->error, NULL);
		log_info("image %s: ready", actor->base.uid);
	}
	json_decref(actor->info);
	actor->info = TAKE_PTR(task->info);
}

static void done(void *data)
{
	struct image_task *task = data;
	struct image_actor *actor = task->actor;

	actor->task = NULL;
	retry_stop(&actor->timer);
	check_info(task);
	if (task->result < 0)
		take_failure(actor, task);
	else
		take_success(actor, task);
	if (task->kind == IMAGE_TASK_IMPORT)
		import_ended(actor, task->result, &task->err);
	image_task_free(task);
	agent_wake_instances(actor->base.agent);
	advance(actor);
}

static struct image_task *submit(struct image_actor *actor, enum image_task_kind kind, int input_fd)
{
	struct agent *agent = actor->base.agent;
	struct image_task *task = image_task_new(agent, kind, actor->base.uid);

	task->actor = actor;
	task->input_fd = input_fd;
	if (actor->want) {
		const struct image_spec *spec = &actor->want->spec;

		task->pull_seq = spec->pull_seq;
		task->insecure = spec->insecure;
		task->reference =
			mem_strdup(spec->reference ? spec->reference : actor->want->meta.name);
		task->platform = mem_strdup(spec->platform);
		task->format = mem_strdup(spec->format);
		task->username = mem_strdup(spec->username);
		task->password = mem_strdup(spec->password);
		if (kind == IMAGE_TASK_COMMIT)
			image_commit_spec_copy(&task->commit, &spec->commit);
	}
	task->upper = actor->upper;
	actor->upper = (struct instance_upper){};
	actor->task = task;
	actor->progress = (struct image_task_progress){};
	if (kind == IMAGE_TASK_PULL || kind == IMAGE_TASK_IMPORT || kind == IMAGE_TASK_COMMIT)
		retry_in(&actor->timer, agent->event, PROGRESS_MS);
	pool_submit(kind == IMAGE_TASK_LOOKUP ? agent->pool : agent->slow_pool, work, done, task);
	return task;
}

/* Begins when the instance is there; that it is not is known when all that is wanted is. */
static void begin_commit(struct image_actor *actor)
{
	const struct image_commit_spec *commit = &actor->want->spec.commit;
	struct error err = {};
	int r = instance_upper_find(actor->base.agent, commit->instance_uid, &actor->upper, &err);

	if (r == -ENOENT && !actor->base.agent->complete)
		return;
	if (r < 0) {
		mem_replace(&actor->error, err.msg);
		actor->failed_seq = actor->want->spec.pull_seq;
		actor->base.generation = actor->want->meta.generation;
		return;
	}
	submit(actor, IMAGE_TASK_COMMIT, -1);
}

static void advance(struct image_actor *actor)
{
	if (actor->task) {
		if (!wanted(actor))
			image_task_cancel(actor->task);
		tell(actor);
		return;
	}
	if (!wanted(actor)) {
		if (!actor->want && !actor->base.agent->complete)
			return;
		if (!actor->removed && !retry_waiting(&actor->timer))
			submit(actor, IMAGE_TASK_REMOVE, -1);
	} else if (!actor->looked) {
		submit(actor, IMAGE_TASK_LOOKUP, -1);
		return;
	} else if (is_import(actor) && actor->import_fd >= 0) {
		submit(actor, IMAGE_TASK_IMPORT, TAKE_FD(actor->import_fd));
	} else if (is_commit(actor) && !is_ready(actor) && !has_failed(actor)) {
		begin_commit(actor);
	} else if (!is_import(actor) && !is_ready(actor) && !has_failed(actor)) {
		submit(actor, IMAGE_TASK_PULL, -1);
	} else if (is_ready(actor) || has_failed(actor)) {
		actor->base.generation = actor->want->meta.generation;
	}
	if (actor->removed && actor->want)
		actor->base.generation = actor->want->meta.generation;
	tell(actor);
	if (actor->removed)
		actors_remove(&actor->base);
}

static void assign(struct agent *agent, const json_t *resource)
{
	struct image *image = NULL;
	struct error err = {};

	if (image_decode(resource, &image, &err) < 0) {
		log_error("brumed assigned an image that is not understood: %s", err.msg);
		return;
	}
	struct image_actor *actor = actors_need(agent, ACTOR_IMAGE, image->meta.uid);
	image_free(actor->want);
	actor->want = image;
	actor->base.session = agent->session;
	advance(actor);
	agent_wake_instances(agent);
}

static void unwant(struct actor *base)
{
	struct image_actor *actor = (struct image_actor *) base;

	image_free(actor->want);
	actor->want = NULL;
	advance(actor);
}

/* A commit may have waited for its instance. */
static void complete(struct actor *base)
{
	struct image_actor *actor = (struct image_actor *) base;

	if (actor->want && is_commit(actor))
		advance(actor);
}

enum plan_need image_need(struct agent *agent, const char *project, const char *name,
			  char ret_uid[UID_SIZE], const char **ret_error)
{
	struct image_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_IMAGE, actor, next)
	{
		if (!wanted(actor) || strcmp(actor->want->meta.name, name) != 0 ||
		    strcmp(actor->want->meta.project, project) != 0)
			continue;
		memcpy(ret_uid, actor->base.uid, UID_SIZE);
		switch (state_of(actor)) {
		case IMAGE_READY:
			return PLAN_NEED_READY;
		case IMAGE_PULLING:
			return PLAN_NEED_WORKING;
		case IMAGE_FAILED:
			*ret_error = actor->error;
			return PLAN_NEED_FAILED;
		default:
			return PLAN_NEED_WAIT;
		}
	}
	return PLAN_NEED_WAIT;
}

int image_actor_import(struct agent *agent, const char *uid, int input_fd,
		       image_import_done_fn import_done, void *data, struct error *err)
{
	struct image_actor *actor = actors_need(agent, ACTOR_IMAGE, uid);
	int r = 0;

	if (actor->want && (!wanted(actor) || !is_import(actor)))
		r = error_say(err, -ENOENT, "image %s does not wait for an import", uid);
	else if (actor->import_done)
		r = error_say(err, -EBUSY, "image %s is being imported already", uid);
	if (r < 0) {
		close(input_fd);
		return r;
	}
	actor->import_fd = input_fd;
	actor->import_done = import_done;
	actor->import_data = data;
	/* The stream may be faster than the assignment, which then begins the work. */
	if (actor->want)
		advance(actor);
	else
		actor->base.session = agent->session;
	return 0;
}

void image_actor_import_cancel(struct agent *agent, const char *uid)
{
	struct image_actor *actor = actors_find(agent, ACTOR_IMAGE, uid);
	struct error err = {};

	if (!actor)
		return;
	if (actor->task && actor->task->kind == IMAGE_TASK_IMPORT) {
		image_task_cancel(actor->task);
		return;
	}
	fd_close(actor->import_fd);
	actor->import_fd = -1;
	import_ended(actor, error_say(&err, -ECANCELED, "the upload was cut off"), &err);
}

void image_actors_cancel(struct agent *agent)
{
	struct image_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_IMAGE, actor, next)
	if (actor->task)
		image_task_cancel(actor->task);
}

const struct actor_ops image_actor_ops = { .kind = "image",
					   .size = sizeof(struct image_actor),
					   .init = init,
					   .assign = assign,
					   .unwant = unwant,
					   .complete = complete,
					   .done = release };
