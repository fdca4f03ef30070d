/*
 * What changes security groups.
 */
#include <errno.h>
#include <stdlib.h>

#include "api/api_internal.h"
#include "api/change.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"

int group_create(struct request *req, struct error *err)
{
	AUTO(group_request_free) struct group_request *request = NULL;
	AUTO(json_decref) json_t *body = NULL;
	int r = request_json(req, &body, err);

	if (r == 0)
		r = group_request_decode(body, &request, err);
	if (r < 0)
		return r;
	control_group_create(request_api(req)->control, request_project(req), request, reply_done,
			     reply_new(req, KIND_GROUP, NULL));
	return 0;
}

static void change(struct request *req, enum security_group_change what, const json_t *body,
		   int64_t revision)
{
	const char *name = request_arg(req, 0);

	control_group_change(request_api(req)->control, request_project(req), name, what, body,
			     (uint64_t) revision, reply_done, reply_new(req, KIND_GROUP, name));
}

static int change_by_body(struct request *req, enum security_group_change what, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	uint64_t revision;
	int r = change_read(req, &body, &revision, err);

	if (r == 0)
		change(req, what, body, revision);
	return r;
}

int group_replace(struct request *req, struct error *err)
{
	return change_by_body(req, SECURITY_GROUP_REPLACE, err);
}

int group_update(struct request *req, struct error *err)
{
	return change_by_body(req, SECURITY_GROUP_PATCH, err);
}

int group_rule_add(struct request *req, struct error *err)
{
	return change_by_body(req, SECURITY_GROUP_ADD, err);
}

int group_rule_remove(struct request *req, struct error *err)
{
	const char *text = request_arg(req, 1);
	AUTO(json_decref) json_t *body = NULL;
	int64_t revision = 0;
	char *end = NULL;
	long number = strtol(text, &end, 10);
	int r = request_if_match(req, &revision, err);

	if (r < 0)
		return r;
	if (text[0] < '0' || text[0] > '9' || *end || number < 1 || number > INT32_MAX)
		return error_say(err, -EINVAL, "rule \"%.32s\": must be its number", text);
	body = json_pack("{s:I}", "number", (json_int_t) number);
	change(req, SECURITY_GROUP_REMOVE, body, revision);
	return 0;
}

int group_delete(struct request *req, struct error *err)
{
	return change_delete(req, KIND_GROUP, control_group_delete, err);
}
