/*
 * brume balancer: ports that lead to several instances.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "cli/balancer.h"
#include "cli/batch.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/number.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "codec/uri.h"
#include "model/balancer.h"

struct balancer_options {
	const char *target, *network, *selector, *algorithm, *check, *vip, *drain_s;
	const char *interval_ms, *timeout_ms, *rise, *fall;
	char **listens, **labels;
};

#define BALANCER(member) offsetof(struct balancer_options, member)

#define CHANGEABLE_OPTIONS                                                                         \
	{ 0,                                                                                       \
	  "listen",                                                                                \
	  "[ADDRESS:]PORT[:TARGET][/udp]",                                                         \
	  OPTION_LIST,                                                                             \
	  BALANCER(listens),                                                                       \
	  "where it listens; the address is one of the node, * (all) or vip" },                    \
		{ 0,                                                                               \
		  "target",                                                                        \
		  "PORT",                                                                          \
		  OPTION_STRING,                                                                   \
		  BALANCER(target),                                                                \
		  "port of the members, where a --listen names none" },                            \
		{ 0,                                                                               \
		  "selector",                                                                      \
		  "KEY=VALUE,...",                                                                 \
		  OPTION_STRING,                                                                   \
		  BALANCER(selector),                                                              \
		  "labels that its members have" },                                                \
		{ 0,                                                                               \
		  "algorithm",                                                                     \
		  "NAME",                                                                          \
		  OPTION_STRING,                                                                   \
		  BALANCER(algorithm),                                                             \
		  "round_robin (default), least_connections or source_hash",                       \
		  COMPLETE_ALGORITHM },                                                            \
		{ 0,                                                                               \
		  "check",                                                                         \
		  "CHECK",                                                                         \
		  OPTION_STRING,                                                                   \
		  BALANCER(check),                                                                 \
		  "tcp, tcp:PORT, http:/PATH, http:PORT/PATH or none (default)" },                 \
		{ 0,                                                                               \
		  "interval-ms",                                                                   \
		  "N",                                                                             \
		  OPTION_STRING,                                                                   \
		  BALANCER(interval_ms),                                                           \
		  "from one check to the next (5000)" },                                           \
		{ 0,                                                                               \
		  "timeout-ms",                                                                    \
		  "N",                                                                             \
		  OPTION_STRING,                                                                   \
		  BALANCER(timeout_ms),                                                            \
		  "how long one may take (2000)" },                                                \
		{ 0,                                                                               \
		  "rise",                                                                          \
		  "N",                                                                             \
		  OPTION_STRING,                                                                   \
		  BALANCER(rise),                                                                  \
		  "passes in a row until a member is healthy again (2)" },                         \
		{ 0,                                                                               \
		  "fall",                                                                          \
		  "N",                                                                             \
		  OPTION_STRING,                                                                   \
		  BALANCER(fall),                                                                  \
		  "failures in a row until it is not (3)" },                                       \
	{                                                                                          \
		0, "drain-s", "SECONDS", OPTION_STRING, BALANCER(drain_s),                         \
			"how long the connections of a drained member are waited for (60)"         \
	}

static const struct option_def create_options[] = {
	CHANGEABLE_OPTIONS,
	{ 0, "network", "NAME", OPTION_STRING, BALANCER(network),
	  "that its members are on (default)", COMPLETE_NETWORK },
	{ 0, "vip", "ADDRESS", OPTION_STRING, BALANCER(vip),
	  "an address of its own in the network, or auto; --listen then means that one" },
	{ 'l', "label", "KEY=VALUE", OPTION_LIST, BALANCER(labels), "a label" },
	{},
};

static const struct option_def update_options[] = { CHANGEABLE_OPTIONS, {} };

/* ---- from options to a spec ---- */

/* Has it a target of its own?  Then --target does not count. */
static bool names_target(const char *text)
{
	const char *rest = strrchr(text, ']') ? strrchr(text, ']') + 1 : text;
	size_t colons = 0;

	for (const char *c = rest; *c; c++)
		colons += *c == ':';
	if (rest != text)
		return colons > 1;
	return colons > 1 || (colons == 1 && strspn(text, "0123456789") == strcspn(text, ":"));
}

static int read_listens(const struct balancer_options *options, struct balancer_spec *spec,
			struct error *err)
{
	size_t count = strv_count(options->listens);
	int64_t target = 0;
	int r = options->target ? number_parse(options->target, "--target", 1, 65535, &target, err)
				: 0;

