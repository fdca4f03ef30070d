#include "cli/stats_machine.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "codec/uri.h"

enum { DEPTH_MAX = 16 };

const struct column stats_machine_columns[] = {
	{ .title = "COUNTER" },
	{ .title = "VALUE", .right = true },
	{},
};

static void put_value(struct table *table, const char *path, const json_t *value,
		      unsigned int depth);

/* A device is named by its id, a CPU by its number. */
static void put_list(struct table *table, const char *path, const json_t *list, unsigned int depth)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *id = json_string_value(json_object_get(item, "id"));
		AUTO(free)
		char *below = id ? mem_printf("%s.%s", path, id) : mem_printf("%s.%zu", path, i);

		if (!id && (id = json_string_value(json_object_get(item, "name")))) {
			free(below);
			below = mem_printf("%s.%s", path, id);
		}
		put_value(table, below, item, depth + 1);
	}
}

static void put_value(struct table *table, const char *path, const json_t *value,
		      unsigned int depth)
{
	AUTO(free) char *text = NULL;
	const char *name;
	json_t *member;

	if (depth > DEPTH_MAX)
		return;
	if (json_is_array(value)) {
		put_list(table, path, value, depth);
	} else if (json_is_object(value)) {
		json_object_foreach((json_t *) (uintptr_t) value, name, member)
		{
			AUTO(free)
			char *below = path[0] ? mem_printf("%s.%s", path, name) : mem_strdup(name);

			put_value(table, below, member, depth + 1);
		}
	} else if (json_is_integer(value) && json_integer_value(value) != 0) {
		text = mem_printf("%lld", (long long) json_integer_value(value));
		table_cell(table, path);
		table_cell(table, text);
	}
}

void stats_machine_put(struct table *table, const json_t *machine)
{
	put_value(table, "", machine, 0);
}

int stats_machine(struct cli *cli, const char *name, struct error *err)
{
	AUTO(free) char *encoded = uri_encode(name);
	AUTO(free) char *path = mem_printf("/instances/%s/stats", encoded);
	AUTO(table_free) struct table *table = table_new(stats_machine_columns);
	AUTO(json_decref) json_t *answer = NULL;
	const json_t *machine;
	int r = cli_request(cli, "GET", path, NULL, &answer, err);

	if (r < 0)
		return r;
	machine = json_object_get(answer, "machine");
	if (!machine)
		return error_say(err, -EINVAL,
				 "%s: has no counters of a machine: it is a container, or its "
				 "monitor does not answer",
				 name);
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, machine);
		return 0;
	}
	stats_machine_put(table, machine);
	table_print(table, cli->out, &cli->style);
	return 0;
}
