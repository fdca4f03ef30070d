#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/resource.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "codec/uri.h"

static const struct column kernel_columns[] = {
	{ .title = "NAME" },
	{ .title = "DEFAULT" },
	{ .title = "ARCHITECTURE" },
	{ .title = "VERSION" },
	{ .title = "CREATED" },
	{ .title = "SOURCE", .elastic = true },
	{},
};

static int kernel_list_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			   struct error *err)
{
	AUTO(table_free) struct table *table = table_new(kernel_columns);
	AUTO(json_decref) json_t *answer = NULL;
	const json_t *kernel;
	size_t i;
	int r = cli_request(cli, "GET", "/kernels", NULL, &answer, err);

	(void) userdata;
	(void) arguments;
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, answer);
		return 0;
	}
	json_array_foreach(answer, i, kernel)
	{
		table_cell(table, resource_text(kernel, "name"));
		table_cell(table, json_is_true(resource_at(kernel, "default")) ? "yes" : "");
		table_cell(table, resource_text(kernel, "architecture"));
		table_cell(table, resource_text(kernel, "version"));
		table_cell(table, resource_text(kernel, "created"));
		table_cell(table, resource_text(kernel, "source"));
	}
	table_print(table, cli->out, &cli->style);
	return 0;
}

struct kernel_options {
	const char *name, *modules;
};

static const struct option_def kernel_options[] = {
	{ 0, "name", "NAME", OPTION_STRING, offsetof(struct kernel_options, name),
	  "what it is called; its version when absent" },
	{ 0, "modules", "FOLDER", OPTION_STRING, offsetof(struct kernel_options, modules),
	  "modules of a plain kernel; /lib/modules/VERSION when absent", COMPLETE_FILE },
	{},
};

/* The node reads it, so it is told from its root on. */
static char *absolute(const char *path)
{
	char *real = path ? realpath(path, NULL) : NULL;

	return real ? real : mem_strdup(path);
}

static int kernel_import_run(struct cli *cli, const void *userdata,
			     const struct arguments *arguments, struct error *err)
{
	const struct kernel_options *options = userdata;
	AUTO(free) char *source = absolute(arguments->words[0]);
	AUTO(free) char *modules = absolute(options->modules);
	AUTO(json_decref) json_t *answer = NULL;
	AUTO(json_decref)
	json_t *body = json_pack("{s:s, s:s*, s:s*}", "source", source, "name", options->name,
				 "modules", modules);
	int r;

	if (!body)
		return error_say(err, -EINVAL, "the path is not valid UTF-8");
	r = cli_request(cli, "POST", "/kernels", body, &answer, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, answer);
	else
		fprintf(cli->out, "%s\n", resource_text(answer, "name"));
	return 0;
}

static int kernel_default_run(struct cli *cli, const void *userdata,
			      const struct arguments *arguments, struct error *err)
{
	AUTO(free) char *name = uri_encode(arguments->words[0]);
	AUTO(free) char *path = mem_printf("/kernels/%s", name);
	AUTO(json_decref) json_t *answer = NULL;
	AUTO(json_decref) json_t *body = json_pack("{s:b}", "default", 1);

	(void) userdata;
	return cli_request(cli, "PUT", path, body, &answer, err);
}

static int kernel_delete_run(struct cli *cli, const void *userdata,
			     const struct arguments *arguments, struct error *err)
{
	int r = 0;

	(void) userdata;
	for (size_t i = 0; r >= 0 && i < arguments->word_count; i++) {
		AUTO(free) char *name = uri_encode(arguments->words[i]);
		AUTO(free) char *path = mem_printf("/kernels/%s", name);
		AUTO(json_decref) json_t *answer = NULL;

		r = cli_request(cli, "DELETE", path, NULL, &answer, err);
	}
	return r;
}

const struct verb verb_kernel_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "",
	.summary = "List the node's kernels for virtual machines",
	.run = kernel_list_run,
};

const struct verb verb_kernel_import = {
	.name = "import",
	.synopsis = "[OPTIONS] FILE",
	.summary = "Give the node a kernel; only root on the node",
	.help = "FILE is on the node: Debian's linux-image package (.deb), a vmlinuz, an ELF "
		"vmlinux, or\nan Image of arm64.  The first one of each architecture becomes its "
		"default.\n\n"
		"Examples:\n"
		"  brume kernel import linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb\n"
		"  brume kernel import --name tiny linux-6.1/vmlinux\n",
	.options = kernel_options,
	.options_size = sizeof(struct kernel_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_FILE,
	.run = kernel_import_run,
};

const struct verb verb_kernel_default = {
	.name = "default",
	.synopsis = "NAME",
	.summary = "Let machines of its architecture start with this kernel; only root on the node",
	.words_min = 1,
	.words_max = 1,
	.run = kernel_default_run,
};

const struct verb verb_kernel_delete = {
	.name = "delete",
	.alias = "rm",
	.synopsis = "NAME...",
	.summary = "Delete kernels; what runs keeps its own; only root on the node",
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.run = kernel_delete_run,
};
