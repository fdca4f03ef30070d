#pragma once
/*
 * image/import.h - images from and to tar files.
 *
 * Import reads an OCI layout, the output of `docker save`, or a plain root file system; which of
 * them, and whether gzip or zstd is around it, is detected.  As with a pull a sandboxed worker
 * (here without network) does it.  Export writes an OCI layout. Used by the agent.  Thread-safe,
 * blocks; a pipe or socket is read and written as it comes.
 */
#include "image/pull.h"

struct image_import {
	const char *uid;
	const char *name;     /* goes into image_info.reference */
	const char *platform; /* as in struct image_pull */
	struct image_limits limits;
	int input_fd;  /* the tar; borrowed */
	int cancel_fd; /* -1: never */
};

int image_import(struct image_store *store, const struct image_import *import,
		 image_progress_fn progress, void *progress_data, struct image_info *ret,
		 struct error *err);

/* Writes the image as an OCI layout tar; `output_fd` blocks or not, -EPIPE when nobody reads. */
int image_export(struct image_store *store, const char *uid, int output_fd, int cancel_fd,
		 struct error *err);
