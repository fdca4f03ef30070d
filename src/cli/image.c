#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/batch.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "model/request.h"

enum { IMAGE_PASSWORD_MAX_BYTES = 16384, IMAGE_DIGEST_SHOWN = 12 };

struct image_pull_options {
	const char *platform, *username;
	bool insecure, password_stdin;
};

#define PULL(member) offsetof(struct image_pull_options, member)

static const struct option_def image_pull_options[] = {
	{ 0, "platform", "OS/ARCH", OPTION_STRING, PULL(platform),
	  "like linux/arm64; else the node's" },
	{ 0, "username", "NAME", OPTION_STRING, PULL(username), "for the registry" },
	{ 0, "password-stdin", NULL, OPTION_FLAG, PULL(password_stdin),
	  "read the password from our input" },
	{ 0, "insecure", NULL, OPTION_FLAG, PULL(insecure),
	  "the registry may speak plain HTTP or have an unknown certificate" },
	{},
};

/* One line, or all of the input. */
static int image_read_password(char **ret, struct error *err)
{
	AUTO(free) char *text = NULL;
	int r = file_read_fd(STDIN_FILENO, IMAGE_PASSWORD_MAX_BYTES, &text, NULL);

	if (r < 0)
		return error_set(err, r, "cannot read the password from the input");
	text[strcspn(text, "\r\n")] = '\0';
	if (!*text)
		return error_say(err, -EINVAL, "--password-stdin: the input is empty");
	*ret = TAKE_PTR(text);
	return 0;
}

static int image_print_result(struct cli *cli, const char *name, const char *done,
			      struct error *err)
{
	AUTO(json_decref) json_t *image = NULL;
	AUTO(strbuf_done) struct strbuf line = {};
	const char *digest;
	char size[HUMAN_SIZE];
	int r;

	if (cli->options.quiet || cli->style.format == FORMAT_PLAIN ||
	    cli->style.format == FORMAT_CSV) {
		fprintf(cli->out, "%s\n", name);
		return 0;
	}
	r = listing_get(cli, "images", name, &image, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, image);
		return 0;
	}
	human_bytes((uint64_t) resource_int(image, "status.size_bytes", 0), size);
	digest = resource_text(image, "status.digest");
	human_text(&line, name);
	strbuf_printf(&line, ": %s  %s  ", done, size);
	human_text(&line, digest);
	fprintf(cli->out, "%s\n", strbuf_str(&line));
	return 0;
}

static int image_pull_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			  struct error *err)
{
	const struct image_pull_options *options = userdata;
	AUTO(pull_request_free) struct pull_request *request = mem_new0(struct pull_request);
	AUTO(json_decref) json_t *body = NULL, *operation = NULL;
	AUTO(free) char *title = mem_printf("pulling %s", arguments->words[0]);
	const char *name;
	int r;

	request->reference = mem_strdup(arguments->words[0]);
	request->platform = mem_strdup(options->platform);
	request->username = mem_strdup(options->username);
	request->insecure = options->insecure;
	if (options->username && !options->password_stdin) {
		cli_set_hint(
			cli,
			"echo \"$PASSWORD\" | brume image pull --username %s --password-stdin %s",
			options->username, arguments->words[0]);
		return cli_usage(cli, err, "--username needs --password-stdin");
	}
	if (options->password_stdin && !options->username)
		return cli_usage(cli, err, "--password-stdin needs --username");
	r = options->password_stdin ? image_read_password(&request->password, err) : 0;
	if (r < 0)
		return r;
	body = pull_request_encode(request);
	r = cli_request(cli, "POST", "/images", body, &operation, err);
	if (r < 0)
		return r;
	if (!cli->progress)
		cli_note(cli, "%s", title);
	r = wait_operation(cli, title, operation, NULL, err);
	if (r < 0)
		return r;
	name = resource_text(operation, "spec.target.name");
	return image_print_result(cli, name ? name : arguments->words[0], "pulled", err);
}

