#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/signame.h"
#include "base/strv.h"
#include "cli/batch.h"
#include "cli/cli.h"
#include "cli/number.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "codec/uri.h"
#include "model/port.h"
#include "model/quantity.h"

enum { UPDATE_PIDS_MAX = 4194304, UPDATE_STOP_TIMEOUT_MAX_S = 86400 };

struct update_options {
	const char *cpus, *memory, *pids, *restart, *stop_signal, *stop_timeout;
	char **labels, **unlabels, **env, **unenv, **groups;
	const char *network;
};

#define UPDATE(member) offsetof(struct update_options, member)

static const struct option_def update_options[] = {
	{ 0, "cpus", "NUMBER", OPTION_STRING, UPDATE(cpus), "processors, 0.5 is half of one" },
	{ 'm', "memory", "SIZE", OPTION_STRING, UPDATE(memory), "memory, for example 512M" },
	{ 0, "pids", "COUNT", OPTION_STRING, UPDATE(pids), "processes and threads" },
	{ 0, "restart", "POLICY", OPTION_STRING, UPDATE(restart),
	  "no, on-failure[:RETRIES], always or unless-stopped", COMPLETE_RESTART },
	{ 'l', "label", "KEY=VALUE", OPTION_LIST, UPDATE(labels), "set a label" },
	{ 0, "remove-label", "KEY", OPTION_LIST, UPDATE(unlabels), "remove a label" },
	{ 'e', "env", "NAME=VALUE", OPTION_LIST, UPDATE(env),
	  "set a variable, for the next start" },
	{ 0, "remove-env", "NAME", OPTION_LIST, UPDATE(unenv),
	  "remove a variable, for the next start" },
	{ 0, "stop-signal", "SIGNAL", OPTION_STRING, UPDATE(stop_signal), "what asks it to end" },
	{ 0, "stop-timeout", "SECONDS", OPTION_STRING, UPDATE(stop_timeout),
	  "how long it may take to end before it is killed" },
	{ 0, "group", "NAME[,NAME...]", OPTION_LIST, UPDATE(groups),
	  "its security groups from now on, on all its networks", COMPLETE_GROUP },
	{ 0, "network", "NAME", OPTION_STRING, UPDATE(network),
	  "with --group: only on this network", COMPLETE_NETWORK },
	{},
};

/* "0" and "none" take a limit away. */
static bool update_is_none(const char *text)
{
	return strcmp(text, "none") == 0 || strcmp(text, "0") == 0;
}

static int update_limits(const struct update_options *options, json_t *body, struct error *err)
{
	json_t *limits = json_object();
	uint64_t memory_bytes = 0;
	int64_t pids = 0;
	double cpus = 0;
	int r = 0;

	json_object_set_new(body, "limits", limits);
	if (options->cpus && !update_is_none(options->cpus))
		r = cpus_parse(options->cpus, "--cpus", &cpus, err);
	if (r == 0 && options->memory && !update_is_none(options->memory))
		r = memory_parse(options->memory, "--memory", &memory_bytes, err);
	if (r == 0 && options->pids && !update_is_none(options->pids))
		r = number_parse(options->pids, "--pids", 1, UPDATE_PIDS_MAX, &pids, err);
	if (r < 0)
		return r;
	if (options->cpus)
		json_object_set_new(limits, "cpus", cpus > 0 ? json_real(cpus) : json_null());
	if (options->memory)
		json_object_set_new(limits, "memory_bytes",
				    memory_bytes ? json_integer((json_int_t) memory_bytes)
						 : json_null());
	if (options->pids)
		json_object_set_new(limits, "pids", pids ? json_integer(pids) : json_null());
	if (json_object_size(limits) == 0)
		json_object_del(body, "limits");
	return 0;
}

static int update_restart(const struct update_options *options, json_t *body, struct error *err)
{
	enum restart_policy policy = RESTART_NO;
	uint32_t retries = 0;
	json_t *restart;
	int r;

	if (!options->restart)
		return 0;
	r = restart_parse(options->restart, &policy, &retries, err);
	if (r < 0)
		return r;
	restart = json_pack("{s:s}", "policy", restart_policy_names[policy]);
	if (retries > 0)
		json_object_set_new(restart, "max_retries", json_integer(retries));
	json_object_set_new(body, "restart", restart);
	return 0;
}

static int update_map(char *const *set, char *const *unset, const char *option, const char *member,
		      json_t *body, struct error *err)
{
	json_t *map = json_object();

	json_object_set_new(body, member, map);
	for (; set && *set; set++) {
		const char *value = strchr(*set, '=');
		AUTO(free) char *key = value ? mem_strndup(*set, (size_t) (value - *set)) : NULL;
		json_t *text = value ? json_string(value + 1) : NULL;

		if (!key || !key[0] || json_object_set_new(map, key, text) < 0)
			return error_say(err, -EINVAL,
					 "--%s \"%s\": it should look like NAME=VALUE, in UTF-8",
					 option, *set);
	}
	for (; unset && *unset; unset++)
		if (json_object_set_new(map, *unset, json_null()) < 0)
			return error_say(err, -EINVAL, "--remove-%s \"%s\": is not valid UTF-8",
					 option, *unset);
	if (json_object_size(map) == 0)
		json_object_del(body, member);
	return 0;
}

