#include "base/error.h"
#include "base/json.h"
#include "cli/batch.h"
#include "cli/cli.h"
#include "cli/number.h"
#include "cli/verb.h"
#include "model/request.h"

enum { STATE_TIMEOUT_MAX_S = 86400 };

struct state_options {
	const char *timeout;
	bool force;
};

#define STATE(member) offsetof(struct state_options, member)

static const struct option_def state_stop_options[] = {
	{ 't', "timeout", "SECONDS", OPTION_STRING, STATE(timeout),
	  "how long it may take to end before it is killed" },
	{ 0, "force", NULL, OPTION_FLAG, STATE(force), "kill it at once" },
	{},
};

static int state_run(struct cli *cli, const struct state_options *options,
		     const struct arguments *arguments, enum instance_action action,
		     const char *doing, const char *done, struct error *err)
{
	struct action_request request = { .action = action, .timeout_s = -1 };
	AUTO(json_decref) json_t *body = NULL;
	struct batch batch = { .doing = doing,
			       .done = done,
			       .method = "PUT",
			       .collection = "instances",
			       .suffix = "/state" };
	int r;

	if (options && options->timeout) {
		r = number_parse(options->timeout, "--timeout", 0, STATE_TIMEOUT_MAX_S,
				 &request.timeout_s, err);
		if (r < 0) {
			cli->usage = true;
			return r;
		}
	}
	request.force = options && options->force;
	body = action_request_encode(&request);
	batch.body = body;
	return batch_run(cli, &batch, arguments, err);
}

static int start_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	(void) userdata;
	return state_run(cli, NULL, arguments, INSTANCE_START, "starting", "running", err);
}

static int stop_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	return state_run(cli, userdata, arguments, INSTANCE_STOP, "stopping", "stopped", err);
}

static int restart_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		       struct error *err)
{
	return state_run(cli, userdata, arguments, INSTANCE_RESTART, "restarting", "running", err);
}

static int pause_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	(void) userdata;
	return state_run(cli, NULL, arguments, INSTANCE_PAUSE, "pausing", "paused", err);
}

static int resume_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	(void) userdata;
	return state_run(cli, NULL, arguments, INSTANCE_RESUME, "resuming", "running", err);
}

const struct verb verb_start = {
	.name = "start",
	.synopsis = "NAME...",
	.summary = "Start stopped instances",
	.help = "Example:\n  brume start web\n",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = start_run,
};

const struct verb verb_stop = {
	.name = "stop",
	.synopsis = "[-t SECONDS] [--force] NAME...",
	.summary = "Stop instances: their stop signal, then a kill",
	.help = "Examples:\n  brume stop web\n  brume stop -t 60 database\n  brume stop --force "
		"stuck\n",
	.options = state_stop_options,
	.options_size = sizeof(struct state_options),
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = stop_run,
};

const struct verb verb_restart = {
	.name = "restart",
	.synopsis = "[-t SECONDS] [--force] NAME...",
	.summary = "Stop instances and start them again",
	.help = "Example:\n  brume restart web\n",
	.options = state_stop_options,
	.options_size = sizeof(struct state_options),
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = restart_run,
};

const struct verb verb_pause = {
	.name = "pause",
	.synopsis = "NAME...",
	.summary = "Freeze all processes of instances",
	.help = "Example:\n  brume pause web; brume resume web\n",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = pause_run,
};

const struct verb verb_resume = {
	.name = "resume",
	.synopsis = "NAME...",
	.summary = "Let paused instances go on",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = resume_run,
};
