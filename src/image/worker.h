#pragma once
/*
 * image/worker.h - the inside of brume-image-worker, the program that touches strangers' bytes.
 *
 * Started by pull and import with three descriptors: 3 the messages (wire_internal.h), 4 the input
 * of an import, 5 the job's folder.  It enters its sandbox before it reads anything.  It may be
 * killed at any instant: nothing that it made counts until its parent has moved it into the store.
 */

enum { WORKER_WIRE_FD = 3, WORKER_INPUT_FD = 4, WORKER_JOB_FD = 5 };

/* `action` is "pull" or "import".  Ends the process. */
void image_worker_main(const char *action) __attribute__((noreturn));
