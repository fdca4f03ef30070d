#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/attachment.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/number.h"
#include "cli/resource.h"
#include "cli/terminal.h"
#include "cli/verb.h"

enum { ATTACH_TAIL_MAX = 1000000 };

struct attach_options {
	const char *detach_keys, *tail;
	bool no_stdin, sig_proxy;
};

#define ATTACH(member) offsetof(struct attach_options, member)

static const struct option_def attach_options[] = {
	{ 0, "no-stdin", NULL, OPTION_FLAG, ATTACH(no_stdin), "only look" },
	{ 0, "detach-keys", "KEYS", OPTION_STRING, ATTACH(detach_keys),
	  "leave with these (ctrl-p,ctrl-q); \"\" for none" },
	{ 0, "sig-proxy", NULL, OPTION_FLAG, ATTACH(sig_proxy),
	  "pass signals on instead of leaving" },
	{ 'n', "tail", "COUNT", OPTION_STRING, ATTACH(tail),
	  "lines of its output shown first (a screenful)" },
	{},
};

static int attach_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct attach_options *options = userdata;
	AUTO(json_decref) json_t *instance = NULL;
	AUTO(attachment_done)
	struct attachment attachment = { .cli = cli,
					 .name = arguments->words[0],
					 .sig_proxy = options->sig_proxy };
	unsigned int width, height;
	int64_t tail;
	int r;

	terminal_size(STDOUT_FILENO, &width, &height);
	tail = height > 1 ? height - 1 : 1;
	r = detach_keys_parse(options->detach_keys ? options->detach_keys : DETACH_KEYS_DEFAULT,
			      &attachment.keys, err);
	if (r == 0 && options->tail)
		r = number_parse(options->tail, "--tail", 0, ATTACH_TAIL_MAX, &tail, err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	r = listing_get(cli, "instances", arguments->words[0], &instance, err);
	if (r < 0)
		return r;
	attachment.uid = resource_text(instance, "meta.uid");
	attachment.tail = (int) tail;
	attachment.tty = json_is_true(resource_at(instance, "spec.tty"));
	attachment.input =
		!options->no_stdin && (attachment.tty || resource_text(instance, "spec.stdin"));
	r = attachment_open(&attachment, false, err);
	return r < 0 ? r : attachment_run(&attachment, err);
}

const struct verb verb_attach = {
	.name = "attach",
	.synopsis = "[--no-stdin] [--detach-keys KEYS] [--sig-proxy] [-n COUNT] NAME",
	.summary = "See what a running instance writes, and type into it",
	.help = "The last screenful of its output comes first.  Any number of people may be "
		"attached: all\n"
		"see everything, all may type if it was launched with -i or -t.  Ctrl-P Ctrl-Q "
		"leaves a\n"
		"terminal, Ctrl-C anything else; the instance goes on.  When it ends, the exit "
		"code is its own.\n\n"
		"Examples:\n  brume attach shell\n  brume attach --no-stdin web\n"
		"  brume attach --detach-keys ctrl-x shell\n",
	.options = attach_options,
	.options_size = sizeof(struct attach_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_INSTANCE,
	.run = attach_run,
};
