/*
 * `brume __complete WORD...`: what the last word may be completed to, one candidate a line.
 *
 * The shells' scripts in dist/completion call it, so what they offer always fits the verb table.
 * "@files" on a line of its own asks the shell to complete file names.  Errors are silent: a
 * completion that fails offers nothing.
 */
#include <string.h>

#include "base/capname.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "model/balancer.h"
#include "model/health.h"
#include "model/network_driver.h"
#include "model/run_options.h"
#include "model/trace_request.h"

/* Where the command line stands at the word to complete. */
struct complete_place {
	const struct verb *verb;          /* the verb reached, or NULL */
	const struct verb *const *table;  /* where the next verb is looked up, or NULL */
	const struct option_def *pending; /* option whose value comes next */
	size_t words;                     /* words of the verb so far */
	bool command;                     /* inside COMMAND */
};

static void complete_offer(struct cli *cli, const char *candidate, const char *begin)
{
	if (strncmp(candidate, begin, strlen(begin)) == 0)
		fprintf(cli->out, "%s\n", candidate);
}

static void complete_offer_list(struct cli *cli, const char *const *list, const char *begin)
{
	for (; *list; list++)
		complete_offer(cli, *list, begin);
}

static void complete_offer_resources(struct cli *cli, const char *path, const char *behind,
				     const char *begin)
{
	AUTO(json_decref) json_t *list = NULL;
	const json_t *one;
	size_t i;

	if (cli_request(cli, "GET", path, NULL, &list, NULL) < 0)
		return;
	json_array_foreach(list, i, one)
	{
		AUTO(strbuf_done) struct strbuf name = {};

		human_text(&name, resource_name(one));
		strbuf_puts(&name, behind);
		complete_offer(cli, strbuf_str(&name), begin);
	}
}

static void complete_offer_capabilities(struct cli *cli, const char *begin)
{
	complete_offer(cli, "ALL", begin);
	for (unsigned int i = 0; i < CAPNAME_COUNT; i++)
		complete_offer(cli, capname(i) + strlen("CAP_"), begin);
}

/* A file here, when it looks like one; else an instance's name and a colon. */
static void complete_offer_place(struct cli *cli, const char *begin)
{
	if (begin[0] == '.' || strchr(begin, '/'))
		fputs("@files\n", cli->out);
	else
		complete_offer_resources(cli, "/instances?recursion=1", ":", begin);
}

static const char *const formats[] = { "table", "json", "csv", "plain", NULL };
static const char *const policies[] = { "no", "on-failure", "always", "unless-stopped", NULL };
static const char *const pulls[] = { "missing", "always", "never", NULL };
static const char *const kinds[] = { "instance", "network",  "image", "operation", "project",
				     "node",     "balancer", "group", "router",    NULL };
static const char *const tunnels[] = { "vxlan", "gre", NULL };
static const char *const conditions[] = { "stopped", "running", "healthy", "deleted", NULL };

/* What can only be one of a few words. */
static const char *const *const complete_words[] = {
	[COMPLETE_ALGORITHM] = balancer_algorithm_names,
	[COMPLETE_CONDITION] = conditions,
	[COMPLETE_DRIVER] = network_driver_names,
	[COMPLETE_FORMAT] = formats,
	[COMPLETE_HEALTH] = health_on_failure_names,
	[COMPLETE_KIND] = kinds,
	[COMPLETE_MODE] = macvlan_mode_names,
	[COMPLETE_PROTOCOL] = trace_protocol_names,
	[COMPLETE_PULL] = pulls,
	[COMPLETE_RESTART] = policies,
	[COMPLETE_SECCOMP] = seccomp_mode_names,
	[COMPLETE_TUNNEL] = tunnels,
};

/* What is the name of something. */
static const char *const complete_collections[] = {
	[COMPLETE_BALANCER] = "/balancers?recursion=1",
	[COMPLETE_GROUP] = "/groups?recursion=1",
	[COMPLETE_IMAGE] = "/images?recursion=1",
	[COMPLETE_INSTANCE] = "/instances?recursion=1",
	[COMPLETE_NETWORK] = "/networks?recursion=1",
	[COMPLETE_OPERATION] = "/operations?recursion=1",
	[COMPLETE_ROUTER] = "/routers?recursion=1",
};

