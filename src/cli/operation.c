#include "client/operation.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "client/client.h"

static const struct column operation_columns[] = {
	{ .title = "ID" },
	{ .title = "ACTION" },
	{ .title = "TARGET", .elastic = true },
	{ .title = "STATE", .state = true },
	{ .title = "AGE", .right = true },
	{ .title = "WHAT", .elastic = true },
	{},
};

static void operation_row(struct cli *cli, struct table *table, const json_t *operation)
{
	const char *created = resource_text(operation, "meta.created");
	const char *failure = resource_text(operation, "status.error");
	char age[HUMAN_SIZE] = "";
	int64_t ms;

	if (created && clock_parse_rfc3339(created, &ms) == 0)
		human_duration(clock_realtime_ms(cli->clock) - ms, age);
	table_cell(table, operation_id(operation));
	table_cell(table, resource_text(operation, "spec.action"));
	table_cell(table, resource_text(operation, "spec.target.name"));
	table_cell(table, resource_text(operation, "status.state"));
	table_cell(table, age);
	table_cell(table, failure && *failure ? failure
					      : resource_text(operation, "status.progress.text"));
}

static int operation_list_run(struct cli *cli, const void *userdata,
			      const struct arguments *arguments, struct error *err)
{
	(void) userdata;
	(void) arguments;
	return listing_print(cli, "/operations?recursion=1", operation_columns, operation_row,
			     false, err);
}

static int operation_info_run(struct cli *cli, const void *userdata,
			      const struct arguments *arguments, struct error *err)
{
	AUTO(json_decref) json_t *operation = NULL;
	AUTO(strbuf_done) struct strbuf out = {};
	int r = listing_get(cli, "operations", arguments->words[0], &operation, err);

	(void) userdata;
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, operation);
		return 0;
	}
	listing_fact(&out, "id", operation_id(operation));
	listing_fact(&out, "project", resource_text(operation, "meta.project"));
	listing_fact(&out, "action", resource_text(operation, "spec.action"));
	listing_fact(&out, "kind", resource_text(operation, "spec.target.kind"));
	listing_fact(&out, "target", resource_text(operation, "spec.target.name"));
	listing_fact(&out, "state", resource_text(operation, "status.state"));
	listing_fact(&out, "error", resource_text(operation, "status.error"));
	listing_fact(&out, "progress", resource_text(operation, "status.progress.text"));
	listing_fact_bytes(&out, "done", operation, "status.progress.done_bytes");
	listing_fact_bytes(&out, "total", operation, "status.progress.total_bytes");
	listing_fact_time(&out, "created", operation, "meta.created");
	listing_fact_time(&out, "finished", operation, "status.finished");
	listing_print_facts(cli, &out);
	return 0;
}

static int operation_wait_run(struct cli *cli, const void *userdata,
			      const struct arguments *arguments, struct error *err)
{
	AUTO(json_decref) json_t *operation = NULL, *ended = NULL;
	AUTO(free) char *title = NULL;
	const char *action, *name;
	int r = listing_get(cli, "operations", arguments->words[0], &operation, err);

	(void) userdata;
	if (r < 0)
		return r;
	action = resource_text(operation, "spec.action");
	name = resource_text(operation, "spec.target.name");
	title = mem_printf("%s %s", action ? action : "operation", name ? name : "");
	r = wait_operation(cli, title, operation, &ended, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, ended);
	else if (!cli->options.quiet)
		fprintf(cli->out, "%s: done\n", arguments->words[0]);
	return 0;
}

static int operation_cancel_run(struct cli *cli, const void *userdata,
				const struct arguments *arguments, struct error *err)
{
	struct client *client = NULL;
	int r = cli_connect(cli, &client, err);

	(void) userdata;
	if (r < 0)
		return r;
	for (size_t i = 0; i < arguments->word_count; i++) {
		r = operation_cancel(client, arguments->words[i], err);
		if (r < 0)
			return cli_failed(cli, "/operations", r);
		if (!cli->options.quiet)
			fprintf(cli->out, "%s: is being cancelled\n", arguments->words[i]);
	}
	return 0;
}

const struct verb verb_operation_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "",
	.summary = "List what is in progress, and what ended in the last hour",
	.run = operation_list_run,
};

const struct verb verb_operation_info = {
	.name = "info",
	.synopsis = "ID",
	.summary = "Show all about an operation",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_OPERATION,
	.run = operation_info_run,
};

const struct verb verb_operation_wait = {
	.name = "wait",
	.synopsis = "ID",
	.summary = "Wait until an operation has ended; fails when it failed",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_OPERATION,
	.run = operation_wait_run,
};

const struct verb verb_operation_cancel = {
	.name = "cancel",
	.synopsis = "ID...",
	.summary = "Cancel operations",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_OPERATION,
	.run = operation_cancel_run,
};
