/*
 * GET /1.0: what this server is.
 */
#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/request.h"
#include "base/json.h"

int server_show(struct request *req, struct error *err)
{
	struct api *api = request_api(req);

	(void) err;
	AUTO(json_decref)
	json_t *features = json_pack("[s,s,s,s,s,s]", "containers", "images", "networks", "events",
				     "exec", "logs");
	request_answer(req,
		       json_pack("{s:s, s:s, s:s*, s:b, s:O}", "version", BRUME_VERSION, "api",
				 "1.0", "node", api->agent, "agent_connected", api->agent != NULL,
				 "features", features),
		       0);
	return 0;
}
