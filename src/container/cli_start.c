#include "base/error.h"
#include "container/cli_internal.h"
#include "container/lifecycle.h"

/* start, pause and resume: one word, one step, under the record's lock. */
static int with_record(const struct runtime_options *options, int argc, char **argv,
		       int (*step)(struct record *record, struct error *err))
{
	static const struct option none[] = { {} };
	AUTO(record_free) struct record *record = NULL;
	struct error err = {};
	const char *id;
	int r;

	if (cli_option(options, argc, argv, "+", none) != -1)
		return CLI_USAGE;
	id = cli_only_word(options, argc, argv, "container id");
	if (!id)
		return CLI_USAGE;
	r = record_open(options->root, id, true, &record, &err);
	if (r == 0)
		r = step(record, &err);
	return r < 0 ? cli_fail(options, &err) : CLI_OK;
}

static int start(const struct runtime_options *options, int argc, char **argv)
{
	return with_record(options, argc, argv, lifecycle_start);
}

const struct cli_verb cli_start = {
	.name = "start",
	.usage = "ID",
	.help = "let the program of a created container run",
	.examples = "brume-oci start box",
	.run = start,
};

static int freeze_step(struct record *record, struct error *err)
{
	return lifecycle_freeze(record, true, err);
}

static int pause_verb(const struct runtime_options *options, int argc, char **argv)
{
	return with_record(options, argc, argv, freeze_step);
}

const struct cli_verb cli_pause = {
	.name = "pause",
	.usage = "ID",
	.help = "stop all processes of a container where they are",
	.examples = "brume-oci pause box",
	.run = pause_verb,
};

static int thaw_step(struct record *record, struct error *err)
{
	return lifecycle_freeze(record, false, err);
}

static int resume(const struct runtime_options *options, int argc, char **argv)
{
	return with_record(options, argc, argv, thaw_step);
}

const struct cli_verb cli_resume = {
	.name = "resume",
	.usage = "ID",
	.help = "let a paused container go on",
	.examples = "brume-oci resume box",
	.run = resume,
};
