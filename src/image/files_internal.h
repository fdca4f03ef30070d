#pragma once
/*
 * image/files_internal.h - the inside of the worker that copies files of one instance.
 *
 *	files_worker.c	the sandbox, the request, what a path is
 *	files_get.c	a tree becomes a tar
 *	files_put.c	a tar becomes a tree
 *
 * Every name is looked up from a descriptor of the instance's root, and links stay inside of it.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "image/wire_internal.h"

struct error;

struct files_work {
	int root_fd;
	char *path;
	bool follow, keep_ids;
};

/* The whole worker: returns when everything is done. */
int files_worker(struct wire *wire, const char *action, struct error *err);

int files_get(const struct files_work *work, const char *name, struct error *err);
int files_put(const struct files_work *work, struct error *err);

/*
 * Opens `path` in the root `root_fd`: no link leads out of it.  Never waits, never becomes a
 * controlling terminal.
 */
int files_open_below(int root_fd, const char *path, int flags);

/* The same for one name in a folder, which must not be a link. */
int files_open_child(int dir_fd, const char *name, int flags);