static const struct column image_columns[] = {
	{ .title = "NAME", .elastic = true },
	{ .title = "STATE", .state = true },
	{ .title = "TYPE" },
	{ .title = "DIGEST" },
	{ .title = "PLATFORM" },
	{ .title = "SIZE", .right = true },
	{ .title = "AGE", .right = true },
	{},
};

/* Not known before it is here. */
static const char *image_type(const json_t *image)
{
	if (resource_at(image, "status.disk"))
		return "disk";
	return resource_text(image, "status.digest") ? "oci" : NULL;
}

static void image_cell_platform(struct table *table, const json_t *image)
{
	const char *os = resource_text(image, "status.os");
	const char *architecture = resource_text(image, "status.architecture");
	AUTO(free) char *text = NULL;

	if (os && architecture)
		text = mem_printf("%s/%s", os, architecture);
	table_cell(table, text);
}

static void image_row(struct cli *cli, struct table *table, const json_t *image)
{
	const char *digest = resource_text(image, "status.digest");
	const char *created = resource_text(image, "meta.created");
	const char *hex = digest ? strchr(digest, ':') : NULL;
	AUTO(free) char *shown = hex ? mem_strndup(hex + 1, IMAGE_DIGEST_SHOWN) : NULL;
	int64_t size = resource_int(image, "status.size_bytes", 0), ms;
	char text[HUMAN_SIZE];

	table_cell(table, resource_text(image, "meta.name"));
	table_cell(table, resource_text(image, "status.state"));
	table_cell(table, image_type(image));
	table_cell(table, cli->style.format == FORMAT_TABLE ? shown : digest);
	image_cell_platform(table, image);
	if (size > 0)
		human_bytes((uint64_t) size, text);
	table_cell(table, size > 0 ? text : NULL);
	text[0] = '\0';
	if (created && clock_parse_rfc3339(created, &ms) == 0)
		human_duration(clock_realtime_ms(cli->clock) - ms, text);
	table_cell(table, text);
}

static int image_list_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			  struct error *err)
{
	(void) userdata;
	(void) arguments;
	return listing_print(cli, "/images?recursion=1", image_columns, image_row, false, err);
}

static void image_info_config(struct strbuf *out, const json_t *image)
{
	static const struct {
		const char *title, *path;
	} lists[] = {
		{ "entrypoint", "status.config.entrypoint" },
		{ "command", "status.config.command" },
		{ "exposed", "status.config.exposed" },
	};

	for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
		AUTO(strbuf_done) struct strbuf words = {};

		resource_put_words(&words, resource_at(image, lists[i].path));
		listing_fact(out, lists[i].title, strbuf_str(&words));
	}
	listing_fact(out, "workdir", resource_text(image, "status.config.workdir"));
	listing_fact(out, "user", resource_text(image, "status.config.user"));
	listing_fact(out, "stop signal", resource_text(image, "status.config.stop_signal"));
	listing_fact_map(out, "env", resource_at(image, "status.config.env"));
	listing_fact_map(out, "labels", resource_at(image, "status.config.labels"));
}

static void image_info_layers(struct strbuf *out, const json_t *image)
{
	const json_t *layers = resource_at(image, "status.layers"), *layer;
	size_t i;

	json_array_foreach(layers, i, layer)
	{
		const char *digest = resource_text(layer, "digest");
		char size[HUMAN_SIZE];
		AUTO(free) char *text = NULL;

		human_bytes((uint64_t) resource_int(layer, "size_bytes", 0), size);
		text = mem_printf("%s  %s", digest ? digest : "?", size);
		listing_fact(out, i == 0 ? "layers" : "", text);
	}
}

