#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/help.h"
#include "cli/verb.h"

static int help_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	AUTO(strbuf_done) struct strbuf path = {};
	const struct verb *const *table = verbs;
	const struct verb *verb = NULL;

	(void) userdata;
	strbuf_puts(&path, "brume");
	for (size_t i = 0; i < arguments->word_count; i++) {
		verb = table ? verb_find(table, arguments->words[i]) : NULL;
		if (!verb) {
			cli_set_hint(cli, "`brume --help` lists what there is");
			return cli_usage(cli, err, "there is no help for \"%s\"",
					 arguments->words[i]);
		}
		strbuf_printf(&path, " %s", verb->name);
		table = verb->verbs;
	}
	if (verb)
		help_print_verb(cli->out, strbuf_str(&path), verb);
	else
		help_print_overview(cli->out);
	return 0;
}

const struct verb verb_help = {
	.name = "help",
	.synopsis = "[VERB...]",
	.summary = "Explain a verb",
	.words_max = 2,
	.run = help_run,
};