	if (r < 0 || count == 0)
		return r;
	free(spec->listens);
	spec->listens = mem_new0_array(struct balancer_listen, count);
	spec->listen_count = count;
	for (size_t i = 0; i < count; i++) {
		const char *text = options->listens[i];
		struct balancer_listen *listen = &spec->listens[i];

		r = balancer_listen_parse(text, listen, err);
		if (r < 0)
			return error_wrap(err, r, "--listen");
		if (target && !names_target(text))
			listen->target_port = (uint16_t) target;
		if (spec->vip && !listen->address[0] && strncmp(text, "*:", 2) != 0)
			listen->vip = true;
	}
	return 0;
}

static int read_number(const char *text, const char *option, int64_t min, int64_t max,
		       uint32_t *ret, struct error *err)
{
	int64_t value;
	int r;

	if (!text)
		return 0;
	r = number_parse(text, option, min, max, &value, err);
	if (r == 0)
		*ret = (uint32_t) value;
	return r;
}

static int read_check(const struct balancer_options *options, struct balancer_check *check,
		      struct error *err)
{
	int r = options->check ? balancer_check_parse(options->check, check, err) : 0;

	if (r < 0)
		return error_wrap(err, r, "--check");
	r = read_number(options->interval_ms, "--interval-ms", HEALTH_TIME_MIN_MS,
			HEALTH_TIME_MAX_MS, &check->interval_ms, err);
	if (r == 0)
		r = read_number(options->timeout_ms, "--timeout-ms", HEALTH_TIME_MIN_MS,
				HEALTH_TIME_MAX_MS, &check->timeout_ms, err);
	if (r == 0)
		r = read_number(options->rise, "--rise", 1, BALANCER_COUNT_MAX, &check->rise, err);
	if (r == 0)
		r = read_number(options->fall, "--fall", 1, BALANCER_COUNT_MAX, &check->fall, err);
	return r;
}

static int read_algorithm(const char *text, enum balancer_algorithm *ret, struct error *err)
{
	if (!text)
		return 0;
	for (int i = 0; balancer_algorithm_names[i]; i++)
		if (strcmp(text, balancer_algorithm_names[i]) == 0) {
			*ret = (enum balancer_algorithm) i;
			return 0;
		}
	return error_say(err, -EINVAL,
			 "--algorithm \"%.40s\": there are round_robin, least_connections and "
			 "source_hash",
			 text);
}

static int read_vip(const char *text, struct balancer_spec *spec, struct error *err)
{
	struct ip ip;

	if (!text)
		return 0;
	spec->vip = true;
	if (strcmp(text, "auto") == 0)
		return 0;
	if (ip_parse(text, &ip) < 0)
		return error_say(err, -EINVAL,
				 "--vip \"%.64s\": must be an IP address of the network, or auto",
				 text);
	ip_format(&ip, ip.family == 4 ? spec->vip4 : spec->vip6);
	return 0;
}

static int read_options(const struct balancer_options *options, struct balancer_spec *spec,
			struct error *err)
{
	int r = read_vip(options->vip, spec, err);

	if (r == 0)
		r = read_listens(options, spec, err);
	if (r == 0 && options->selector) {
		r = balancer_selector_parse(options->selector, &spec->selector, err);
		if (r < 0)
			error_wrap(err, r, "--selector");
	}
	if (r == 0)
		r = read_algorithm(options->algorithm, &spec->algorithm, err);
	if (r == 0)
		r = read_check(options, &spec->check, err);
	if (r == 0)
		r = read_number(options->drain_s, "--drain-s", 0, BALANCER_DRAIN_MAX_S,
				&spec->drain_s, err);
	return r;
}

/* ---- create and update ---- */

/* Waits for an operation on a balancer, and gets what it is then. */
static int finish(struct cli *cli, const char *doing, const char *name, const json_t *operation,
		  json_t **ret, struct error *err)
{
	AUTO(free) char *title = mem_printf("%s balancer %s", doing, name);
	int r = wait_operation(cli, title, operation, NULL, err);

	return r < 0 ? r : listing_get(cli, "balancers", name, ret, err);
}