static int image_info_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			  struct error *err)
{
	AUTO(json_decref) json_t *image = NULL;
	AUTO(strbuf_done) struct strbuf out = {};
	int r = listing_get(cli, "images", arguments->words[0], &image, err);

	(void) userdata;
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, image);
		return 0;
	}
	listing_fact(&out, "name", resource_name(image));
	listing_fact(&out, "project", resource_text(image, "meta.project"));
	listing_fact(&out, "state", resource_text(image, "status.state"));
	listing_fact(&out, "error", resource_text(image, "status.error"));
	listing_fact(&out, "type", image_type(image));
	listing_fact(&out, "format", resource_text(image, "status.disk.format"));
	listing_fact_bytes(&out, "virtual size", image, "status.disk.virtual_bytes");
	listing_fact(&out, "source", resource_text(image, "spec.source"));
	listing_fact(&out, "reference", resource_text(image, "spec.reference"));
	listing_fact(&out, "digest", resource_text(image, "status.digest"));
	listing_fact(&out, "os", resource_text(image, "status.os"));
	listing_fact(&out, "architecture", resource_text(image, "status.architecture"));
	listing_fact_time(&out, "made", image, "status.created");
	listing_fact_time(&out, "here since", image, "meta.created");
	listing_fact_bytes(&out, "size", image, "status.size_bytes");
	image_info_config(&out, image);
	image_info_layers(&out, image);
	listing_print_facts(cli, &out);
	return 0;
}

static int image_delete_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	struct batch batch = {
		.doing = "deleting image",
		.done = "deleted",
		.method = "DELETE",
		.collection = "images",
		.suffix = "",
	};

	(void) userdata;
	return batch_run(cli, &batch, arguments, err);
}

static int image_prune_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			   struct error *err)
{
	AUTO(json_decref) json_t *operation = NULL, *ended = NULL;
	const json_t *removed, *name;
	char size[HUMAN_SIZE];
	size_t i;
	int r = cli_request(cli, "POST", "/images/prune", NULL, &operation, err);

	(void) userdata;
	(void) arguments;
	if (r == 0)
		r = wait_operation(cli, "pruning images", operation, &ended, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, ended);
		return 0;
	}
	removed = resource_at(ended, "status.result.images");
	json_array_foreach(removed, i, name)
	{
		AUTO(strbuf_done) struct strbuf line = {};

		human_text(&line, json_string_value(name));
		fprintf(cli->out, "%s\n", strbuf_str(&line));
	}
	if (json_array_size(removed) == 0) {
		cli_note(cli, "every image is in use, nothing was removed");
	} else {
		human_bytes((uint64_t) resource_int(ended, "status.result.size_bytes", 0), size);
		cli_note(cli, "%zu images deleted, %s", json_array_size(removed), size);
	}
	return 0;
}

const struct verb verb_image_pull = {
	.name = "pull",
	.synopsis = "[OPTIONS] REFERENCE",
	.summary = "Fetch an image from a registry",
	.help = "Examples:\n  brume image pull nginx:1.27\n"
		"  brume image pull --insecure 127.0.0.1:5000/team/web:2\n"
		"  brume image pull --username ci --password-stdin registry.example.org/api < "
		"token\n",
	.options = image_pull_options,
	.options_size = sizeof(struct image_pull_options),
	.words_min = 1,
	.words_max = 1,
	.run = image_pull_run,
};

const struct verb verb_image_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "",
	.summary = "List the images",
	.run = image_list_run,
};

const struct verb verb_image_info = {
	.name = "info",
	.synopsis = "NAME",
	.summary = "Show all about an image",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_IMAGE,
	.run = image_info_run,
};

const struct verb verb_image_delete = {
	.name = "delete",
	.alias = "rm",
	.synopsis = "NAME...",
	.summary = "Delete images that no instance uses",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_IMAGE,
	.run = image_delete_run,
};

const struct verb verb_image_prune = {
	.name = "prune",
	.synopsis = "",
	.summary = "Delete all images that no instance uses",
	.run = image_prune_run,
};
