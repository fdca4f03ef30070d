/*
 * GET /1.0: what this server is.
 */
#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/link.h"
#include "api/request.h"

int server_show(struct request *req, struct error *err)
{
	struct api *api = request_api(req);

	(void) err;
	request_answer(req,
		       json_pack("{s:s, s:s, s:s, s:b, s:[s,s,s,s]}", "version", BRUME_VERSION,
				 "api", "1.0", "node", api->node, "agent_connected",
				 link_connected(api->link), "features", "containers", "images",
				 "networks", "events"),
		       -1);
	return 0;
}
