#pragma once
/*
 * image/import.h - images from and to files.
 *
 * Import reads an OCI layout, the output of `docker save`, a plain root file system, or a disk (a
 * qcow2 or raw file: what a cloud image is); which of them, and whether gzip or zstd is around an
 * archive, is detected.  As with a pull a sandboxed worker (here without network) does it.  Export
 * writes an OCI layout, and a disk as the file that it came as.  Used by the agent.  Thread-safe,
 * blocks; a pipe or socket is read and written as it comes.
 */
#include "image/pull.h"

struct image_import {
	const char *uid;
	const char *name;     /* goes into image_info.reference */
	const char *platform; /* as in struct image_pull */
	const char *format;   /* "raw", "qcow2": the input is such a disk; NULL: see above */
	struct image_limits limits;
	int input_fd;  /* borrowed */
	int cancel_fd; /* -1: never */
};

int image_import(struct image_store *store, const struct image_import *import,
		 image_progress_fn progress, void *progress_data, struct image_info *ret,
		 struct error *err);

/* Writes the image as an OCI layout tar, or its disk; `output_fd` blocks or not, -EPIPE when nobody
 * reads. */
int image_export(struct image_store *store, const char *uid, int output_fd, int cancel_fd,
		 struct error *err);
