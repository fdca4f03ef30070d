#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/resource.h"
#include "cli/verb.h"

static int version_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		       struct error *err)
{
	AUTO(json_decref) json_t *server = NULL, *both = json_object();
	AUTO(strbuf_done) struct strbuf text = {};
	struct error failure = {};
	int r = cli_request(cli, "GET", "", NULL, &server, &failure);

	(void) userdata;
	(void) arguments;
	/* The program's own version is always known; the server is a bonus. */
	if (cli->usage)
		return error_say(err, r, "%s", failure.msg);
	json_object_set_new(both, "client", json_string(BRUME_VERSION));
	if (r == 0 && resource_text(server, "version"))
		json_object_set(both, "server", (json_t *) resource_at(server, "version"));
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, both);
		return 0;
	}
	human_text(&text, r == 0 ? resource_text(server, "version") : failure.msg);
	fprintf(cli->out, "brume   %s\n", BRUME_VERSION);
	if (r == 0)
		fprintf(cli->out, "server  %s\n", strbuf_str(&text));
	else
		cli_note(cli, "no server: %s", strbuf_str(&text));
	return 0;
}

const struct verb verb_version = {
	.name = "version",
	.synopsis = "",
	.summary = "Show the versions of this program and of the server",
	.run = version_run,
};