static void complete_offer_kind(struct cli *cli, enum completion completion, const char *begin)
{
	const size_t number = completion;

	if (number < ARRAY_COUNT(complete_words) && complete_words[number])
		complete_offer_list(cli, complete_words[number], begin);
	else if (number < ARRAY_COUNT(complete_collections) && complete_collections[number])
		complete_offer_resources(cli, complete_collections[number], "", begin);
	else if (completion == COMPLETE_INSTANCE_FILE)
		complete_offer_place(cli, begin);
	else if (completion == COMPLETE_CAPABILITY)
		complete_offer_capabilities(cli, begin);
	else if (completion == COMPLETE_FILE)
		fputs("@files\n", cli->out);
}

static const struct option_def *complete_find_option(const struct option_def *options,
						     const char *word)
{
	for (const struct option_def *o = options; o && o->name; o++) {
		if (word[1] == '-' ? strcmp(word + 2, o->name) == 0
				   : o->letter && o->letter == word[strlen(word) - 1])
			return o;
	}
	return NULL;
}

/* One word that stands before the one to complete. */
static void complete_step(struct complete_place *place, struct cli *cli, const char *word)
{
	const struct option_def *option;

	if (place->pending) {
		if (strcmp(place->pending->name, "socket") == 0)
			cli->options.socket = word;
		if (strcmp(place->pending->name, "project") == 0)
			cli->options.project = word;
		place->pending = NULL;
	} else if (word[0] == '-' && word[1] && !strchr(word, '=') && strcmp(word, "--") != 0) {
		option = complete_find_option(place->verb ? place->verb->options : NULL, word);
		if (!option)
			option = complete_find_option(verb_common_options, word);
		if (option && option->kind != OPTION_FLAG)
			place->pending = option;
	} else if (strcmp(word, "--") == 0) {
		place->command = place->verb && place->verb->has_command;
	} else if (word[0] != '-' && place->table) {
		place->verb = verb_find(place->table, word);
		place->table = place->verb ? place->verb->verbs : NULL;
	} else if (word[0] != '-') {
		place->words++;
		if (place->verb && place->verb->has_command &&
		    place->words > place->verb->words_max)
			place->command = true;
	}
}

static void complete_offer_options(struct cli *cli, const struct option_def *options,
				   const char *begin)
{
	for (const struct option_def *o = options; o && o->name; o++) {
		char text[64];

		snprintf(text, sizeof(text), "--%s", o->name);
		complete_offer(cli, text, begin);
	}
}

static int complete_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			struct error *err)
{
	struct complete_place place = { .table = verbs };
	char **words = arguments->command;
	const char *begin;

	(void) userdata;
	(void) err;
	if (!words)
		return 0;
	for (; words[1]; words++)
		complete_step(&place, cli, *words);
	begin = *words;
	if (place.command) {
		complete_offer_kind(cli, COMPLETE_FILE, begin);
	} else if (place.pending) {
		complete_offer_kind(cli, place.pending->completion, begin);
	} else if (begin[0] == '-') {
		complete_offer_options(cli, place.verb ? place.verb->options : NULL, begin);
		complete_offer_options(cli, verb_common_options, begin);
	} else if (place.table) {
		for (const struct verb *const *v = place.table; *v; v++)
			if (!(*v)->hidden)
				complete_offer(cli, (*v)->name, begin);
	} else if (place.verb && place.words < place.verb->words_max) {
		/* The second word of launch and import is a new name. */
		if (place.words == 1 && place.verb->completion2 != COMPLETE_NOTHING)
			complete_offer_kind(cli, place.verb->completion2, begin);
		else if (place.words == 0 || place.verb->words_max == VERB_WORDS_ANY ||
			 place.verb->completion == COMPLETE_INSTANCE_FILE)
			complete_offer_kind(cli, place.verb->completion, begin);
	}
	return 0;
}

const struct verb verb_complete = {
	.name = "__complete",
	.synopsis = "-- WORD...",
	.summary = "Offer completions to a shell",
	.hidden = true,
	.has_command = true,
	.run = complete_run,
};