static void show_changed(struct cli *cli, const char *name, const char *did, const json_t *balancer)
{
	AUTO(strbuf_done) struct strbuf listens = {}, vip = {}, up = {};
	const char *error = resource_text(balancer, "status.error");

	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, balancer);
		return;
	}
	if (cli->style.format != FORMAT_TABLE || cli->options.quiet) {
		fprintf(cli->out, "%s\n", name);
		return;
	}
	balancer_put_listens(&listens, balancer);
	balancer_put_vip(&vip, balancer);
	balancer_put_up(&up, balancer);
	fprintf(cli->out, "%s %s  %s%s%s  members %s%s%s\n", name, did, strbuf_str(&listens),
		vip.size > 0 ? "  vip " : "", strbuf_str(&vip), strbuf_str(&up), error ? ": " : "",
		error ? error : "");
}

static int create_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct balancer_options *options = userdata;
	AUTO(balancer_request_free) struct balancer_request *request = balancer_request_new();
	AUTO(json_decref) json_t *body = NULL, *operation = NULL, *balancer = NULL;
	const char *name = arguments->words[0];
	int r = name_check(name, "name", err);

	if (r == 0)
		r = read_options(options, &request->spec, err);
	if (r == 0 && !options->listens)
		r = error_say(err, -EINVAL, "--listen is missing: where it listens, like 80:8080");
	if (r == 0 && !options->selector)
		r = error_say(err, -EINVAL,
			      "--selector is missing: the labels of its members, like role=web");
	for (char **p = options->labels; r == 0 && p && *p; p++) {
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
	mem_replace(&request->name, name);
	if (options->network)
		mem_replace(&request->spec.network, options->network);
	body = balancer_request_encode(request);
	r = cli_request(cli, "POST", "/balancers", body, &operation, err);
	if (r == 0)
		r = finish(cli, "creating", name, operation, &balancer, err);
	if (r == 0)
		show_changed(cli, name, "listens at", balancer);
	return r;
}

/* Only what was said goes into the patch. */
static json_t *make_patch(const struct balancer_options *options, const struct balancer_spec *spec)
{
	AUTO(json_decref) json_t *whole = balancer_spec_encode(spec);
	AUTO(json_decref) json_t *check = json_incref(json_object_get(whole, "check"));
	const struct {
		const char *given, *member;
	} members[] = { { options->selector, "selector" },
			{ options->algorithm, "algorithm" },
			{ options->drain_s, "drain_s" } };
	const struct {
		const char *given, *member;
	} times[] = { { options->interval_ms, "interval_ms" },
		      { options->timeout_ms, "timeout_ms" },
		      { options->rise, "rise" },
		      { options->fall, "fall" } };
	json_t *patch = json_object(), *patch_check = json_object();

	if (options->listens)
		json_object_set(patch, "listen", json_object_get(whole, "listen"));
	for (size_t i = 0; i < ARRAY_COUNT(members); i++)
		if (members[i].given)
			json_object_set(patch, members[i].member,
					json_object_get(whole, members[i].member));
	if (options->check) {
		static const char *const parts[] = { "type", "port", "path" };

		/* What another kind of check had goes. */
		for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
			json_t *value = json_object_get(check, parts[i]);

			json_object_set_new(patch_check, parts[i],
					    value ? json_incref(value) : json_null());
		}
	}
	for (size_t i = 0; i < ARRAY_COUNT(times); i++)
		if (times[i].given)
			json_object_set(patch_check, times[i].member,
					json_object_get(check, times[i].member));
	if (json_object_size(patch_check) > 0)
		json_object_set(patch, "check", patch_check);
	json_decref(patch_check);
	return patch;
}

static int update_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct balancer_options *options = userdata;
	AUTO(balancer_request_free) struct balancer_request *request = balancer_request_new();
	AUTO(json_decref) json_t *patch = NULL, *before = NULL, *operation = NULL, *after = NULL;
	const char *name = arguments->words[0];
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = mem_printf("/balancers/%s", escaped);
	int r = read_options(options, &request->spec, err);

	if (r == 0 && options->target && !options->listens)
		r = error_say(err, -EINVAL, "--target goes with --listen");
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	/* A port without an address means its own one where it has one, as when it was made. */
	r = listing_get(cli, "balancers", name, &before, err);
	request->spec.vip = r == 0 && resource_at(before, "spec.vip");
	if (r == 0)
		r = read_listens(options, &request->spec, err);
	if (r < 0)
		return r;
	patch = make_patch(options, &request->spec);
	if (json_object_size(patch) == 0) {
		cli->usage = true;
		return error_say(err, -EINVAL, "nothing is given to be changed");
	}
	r = cli_request(cli, "PATCH", path, patch, &operation, err);
	if (r == 0)
		r = finish(cli, "changing", name, operation, &after, err);
	if (r == 0)
		show_changed(cli, name, "listens at", after);
	return r;
}

