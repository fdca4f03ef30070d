#include "cli/help.h"

#include <string.h>

#include "base/strbuf.h"
#include "cli/verb.h"

enum { HELP_COLUMN = 28 };

static void help_print_row(FILE *out, const char *left, const char *right)
{
	if (strlen(left) > HELP_COLUMN - 2)
		fprintf(out, "  %s\n  %*s%s\n", left, HELP_COLUMN, "", right);
	else
		fprintf(out, "  %-*s%s\n", HELP_COLUMN, left, right);
}

static void help_print_options(FILE *out, const struct option_def *options)
{
	for (const struct option_def *o = options; o && o->name; o++) {
		AUTO(strbuf_done) struct strbuf left = {};

		if (o->letter)
			strbuf_printf(&left, "-%c, ", o->letter);
		else
			strbuf_puts(&left, "    ");
		strbuf_printf(&left, "--%s", o->name);
		if (o->argument)
			strbuf_printf(&left, " %s", o->argument);
		help_print_row(out, strbuf_str(&left), o->help);
	}
}

static void help_print_verbs(FILE *out, const struct verb *const *table)
{
	for (; *table; table++) {
		const struct verb *v = *table;
		AUTO(strbuf_done) struct strbuf left = {};

		if (v->hidden)
			continue;
		strbuf_puts(&left, v->name);
		if (v->alias)
			strbuf_printf(&left, ", %s", v->alias);
		help_print_row(out, strbuf_str(&left), v->summary);
	}
}

void help_print_overview(FILE *out)
{
	fputs("brume " BRUME_VERSION ": a private cloud on your own servers\n\n"
	      "Usage: brume [OPTIONS] VERB ...\n\nVerbs:\n",
	      out);
	help_print_verbs(out, verbs);
	fputs("\nOptions of every verb:\n", out);
	help_print_options(out, verb_common_options);
	fputs("\nEnvironment: BRUME_HOST (unix:///PATH or https://HOST:PORT), BRUME_TOKEN, "
	      "BRUME_CACERT,\n"
	      "BRUME_PROJECT, NO_COLOR\n\n"
	      "Examples:\n"
	      "  brume launch nginx web -p 8080:80     start a web server, publish its port\n"
	      "  brume list                            what runs\n"
	      "  brume exec -it web sh                 a shell inside\n"
	      "  brume logs -f web                     what it says\n"
	      "  brume delete --force web              stop it and take it away\n\n"
	      "`brume VERB --help` explains a verb.\n",
	      out);
}

void help_print_verb(FILE *out, const char *path, const struct verb *verb)
{
	fprintf(out, "Usage: %s %s\n\n%s.\n", path, verb->synopsis, verb->summary);
	if (verb->alias)
		fprintf(out, "Also: %s\n", verb->alias);
	if (verb->help)
		fprintf(out, "\n%s", verb->help);
	if (verb->verbs) {
		fputs("\nVerbs:\n", out);
		help_print_verbs(out, verb->verbs);
		fprintf(out, "\n`%s VERB --help` explains a verb.\n", path);
		return;
	}
	if (verb->options) {
		fputs("\nOptions:\n", out);
		help_print_options(out, verb->options);
	}
	fputs("\nOptions of every verb:\n", out);
	help_print_options(out, verb_common_options);
}
