#include "cli/batch.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "cli/wait.h"
#include "client/client.h"
#include "codec/uri.h"

static int batch_send(struct cli *cli, const struct batch *batch, const char *name, json_t **ret,
		      struct error *err)
{
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = mem_printf("/%s/%s%s", batch->collection, escaped, batch->suffix);

	int r = cli_request(cli, batch->method, path, batch->body, ret, err);

	if (r < 0 && batch->force_hint && client_status(cli->client) == 409)
		cli_set_hint(cli, "brume delete --force %s", name);
	return r;
}

static void batch_report(struct cli *cli, const struct batch *batch, const char *name,
			 json_t *results, const json_t *operation)
{
	if (cli->style.format == FORMAT_JSON)
		json_array_append(results, (json_t *) operation);
	else if (cli->style.format == FORMAT_TABLE && !cli->options.quiet)
		fprintf(cli->out, "%s: %s\n", name, batch->done);
	else
		fprintf(cli->out, "%s\n", name);
}

/* With one name the error is the verb's own; with several each is printed as it comes. */
static void batch_failed(struct cli *cli, size_t count, struct error *err, bool *failed)
{
	if (count > 1) {
		cli_print_error(cli, err->msg);
		cli->hint[0] = '\0';
	}
	*failed = true;
}

int batch_run(struct cli *cli, const struct batch *batch, const struct arguments *arguments,
	      struct error *err)
{
	size_t count = arguments->word_count;
	AUTO(json_decref) json_t *operations = json_array(), *results = json_array();
	bool failed = false;
	int last = 0;

	for (size_t i = 0; i < count; i++) {
		json_t *operation = NULL;
		int r = batch_send(cli, batch, arguments->words[i], &operation, err);

		if (r < 0) {
			last = r;
			batch_failed(cli, count, err, &failed);
		}
		json_array_append_new(operations, operation ? operation : json_null());
		/* Without a server the other names would only repeat the same words. */
		if (r < 0 && (!cli->client || client_status(cli->client) == 0))
			break;
	}
	for (size_t i = 0; i < json_array_size(operations); i++) {
		const char *name = arguments->words[i];
		AUTO(free) char *title = mem_printf("%s %s", batch->doing, name);
		AUTO(json_decref) json_t *ended = NULL;
		int r;

		if (json_is_null(json_array_get(operations, i)))
			continue;
		r = wait_operation(cli, title, json_array_get(operations, i), &ended, err);
		if (r < 0) {
			last = r;
			batch_failed(cli, count, err, &failed);
			continue;
		}
		batch_report(cli, batch, name, results, ended);
	}
	if (cli->style.format == FORMAT_JSON && json_array_size(results) > 0)
		cli_print_json(cli, results);
	if (failed && count == 1)
		return last;
	return failed ? EXIT_FAILURE : 0;
}
