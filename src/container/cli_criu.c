#include "container/cli_criu.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "container/checkpoint.h"
#include "container/cli_internal.h"
#include "container/rootless.h"

static int read_cgroups(const struct runtime_options *runtime, const char *verb,
			enum criu_cgroups *ret)
{
	static const struct {
		const char *name;
		enum criu_cgroups mode;
	} modes[] = {
		{ "soft", CRIU_CGROUPS_SOFT },
		{ "full", CRIU_CGROUPS_FULL },
		{ "strict", CRIU_CGROUPS_STRICT },
		{ "ignore", CRIU_CGROUPS_IGNORE },
	};

	for (size_t i = 0; i < ARRAY_COUNT(modes); i++) {
		if (strcmp(optarg, modes[i].name) == 0) {
			*ret = modes[i].mode;
			return 0;
		}
	}
	return cli_usage(runtime,
			 "%s: --manage-cgroups-mode: \"%s\" is not soft, full, strict or ignore",
			 verb, optarg);
}

static bool *find_switch(struct criu_options *options, int option)
{
	switch (option) {
	case CLI_CRIU_LEAVE_RUNNING:
		return &options->leave_running;
	case CLI_CRIU_PRE_DUMP:
		return &options->pre_dump;
	case CLI_CRIU_TCP_ESTABLISHED:
		return &options->tcp_established;
	case CLI_CRIU_TCP_SKIP:
		return &options->tcp_skip_in_flight;
	case CLI_CRIU_TCP_CLOSE:
		return &options->tcp_close;
	case CLI_CRIU_EXT_UNIX:
		return &options->ext_unix_sk;
	case CLI_CRIU_SHELL_JOB:
		return &options->shell_job;
	case CLI_CRIU_FILE_LOCKS:
		return &options->file_locks;
	case CLI_CRIU_LINK_REMAP:
		return &options->link_remap;
	case CLI_CRIU_AUTO_DEDUP:
		return &options->auto_dedup;
	default:
		return NULL;
	}
}

int cli_criu_option(const struct runtime_options *runtime, const char *verb, int option,
		    struct criu_options *ret)
{
	bool *on = find_switch(ret, option);

	if (on) {
		*on = true;
		return 0;
	}
	switch (option) {
	case CLI_CRIU_IMAGES:
		ret->image_path = optarg;
		return 0;
	case CLI_CRIU_WORK:
		ret->work_path = optarg;
		return 0;
	case CLI_CRIU_PARENT:
		ret->parent_path = optarg;
		if (optarg[0] != '/')
			return 0;
		return cli_usage(runtime,
				 "%s: --parent-path: \"%s\" is not a folder relative to "
				 "--image-path",
				 verb, optarg);
	case CLI_CRIU_LSM_PROFILE:
		ret->lsm_profile = optarg;
		return 0;
	case CLI_CRIU_LSM_MOUNT:
		ret->lsm_mount_context = optarg;
		return 0;
	case CLI_CRIU_CGROUPS:
		return read_cgroups(runtime, verb, &ret->cgroups);
	case CLI_CRIU_EMPTY_NS:
		/* What it asks for is always done. */
		if (strcmp(optarg, "network") == 0)
			return 0;
		return cli_usage(runtime, "%s: --empty-ns: \"%s\" is not network", verb, optarg);
	case CLI_CRIU_LAZY_PAGES:
		return cli_usage(runtime,
				 "%s: --lazy-pages: memory is always written to --image-path and "
				 "read from there",
				 verb);
	case CLI_CRIU_PAGE_SERVER:
		return cli_usage(runtime,
				 "%s: --page-server: memory is always written to --image-path",
				 verb);
	default:
		return CLI_USAGE;
	}
}

int cli_criu_allowed(const struct runtime_options *runtime, struct error *err)
{
	if (geteuid() == 0 && !runtime->entered && !rootless_is())
		return 0;
	return error_say(err, -EPERM,
			 "CRIU needs the machine's root; containers of ordinary users can be "
			 "neither checkpointed nor restored");
}

static const struct option longs[] = {
	CLI_CRIU_OPTIONS,
	{ "parent-path", required_argument, NULL, CLI_CRIU_PARENT },
	{ "leave-running", no_argument, NULL, CLI_CRIU_LEAVE_RUNNING },
	{ "pre-dump", no_argument, NULL, CLI_CRIU_PRE_DUMP },
	{ "tcp-skip-in-flight", no_argument, NULL, CLI_CRIU_TCP_SKIP },
	{ "link-remap", no_argument, NULL, CLI_CRIU_LINK_REMAP },
	{ "page-server", required_argument, NULL, CLI_CRIU_PAGE_SERVER },
	{ "status-fd", required_argument, NULL, CLI_CRIU_PAGE_SERVER },
	{},
};

static int checkpoint(const struct runtime_options *options, int argc, char **argv)
{
	struct criu_options criu = CLI_CRIU_DEFAULTS;
	AUTO(record_free) struct record *record = NULL;
	AUTO(free) char *images = NULL;
	AUTO(free) char *work = NULL;
	struct error err = {};
	const char *id;
	int c, r = 0;

	while (r == 0 && (c = cli_option(options, argc, argv, "+", longs)) != -1)
		r = cli_criu_option(options, argv[0], c, &criu);
	if (r > 0)
		return r;
	id = cli_only_word(options, argc, argv, "container id");
	if (!id)
		return CLI_USAGE;
	criu.image_path = images = cli_absolute(criu.image_path);
	criu.work_path = work = cli_absolute(criu.work_path);
	r = cli_criu_allowed(options, &err);
	if (r == 0)
		r = record_open(options->root, id, true, &record, &err);
	if (r == 0)
		r = checkpoint_make(record, &criu, &err);
	return r < 0 ? cli_fail(options, &err) : CLI_OK;
}

const struct cli_verb cli_checkpoint = {
	.name = "checkpoint",
	.usage = "[--image-path DIR] [--work-path DIR] [--leave-running] [--pre-dump] "
		 "[--parent-path DIR] [--tcp-established] [--tcp-skip-in-flight] [--ext-unix-sk] "
		 "[--shell-job] [--file-locks] [--link-remap] [--auto-dedup] "
		 "[--manage-cgroups-mode soft|full|strict|ignore] ID",
	.help = "write a running container into files, and take it away (CRIU)",
	.examples = "brume-oci checkpoint --image-path /srv/box.images box\n"
		    "brume-oci checkpoint --leave-running --image-path /srv/copy box",
	.run = checkpoint,
};