/* ---- drain ---- */

struct drain_options {
	bool undo;
};

static const struct option_def drain_options[] = {
	{ 0, "undo", NULL, OPTION_FLAG, offsetof(struct drain_options, undo),
	  "it gets new connections again" },
	{},
};

static int drain_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	const struct drain_options *options = userdata;
	const char *name = arguments->words[0], *instance = arguments->words[1];
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *escaped_instance = uri_encode(instance);
	AUTO(free) char *path = mem_printf("/balancers/%s/members/%s", escaped, escaped_instance);
	AUTO(json_decref) json_t *body = json_pack("{s:b}", "drain", !options->undo);
	AUTO(json_decref) json_t *operation = NULL, *balancer = NULL;
	int r = cli_request(cli, "PUT", path, body, &operation, err);

	if (r == 0)
		r = finish(cli, "changing", name, operation, &balancer, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, balancer);
	else if (cli->options.quiet)
		fprintf(cli->out, "%s\n", instance);
	else
		fprintf(cli->out, "%s: %s\n", instance,
			options->undo ? "gets new connections again" : "gets no new connections");
	return 0;
}

/* ---- delete ---- */

static int delete_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	struct batch batch = {
		.doing = "deleting balancer",
		.done = "deleted",
		.method = "DELETE",
		.collection = "balancers",
		.suffix = "",
	};

	(void) userdata;
	return batch_run(cli, &batch, arguments, err);
}

static const struct verb balancer_verb_create = {
	.name = "create",
	.synopsis = "[OPTIONS] NAME",
	.summary = "Create a load balancer",
	.help = "Its members are the running instances on the network that have the labels; they\n"
		"are followed as they come and go.\n\n"
		"Examples:\n"
		"  brume balancer create web --listen 80 --target 8080 --selector role=web\n"
		"  brume balancer create web --listen 80:8080 --selector role=web,tier=front "
		"\\\n"
		"      --check http:/healthz --algorithm least_connections\n"
		"  brume balancer create dns --vip auto --listen 53/udp --network backend \\\n"
		"      --selector role=dns --algorithm source_hash\n",
	.options = create_options,
	.options_size = sizeof(struct balancer_options),
	.words_min = 1,
	.words_max = 1,
	.run = create_run,
};

static const struct verb balancer_verb_update = {
	.name = "update",
	.synopsis = "OPTIONS NAME",
	.summary = "Change a load balancer; connections that there are stay",
	.help = "--listen replaces all that there were.\n\n"
		"Examples:\n  brume balancer update web --algorithm source_hash\n"
		"  brume balancer update web --listen 80:8080 --listen 443:8443\n",
	.options = update_options,
	.options_size = sizeof(struct balancer_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_BALANCER,
	.run = update_run,
};

static const struct verb balancer_verb_drain = {
	.name = "drain",
	.synopsis = "[--undo] NAME INSTANCE",
	.summary = "Give an instance no new connections",
	.help = "Those that it has go on.  `brume balancer show` says when it has none any "
		"more.\n\n"
		"Examples:\n  brume balancer drain web web-1\n"
		"  brume balancer drain --undo web web-1\n",
	.options = drain_options,
	.options_size = sizeof(struct drain_options),
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_BALANCER,
	.completion2 = COMPLETE_INSTANCE,
	.run = drain_run,
};

static const struct verb balancer_verb_delete = {
	.name = "delete",
	.alias = "rm",
	.synopsis = "NAME...",
	.summary = "Delete load balancers",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_BALANCER,
	.run = delete_run,
};

static const struct verb *const balancer_verbs[] = {
	&balancer_verb_create,
	&balancer_verb_list,
	&balancer_verb_show,
	&balancer_verb_update,
	&balancer_verb_drain,
	&balancer_verb_delete,
	NULL,
};

const struct verb verb_balancer = {
	.name = "balancer",
	.synopsis = "VERB ...",
	.summary = "Create, look at, change and delete load balancers",
	.verbs = balancer_verbs,
};
