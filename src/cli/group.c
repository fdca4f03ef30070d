/*
 * brume group: security groups, who may reach their members and whom these may reach.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "cli/batch.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/number.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "codec/uri.h"
#include "model/request.h"

enum { NUMBER_MAX = 2 * SECURITY_RULES_MAX };

struct create_options {
	const char *description;
	char **labels;
};

#define CREATE(member) offsetof(struct create_options, member)

static const struct option_def create_options[] = {
	{ 0, "description", "TEXT", OPTION_STRING, CREATE(description), "what it is for" },
	{ 'l', "label", "KEY=VALUE", OPTION_LIST, CREATE(labels), "a label" },
	{},
};

struct allow_options {
	const char *in, *out, *from, *from_group, *to, *to_group, *description;
};

#define ALLOW(member) offsetof(struct allow_options, member)

static const struct option_def allow_options[] = {
	{ 0, "in", "WHAT", OPTION_STRING, ALLOW(in),
	  "what members are reached by: tcp:80, udp:5000-5010, icmp or any" },
	{ 0, "out", "WHAT", OPTION_STRING, ALLOW(out), "what members may reach, likewise" },
	{ 0, "from", "SUBNET", OPTION_STRING, ALLOW(from),
	  "with --in: by whom, like 10.0.0.0/8; else by anybody" },
	{ 0, "from-group", "NAME", OPTION_STRING, ALLOW(from_group),
	  "with --in: by the members of this group; self is the group itself", COMPLETE_GROUP },
	{ 0, "to", "SUBNET", OPTION_STRING, ALLOW(to), "with --out: where; else everywhere" },
	{ 0, "to-group", "NAME", OPTION_STRING, ALLOW(to_group),
	  "with --out: the members of this group", COMPLETE_GROUP },
	{ 0, "description", "TEXT", OPTION_STRING, ALLOW(description), "what the rule is for" },
	{},
};

/* ---- what a rule says ---- */

static void put_rule(struct strbuf *out, const json_t *rule)
{
	const char *ports = resource_text(rule, "ports");
	const char *protocol = resource_text(rule, "protocol");

	strbuf_printf(out, "%s%s%s", protocol ? protocol : "any", ports ? ":" : "",
		      ports ? ports : "");
}

static void put_other_end(struct strbuf *out, const json_t *rule, bool ingress)
{
	const char *cidr = resource_text(rule, ingress ? "from" : "to");
	const char *group = resource_text(rule, ingress ? "from.group" : "to.group");

	strbuf_printf(out, "%s %s%s", ingress ? "from" : "to", group ? "group " : "",
		      group  ? group
		      : cidr ? cidr
			     : "anybody");
}

static void add_rules(struct table *table, const json_t *group, bool ingress, size_t *number)
{
	const json_t *rules = resource_at(group, ingress ? "spec.ingress" : "spec.egress");
	const json_t *rule;
	size_t i;

	json_array_foreach((json_t *) rules, i, rule)
	{
		AUTO(strbuf_done) struct strbuf what = {}, end = {};
		char text[16];

		snprintf(text, sizeof(text), "%zu", ++*number);
		put_rule(&what, rule);
		put_other_end(&end, rule, ingress);
		table_cell(table, text);
		table_cell(table, ingress ? "in" : "out");
		table_cell(table, strbuf_str(&what));
		table_cell(table, strbuf_str(&end));
		table_cell(table, resource_text(rule, "description"));
	}
}

static void print_rules(struct cli *cli, const json_t *group)
{
	static const struct column columns[] = {
		{ .title = "NUMBER", .right = true },
		{ .title = "WAY" },
		{ .title = "WHAT" },
		{ .title = "OTHER END" },
		{ .title = "DESCRIPTION", .elastic = true },
		{},
	};
	AUTO(table_free) struct table *table = table_new(columns);
	size_t number = 0;

	add_rules(table, group, true, &number);
	add_rules(table, group, false, &number);
	table_print(table, cli->out, &cli->style);
}

/* ---- the verbs ---- */

static int create_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct create_options *options = userdata;
	AUTO(group_request_free) struct group_request *request = mem_new0(struct group_request);
	AUTO(json_decref) json_t *body = NULL, *operation = NULL, *group = NULL;
	const char *name = arguments->words[0];
	AUTO(free) char *title = mem_printf("creating security group %s", name);
	int r = name_check(name, "name", err);

	mem_replace(&request->name, name);
	mem_replace(&request->spec.description, options->description);
	for (char **p = options->labels; p && *p; p++) {
		const char *value = strchr(*p, '=');
		AUTO(free)
		char *key = value ? mem_strndup(*p, (size_t) (value - *p)) : mem_strdup(*p);

		strv_env_set(&request->labels, key, value ? value + 1 : "");
	}
	if (r == 0)
		r = labels_check(request->labels, err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	body = group_request_encode(request);
	r = cli_request(cli, "POST", "/groups", body, &operation, err);
	if (r == 0)
		r = wait_operation(cli, title, operation, NULL, err);
	if (r == 0)
		r = listing_get(cli, "groups", name, &group, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, group);
	else if (cli->style.format == FORMAT_TABLE && !cli->options.quiet)
		fprintf(cli->out, "%s is ready: nothing is let in yet, everything may go out\n",
			name);
	else
		fprintf(cli->out, "%s\n", name);
	return 0;
}

