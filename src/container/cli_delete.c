#include <errno.h>

#include "base/error.h"
#include "container/cli_internal.h"
#include "container/lifecycle.h"

static int delete_verb(const struct runtime_options *options, int argc, char **argv)
{
	static const struct option longs[] = { { "force", no_argument, NULL, 'f' }, {} };
	AUTO(record_free) struct record *record = NULL;
	struct error err = {};
	bool force = false;
	const char *id;
	int c, r;

	while ((c = cli_option(options, argc, argv, "+f", longs)) != -1) {
		if (c != 'f')
			return CLI_USAGE;
		force = true;
	}
	id = cli_only_word(options, argc, argv, "container id");
	if (!id)
		return CLI_USAGE;
	r = record_open(options->root, id, true, &record, &err);
	/* What is not there is as good as deleted. */
	if (r == -ENOENT && force)
		return CLI_OK;
	if (r == 0)
		r = lifecycle_delete(record, force, &err);
	return r < 0 ? cli_fail(options, &err) : CLI_OK;
}

const struct cli_verb cli_delete = {
	.name = "delete",
	.usage = "[--force] ID",
	.help = "take a stopped container away; with --force stop it first",
	.examples = "brume-oci delete box\n"
		    "brume-oci delete --force box",
	.run = delete_verb,
};
