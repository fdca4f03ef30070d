#include "client/operation.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "client/client.h"
#include "codec/uri.h"

/* The server answers after this time at the latest; then the next wait begins. */
enum { OPERATION_WAIT_S = 60 };

static const char *operation_state(const json_t *operation)
{
	const char *state =
		json_string_value(json_object_get(json_object_get(operation, "status"), "state"));

	return state ? state : "";
}

const char *operation_id(const json_t *operation)
{
	const json_t *meta = json_object_get(operation, "meta");
	const char *id = json_string_value(json_object_get(meta, "name"));

	if (!id)
		id = json_string_value(json_object_get(meta, "uid"));
	return id ? id : "";
}

int operation_wait(struct client *client, const json_t *operation, operation_progress_fn progress,
		   void *userdata, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *current = json_incref((json_t *) operation);
	AUTO(free) char *id = uri_encode(operation_id(operation));

	if (!*id)
		return error_say(err, -EPROTO,
				 "the server's answer is not understood: no operation in it");
	while (strcmp(operation_state(current), "running") == 0) {
		json_int_t revision = json_integer_value(
			json_object_get(json_object_get(current, "meta"), "revision"));
		AUTO(free)
		char *path = mem_printf("/operations/%s/wait?timeout_s=%d&revision=%lld", id,
					OPERATION_WAIT_S, (long long) revision);
		json_t *next = NULL;
		int r;

		if (progress)
			progress(userdata, current);
		r = client_request(client, "GET", path, NULL, &next, err);
		if (r < 0)
			return r;
		json_decref(current);
		current = next;
	}
	*ret = TAKE_PTR(current);
	return 0;
}

int operation_cancel(struct client *client, const char *id, struct error *err)
{
	AUTO(free) char *escaped = uri_encode(id);
	AUTO(free) char *path = mem_printf("/operations/%s", escaped);

	return client_request(client, "DELETE", path, NULL, NULL, err);
}

int operation_result(const json_t *operation, struct error *err)
{
	const char *state = operation_state(operation);
	const char *words =
		json_string_value(json_object_get(json_object_get(operation, "status"), "error"));

	if (strcmp(state, "done") == 0)
		return 0;
	if (strcmp(state, "cancelled") == 0)
		return error_say(err, -ECANCELED, "%s",
				 words && *words ? words : "it was cancelled");
	if (strcmp(state, "failed") == 0)
		return error_say(err, -EIO, "%s",
				 words && *words ? words : "it failed without saying why");
	return error_say(err, -EPROTO,
			 "the server's answer is not understood: operation state \"%s\"", state);
}
