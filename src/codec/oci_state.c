#include "codec/oci_state.h"

#include <errno.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"

static const char *const status_names[] = { "creating", "created", "running", "paused", "stopped" };

const char *oci_status_name(enum oci_status status)
{
	return status_names[status];
}

void oci_state_free(struct oci_state *state)
{
	if (!state)
		return;
	free(state->version);
	free(state->id);
	free(state->bundle);
	free(state->cgroup);
	free(state->unit);
	json_decref(state->annotations);
	strv_free(state->stdio);
	free(state);
}

char *oci_state_encode(const struct oci_state *state)
{
	AUTO(json_decref) json_t *object = json_object();

	json_put_string(object, "version", state->version);
	json_put_string(object, "id", state->id);
	json_put_string(object, "bundle", state->bundle);
	json_put_string(object, "cgroup", state->cgroup);
	json_put_string(object, "unit", state->unit);
	json_object_set_new(object, "pid", json_integer(state->pid));
	json_object_set_new(object, "start_time", json_integer((json_int_t) state->start_time));
	json_object_set_new(object, "own_pid_ns", json_boolean(state->own_pid_ns));
	json_put_time(object, "created", state->created_ms);
	if (state->annotations)
		json_object_set(object, "annotations", state->annotations);
	json_put_strv(object, "stdio", state->stdio);
	return json_text(object);
}

int oci_state_decode(const char *text, size_t size, struct oci_state **ret, struct error *err)
{
	AUTO(oci_state_free) struct oci_state *state = mem_new0(struct oci_state);
	AUTO(json_decref) json_t *object = NULL;
	struct json_reader in = { .err = err, .where = "" };
	json_t *annotations = NULL;
	int64_t pid = 0;
	int r = json_parse(text, size, OCI_STATE_MAX, &object, err);

	if (r < 0)
		return r;
	json_read_string(&in, object, "version", &state->version);
	json_read_string(&in, object, "id", &state->id);
	json_read_string(&in, object, "bundle", &state->bundle);
	json_read_string(&in, object, "cgroup", &state->cgroup);
	json_read_string(&in, object, "unit", &state->unit);
	json_read_int(&in, object, "pid", 0, INT32_MAX, &pid);
	json_read_uint64(&in, object, "start_time", &state->start_time);
	json_read_bool(&in, object, "own_pid_ns", &state->own_pid_ns);
	json_read_time(&in, object, "created", &state->created_ms);
	json_read_object(&in, object, "annotations", &annotations);
	json_read_strv(&in, object, "stdio", &state->stdio);
	r = json_reader_finish(&in, object);
	if (r < 0)
		return r;
	if (!state->version || !state->version[0] || !state->id || !state->id[0] ||
	    !state->bundle || !state->bundle[0])
		return error_say(err, -EINVAL, "version, id or bundle is missing");
	state->pid = (pid_t) pid;
	state->annotations = json_incref(annotations);
	*ret = TAKE_PTR(state);
	return 0;
}

json_t *oci_state_public(const struct oci_state *state, enum oci_status status)
{
	json_t *object = json_object();

	json_put_string(object, "ociVersion", state->version);
	json_put_string(object, "id", state->id);
	json_put_string(object, "status", status_names[status]);
	json_object_set_new(object, "pid",
			    json_integer(status == OCI_STATUS_STOPPED ? 0 : state->pid));
	json_put_string(object, "bundle", state->bundle);
	json_put_time(object, "created", state->created_ms);
	json_object_set_new(object, "annotations",
			    state->annotations ? json_incref(state->annotations) : json_object());
	return object;
}
