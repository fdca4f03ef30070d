#include "api/reply.h"

#include <errno.h>

#include "api/api_internal.h"
#include "api/near.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

struct reply {
	struct request *req; /* NULL: the client has gone */
	enum kind kind;
	char *name;
};

static void detach(void *state)
{
	struct reply *reply = state;

	reply->req = NULL;
}

struct reply *reply_new(struct request *req, enum kind kind, const char *name)
{
	struct reply *reply = mem_new0(struct reply);

	reply->req = req;
	reply->kind = kind;
	reply->name = mem_strdup(name);
	request_keep(req, reply, detach);
	request_wait(req, NULL);
	return reply;
}

void reply_done(int result, const struct error *err, const json_t *operation, void *data)
{
	struct reply *reply = data;
	struct request *req = reply->req;

	if (req) {
		request_keep(req, NULL, NULL);
		if (result < 0)
			reply_error(req, result, err, reply->kind, reply->name);
		else
			request_answer_async(req, json_incref((json_t *) operation));
	}
	free(reply->name);
	free(reply);
}

char *reply_near_hint(struct control *control, enum kind kind, const char *project,
		      const char *name)
{
	AUTO(json_decref) json_t *names = NULL;
	struct near near = { .wanted = name };
	json_t *item;
	size_t i;

	if (!name || control_list(control, kind, project, false, &names, NULL) < 0)
		return NULL;
	json_array_foreach(names, i, item) if (json_is_string(item))
		near_offer(&near, json_string_value(item));
	return near_hint(&near);
}

void reply_error(struct request *req, int code, const struct error *err, enum kind kind,
		 const char *name)
{
	AUTO(free) char *hint = NULL;

	if (code == -ENOENT)
		hint = reply_near_hint(request_api(req)->control, kind, request_project(req), name);
	request_answer_error(req, code, err, hint);
}

void reply_stream_error(struct request *req, const json_t *error)
{
	const char *message = json_string_value(json_object_get(error, "message"));
	json_int_t code = json_integer_value(json_object_get(error, "code"));
	struct error err = {};

	/* The agent may write an errno with either sign. */
	code = code < 0 ? code : -code;
	if (code > -1 || code < -4095)
		code = -EIO;
	error_say(&err, (int) code, "%s", message ? message : "the node says nothing more");
	request_answer_error(req, (int) code, &err, NULL);
}
