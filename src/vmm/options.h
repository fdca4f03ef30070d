#pragma once
/*
 * vmm/options.h - brume-vmm's command line: parsed, checked, and everything that it names opened.
 *
 * Where a file is named, "fd:N" is a descriptor that was inherited.
 * Used by brume-vmm.  One call at the start of the process.
 */
#include "vmm/vm.h"

struct error;

enum { OPTIONS_TEXTS_MAX = 64, OPTIONS_FDS_MAX = 96 };

struct options {
	struct vm_config vm;
	const char *control_path; /* NULL: none, or control_fd */
	int control_fd, status_fd, metrics_fd;
	bool paused;
	bool no_jail;
	bool stderr_taken; /* a port writes to it */

	/* What options_done() releases. */
	char *texts[OPTIONS_TEXTS_MAX];
	unsigned int text_count;
	int fds[OPTIONS_FDS_MAX];
	unsigned int fd_count;
};

/*
 * 0: *ret is filled in.  1: --help or --version has been answered.  -EINVAL: usage; others: what is
 * named cannot be opened.
 */
int options_parse(int argc, char **argv, struct options *ret, struct error *err);
void options_done(struct options *options);
