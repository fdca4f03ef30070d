/*
 * brume network update: what of a network may change while it is used.
 */
#include <errno.h>
#include <stddef.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/choice.h"
#include "cli/cli.h"
#include "cli/network_change.h"
#include "cli/verb.h"

struct update_options {
	bool advertise, no_advertise, flow_log, no_flow_log;
};

#define UPDATE(member) offsetof(struct update_options, member)

static const struct option_def update_options[] = {
	{ 0, "advertise", NULL, OPTION_FLAG, UPDATE(advertise),
	  "of a routed one: the node's BGP daemon tells its peers the way to it" },
	{ 0, "no-advertise", NULL, OPTION_FLAG, UPDATE(no_advertise), "it tells them no more" },
	{ 0, "flow-log", NULL, OPTION_FLAG, UPDATE(flow_log),
	  "put down who talks with whom: brume network flows" },
	{ 0, "no-flow-log", NULL, OPTION_FLAG, UPDATE(no_flow_log),
	  "no more; what was put down stays until the network is deleted" },
	{},
};

static int build(struct cli *cli, const struct update_options *options, json_t *patch,
		 struct error *err)
{
	int r = choice_put(cli, patch, "advertise", options->advertise, options->no_advertise, err);

	if (r == 0)
		r = choice_put(cli, patch, "flow-log", options->flow_log, options->no_flow_log,
			       err);
	if (r < 0)
		return r;
	if (json_object_size(patch) == 0)
		return cli_usage(cli, err, "say --[no-]advertise or --[no-]flow-log");
	return 0;
}

static void tell(struct cli *cli, const struct update_options *options, const char *name)
{
	if (options->advertise || options->no_advertise)
		fprintf(cli->out, "%s: %s announced\n", name, options->advertise ? "is" : "is not");
	if (options->flow_log || options->no_flow_log)
		fprintf(cli->out, "%s: %s\n", name,
			options->flow_log ? "who talks with whom is put down"
					  : "no flow log any more");
}

static int update_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct update_options *options = userdata;
	const char *name = arguments->words[0];
	AUTO(json_decref) json_t *patch = json_object();
	AUTO(json_decref) json_t *network = NULL;
	int r = build(cli, options, patch, err);

	if (r == 0)
		r = network_change(cli, name, patch, &network, err);
	if (r == 0)
		tell(cli, options, name);
	return r < 0 ? r : 0;
}

const struct verb verb_network_update = {
	.name = "update",
	.synopsis = "OPTIONS NAME",
	.summary = "Change a network that is used",
	.help = "Whether others may be told of its subnets is said by the node's policy.\n"
		"A flow log costs: what instances of the network send each other is tracked, too, "
		"by the\nkernel (some tenth of what a bridge can carry), until the network was "
		"empty once.\n\n"
		"Examples:\n  brume network update public --advertise\n"
		"  brume network update public --no-advertise\n"
		"  brume network update shop --flow-log\n"
		"  brume network update shop --no-flow-log\n",
	.options = update_options,
	.options_size = sizeof(struct update_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_NETWORK,
	.run = update_run,
};
