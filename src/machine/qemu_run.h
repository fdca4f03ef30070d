#pragma once
/*
 * machine/qemu_run.h - the inside of brume-qemu: QEMU's parent in its jail, which makes it look
 * like brume-vmm (docs/design/0007-virtual-machines.md).
 *
 * Starts QEMU as a child with three private connections: QMP, the guest's console, the status port.
 * Keeps the console as a ring (machine/ring.h), writes `status`, serves `control.sock` with
 * call/return frames, and ends with the codes that design 0007 promises.
 *
 * QEMU and its guest are strangers here, too: everything from them is bounded, and the most that
 * they reach is what this process says about them.
 * Thread: one.  When it dies, QEMU dies with it.
 */
#include <stdbool.h>

struct error;

enum { QEMU_RUN_FILES_MAX = 4 };

struct qemu_run_options {
	const char *run_dir;
	int kernel_fd; /* -1: firmware boots */
	int initrd_fds[QEMU_RUN_FILES_MAX];
	unsigned int initrd_count;
	bool input;  /* the guest's brume.in is our stdin */
	char **argv; /* QEMU's, complete but for what is made here */
};

/* Runs until QEMU has ended.  The exit code; a reason it could not be run stands in `status`. */
int qemu_run(const struct qemu_run_options *options);
