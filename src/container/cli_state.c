#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "container/cli_internal.h"
#include "container/record.h"

static void print_json(const json_t *value)
{
	AUTO(free) char *text = json_dumps(value, JSON_INDENT(2));

	puts(text ? text : "");
}

static int state(const struct runtime_options *options, int argc, char **argv)
{
	static const struct option none[] = { {} };
	AUTO(record_free) struct record *record = NULL;
	AUTO(json_decref) json_t *object = NULL;
	enum oci_status status;
	struct error err = {};
	const char *id;
	int r;

	if (cli_option(options, argc, argv, "+", none) != -1)
		return CLI_USAGE;
	id = cli_only_word(options, argc, argv, "container id");
	if (!id)
		return CLI_USAGE;
	r = record_open(options->root, id, false, &record, &err);
	if (r == 0)
		r = record_status(record, &status, &err);
	if (r < 0)
		return cli_fail(options, &err);
	object = oci_state_public(record->state, status);
	print_json(object);
	return CLI_OK;
}

const struct cli_verb cli_state = {
	.name = "state",
	.usage = "ID",
	.help = "print what a container is doing",
	.examples = "brume-oci state box",
	.run = state,
};

enum list_format { LIST_TABLE, LIST_JSON, LIST_QUIET };

static void print_row(const struct record *record, enum oci_status status)
{
	char created[CLOCK_RFC3339_SIZE];

	clock_format_rfc3339(record->state->created_ms, created);
	printf("%-24s %-8d %-9s %-25s %s\n", record->state->id,
	       status == OCI_STATUS_STOPPED ? 0 : (int) record->state->pid, oci_status_name(status),
	       created, record->state->bundle);
}

static int list_all(const struct runtime_options *options, enum list_format format,
		    struct error *err)
{
	AUTO(json_decref) json_t *array = json_array();
	AUTO(strv_free) char **ids = NULL;
	int r = record_list(options->root, &ids, err);

	if (r < 0)
		return r;
	if (format == LIST_TABLE)
		printf("%-24s %-8s %-9s %-25s %s\n", "ID", "PID", "STATUS", "CREATED", "BUNDLE");
	for (char **id = ids; *id; id++) {
		AUTO(record_free) struct record *record = NULL;
		enum oci_status status;

		/* One that goes away meanwhile, or is damaged, must not hide the others. */
		if (record_open(options->root, *id, false, &record, NULL) < 0 ||
		    record_status(record, &status, NULL) < 0)
			continue;
		if (format == LIST_QUIET)
			puts(*id);
		else if (format == LIST_TABLE)
			print_row(record, status);
		else
			json_array_append_new(array, oci_state_public(record->state, status));
	}
	if (format == LIST_JSON)
		print_json(array);
	return 0;
}

static int list(const struct runtime_options *options, int argc, char **argv)
{
	static const struct option longs[] = { { "format", required_argument, NULL, 'f' },
					       { "quiet", no_argument, NULL, 'q' },
					       {} };
	enum list_format format = LIST_TABLE;
	struct error err = {};
	int c;

	while ((c = cli_option(options, argc, argv, "+f:q", longs)) != -1) {
		if (c == 'q')
			format = LIST_QUIET;
		else if (c != 'f')
			return CLI_USAGE;
		else if (strcmp(optarg, "json") == 0)
			format = LIST_JSON;
		else if (strcmp(optarg, "table") != 0)
			return cli_usage(options, "list: --format: \"%s\" is not table or json",
					 optarg);
	}
	if (optind != argc)
		return cli_usage(options, "list: takes no words");
	return list_all(options, format, &err) < 0 ? cli_fail(options, &err) : CLI_OK;
}

const struct cli_verb cli_list = {
	.name = "list",
	.usage = "[-q] [-f table|json]",
	.help = "print all containers",
	.examples = "brume-oci list -q\n"
		    "brume-oci list -f json",
	.run = list,
};
