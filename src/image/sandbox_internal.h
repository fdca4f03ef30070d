#pragma once
/*
 * image/sandbox_internal.h - how an image worker gives its power away.
 *
 * Called first thing in brume-image-worker, before any byte of a stranger is read.  Afterwards the
 * process is user 0 of a user namespace whose ids are those of layers, its root is a read-only
 * folder in memory with one writable folder /job, it has the capabilities that unpacking needs in
 * that user namespace only, and system calls outside a short list fail.  Its mount namespace
 * belongs to the host's user namespace, so it cannot mount anything either.
 */
#include <stdbool.h>
#include <stdint.h>

struct error;

struct sandbox {
	int work_fd;  /* the folder that becomes /job */
	bool network; /* false: an empty network namespace */
	/* Sends "map me" to the parent and returns when it has written the id maps. */
	int (*wait_for_maps)(void *data, struct error *err);
	void *data;
};

int sandbox_enter(const struct sandbox *sandbox, struct error *err);

/*
 * For a worker that copies files out of or into an instance (image/files.h): user 0 of `userns_fd`,
 * a namespace with the instance's ids that nobody else is in; an empty read-only root.  What it may
 * touch it holds as descriptors.
 */
int sandbox_enter_instance(int userns_fd, struct error *err);

/*
 * For a worker that reads what an instance has changed: an empty read-only root, and the right to
 * read every file and attribute of the read-only, device-free trees whose descriptors it holds.  No
 * parser of a stranger's format runs with it.
 */
int sandbox_enter_reader(struct error *err);

/*
 * For a worker that lets a program of the host's read what a stranger made, when everything else
 * has been given away: the same list of system calls, for the process that waits
 * (sandbox_limit_waiter()) and for the one that becomes the program.  There execve() works with
 * `path` - the very pointer - and nothing else, and there are no other processes.
 */
int sandbox_limit_waiter(struct error *err);
int sandbox_limit_program(const char *path, struct error *err);

/* No file may become larger: called when the limits are known. */
int sandbox_limit_files(uint64_t bytes, struct error *err);
