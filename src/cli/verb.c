#include "cli/verb.h"

#include <string.h>

#include "cli/cli.h"

#define COMMON(member) offsetof(struct cli_options, member)

const struct option_def verb_common_options[] = {
	{ 0, "project", "NAME", OPTION_STRING, COMMON(project), "the project to work in" },
	{ 'f', "format", "FORMAT", OPTION_STRING, COMMON(format),
	  "table, json, csv or plain (tabs, no titles)", COMPLETE_FORMAT },
	{ 0, "socket", "PATH", OPTION_STRING, COMMON(socket),
	  "the server's socket (/run/brume/brumed.sock)", COMPLETE_FILE },
	{ 0, "host", "URL", OPTION_STRING, COMMON(host), "a server elsewhere: https://HOST:PORT" },
	{ 'q', "quiet", NULL, OPTION_FLAG, COMMON(quiet), "names only, and no remarks" },
	{ 0, "no-progress", NULL, OPTION_FLAG, COMMON(no_progress), "no progress line" },
	{ 'h', "help", NULL, OPTION_FLAG, COMMON(help), "this help" },
	{},
};

static const struct verb *const image_verbs[] = {
	&verb_image_pull, &verb_image_import, &verb_image_export, &verb_image_list,
	&verb_image_info, &verb_image_delete, &verb_image_prune,  NULL,
};

static const struct verb verb_image = {
	.name = "image",
	.synopsis = "VERB ...",
	.summary = "Pull, import, export, look at and delete images",
	.verbs = image_verbs,
};

static const struct verb *const kernel_verbs[] = {
	&verb_kernel_list, &verb_kernel_import, &verb_kernel_default, &verb_kernel_delete, NULL,
};

static const struct verb verb_kernel = {
	.name = "kernel",
	.synopsis = "VERB ...",
	.summary = "Look at, import and delete the node's kernels for virtual machines",
	.verbs = kernel_verbs,
};

static const struct verb *const network_verbs[] = {
	&verb_network_create,
	&verb_network_list,
	&verb_network_info,
	&verb_network_delete,
	&verb_network_attach,
	&verb_network_detach,
	&verb_network_limit,
	&verb_network_usage,
	&verb_network_peer,
	&verb_network_update,
	&verb_network_flows,
	&verb_network_trace,
	NULL,
};

static const struct verb verb_network = {
	.name = "network",
	.synopsis = "VERB ...",
	.summary = "Create, look at and delete networks, and say who is in them",
	.verbs = network_verbs,
};

static const struct verb *const router_verbs[] = {
	&verb_router_create,
	&verb_router_list,
	&verb_router_show,
	&verb_router_delete,
	&verb_router_attach,
	&verb_router_detach,
	&verb_router_route,
	&verb_router_floating,
	&verb_router_forward,
	&verb_router_update,
	NULL,
};

static const struct verb verb_router = {
	.name = "router",
	.synopsis = "VERB ...",
	.summary = "Join networks, and lead them outside",
	.verbs = router_verbs,
};

static const struct verb *const project_verbs[] = {
	&verb_project_list,
	&verb_project_info,
	&verb_project_set,
	NULL,
};

static const struct verb verb_project = {
	.name = "project",
	.synopsis = "VERB ...",
	.summary = "Look at projects, and change what they may",
	.verbs = project_verbs,
};

static const struct verb *const operation_verbs[] = {
	&verb_operation_list,
	&verb_operation_info,
	&verb_operation_wait,
	&verb_operation_cancel,
	NULL,
};

static const struct verb verb_operation = {
	.name = "operation",
	.synopsis = "VERB ...",
	.summary = "Look at, wait for and cancel what is in progress",
	.verbs = operation_verbs,
};

static const struct verb *const bench_verbs[] = { &verb_bench_virt, NULL };

static const struct verb verb_bench = {
	.name = "bench",
	.synopsis = "VERB ...",
	.summary = "Measure what isolation costs here",
	.verbs = bench_verbs,
};

const struct verb *const verbs[] = {
	&verb_launch,  &verb_start,   &verb_stop,      &verb_restart, &verb_pause,
	&verb_resume,  &verb_update,  &verb_rename,    &verb_wait,    &verb_delete,
	&verb_list,    &verb_info,    &verb_exec,      &verb_attach,  &verb_logs,
	&verb_cp,      &verb_diff,    &verb_commit,    &verb_stats,   &verb_top,
	&verb_image,   &verb_kernel,  &verb_network,   &verb_router,  &verb_balancer,
	&verb_group,   &verb_project, &verb_operation, &verb_events,  &verb_bench,
	&verb_version, &verb_help,    &verb_complete,  NULL,
};

const struct verb *verb_find(const struct verb *const *table, const char *name)
{
	for (; *table; table++)
		if (strcmp((*table)->name, name) == 0 ||
		    ((*table)->alias && strcmp((*table)->alias, name) == 0))
			return *table;
	return NULL;
}
