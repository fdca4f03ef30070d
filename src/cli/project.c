#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "codec/uri.h"
#include "model/request.h"

static const struct column project_columns[] = {
	{ .title = "NAME" },
	{ .title = "PRIVILEGED" },
	{ .title = "DESCRIPTION", .elastic = true },
	{},
};

static const char *project_privileged(const json_t *project)
{
	return json_is_true(resource_at(project, "spec.allow_privileged")) ? "allowed" : "refused";
}

static void project_row(struct cli *cli, struct table *table, const json_t *project)
{
	(void) cli;
	table_cell(table, resource_text(project, "meta.name"));
	table_cell(table, project_privileged(project));
	table_cell(table, resource_text(project, "spec.description"));
}

static int project_list_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	(void) userdata;
	(void) arguments;
	return listing_print(cli, "/projects?recursion=1", project_columns, project_row, false,
			     err);
}

static int project_info_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	AUTO(json_decref) json_t *project = NULL;
	AUTO(strbuf_done) struct strbuf out = {};
	int r = listing_get(cli, "projects", arguments->words[0], &project, err);

	(void) userdata;
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, project);
		return 0;
	}
	listing_fact(&out, "name", resource_name(project));
	listing_fact(&out, "uid", resource_text(project, "meta.uid"));
	listing_fact_time(&out, "created", project, "meta.created");
	listing_fact(&out, "description", resource_text(project, "spec.description"));
	listing_fact(&out, "privileged", project_privileged(project));
	listing_print_facts(cli, &out);
	return 0;
}

static int project_build(const char *key, const char *value, struct project_request *request,
			 struct error *err)
{
	if (strcmp(key, "description") == 0) {
		mem_replace(&request->description, value);
		return 0;
	}
	if (strcmp(key, "allow_privileged") != 0)
		return error_say(err, -EINVAL,
				 "\"%.64s\" is not a setting of projects; there are "
				 "allow_privileged and description",
				 key);
	if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
		return error_say(err, -EINVAL,
				 "allow_privileged must be true or false, not \"%.64s\"", value);
	request->allow_privileged = value[0] == 't';
	return 0;
}

static int project_set_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			   struct error *err)
{
	struct project_request request = { .allow_privileged = -1 };
	AUTO(json_decref) json_t *body = NULL, *operation = NULL, *ended = NULL;
	AUTO(free) char *encoded = uri_encode(arguments->words[0]);
	AUTO(free) char *path = mem_printf("/projects/%s", encoded);
	int r = project_build(arguments->words[1], arguments->words[2], &request, err);

	(void) userdata;
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	body = project_request_encode(&request);
	project_request_done(&request);
	r = cli_request(cli, "PUT", path, body, &operation, err);
	if (r == 0)
		r = wait_operation(cli, "setting", operation, &ended, err);
	return r;
}

const struct verb verb_project_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "",
	.summary = "List the projects",
	.run = project_list_run,
};

const struct verb verb_project_info = {
	.name = "info",
	.synopsis = "NAME",
	.summary = "Show all about a project",
	.words_min = 1,
	.words_max = 1,
	.run = project_info_run,
};

const struct verb verb_project_set = {
	.name = "set",
	.synopsis = "NAME KEY VALUE",
	.summary = "Change what a project may; only root on the node",
	.help = "allow_privileged true lets its instances be launched with --privileged or "
		"--seccomp\n"
		"unconfined; description is a text.\n\n"
		"Examples:\n"
		"  brume project set default allow_privileged true\n"
		"  brume project set default description 'the team on floor 2'\n",
	.words_min = 3,
	.words_max = 3,
	.run = project_set_run,
};
