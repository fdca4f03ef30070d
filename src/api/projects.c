/*
 * What changes projects.
 */
#include <errno.h>

#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"

/* Who may let instances give their seat belts up could give them up: that is root. */
int project_set(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0);
	struct project_request request = { .allow_privileged = -1 };
	AUTO(json_decref) json_t *body = NULL;
	int64_t revision = 0;
	int r = request_if_match(req, &revision, err);

	if (r == 0 && !request_is_root(req))
		r = error_say(err, -EACCES,
			      "project \"%s\": only root of the node may change projects, on its "
			      "Unix socket",
			      name);
	if (r == 0)
		r = request_json(req, &body, err);
	if (r == 0)
		r = project_request_decode(body, &request, err);
	if (r < 0)
		return r;
	control_project_set(request_api(req)->control, request_project(req), name, &request,
			    (uint64_t) revision, reply_done, reply_new(req, KIND_PROJECT, name));
	project_request_done(&request);
	return 0;
}
