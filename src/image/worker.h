#pragma once
/*
 * image/worker.h - the inside of brume-image-worker, the program that touches strangers' bytes.
 *
 * Started by pull and import with three descriptors: 3 the messages (wire_internal.h), 4 the input
 * of an import, 5 the job's folder.  It enters its sandbox before it reads anything.  It may be
 * killed at any instant: nothing that it made counts until its parent has moved it into the store.
 *
 * Started for one instance ("stat", "get", "put", see files.h; "changes", "layer", see upper.h): 4
 * is the stream, 5 the instance's root or changed files, 6 its user namespace or the folder of
 * layers.  Started for a disk of an image ("disk", see disk.h): 4 is its file, 5 the merged layers,
 * 6 the user namespace.  Started for a kernel ("kernel", see kernel.h): 4 is the package or file, 5
 * the folder for what it consists of, 6 the user namespace, 7 a folder of modules, if any.
 */
#include <stdbool.h>

enum {
	WORKER_WIRE_FD = 3,
	WORKER_INPUT_FD = 4,
	WORKER_JOB_FD = 5,
	WORKER_EXTRA_FD = 6,
	WORKER_MODULES_FD = 7
};

/* Is this one of the words for an action? */
bool image_worker_knows(const char *action);

/* Ends the process. */
void image_worker_main(const char *action) __attribute__((noreturn));