static void list_row(struct cli *cli, struct table *table, const json_t *group)
{
	const json_t *egress = resource_at(group, "spec.egress");
	char in[16], out[16];

	(void) cli;
	snprintf(in, sizeof(in), "%zu", json_array_size(resource_at(group, "spec.ingress")));
	snprintf(out, sizeof(out), "%zu", json_array_size(egress));
	table_cell(table, resource_text(group, "meta.name"));
	table_cell(table, resource_text(group, "status.state"));
	table_cell(table, in);
	table_cell(table, egress ? out : "all");
	table_cell(table, resource_text(group, "spec.description"));
}

static int list_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	static const struct column columns[] = {
		{ .title = "NAME" },
		{ .title = "STATE", .state = true },
		{ .title = "IN", .right = true },
		{ .title = "OUT", .right = true },
		{ .title = "DESCRIPTION", .elastic = true },
		{},
	};

	(void) userdata;
	(void) arguments;
	return listing_print(cli, "/groups?recursion=1", columns, list_row, false, err);
}

static int show_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	AUTO(json_decref) json_t *group = NULL;
	AUTO(strbuf_done) struct strbuf out = {};
	int r = listing_get(cli, "groups", arguments->words[0], &group, err);

	(void) userdata;
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, group);
		return 0;
	}
	if (cli->style.format != FORMAT_TABLE) {
		print_rules(cli, group);
		return 0;
	}
	listing_fact(&out, "name", resource_name(group));
	listing_fact(&out, "uid", resource_text(group, "meta.uid"));
	listing_fact(&out, "project", resource_text(group, "meta.project"));
	listing_fact(&out, "state", resource_text(group, "status.state"));
	listing_fact(&out, "error", resource_text(group, "status.error"));
	listing_fact(&out, "description", resource_text(group, "spec.description"));
	listing_fact_time(&out, "created", group, "meta.created");
	listing_fact_map(&out, "labels", resource_at(group, "meta.labels"));
	listing_fact(&out, "in",
		     json_array_size(resource_at(group, "spec.ingress")) > 0
			     ? "what these rules say"
			     : "nothing");
	listing_fact(&out, "out",
		     !resource_at(group, "spec.egress") ? "everything"
		     : json_array_size(resource_at(group, "spec.egress")) > 0
			     ? "what these rules say"
			     : "nothing");
	listing_print_facts(cli, &out);
	if (json_array_size(resource_at(group, "spec.ingress")) +
		    json_array_size(resource_at(group, "spec.egress")) >
	    0) {
		fputc('\n', cli->out);
		print_rules(cli, group);
	}
	return 0;
}

static int delete_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	struct batch batch = {
		.doing = "deleting security group",
		.done = "deleted",
		.method = "DELETE",
		.collection = "groups",
		.suffix = "",
	};

	(void) userdata;
	return batch_run(cli, &batch, arguments, err);
}

/* The rule that the options describe, as the server takes it. */
static int build_rule(const char *name, const struct allow_options *options, json_t **ret,
		      struct error *err)
{
	bool ingress = options->in != NULL;
	const char *cidr = ingress ? options->from : options->to;
	const char *group = ingress ? options->from_group : options->to_group;
	AUTO(json_decref) json_t *object = NULL;
	struct security_rule rule;
	struct subnet subnet;
	int r;

	if (!options->in == !options->out)
		return error_say(err, -EINVAL,
				 "say what is allowed with --in or --out, like --in tcp:80");
	if (ingress ? options->to || options->to_group : options->from || options->from_group)
		return error_say(err, -EINVAL, "%s",
				 ingress ? "--in goes with --from and --from-group"
					 : "--out goes with --to and --to-group");
	if (cidr && group)
		return error_say(err, -EINVAL,
				 "--%s and --%s-group: a rule is for addresses or for a group, not "
				 "both",
				 ingress ? "from" : "to", ingress ? "from" : "to");
	r = security_rule_parse(ingress ? options->in : options->out, &rule, err);
	if (r < 0)
		return error_wrap(err, r, "%s", ingress ? "--in" : "--out");
	if (cidr)
		r = subnet_parse(cidr, 0, ingress ? "--from" : "--to", &subnet, err);
	if (r == 0 && cidr)
		subnet_format(&subnet, rule.cidr);
	if (r == 0 && group)
		r = name_check(group, ingress ? "--from-group" : "--to-group", err);
	/* As likely as not another one was meant. */
	if (r == 0 && group && strcmp(group, name) == 0)
		r = error_say(
			err, -EINVAL,
			"--%s-group %s: a group refers to itself as \"self\": --%s-group self",
			ingress ? "from" : "to", group, ingress ? "from" : "to");
	if (r < 0)
		return r;
	object = security_rule_encode(&rule, ingress);
	json_put_string(object, "way", ingress ? "ingress" : "egress");
	if (group)
		json_object_set_new(object, ingress ? "from" : "to",
				    json_pack("{s:s}", "group", group));
	json_put_string(object, "description", options->description);
	*ret = TAKE_PTR(object);
	return 0;
}

