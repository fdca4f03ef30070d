#pragma once
/*
 * api/handlers.h - the handlers that the table in api/routes.c names, by noun.
 *
 * Each has the contract of route_fn: answer, or wait, or return a negative errno with words.
 */

struct error;
struct request;

/* server_info.c */
int server_show(struct request *req, struct error *err);

/* collections.c: what is the same for every kind */
int instances_list(struct request *req, struct error *err);
int instance_show(struct request *req, struct error *err);
int images_list(struct request *req, struct error *err);
int networks_list(struct request *req, struct error *err);
int network_show(struct request *req, struct error *err);
int balancers_list(struct request *req, struct error *err);
int balancer_show(struct request *req, struct error *err);
int groups_list(struct request *req, struct error *err);
int group_show(struct request *req, struct error *err);
int routers_list(struct request *req, struct error *err);
int router_show(struct request *req, struct error *err);
int operations_list(struct request *req, struct error *err);
int operation_show(struct request *req, struct error *err);
int projects_list(struct request *req, struct error *err);
int project_show(struct request *req, struct error *err);
int nodes_list(struct request *req, struct error *err);
int node_show(struct request *req, struct error *err);

/* instances.c */
int instance_launch(struct request *req, struct error *err);
int instance_act(struct request *req, struct error *err);
int instance_delete(struct request *req, struct error *err);
int instance_rename(struct request *req, struct error *err);
int instance_update(struct request *req, struct error *err);
int instance_port_attach(struct request *req, struct error *err);
int instance_port_detach(struct request *req, struct error *err);

/* stats.c */
int stats_follow(struct request *req, struct error *err);
int instance_stats(struct request *req, struct error *err);
int instance_processes(struct request *req, struct error *err);

/* usage.c */
int usage_show(struct request *req, struct error *err);

/* trace.c */
int instance_trace(struct request *req, struct error *err);

/* files.c */
int instance_file_stat(struct request *req, struct error *err);
int instance_files_get(struct request *req, struct error *err);
int instance_files_put(struct request *req, struct error *err);
int instance_changes(struct request *req, struct error *err);

/* images.c */
int image_show(struct request *req, struct error *err);
int image_pull(struct request *req, struct error *err);
int image_delete(struct request *req, struct error *err);
int images_prune(struct request *req, struct error *err);

/* import.c, export.c */
int image_import(struct request *req, struct error *err);
int image_export(struct request *req, struct error *err);

/* kernels.c */
int kernels_list(struct request *req, struct error *err);
int kernel_import_request(struct request *req, struct error *err);
int kernel_make_default(struct request *req, struct error *err);
int kernel_remove(struct request *req, struct error *err);

/* networks.c */
int network_create(struct request *req, struct error *err);
int network_update(struct request *req, struct error *err);
int network_flows(struct request *req, struct error *err);
int network_delete(struct request *req, struct error *err);

/* balancers.c */
int balancer_create(struct request *req, struct error *err);
int balancer_update(struct request *req, struct error *err);
int balancer_member_set(struct request *req, struct error *err);
int balancer_delete(struct request *req, struct error *err);

/* groups.c */
int group_create(struct request *req, struct error *err);
int group_replace(struct request *req, struct error *err);
int group_update(struct request *req, struct error *err);
int group_delete(struct request *req, struct error *err);
int group_rule_add(struct request *req, struct error *err);
int group_rule_remove(struct request *req, struct error *err);

/* routers.c */
int router_create(struct request *req, struct error *err);
int router_update(struct request *req, struct error *err);
int router_delete(struct request *req, struct error *err);

/* projects.c */
int project_set(struct request *req, struct error *err);

/* operations.c */
int operation_await(struct request *req, struct error *err);
int operation_cancel(struct request *req, struct error *err);

/* events.c */
int events_follow(struct request *req, struct error *err);

/* session.c */
int instance_exec(struct request *req, struct error *err);
int instance_logs(struct request *req, struct error *err);
int instance_attach(struct request *req, struct error *err);
