#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

enum { BOOT_TIMEOUT_S = 120, BOOT_TIMEOUT_MAX_S = 3600 };

static const char help[] =
	"Usage: brume-agentd [OPTION...]\n"
	"\n"
	"The hands of a brume node: pulls images, makes networks, starts and stops instances as\n"
	"brumed wants it.  Needs root.  Starts brume-keeper when it does not run.\n"
	"\n"
	"  --state DIR          what lasts (default /var/lib/brume)\n"
	"  --run DIR            what a reboot ends (default /run/brume)\n"
	"  --prefix NAME        of bridges, firewall tables and cgroups (default brume)\n"
	"  --node NAME          name of this node (default local)\n"
	"  --policy FILE        what this node gives to instances: folders, devices (default\n"
	"                       STATE/policy.json; without it nothing)\n"
	"  --oci PATH           brume-oci           (default: all six beside\n"
	"  --keeper PATH        brume-keeper         the running executable);\n"
	"                       \"none\": the service manager starts it\n"
	"  --image-worker PATH  brume-image-worker\n"
	"  --tini PATH          brume-tini\n"
	"  --probe PATH         brume-probe\n"
	"  --guest-init PATH    brume-init\n"
	"  --boot-timeout SECS  for a virtual machine to start its command (default 120)\n"
	"  --vm-backend NAME    what runs virtual machines: auto (default), brume-vmm, qemu\n"
	"  --registry HOST      completes short image references (default: none)\n"
	"  --log LEVELS         for example \"info\" or \"warning,agent=debug\"\n"
	"  --version, --help\n"
	"\n"
	"SIGTERM ends it; instances go on.  Exit codes: 0, 1 failure, 2 usage.\n";

static int usage(const char *message, const char *what)
{
	fprintf(stderr, "brume-agentd: %s '%s'; see --help\n", message, what);
	return 2;
}

static char *beside(const char *name)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n < 0 ? 0 : n] = '\0';
	char *slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	return mem_printf("%s/%s", self, name);
}

static int is_prefix(const char *text)
{
	size_t size = strlen(text);

	return size >= 1 && size <= 8 &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789") == size;
}

static int check(const struct agent_options *options)
{
	if (options->state[0] != '/')
		return usage("--state must be an absolute path, not", options->state);
	if (options->run[0] != '/')
		return usage("--run must be an absolute path, not", options->run);
	if (!is_prefix(options->prefix))
		return usage("--prefix must be 1 to 8 of a-z and 0-9, not", options->prefix);
	if (!options->node[0])
		return usage("--node must not be empty:", options->node);
	if (options->policy && options->policy[0] != '/')
		return usage("--policy must be an absolute path, not", options->policy);
	return 0;
}

static int read_seconds(const char *text, unsigned int *ret)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (!isdigit((unsigned char) text[0]) || *end || value < 1 || value > BOOT_TIMEOUT_MAX_S)
		return -EINVAL;
	*ret = (unsigned int) value;
	return 0;
}

/* 0, or the exit code + 1. */
static int parse(int argc, char **argv, struct agent_options *agent)
{
	enum {
		OPT_STATE = 256,
		OPT_RUN,
		OPT_PREFIX,
		OPT_NODE,
		OPT_OCI,
		OPT_KEEPER,
		OPT_WORKER,
		OPT_REGISTRY,
		OPT_TINI,
		OPT_PROBE,
		OPT_POLICY,
		OPT_INIT,
		OPT_BOOT,
		OPT_BACKEND,
		OPT_LOG,
		OPT_VERSION,
		OPT_HELP
	};
	static const struct option options[] = {
		{ "state", required_argument, NULL, OPT_STATE },
		{ "run", required_argument, NULL, OPT_RUN },
		{ "prefix", required_argument, NULL, OPT_PREFIX },
		{ "node", required_argument, NULL, OPT_NODE },
		{ "oci", required_argument, NULL, OPT_OCI },
		{ "keeper", required_argument, NULL, OPT_KEEPER },
		{ "image-worker", required_argument, NULL, OPT_WORKER },
		{ "registry", required_argument, NULL, OPT_REGISTRY },
		{ "tini", required_argument, NULL, OPT_TINI },
		{ "probe", required_argument, NULL, OPT_PROBE },
		{ "policy", required_argument, NULL, OPT_POLICY },
		{ "guest-init", required_argument, NULL, OPT_INIT },
		{ "boot-timeout", required_argument, NULL, OPT_BOOT },
		{ "vm-backend", required_argument, NULL, OPT_BACKEND },
		{ "log", required_argument, NULL, OPT_LOG },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ "help", no_argument, NULL, OPT_HELP },
		{}
	};
	const char *boot_timeout = NULL, *backend = NULL;
	const char **const targets[] = { &agent->state,        &agent->run,      &agent->prefix,
					 &agent->node,         &agent->oci,      &agent->keeper,
					 &agent->image_worker, &agent->registry, &agent->tini,
					 &agent->probe,        &agent->policy,   &agent->guest_init,
					 &boot_timeout,        &backend,         &agent->levels };
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option >= OPT_STATE && option <= OPT_LOG) {
			*targets[option - OPT_STATE] = optarg;
		} else if (option == OPT_VERSION) {
			puts("brume-agentd " BRUME_VERSION);
			return 1;
		} else if (option == OPT_HELP) {
			fputs(help, stdout);
			return 1;
		} else {
			return 1 + usage("unknown option or missing value", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return 1 + usage("unexpected argument", argv[optind]);
	if (agent->levels && log_set_levels(agent->levels) < 0)
		return 1 + usage("unknown log levels", agent->levels);
	if (boot_timeout && read_seconds(boot_timeout, &agent->boot_timeout_s) < 0)
		return 1 + usage("--boot-timeout must be 1 to 3600 seconds, not", boot_timeout);
	if (backend && machine_preference_parse(backend, &agent->vm_backend) < 0)
		return 1 + usage("--vm-backend must be auto, brume-vmm or qemu, not", backend);
	if (strcmp(agent->keeper, "none") == 0)
		agent->keeper = NULL;
	int code = check(agent);
	return code ? 1 + code : 0;
}

int main(int argc, char **argv)
{
	AUTO(free) char *oci = beside("brume-oci");
	AUTO(free) char *keeper = beside("brume-keeper");
	AUTO(free) char *worker = beside("brume-image-worker");
	AUTO(free) char *tini = beside("brume-tini");
	AUTO(free) char *probe = beside("brume-probe");
	AUTO(free) char *guest_init = beside("brume-init");

	struct agent_options options = { .state = "/var/lib/brume",
					 .run = "/run/brume",
					 .prefix = "brume",
					 .node = "local",
					 .oci = oci,
					 .keeper = keeper,
					 .image_worker = worker,
					 .tini = tini,
					 .probe = probe,
					 .guest_init = guest_init,
					 .boot_timeout_s = BOOT_TIMEOUT_S };
	struct error err = {};
	int code;

	log_set_program("brume-agentd");
	code = parse(argc, argv, &options);
	if (code)
		return code - 1;
	if (geteuid() != 0) {
		fprintf(stderr,
			"brume-agentd: must run as root: it makes namespaces and networks\n");
		return 1;
	}
	if (agent_run(&options, &err) < 0) {
		log_error("%s", err.msg);
		return 1;
	}
	return 0;
}
