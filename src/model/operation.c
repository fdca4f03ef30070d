#include "model/operation.h"

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/member.h"

enum { NAME_MAX_BYTES = 512, TEXT_MAX_BYTES = 1024 };

static const char *const action_names[] = { "launch", "start",  "stop",   "restart", "pause",
					    "resume", "create", "set",    "delete",  "pull",
					    "import", "prune",  "rename", "update",  "commit",
					    "attach", "detach", NULL };
static const char *const state_names[] = { "running", "done", "failed", "cancelled", NULL };

const char *operation_action_name(enum operation_action action)
{
	return action_names[action];
}

const char *operation_state_name(enum operation_state state)
{
	return state_names[state];
}

static int spec_decode(const json_t *object, struct operation *operation, struct error *err)
{
	struct json_reader in = { .err = err, .where = "spec" };
	struct json_reader sub = { .err = err, .where = "spec.target" };
	unsigned int action = 0, kind = 0;
	json_t *target = NULL, *undo = NULL;

	member_read_enum(&in, object, "action", action_names, &action);
	json_read_uint64(&in, object, "generation", &operation->generation);
	json_read_uint64(&in, object, "seq", &operation->seq);
	json_read_strv(&in, object, "members", &operation->members);
	json_read_object(&in, object, "undo", &undo);
	json_read_object(&in, object, "target", &target);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	if (target) {
		member_read_enum(&sub, target, "kind", kind_names, &kind);
		member_read_text(&sub, target, "name", NAME_MAX_BYTES, &operation->target_name);
		member_read_uid(&sub, target, "uid", operation->target_uid);
		if (json_reader_finish(&sub, target) < 0)
			return sub.result;
	}
	operation->undo = undo ? json_deep_copy(undo) : NULL;
	operation->action = action;
	operation->target_kind = kind;
	return 0;
}

static int status_decode(const json_t *object, struct operation *operation, struct error *err)
{
	struct json_reader in = { .err = err, .where = "status" };
	struct json_reader sub = { .err = err, .where = "status.progress" };
	unsigned int state = OPERATION_RUNNING, ending = OPERATION_RUNNING;
	json_t *progress = NULL, *result = NULL;

	member_read_enum(&in, object, "state", state_names, &state);
	member_read_enum(&in, object, "ending", state_names, &ending);
	json_read_object(&in, object, "progress", &progress);
	member_read_text(&in, object, "error", TEXT_MAX_BYTES, &operation->error);
	json_read_object(&in, object, "result", &result);
	json_read_time(&in, object, "finished", &operation->finished_ms);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	if (progress) {
		member_read_text(&sub, progress, "text", TEXT_MAX_BYTES, &operation->text);
		json_read_uint64(&sub, progress, "done_bytes", &operation->done_bytes);
		json_read_uint64(&sub, progress, "total_bytes", &operation->total_bytes);
		if (json_reader_finish(&sub, progress) < 0)
			return sub.result;
	}
	operation->state = state;
	operation->ending = ending;
	operation->result = result ? json_deep_copy(result) : NULL;
	return 0;
}

int operation_decode(const json_t *doc, struct operation **ret, struct error *err)
{
	AUTO(operation_free) struct operation *operation = mem_new0(struct operation);
	json_t *spec, *status;
	int r;

	r = meta_decode_resource(doc, KIND_OPERATION, &operation->meta, &spec, &status, err);
	if (r == 0)
		r = spec_decode(spec, operation, err);
	if (r == 0 && status)
		r = status_decode(status, operation, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(operation);
	return 0;
}

json_t *operation_encode(const struct operation *operation)
{
	json_t *spec = json_object(), *status = json_object(), *target = json_object();

	json_put_string(spec, "action", action_names[operation->action]);
	json_put_string(target, "kind", kind_names[operation->target_kind]);
	json_put_string(target, "name", operation->target_name);
	json_put_string(target, "uid", operation->target_uid);
	json_object_set_new(spec, "target", target);
	member_put_uint(spec, "generation", operation->generation);
	member_put_uint(spec, "seq", operation->seq);
	json_put_strv(spec, "members", operation->members);
	if (operation->undo)
		json_object_set(spec, "undo", operation->undo);

	json_put_string(status, "state", state_names[operation->state]);
	if (operation->ending != OPERATION_RUNNING)
		json_put_string(status, "ending", state_names[operation->ending]);
	if (operation->text || operation->total_bytes) {
		json_t *progress = json_object();

		json_put_string(progress, "text", operation->text);
		member_put_uint(progress, "done_bytes", operation->done_bytes);
		member_put_uint(progress, "total_bytes", operation->total_bytes);
		json_object_set_new(status, "progress", progress);
	}
	json_put_string(status, "error", operation->error);
	if (operation->result)
		json_object_set(status, "result", operation->result);
	json_put_time(status, "finished", operation->finished_ms);
	return meta_encode_resource(KIND_OPERATION, &operation->meta, spec, status);
}

void operation_free(struct operation *operation)
{
	if (!operation)
		return;
	meta_done(&operation->meta);
	free(operation->target_name);
	strv_free(operation->members);
	free(operation->text);
	free(operation->error);
	json_decref(operation->result);
	json_decref(operation->undo);
	free(operation);
}