static int update_stop(const struct update_options *options, json_t *body, struct error *err)
{
	int64_t timeout_s = 0;
	int r = 0;

	if (options->stop_signal && signame_number(options->stop_signal) < 0)
		return error_say(err, -EINVAL,
				 "--stop-signal \"%s\": is not a signal, for example "
				 "\"TERM\"",
				 options->stop_signal);
	json_put_string(body, "stop_signal", options->stop_signal);
	if (options->stop_timeout)
		r = number_parse(options->stop_timeout, "--stop-timeout", 0,
				 UPDATE_STOP_TIMEOUT_MAX_S, &timeout_s, err);
	if (r == 0 && options->stop_timeout)
		json_object_set_new(body, "stop_timeout_s", json_integer(timeout_s));
	return r;
}

static int update_groups(const struct update_options *options, json_t *body, struct error *err)
{
	AUTO(strv_free) char **groups = NULL;
	json_t *port;

	for (char **p = options->groups; p && *p; p++) {
		int r = port_groups_parse(*p, &groups, err);

		if (r < 0)
			return error_wrap(err, r, "--group");
	}
	if (options->network && !groups)
		return error_say(err, -EINVAL,
				 "--network: says where --group is meant, which is missing");
	if (!groups)
		return 0;
	if (!options->network) {
		json_put_strv(body, "groups", groups);
		return 0;
	}
	port = json_object();
	json_put_strv(port, "groups", groups);
	json_object_set_new(body, "ports", json_object());
	return json_object_set_new(json_object_get(body, "ports"), options->network, port) < 0
		       ? error_say(err, -EINVAL, "--network: is not valid UTF-8")
		       : 0;
}

/* What of a virtual machine's limits only a restart gives it. */
static void update_note_pending(struct cli *cli, const struct arguments *arguments)
{
	for (size_t i = 0; i < arguments->word_count; i++) {
		AUTO(free) char *escaped = uri_encode(arguments->words[i]);
		AUTO(free) char *path = mem_printf("/instances/%s", escaped);
		AUTO(json_decref) json_t *instance = NULL;
		const char *pending;

		if (cli_request(cli, "GET", path, NULL, &instance, NULL) < 0)
			continue;
		pending = resource_text(instance, "status.machine.pending");
		if (pending)
			cli_note(cli, "%s: comes with its next start: %s", arguments->words[i],
				 pending);
	}
}

static int update_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct update_options *options = userdata;
	AUTO(json_decref) json_t *body = json_object();
	struct batch batch = { .doing = "updating",
			       .done = "updated",
			       .method = "PATCH",
			       .collection = "instances",
			       .suffix = "",
			       .body = body };
	int r = update_limits(options, body, err);

	if (r == 0)
		r = update_restart(options, body, err);
	if (r == 0)
		r = update_map(options->labels, options->unlabels, "label", "labels", body, err);
	if (r == 0)
		r = update_map(options->env, options->unenv, "env", "env", body, err);
	if (r == 0)
		r = update_stop(options, body, err);
	if (r == 0)
		r = update_groups(options, body, err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	if (json_object_size(body) == 0)
		return cli_usage(cli, err, "what is to be changed is missing");
	r = batch_run(cli, &batch, arguments, err);
	if (r == 0 && json_object_get(body, "env"))
		cli_note(cli, "the environment changes at the next start");
	if (r == 0 && json_object_get(body, "limits"))
		update_note_pending(cli, arguments);
	return r;
}

const struct verb verb_update = {
	.name = "update",
	.synopsis = "[--cpus N] [-m SIZE] [--pids N] [--restart POLICY] [...] NAME...",
	.summary =
		"Change limits, restart policy, labels and more of instances, also while they run",
	.help = "Limits change at once; 0 or none takes one away.  A memory limit below what is in "
		"use is\nrefused, and then nothing is changed.  A virtual machine gives memory "
		"back as its guest\ncan (brume stats -w shows it); more memory or processors than "
		"it was started with come\nwith its next start.  The environment changes at the "
		"next "
		"start.  Security groups change at once; connections that are there go on.  What "
		"an\ninstance is made of (image, command, ports, ...) cannot be changed; "
		"`brume network attach`\nand `detach` change its networks.\n\n"
		"Examples:\n  brume update --cpus 1.5 -m 1G web\n  brume update --memory none db\n"
		"  brume update --restart always --label tier=front --remove-label test web\n"
		"  brume update --group web,monitored shop\n"
		"  brume update --network back --group db shop\n",
	.options = update_options,
	.options_size = sizeof(struct update_options),
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = update_run,
};
