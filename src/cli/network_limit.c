#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "codec/uri.h"
#include "model/port_limits.h"

/* `brume network limit`: how fast an instance may receive and send on a network. */

struct limit_options {
	const char *ingress, *egress, *burst;
	bool none;
};

#define LIMIT(member) offsetof(struct limit_options, member)

static const struct option_def limit_options[] = {
	{ 0, "ingress", "RATE", OPTION_STRING, LIMIT(ingress),
	  "bits a second that it may receive, like 50M; none for no limit" },
	{ 0, "egress", "RATE", OPTION_STRING, LIMIT(egress), "the same for what it sends" },
	{ 0, "burst", "SIZE", OPTION_STRING, LIMIT(burst),
	  "bytes at once, like 256K; else what 20 ms let through" },
	{ 0, "none", NULL, OPTION_FLAG, LIMIT(none), "take all limits away" },
	{},
};

/* What is given becomes the member of the patch; what is not stays as it is. */
static int put(json_t *limits, const char *name, const char *member, const char *value,
	       struct error *err)
{
	struct port_limits parsed = {};
	uint64_t number;
	int r;

	if (!value)
		return 0;
	r = port_limits_parse(name, value, &parsed, err);
	if (r < 0)
		return r;
	number = parsed.ingress_bps + parsed.egress_bps + parsed.burst_bytes;
	json_object_set_new(limits, member,
			    number > 0 ? json_integer((json_int_t) number) : json_null());
	return 0;
}

static int build(struct cli *cli, const struct limit_options *options, json_t **ret,
		 struct error *err)
{
	AUTO(json_decref) json_t *limits = json_object();
	bool some = options->ingress || options->egress || options->burst;
	int r;

	if (options->none && some)
		return cli_usage(cli, err, "--none: does not go with a rate or a burst");
	if (!options->none && !some)
		return cli_usage(cli, err, "--ingress, --egress, --burst or --none is missing");
	if (options->none) {
		*ret = json_null();
		return 0;
	}
	r = put(limits, "ingress", "ingress_bps", options->ingress, err);
	if (r == 0)
		r = put(limits, "egress", "egress_bps", options->egress, err);
	if (r == 0)
		r = put(limits, "burst", "burst_bytes", options->burst, err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	*ret = json_incref(limits);
	return 0;
}

static int limit_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	const char *network = arguments->words[0], *instance = arguments->words[1];
	AUTO(free) char *escaped = uri_encode(instance);
	AUTO(free) char *path = mem_printf("/instances/%s", escaped);
	AUTO(free) char *title = mem_printf("limiting %s on %s", instance, network);
	AUTO(json_decref) json_t *body = NULL, *operation = NULL, *ended = NULL;
	json_t *limits = NULL;
	int r = build(cli, userdata, &limits, err);

	if (r < 0)
		return r;
	body = json_pack("{s:{s:{s:o}}}", "ports", network, "limits", limits);
	r = cli_request(cli, "PATCH", path, body, &operation, err);
	if (r == 0)
		r = wait_operation(cli, title, operation, &ended, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, ended);
	else if (cli->options.quiet)
		fprintf(cli->out, "%s\n", instance);
	else
		fprintf(cli->out, "%s: %s on network %s\n", instance,
			json_is_null(limits) ? "not limited any more" : "limited", network);
	return 0;
}

const struct verb verb_network_limit = {
	.name = "limit",
	.synopsis = "[--ingress RATE] [--egress RATE] [--burst SIZE] | --none NETWORK INSTANCE",
	.summary = "Say how fast an instance may receive and send on a network",
	.help = "At once, and connections go on.  RATE is in bits a second, of whole frames, with "
		"K, M, G or T\nfor powers of 1000; what is not given stays as it is.  A TCP stream "
		"of full packets gets\nsome 95 % of it as data.  The burst is never smaller than "
		"one packet.\n\n"
		"Examples:\n  brume network limit --ingress 50M --egress 10M default web\n"
		"  brume network limit --egress none default web\n"
		"  brume network limit --none default web\n"
		"  brume launch nginx web --network default,ingress=100M,egress=20M,burst=256K\n",
	.options = limit_options,
	.options_size = sizeof(struct limit_options),
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_NETWORK,
	.completion2 = COMPLETE_INSTANCE,
	.run = limit_run,
};
