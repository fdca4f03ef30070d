/*
 * brume-qemu --run-dir DIR [--kernel fd:N] [--initrd fd:N]... [--input] -- PROGRAM ARGUMENTS...
 *
 * QEMU's parent in the jail of a virtual machine; the agent writes its command line
 * (machine/machine.h).  See machine/qemu_run.h.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "machine/qemu_run.h"

enum { EXIT_USAGE = 2, FD_MAX = 1 << 20 };

static const char help[] =
	"Usage: brume-qemu --run-dir DIR [--kernel fd:N] [--initrd fd:N]... [--input]\n"
	"                  -- PROGRAM ARGUMENTS...\n"
	"\n"
	"Runs QEMU as brume runs brume-vmm: serves DIR/control.sock, keeps the guest's console in\n"
	"DIR/console and the word of its brume.status port in DIR/status.  The arguments name the\n"
	"chardevs console, early, status, out, err and in, which are made here.\n"
	"\n"
	"  --run-dir DIR   an existing folder of this machine alone\n"
	"  --kernel fd:N   boot the kernel behind this descriptor\n"
	"  --initrd fd:N   its initial ramdisk; several are put one behind the other (at most 4)\n"
	"  --input         the chardev `in' is our standard input\n"
	"  --version, --help\n"
	"\n"
	"Exit codes: 0 the guest has powered off, 1 QEMU could not be run (DIR/status says why),\n"
	"2 usage, 3 the guest asked for a reset, 4 it panicked.\n";

static int usage(const char *message, const char *what)
{
	fprintf(stderr, "brume-qemu: %s '%s'; see --help\n", message, what);
	return EXIT_USAGE;
}

static int descriptor(const char *text, int *ret)
{
	char *end;
	long value;

	if (strncmp(text, "fd:", 3) != 0)
		return -EINVAL;
	errno = 0;
	value = strtol(text + 3, &end, 10);
	if (*end || end == text + 3 || errno || value < 0 || value > FD_MAX)
		return -EINVAL;
	*ret = (int) value;
	return 0;
}

/* 0, or the exit code + 1. */
static int parse_option(int option, struct qemu_run_options *options)
{
	switch (option) {
	case 'r':
		options->run_dir = optarg;
		return 0;
	case 'k':
		return descriptor(optarg, &options->kernel_fd) == 0
			       ? 0
			       : 1 + usage("expected fd:N, not", optarg);
	case 'i':
		if (options->initrd_count == QEMU_RUN_FILES_MAX)
			return 1 + usage("too many initial ramdisks at", optarg);
		return descriptor(optarg, &options->initrd_fds[options->initrd_count++]) == 0
			       ? 0
			       : 1 + usage("expected fd:N, not", optarg);
	case 'n':
		options->input = true;
		return 0;
	case 'v':
	case 'h':
		fputs(option == 'v' ? "brume-qemu " BRUME_VERSION "\n" : help, stdout);
		return 1 + EXIT_SUCCESS;
	default:
		return 1 + usage("unknown option or missing value after", "brume-qemu");
	}
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = { { "run-dir", required_argument, NULL, 'r' },
						      { "kernel", required_argument, NULL, 'k' },
						      { "initrd", required_argument, NULL, 'i' },
						      { "input", no_argument, NULL, 'n' },
						      { "version", no_argument, NULL, 'v' },
						      { "help", no_argument, NULL, 'h' },
						      {} };
	struct qemu_run_options options = { .kernel_fd = -1 };
	int option, code = 0;

	opterr = 0;
	while (code == 0 && (option = getopt_long(argc, argv, "+", long_options, NULL)) >= 0)
		code = parse_option(option, &options);
	if (code > 0)
		return code - 1;
	if (!options.run_dir)
		return usage("missing option", "--run-dir");
	if (optind == argc || argv[optind][0] != '/')
		return usage("expected the absolute path of a program behind",
			     optind == argc ? "--" : argv[optind]);
	options.argv = argv + optind;
	return qemu_run(&options);
}
