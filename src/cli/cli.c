#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/strbuf.h"
#include "cli/human.h"
#include "client/client.h"

#define CLI_DEFAULT_SOCKET "/run/brume/brumed.sock"

static const char *cli_environment(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

int cli_connect(struct cli *cli, struct client **ret, struct error *err)
{
	struct client_options options = {
		.host = cli->options.socket ? cli->options.socket : cli->options.host,
		.token = cli_environment("BRUME_TOKEN"),
		.ca_file = cli_environment("BRUME_CACERT"),
		.project = cli->options.project ? cli->options.project
						: cli_environment("BRUME_PROJECT"),
	};
	int r;

	if (!cli->client) {
		if (cli->options.socket && cli->options.host)
			return cli_usage(cli, err, "--socket and --host cannot be given together");
		if (!options.host)
			options.host = cli_environment("BRUME_HOST");
		if (!options.host)
			options.host = CLI_DEFAULT_SOCKET;
		r = client_new(&options, &cli->client, err);
		if (r < 0) {
			cli->usage = true;
			return r;
		}
	}
	*ret = cli->client;
	return 0;
}

int cli_request(struct cli *cli, const char *method, const char *path, const json_t *body,
		json_t **ret, struct error *err)
{
	struct client *client = NULL;
	int r = cli_connect(cli, &client, err);

	if (r < 0)
		return r;
	r = client_request(client, method, path, body, ret, err);
	return r < 0 ? cli_failed(cli, path, r) : 0;
}

/* "/images/x" -> "brume image list" */
static const char *cli_list_verb(const char *path)
{
	static const struct {
		const char *path, *verb;
	} collections[] = {
		{ "/instances", "brume list" },
		{ "/images", "brume image list" },
		{ "/networks", "brume network list" },
		{ "/routers", "brume router list" },
		{ "/operations", "brume operation list" },
	};

	for (size_t i = 0; i < ARRAY_COUNT(collections); i++)
		if (strncmp(path, collections[i].path, strlen(collections[i].path)) == 0)
			return collections[i].verb;
	return NULL;
}

int cli_failed(struct cli *cli, const char *path, int r)
{
	const char *hint = client_hint(cli->client);
	int status = client_status(cli->client);
	bool guess = strncmp(hint, "did you mean", 12) == 0;

	if (status == 400 && !guess)
		cli_set_hint(cli, "see `%s --help`", cli->verb);
	else if (status == 404 && !guess && cli_list_verb(path))
		cli_set_hint(cli, "`%s` shows what there is", cli_list_verb(path));
	else if (*hint)
		cli_set_hint(cli, "%s", hint);
	return r;
}

void cli_set_hint(struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cli->hint, sizeof(cli->hint), fmt, ap);
	va_end(ap);
}

int cli_usage(struct cli *cli, struct error *err, const char *fmt, ...)
{
	char message[sizeof(err->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	cli->usage = true;
	return error_say(err, -EINVAL, "%s", message);
}

void cli_print_error(struct cli *cli, const char *message)
{
	AUTO(strbuf_done) struct strbuf text = {};

	strbuf_puts(&text, "brume: ");
	human_text(&text, message);
	if (*cli->hint) {
		strbuf_puts(&text, "\nhint: ");
		human_text(&text, cli->hint);
	}
	fflush(cli->out);
	fprintf(cli->err, "%s\n", strbuf_str(&text));
}

void cli_note(struct cli *cli, const char *fmt, ...)
{
	AUTO(strbuf_done) struct strbuf text = {};
	char message[512];
	va_list ap;

	if (cli->options.quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	human_text(&text, message);
	fprintf(cli->err, "%s%s\n", cli->progress ? "\r\033[K" : "", strbuf_str(&text));
}

void cli_print_json(struct cli *cli, const json_t *value)
{
	json_dumpf(value, cli->out, JSON_INDENT(2) | JSON_ENCODE_ANY);
	fputc('\n', cli->out);
}
