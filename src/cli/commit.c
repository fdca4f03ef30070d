#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "model/request.h"

struct commit_options {
	char **changes;
	const char *message, *author, *pause;
};

#define COMMIT(member) offsetof(struct commit_options, member)

static const struct option_def commit_options[] = {
	{ 'c', "change", "CHANGE", OPTION_LIST, COMMIT(changes),
	  "a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, WORKDIR, ..." },
	{ 'm', "message", "TEXT", OPTION_STRING, COMMIT(message), "what was changed" },
	{ 'a', "author", "NAME", OPTION_STRING, COMMIT(author), "who made it" },
	{ 'p', "pause", "true|false", OPTION_STRING, COMMIT(pause),
	  "let the instance stand still while it is read (true)" },
	{},
};

static int commit_send(struct cli *cli, const struct commit_request *request, const char *title,
		       struct error *err)
{
	AUTO(json_decref) json_t *body = commit_request_encode(request);
	AUTO(json_decref) json_t *operation = NULL;
	AUTO(json_decref) json_t *image = NULL;
	const char *target, *digest;
	int r = cli_request(cli, "POST", "/images", body, &operation, err);

	if (r == 0)
		r = wait_operation(cli, title, operation, NULL, err);
	if (r < 0)
		return r;
	target = resource_text(operation, "spec.target.name");
	r = listing_get(cli, "images", target ? target : request->name, &image, err);
	if (r < 0)
		return r;
	digest = resource_text(image, "status.digest");
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, image);
	else if (cli->options.quiet)
		fprintf(cli->out, "%s\n", target ? target : request->name);
	else
		fprintf(cli->out, "%s: committed, %s\n", target ? target : request->name,
			digest ? digest : "");
	return 0;
}

static int commit_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct commit_options *options = userdata;
	AUTO(free) char *title = mem_printf("committing %s", arguments->words[0]);
	struct commit_request request = { .instance = arguments->words[0],
					  .name = arguments->words[1],
					  .changes = options->changes,
					  .message = (char *) options->message,
					  .author = (char *) options->author,
					  .pause = true };

	if (options->pause && strcmp(options->pause, "false") == 0)
		request.pause = false;
	else if (options->pause && strcmp(options->pause, "true") != 0)
		return cli_usage(cli, err, "--pause %s: must be true or false", options->pause);
	return commit_send(cli, &request, title, err);
}

const struct verb verb_commit = {
	.name = "commit",
	.synopsis = "[-c CHANGE]... [-m TEXT] [-a NAME] [-p true|false] NAME IMAGE",
	.summary = "Make an image of an instance and what it has changed",
	.help = "What the instance was launched with (command, environment, user, folder) becomes "
		"the image's.\n\n"
		"Examples:\n  brume commit web shop\n"
		"  brume commit -c 'CMD [\"nginx\"]' -c 'ENV MODE=fast' -m 'tuned' web shop:2\n"
		"  brume launch shop:2 shop2\n  brume image export shop:2 shop.tar\n",
	.options = commit_options,
	.options_size = sizeof(struct commit_options),
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_INSTANCE,
	.run = commit_run,
};
