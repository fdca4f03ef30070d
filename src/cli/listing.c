#include "cli/listing.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/resource.h"
#include "codec/uri.h"

/* Between title and text: nothing that human_text() writes. */
enum { FACT_END = '\x1f' };

static void listing_print_names(struct cli *cli, const json_t *list)
{
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		AUTO(strbuf_done) struct strbuf name = {};

		human_text(&name, resource_name(one));
		fprintf(cli->out, "%s\n", strbuf_str(&name));
	}
}

int listing_print(struct cli *cli, const char *path, const struct column *columns,
		  listing_row_fn row, bool wide, struct error *err)
{
	AUTO(table_free) struct table *table = table_new(columns);
	AUTO(json_decref) json_t *list = NULL;
	const json_t *one;
	size_t i;
	int r = cli_request(cli, "GET", path, NULL, &list, err);

	if (r < 0)
		return r;
	if (!json_is_array(list))
		return error_say(err, -EPROTO,
				 "the server's answer is not understood: it is no list");
	if (cli->options.quiet) {
		listing_print_names(cli, list);
		return 0;
	}
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, list);
		return 0;
	}
	json_array_foreach(list, i, one) row(cli, table, one);
	cli->style.wide = wide || cli->style.format != FORMAT_TABLE;
	table_print(table, cli->out, &cli->style);
	return 0;
}

void listing_fact(struct strbuf *out, const char *title, const char *text)
{
	if (!text || !*text)
		return;
	strbuf_printf(out, "%s%c", title, FACT_END);
	human_text(out, text);
	strbuf_puts(out, "\n");
}

void listing_print_facts(struct cli *cli, const struct strbuf *facts)
{
	static const struct column columns[] = { { .title = "FACT" }, { .title = "VALUE" }, {} };
	AUTO(table_free) struct table *table = table_new(columns);
	AUTO(free) char *text = mem_strdup(strbuf_str(facts));
	bool people = cli->style.format == FORMAT_TABLE;
	const char *title = "";
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n")) && rest) {
		char *value = strchr(line, FACT_END);

		if (value)
			*value++ = '\0';
		if (people && value)
			fprintf(cli->out, "%-14s %s\n", line, value);
		else if (people)
			fprintf(cli->out, "%s\n", line);
		if (!value)
			continue;
		title = line[0] ? line : title;
		table_cell(table, title);
		table_cell(table, value);
	}
	if (!people)
		table_print(table, cli->out, &cli->style);
}

void listing_fact_time(struct strbuf *out, const char *title, const json_t *resource,
		       const char *path)
{
	char text[HUMAN_SIZE];

	if (!resource_text(resource, path))
		return;
	human_time(resource_text(resource, path), text);
	listing_fact(out, title, text);
}

void listing_fact_bytes(struct strbuf *out, const char *title, const json_t *resource,
			const char *path)
{
	int64_t bytes = resource_int(resource, path, 0);
	char text[HUMAN_SIZE];

	if (bytes <= 0)
		return;
	human_bytes((uint64_t) bytes, text);
	listing_fact(out, title, text);
}

void listing_fact_map(struct strbuf *out, const char *title, const json_t *map)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) map, key, value)
	{
		AUTO(free)
		char *text = mem_printf("%s=%s", key,
					json_string_value(value) ? json_string_value(value) : "");

		listing_fact(out, title, text);
		title = "";
	}
}

void listing_advertised(struct strbuf *out, const json_t *resource)
{
	const json_t *subnets = resource_at(resource, "status.advertised");
	AUTO(strbuf_done) struct strbuf list = {};
	size_t count = json_array_size(subnets);

	if (!json_is_true(resource_at(resource, "spec.advertise")))
		return;
	for (size_t i = 0; i < count; i++)
		strbuf_printf(&list, "%s%s", i ? ", " : "",
			      json_string_value(json_array_get(subnets, i)));
	listing_fact(out, "advertised", count ? strbuf_str(&list) : "nothing now");
}

int listing_get(struct cli *cli, const char *collection, const char *name, json_t **ret,
		struct error *err)
{
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = mem_printf("/%s/%s", collection, escaped);

	return cli_request(cli, "GET", path, NULL, ret, err);
}
