#pragma once
/*
 * cli/verb.h - the table of verbs: one place that says what `brume` can do.
 *
 * Used by cli/main (dispatch), cli/help and cli/complete.  Each verb lives in a file of its own.
 */
#include <stdbool.h>
#include <stddef.h>

#include "cli/option.h"

struct cli;
struct error;

struct verb {
	const char *name;                /* "list" */
	const char *alias;               /* "ls", or NULL */
	const char *synopsis;            /* what stands behind the name */
	const char *summary;             /* one line, no full stop */
	const char *help;                /* more words and examples, or NULL */
	const struct verb *const *verbs; /* a group: "image" -> "pull", ...; NULL-terminated */

	const struct option_def *options; /* or NULL */
	size_t options_size;              /* of the struct they fill */
	size_t words_min, words_max;
	bool has_command;
	enum completion completion;  /* of the words */
	enum completion completion2; /* of the second one, when it differs */
	bool hidden;

	/*
	 * `options` points to the filled struct.  Returns the exit code, or -errno with words: then
	 * nothing was printed to cli->out that looks like a result.
	 */
	int (*run)(struct cli *cli, const void *options, const struct arguments *arguments,
		   struct error *err);
};

enum { VERB_WORDS_ANY = 4096 };

/* All verbs, in the order of the help; NULL-terminated. */
extern const struct verb *const verbs[];
extern const struct option_def verb_common_options[];

/* Finds a verb by name or alias in a table; NULL when there is none. */
const struct verb *verb_find(const struct verb *const *table, const char *name);

/* The verbs, each in its file. */
extern const struct verb verb_launch, verb_start, verb_stop, verb_restart, verb_pause, verb_resume;
extern const struct verb verb_delete, verb_list, verb_info, verb_exec, verb_logs, verb_events;
extern const struct verb verb_stats, verb_top, verb_rename, verb_wait, verb_cp, verb_diff,
	verb_update;
extern const struct verb verb_attach, verb_commit;
extern const struct verb verb_bench_virt;
extern const struct verb verb_version, verb_help, verb_complete;
extern const struct verb verb_image_pull, verb_image_import, verb_image_export, verb_image_list;
extern const struct verb verb_image_info, verb_image_delete, verb_image_prune;
extern const struct verb verb_kernel_list, verb_kernel_import, verb_kernel_default;
extern const struct verb verb_kernel_delete;
extern const struct verb verb_network_create, verb_network_list, verb_network_info;
extern const struct verb verb_network_delete, verb_network_attach, verb_network_detach,
	verb_network_peer, verb_network_update, verb_network_flows;
extern const struct verb verb_balancer, verb_group;
extern const struct verb verb_network_limit, verb_network_usage, verb_network_trace;
extern const struct verb verb_router_create, verb_router_list, verb_router_show, verb_router_delete;
extern const struct verb verb_router_attach, verb_router_detach, verb_router_route;
extern const struct verb verb_router_floating, verb_router_forward, verb_router_update;
extern const struct verb verb_project_list, verb_project_info, verb_project_set;
extern const struct verb verb_operation_list, verb_operation_info, verb_operation_wait;
extern const struct verb verb_operation_cancel;
