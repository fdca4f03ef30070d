/*
 * brume network update: what of a network may change while it is used.
 */
#include <errno.h>
#include <stddef.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "codec/uri.h"

struct update_options {
	bool advertise, no_advertise;
};

static const struct option_def update_options[] = {
	{ 0, "advertise", NULL, OPTION_FLAG, offsetof(struct update_options, advertise),
	  "of a routed one: the node's BGP daemon tells its peers the way to it" },
	{ 0, "no-advertise", NULL, OPTION_FLAG, offsetof(struct update_options, no_advertise),
	  "it tells them no more" },
	{},
};

static int update_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct update_options *options = userdata;
	const char *name = arguments->words[0];
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = mem_printf("/networks/%s", escaped);
	AUTO(free) char *title = mem_printf("changing network %s", name);
	AUTO(json_decref) json_t *patch = json_object();
	AUTO(json_decref) json_t *operation = NULL, *network = NULL;
	int r;

	if (options->advertise == options->no_advertise)
		return cli_usage(cli, err, "say --advertise or --no-advertise");
	json_object_set_new(patch, "advertise", json_boolean(options->advertise));
	r = cli_request(cli, "PATCH", path, patch, &operation, err);
	if (r == 0)
		r = wait_operation(cli, title, operation, NULL, err);
	if (r == 0)
		r = listing_get(cli, "networks", name, &network, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, network);
	else if (cli->options.quiet)
		fprintf(cli->out, "%s\n", name);
	else
		fprintf(cli->out, "%s: %s announced\n", name, options->advertise ? "is" : "is not");
	return 0;
}

const struct verb verb_network_update = {
	.name = "update",
	.synopsis = "OPTIONS NAME",
	.summary = "Change a network that is used",
	.help = "Whether others may be told of its subnets is said by the node's policy.\n\n"
		"Examples:\n  brume network update public --advertise\n"
		"  brume network update public --no-advertise\n",
	.options = update_options,
	.options_size = sizeof(struct update_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_NETWORK,
	.run = update_run,
};
