#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "codec/uri.h"

static int rename_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const char *old_name = arguments->words[0], *new_name = arguments->words[1];
	AUTO(free) char *escaped = uri_encode(old_name);
	AUTO(free) char *path = mem_printf("/instances/%s/rename", escaped);
	AUTO(free) char *title = mem_printf("renaming %s", old_name);
	AUTO(json_decref) json_t *body = json_pack("{s:s}", "name", new_name);
	AUTO(json_decref) json_t *operation = NULL, *ended = NULL;
	int r;

	(void) userdata;
	if (!body)
		return cli_usage(cli, err, "the new name is not valid UTF-8");
	r = cli_request(cli, "POST", path, body, &operation, err);
	if (r == 0)
		r = wait_operation(cli, title, operation, &ended, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, ended);
	else
		fprintf(cli->out, cli->options.quiet ? "%s\n" : "%s: renamed\n", new_name);
	return 0;
}

const struct verb verb_rename = {
	.name = "rename",
	.synopsis = "OLD NEW",
	.summary = "Give an instance another name",
	.help = "It goes on running; the other instances of its network find it under the new name "
		"at once.\nIts own host name changes at its next start, unless it was launched "
		"with "
		"--hostname.\n\nExample:\n  brume rename web web-old\n",
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_INSTANCE,
	.run = rename_run,
};