/* Sends a change, waits until it is in force, and says what it was. */
static int carry_out(struct cli *cli, const char *method, const char *path, const json_t *body,
		     const char *name, const char *did, struct error *err)
{
	AUTO(free) char *title = mem_printf("changing security group %s", name);
	AUTO(json_decref) json_t *operation = NULL, *group = NULL;
	int r = cli_request(cli, method, path, body, &operation, err);

	if (r == 0)
		r = wait_operation(cli, title, operation, NULL, err);
	if (r == 0 && cli->style.format == FORMAT_JSON)
		r = listing_get(cli, "groups", name, &group, err);
	if (r < 0)
		return r;
	if (group)
		cli_print_json(cli, group);
	else if (cli->options.quiet)
		fprintf(cli->out, "%s\n", name);
	else
		fprintf(cli->out, "%s: %s\n", name, did);
	return 0;
}

static int allow_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	const struct allow_options *options = userdata;
	const char *name = arguments->words[0];
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = mem_printf("/groups/%s/rules", escaped);
	AUTO(strbuf_done) struct strbuf did = {};
	AUTO(json_decref) json_t *rule = NULL;
	int r = build_rule(name, options, &rule, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	strbuf_puts(&did, options->in ? "lets in " : "lets out ");
	put_rule(&did, rule);
	strbuf_puts(&did, " ");
	put_other_end(&did, rule, options->in != NULL);
	return carry_out(cli, "POST", path, rule, name, strbuf_str(&did), err);
}

static int deny_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	const char *name = arguments->words[0];
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = NULL;
	AUTO(free) char *did = NULL;
	int64_t number = 0;
	int r = number_parse(arguments->words[1], "the rule's number", 1, NUMBER_MAX, &number, err);

	(void) userdata;
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	path = mem_printf("/groups/%s/rules/%lld", escaped, (long long) number);
	did = mem_printf("rule %lld is gone; those behind it have moved up", (long long) number);
	return carry_out(cli, "DELETE", path, NULL, name, did, err);
}

static const struct verb verb_group_create = {
	.name = "create",
	.synopsis = "[OPTIONS] NAME",
	.summary = "Create a security group: its members let nothing in yet",
	.help = "Examples:\n  brume group create web\n"
		"  brume group create db --description 'reached by web only'\n",
	.options = create_options,
	.options_size = sizeof(struct create_options),
	.words_min = 1,
	.words_max = 1,
	.run = create_run,
};

static const struct verb verb_group_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "",
	.summary = "List the security groups",
	.run = list_run,
};

static const struct verb verb_group_show = {
	.name = "show",
	.alias = "info",
	.synopsis = "NAME",
	.summary = "Show a security group and its rules, with their numbers",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_GROUP,
	.run = show_run,
};

static const struct verb verb_group_delete = {
	.name = "delete",
	.alias = "rm",
	.synopsis = "NAME...",
	.summary = "Delete security groups that no port and no rule names",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_GROUP,
	.run = delete_run,
};

static const struct verb verb_group_allow = {
	.name = "allow",
	.synopsis = "--in WHAT [--from SUBNET|--from-group NAME] NAME",
	.summary = "Add a rule: what the members let in, or what they may reach",
	.help = "WHAT is tcp, tcp:PORT, tcp:FIRST-LAST, udp likewise, icmp (of IPv4 and IPv6) or "
		"any.\n"
		"The first --out rule changes what goes out from everything to what rules say.\n"
		"It is in force when the command returns; connections that are there go on.\n\n"
		"Examples:\n  brume group allow web --in tcp:80\n"
		"  brume group allow web --in tcp:8000-8080 --from 10.0.0.0/8\n"
		"  brume group allow db --in tcp:5432 --from-group web\n"
		"  brume group allow web --in any --from-group self\n"
		"  brume group allow web --out udp:53 --to 10.1.0.53/32\n",
	.options = allow_options,
	.options_size = sizeof(struct allow_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_GROUP,
	.run = allow_run,
};

static const struct verb verb_group_deny = {
	.name = "deny",
	.synopsis = "NAME NUMBER",
	.summary = "Take a rule away: what only it allowed is denied again",
	.help = "NUMBER is the one that `brume group show NAME` says.  Connections that are there "
		"go on.\n"
		"When the last --out rule is gone nothing goes out; --out any allows everything "
		"again.\n\n"
		"Example:\n  brume group deny web 2\n",
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_GROUP,
	.run = deny_run,
};

static const struct verb *const group_verbs[] = {
	&verb_group_create,
	&verb_group_list,
	&verb_group_show,
	&verb_group_delete,
	&verb_group_allow,
	&verb_group_deny,
	NULL,
};

const struct verb verb_group = {
	.name = "group",
	.synopsis = "VERB ...",
	.summary = "Security groups: say who may reach which instances",
	.verbs = group_verbs,
};
