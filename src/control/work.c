#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "control/control_internal.h"
#include "control/resource.h"

static void work_free(struct control *control, struct work *work)
{
	DL_DELETE(control->works, work);
	free(work->err);
	work->free(work);
}

static void on_committed(const struct store_result *result, void *data);

/* Prepares and commits.  Without anything to write the empty transaction is the way back to the
 * loop: callbacks never come from inside the call that asked. */
static void work_try(struct work *work)
{
	struct draft draft = { .control = work->control };
	int r;

	work->conflict = false;
	if (!work->err)
		work->err = mem_new0(struct error);
	r = work->prepare(work, &draft, work->err);
	if (r == WORK_COMMIT)
		r = draft_finish(&draft, work->err);
	work->result = r < 0 ? r : 0;
	if (r != WORK_COMMIT)
		store_txn_done(&draft.txn);
	store_commit(work->control->store, &draft.txn, on_committed, work);
	draft_done(&draft);
}

/* The mirror shows what the transaction did, or what made it fail. */
static void work_continue(struct work *work)
{
	work->waiting = false;
	if (work->conflict) {
		work_try(work);
		return;
	}
	struct control *control = work->control;

	work->finish(work, work->result, work->err);
	work_free(control, work);
}

static void on_committed(const struct store_result *result, void *data)
{
	struct work *work = data;

	if (work->cancelled) {
		free(work->err);
		work->free(work);
		return;
	}
	work->revision = result->revision;
	work->waiting = true;
	if (result->error < 0 && work->result == 0)
		work->result = error_say(work->err, result->error, "%s", result->message);
	if (result->error == 0)
		work->conflict = !result->succeeded;
	if (result->error < 0 || work->control->revision >= work->revision)
		work_continue(work);
}

void work_cancel_all(struct control *control)
{
	struct work *work, *next;
	struct error err = {};

	error_say(&err, -ECANCELED, "brumed stops");
	DL_FOREACH_SAFE(control->works, work, next)
	{
		DL_DELETE(control->works, work);
		work->finish(work, err.code, &err);
		work->cancelled = true;
		if (work->waiting) {
			free(work->err);
			work->free(work);
		}
	}
}

void work_start(struct control *control, struct work *work)
{
	work->control = control;
	DL_APPEND(control->works, work);
	work_try(work);
}

void work_mirror_moved(struct control *control)
{
	struct work *work, *next;

	DL_FOREACH_SAFE(control->works, work, next)
	{
		if (work->waiting && control->revision >= work->revision)
			work_continue(work);
	}
}

static void request_finish(struct work *work, int result, const struct error *err)
{
	struct request *request = (struct request *) work;
	struct item *item = mirror_find_uid(work->control, request->operation_uid);
	AUTO(json_decref) json_t *operation = NULL;

	if (result == 0 && item)
		operation = resource_encode(KIND_OPERATION, item->resource, ENCODE_SHOW);
	if (request->done)
		request->done(result, err, operation, request->data);
}

static void request_free(struct work *work)
{
	struct request *request = (struct request *) work;

	free(request->project);
	free(request->name);
	if (request->body_free)
		request->body_free(request->body);
	free(request);
}

void request_body_decref(void *json)
{
	json_decref(json);
}

struct request *request_new(const char *project, const char *name, control_done_fn done, void *data)
{
	struct request *request = mem_new0(struct request);

	request->project = mem_strdup(project);
	request->name = mem_strdup(name);
	request->done = done;
	request->data = data;
	return request;
}

struct request *request_of_patch(const char *project, const char *name, const json_t *patch,
				 uint64_t if_match, control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->body = json_deep_copy(patch);
	request->body_free = request_body_decref;
	request->if_match = if_match;
	return request;
}

void request_start(struct control *control, struct request *request,
		   int (*prepare)(struct work *work, struct draft *draft, struct error *err))
{
	request->work.prepare = prepare;
	request->work.finish = request_finish;
	request->work.free = request_free;
	work_start(control, &request->work);
}

int require_project(struct control *control, const char *project, struct error *err)
{
	if (mirror_find(control, KIND_PROJECT, "_", project))
		return 0;
	return error_say(err, -ENOENT, "project \"%s\" does not exist", project);
}

int request_item(struct request *request, enum kind kind, struct item **ret, struct error *err)
{
	struct item *item;
	int r = require_project(request->work.control, request->project, err);

	if (r < 0)
		return r;
	item = mirror_find(request->work.control, kind, request->project, request->name);
	if (!item)
		return error_say(err, -ENOENT, "%s \"%s\" does not exist", kind_name(kind),
				 request->name);
	if (request->if_match && request->if_match != item->meta->revision)
		return error_say(
			err, -ESTALE, "%s \"%s\" was changed meanwhile (revision %llu, not %llu)",
			kind_name(kind), request->name, (unsigned long long) item->meta->revision,
			(unsigned long long) request->if_match);
	*ret = item;
	return 0;
}

int request_update(struct request *request, struct draft *draft, struct item *item,
		   struct meta *meta, bool changed, json_t *undo)
{
	struct operation *operation;

	if (changed)
		meta->generation++;
	draft_require(draft, item);
	operation = draft_operation(draft, OPERATION_UPDATE, item->kind, meta);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	/* The node need not hear of what is no part of the spec. */
	if (changed)
		operation->undo = json_incref(undo);
	else
		operation_end(draft, operation, OPERATION_DONE, NULL);
	return WORK_COMMIT;
}

int request_delete(struct request *request, struct draft *draft, struct item *item)
{
	struct meta *meta = resource_meta(item->kind, draft_edit(draft, item));
	struct operation *operation;

	draft_mark_deleted(draft, meta);
	draft_require(draft, item);
	operation = draft_operation(draft, OPERATION_DELETE, item->kind, meta);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	return WORK_COMMIT;
}
