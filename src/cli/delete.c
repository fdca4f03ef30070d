#include "cli/batch.h"
#include "cli/cli.h"
#include "cli/verb.h"

struct delete_options {
	bool force;
};

static const struct option_def delete_options[] = {
	{ 'f', "force", NULL, OPTION_FLAG, offsetof(struct delete_options, force),
	  "also instances that run: they are killed" },
	{},
};

static int delete_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct delete_options *options = userdata;
	struct batch batch = {
		.doing = "deleting",
		.done = "deleted",
		.method = "DELETE",
		.collection = "instances",
		.suffix = options->force ? "?force=1" : "",
		.force_hint = !options->force,
	};

	return batch_run(cli, &batch, arguments, err);
}

const struct verb verb_delete = {
	.name = "delete",
	.alias = "rm",
	.synopsis = "[-f] NAME...",
	.summary = "Delete instances and everything they wrote",
	.help = "Examples:\n  brume delete web\n  brume delete --force web api\n",
	.options = delete_options,
	.options_size = sizeof(struct delete_options),
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = delete_run,
};
