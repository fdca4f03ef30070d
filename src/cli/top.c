#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "codec/uri.h"

static const struct column top_columns[] = {
	{ .title = "PID", .right = true },
	{ .title = "HOST PID", .right = true },
	{ .title = "USER" },
	{ .title = "STATE" },
	{ .title = "CPU TIME", .right = true },
	{ .title = "RSS", .right = true },
	{ .title = "COMMAND", .elastic = true },
	{},
};

static void top_number(struct table *table, const json_t *process, const char *path)
{
	AUTO(free) char *text = mem_printf("%lld", (long long) resource_int(process, path, 0));

	table_cell(table, text);
}

static void top_row(const struct cli *cli, struct table *table, const json_t *process)
{
	int64_t cpu_ms = resource_int(process, "cpu_ms", 0);
	bool people = cli->style.format == FORMAT_TABLE;
	char time[HUMAN_SIZE], rss[HUMAN_SIZE];

	top_number(table, process, "pid");
	/* What is inside of a virtual machine has none. */
	if (resource_at(process, "host_pid"))
		top_number(table, process, "host_pid");
	else
		table_cell(table, NULL);
	table_cell(table, resource_text(process, "user"));
	table_cell(table, resource_text(process, "state"));
	if (cpu_ms < 60 * 1000)
		snprintf(time, sizeof(time), "%.2fs", (double) cpu_ms / 1000);
	else
		human_duration(cpu_ms, time);
	human_bytes((uint64_t) resource_int(process, "rss_bytes", 0), rss);
	if (people) {
		table_cell(table, time);
		table_cell(table, rss);
	} else {
		top_number(table, process, "cpu_ms");
		top_number(table, process, "rss_bytes");
	}
	table_cell(table, resource_text(process, "command"));
}

static int top_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		   struct error *err)
{
	AUTO(free) char *name = uri_encode(arguments->words[0]);
	AUTO(free) char *path = mem_printf("/instances/%s/processes", name);
	AUTO(table_free) struct table *table = table_new(top_columns);
	AUTO(json_decref) json_t *answer = NULL;
	const json_t *list, *process;
	int64_t count;
	size_t i;
	int r = cli_request(cli, "GET", path, NULL, &answer, err);

	(void) userdata;
	if (r < 0)
		return r;
	list = resource_at(answer, "processes");
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, list);
		return 0;
	}
	json_array_foreach(list, i, process) top_row(cli, table, process);
	table_print(table, cli->out, &cli->style);
	count = resource_int(answer, "count", 0);
	if (count > (int64_t) json_array_size(list))
		cli_note(cli, "%lld processes in all, the first %zu are shown", (long long) count,
			 json_array_size(list));
	return 0;
}

const struct verb verb_top = {
	.name = "top",
	.synopsis = "NAME",
	.summary = "Show the processes inside an instance",
	.help = "What is not printable in a command line is shown as \\xNN.\n\n"
		"Examples:\n  brume top web\n  brume top web -f json | jq '.[].command'\n",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_INSTANCE,
	.run = top_run,
};
