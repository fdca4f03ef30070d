#include "api/routes.h"

#include "api/handlers.h"
#include "base/cleanup.h"

/* Within a path the rows with a selector come first. */
static const struct route routes[] = {
	{ "GET", "/1.0", NULL, ROUTE_PLAIN, server_show },

	{ "GET", "/1.0/instances", "recursion", ROUTE_PLAIN, instances_list },
	{ "POST", "/1.0/instances", NULL, ROUTE_PLAIN, instance_launch },
	{ "GET", "/1.0/instances/{name}", NULL, ROUTE_PLAIN, instance_show },
	{ "DELETE", "/1.0/instances/{name}", "force", ROUTE_PLAIN, instance_delete },
	{ "PATCH", "/1.0/instances/{name}", NULL, ROUTE_PLAIN, instance_update },
	{ "PUT", "/1.0/instances/{name}/state", NULL, ROUTE_PLAIN, instance_act },
	{ "POST", "/1.0/instances/{name}/rename", NULL, ROUTE_PLAIN, instance_rename },
	{ "POST", "/1.0/instances/{name}/ports", NULL, ROUTE_PLAIN, instance_port_attach },
	{ "DELETE", "/1.0/instances/{name}/ports/{network}", NULL, ROUTE_PLAIN,
	  instance_port_detach },
	{ "POST", "/1.0/instances/{name}/trace", NULL, ROUTE_PLAIN, instance_trace },
	{ "GET", "/1.0/instances/{name}/exec", NULL, ROUTE_WEBSOCKET, instance_exec },
	{ "GET", "/1.0/instances/{name}/attach", "stdin wait width height tail cursor cursors",
	  ROUTE_WEBSOCKET, instance_attach },
	{ "GET", "/1.0/instances/{name}/logs",
	  "follow tail timestamps since_ms until_ms stdout stderr cursor cursors", ROUTE_WEBSOCKET,
	  instance_logs },
	{ "GET", "/1.0/instances/{name}/stats", NULL, ROUTE_PLAIN, instance_stats },
	{ "GET", "/1.0/instances/{name}/processes", NULL, ROUTE_PLAIN, instance_processes },

	{ "GET", "/1.0/instances/{name}/files", "path follow stat", ROUTE_PLAIN, instance_file_stat,
	  "stat" },
	{ "GET", "/1.0/instances/{name}/files", "path follow stat", ROUTE_PLAIN,
	  instance_files_get },
	{ "PUT", "/1.0/instances/{name}/files", "path keep_ids", ROUTE_UPLOAD, instance_files_put },

	{ "GET", "/1.0/instances/{name}/changes", NULL, ROUTE_PLAIN, instance_changes },

	{ "GET", "/1.0/groups", "recursion", ROUTE_PLAIN, groups_list },
	{ "POST", "/1.0/groups", NULL, ROUTE_PLAIN, group_create },
	{ "GET", "/1.0/groups/{name}", NULL, ROUTE_PLAIN, group_show },
	{ "PUT", "/1.0/groups/{name}", NULL, ROUTE_PLAIN, group_replace },
	{ "PATCH", "/1.0/groups/{name}", NULL, ROUTE_PLAIN, group_update },
	{ "DELETE", "/1.0/groups/{name}", NULL, ROUTE_PLAIN, group_delete },
	{ "POST", "/1.0/groups/{name}/rules", NULL, ROUTE_PLAIN, group_rule_add },
	{ "DELETE", "/1.0/groups/{name}/rules/{number}", NULL, ROUTE_PLAIN, group_rule_remove },

	{ "GET", "/1.0/images", "recursion", ROUTE_PLAIN, images_list },
	{ "POST", "/1.0/images", "import name platform format", ROUTE_UPLOAD, image_import,
	  "import" },
	{ "POST", "/1.0/images", NULL, ROUTE_PLAIN, image_pull },
	{ "POST", "/1.0/images/prune", NULL, ROUTE_PLAIN, images_prune },
	{ "GET", "/1.0/images/{name}", NULL, ROUTE_PLAIN, image_show },
	{ "DELETE", "/1.0/images/{name}", NULL, ROUTE_PLAIN, image_delete },
	{ "GET", "/1.0/images/{name}/export", NULL, ROUTE_PLAIN, image_export },

	{ "GET", "/1.0/kernels", NULL, ROUTE_PLAIN, kernels_list },
	{ "POST", "/1.0/kernels", NULL, ROUTE_PLAIN, kernel_import_request },
	{ "PUT", "/1.0/kernels/{name}", NULL, ROUTE_PLAIN, kernel_make_default },
	{ "DELETE", "/1.0/kernels/{name}", NULL, ROUTE_PLAIN, kernel_remove },

	{ "GET", "/1.0/networks", "recursion", ROUTE_PLAIN, networks_list },
	{ "POST", "/1.0/networks", NULL, ROUTE_PLAIN, network_create },
	{ "GET", "/1.0/networks/{name}", NULL, ROUTE_PLAIN, network_show },
	{ "PATCH", "/1.0/networks/{name}", NULL, ROUTE_PLAIN, network_update },
	{ "DELETE", "/1.0/networks/{name}", NULL, ROUTE_PLAIN, network_delete },
	{ "GET", "/1.0/networks/{name}/flows", "follow open tail since_ms until_ms cursor cursors",
	  ROUTE_WEBSOCKET, network_flows },

	{ "GET", "/1.0/balancers", "recursion", ROUTE_PLAIN, balancers_list },
	{ "POST", "/1.0/balancers", NULL, ROUTE_PLAIN, balancer_create },
	{ "GET", "/1.0/balancers/{name}", NULL, ROUTE_PLAIN, balancer_show },
	{ "PATCH", "/1.0/balancers/{name}", NULL, ROUTE_PLAIN, balancer_update },
	{ "DELETE", "/1.0/balancers/{name}", NULL, ROUTE_PLAIN, balancer_delete },
	{ "PUT", "/1.0/balancers/{name}/members/{instance}", NULL, ROUTE_PLAIN,
	  balancer_member_set },

	{ "GET", "/1.0/routers", "recursion", ROUTE_PLAIN, routers_list },
	{ "POST", "/1.0/routers", NULL, ROUTE_PLAIN, router_create },
	{ "GET", "/1.0/routers/{name}", NULL, ROUTE_PLAIN, router_show },
	{ "PATCH", "/1.0/routers/{name}", NULL, ROUTE_PLAIN, router_update },
	{ "DELETE", "/1.0/routers/{name}", NULL, ROUTE_PLAIN, router_delete },

	{ "GET", "/1.0/operations", "recursion", ROUTE_PLAIN, operations_list },
	{ "GET", "/1.0/operations/{id}", NULL, ROUTE_PLAIN, operation_show },
	{ "DELETE", "/1.0/operations/{id}", NULL, ROUTE_PLAIN, operation_cancel },
	{ "GET", "/1.0/operations/{id}/wait", "timeout_s revision", ROUTE_PLAIN, operation_await },

	{ "GET", "/1.0/events", "cursor kind name", ROUTE_WEBSOCKET, events_follow },

	{ "GET", "/1.0/stats", "instance interval_ms", ROUTE_WEBSOCKET, stats_follow },
	{ "GET", "/1.0/usage", "instance network", ROUTE_PLAIN, usage_show },

	{ "GET", "/1.0/projects", "recursion", ROUTE_PLAIN, projects_list },
	{ "GET", "/1.0/projects/{name}", NULL, ROUTE_PLAIN, project_show },
	{ "PUT", "/1.0/projects/{name}", NULL, ROUTE_PLAIN, project_set },
	{ "GET", "/1.0/nodes", "recursion", ROUTE_PLAIN, nodes_list },
	{ "GET", "/1.0/nodes/{name}", NULL, ROUTE_PLAIN, node_show },
};

const struct route *routes_all(size_t *ret_count)
{
	*ret_count = ARRAY_COUNT(routes);
	return routes;
}
