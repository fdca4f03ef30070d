#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "codec/uri.h"

static void diff_line(struct cli *cli, const json_t *change)
{
	const char *kind = json_string_value(json_object_get(change, "kind"));
	const char *path = json_string_value(json_object_get(change, "path"));
	AUTO(strbuf_done) struct strbuf shown = {};

	human_text(&shown, path ? path : "");
	if (cli->options.quiet)
		fprintf(cli->out, "%s\n", strbuf_str(&shown));
	else
		fprintf(cli->out, "%.1s %s\n", kind ? kind : "?", strbuf_str(&shown));
}

static const struct column diff_columns[] = { { .title = "KIND" }, { .title = "PATH" }, {} };

static void diff_cells(struct cli *cli, const json_t *changes)
{
	AUTO(table_free) struct table *table = table_new(diff_columns);
	const json_t *change;
	size_t i;

	json_array_foreach((json_t *) changes, i, change)
	{
		table_cell(table, json_string_value(json_object_get(change, "kind")));
		table_cell(table, json_string_value(json_object_get(change, "path")));
	}
	table_print(table, cli->out, &cli->style);
}

static int diff_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	AUTO(free) char *name = uri_encode(arguments->words[0]);
	AUTO(free) char *path = mem_printf("/instances/%s/changes", name);
	AUTO(json_decref) json_t *changes = NULL;
	json_t *change;
	size_t i;
	int r = cli_request(cli, "GET", path, NULL, &changes, err);

	(void) userdata;
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, changes);
		return 0;
	}
	if (cli->style.format != FORMAT_TABLE && !cli->options.quiet) {
		diff_cells(cli, changes);
		return 0;
	}
	json_array_foreach(changes, i, change) diff_line(cli, change);
	return 0;
}

const struct verb verb_diff = {
	.name = "diff",
	.synopsis = "NAME",
	.summary = "Show which files of an instance differ from its image",
	.help = "One line for each: A for added, C for changed, D for deleted.\n\n"
		"Examples:\n  brume diff web\n  brume diff web -f json\n"
		"  brume diff -q web                     only the paths\n",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_INSTANCE,
	.run = diff_run,
};
