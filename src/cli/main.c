#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/help.h"
#include "cli/suggest.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "client/client.h"

enum { EXIT_USAGE = 2 };

/* Options that only stand before the verb. */
struct main_options {
	bool version;
};

static const struct option_def main_options[] = {
	{ 0, "version", NULL, OPTION_FLAG, offsetof(struct main_options, version), "the version" },
	{},
};

/* What the common options say about output. */
static int main_read_style(struct cli *cli, struct error *err)
{
	static const char *const names[] = { "table", "json", "csv", "plain" };

	if (cli->options.no_progress || cli->options.quiet)
		cli->progress = false;
	if (!cli->options.format)
		return 0;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		if (strcmp(cli->options.format, names[i]) == 0) {
			cli->style.format = (enum format) i;
			return 0;
		}
	}
	return cli_usage(cli, err, "format \"%s\": there are table, json, csv and plain",
			 cli->options.format);
}

static int main_unknown_verb(struct cli *cli, const char *path, const struct verb *const *table,
			     const char *name, struct error *err)
{
	struct suggestion best = { .wanted = name };

	for (; *table; table++)
		if (!(*table)->hidden)
			suggestion_offer(&best, (*table)->name);
	cli_set_hint(cli, "`%s --help` lists what there is", path);
	if (best.name)
		return cli_usage(cli, err, "unknown verb \"%s\", did you mean \"%s\"?", name,
				 best.name);
	return cli_usage(cli, err, "unknown verb \"%s\"", name);
}

static int main_run_verb(struct cli *cli, const char *path, const struct verb *verb, char **argv,
			 struct error *err)
{
	AUTO(free) void *options = mem_zalloc(verb->options_size + 1);
	AUTO(arguments_done) struct arguments arguments = {};
	struct option_set sets[] = { { verb->options, options },
				     { verb_common_options, &cli->options },
				     {} };
	int r;

	cli->verb = path;
	r = option_parse(verb->options ? sets : sets + 1, argv, verb->words_max, verb->has_command,
			 &arguments, err);
	if (r < 0) {
		cli->usage = true;
		cli_set_hint(cli, "usage: %s %s", path, verb->synopsis);
	} else if (cli->options.help) {
		help_print_verb(cli->out, path, verb);
	} else if (arguments.word_count < verb->words_min) {
		cli_set_hint(cli, "usage: %s %s", path, verb->synopsis);
		r = cli_usage(cli, err, "%s: an argument is missing", path + strlen("brume "));
	} else {
		r = main_read_style(cli, err);
		if (r == 0)
			r = verb->run(cli, options, &arguments, err);
	}
	option_release(verb->options, options);
	return r;
}

/* Finds the verb that argv[0] names in `table`, goes down into groups. */
static int main_dispatch(struct cli *cli, const char *path, const struct verb *const *table,
			 char **argv, struct error *err)
{
	AUTO(arguments_done) struct arguments arguments = {};
	AUTO(free) char *below = NULL;
	const struct option_set common[] = { { verb_common_options, &cli->options }, {} };
	const struct verb *verb = verb_find(table, argv[0]);
	int r;

	if (!verb)
		return main_unknown_verb(cli, path, table, argv[0], err);
	below = mem_printf("%s %s", path, verb->name);
	if (!verb->verbs)
		return main_run_verb(cli, below, verb, argv + 1, err);
	r = option_parse(common, argv + 1, 0, true, &arguments, err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	if (!arguments.command && cli->options.help) {
		help_print_verb(cli->out, below, verb);
		return 0;
	}
	if (!arguments.command) {
		cli_set_hint(cli, "`%s --help` lists what there is", below);
		return cli_usage(cli, err, "%s: a verb is missing", verb->name);
	}
	return main_dispatch(cli, below, verb->verbs, arguments.command, err);
}

static int main_run(struct cli *cli, char **argv, struct error *err)
{
	AUTO(arguments_done) struct arguments arguments = {};
	struct main_options options = {};
	const struct option_set sets[] = { { main_options, &options },
					   { verb_common_options, &cli->options },
					   {} };
	int r = option_parse(sets, argv, 0, true, &arguments, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	if (options.version) {
		fputs("brume " BRUME_VERSION "\n", cli->out);
		return 0;
	}
	if (!arguments.command) {
		help_print_overview(cli->options.help ? cli->out : cli->err);
		return cli->options.help ? 0 : EXIT_USAGE;
	}
	return main_dispatch(cli, "brume", verbs, arguments.command, err);
}

int cli_main(char **argv, FILE *out, FILE *err)
{
	struct cli cli = { .out = out, .err = err, .clock = clock_system() };
	struct error error = {};
	const char *no_colour = getenv("NO_COLOR");
	const char *term = getenv("TERM");
	bool dumb = term && strcmp(term, "dumb") == 0;
	int r;

	if (isatty(fileno(out))) {
		cli.style.width = terminal_width(fileno(out));
		cli.style.colour = !dumb && !(no_colour && *no_colour);
	}
	cli.progress = isatty(fileno(err)) && !dumb;
	r = main_run(&cli, argv, &error);
	if (r >= 0 && fflush(out) != 0 && errno != EPIPE)
		r = error_set(&error, -errno, "cannot write the result");
	if (r < 0)
		cli_print_error(&cli, error.msg);
	client_free(cli.client);
	return r >= 0 ? r : cli.usage ? EXIT_USAGE : EXIT_FAILURE;
}
