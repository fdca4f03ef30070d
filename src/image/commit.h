#pragma once
/*
 * image/commit.h - what an instance has changed becomes a new image.
 *
 * The changes are written as one more layer (upper.h), the configuration and the manifest are made,
 * and all of it goes through image_import() like any image from outside: only what the store has
 * not got yet.  Used by the agent.  Thread-safe; blocks.  A crash in the middle leaves a job's
 * folder, which the next opening of the store removes; the new layer has no name until it is
 * complete.
 */
#include <stdint.h>

#include "image/info.h"
#include "image/pull.h"
#include "image/upper.h"

struct error;
struct image_store;

struct image_commit {
	const char *uid; /* of the image resource: its record */
	const char *name;
	const struct image_info *base; /* what the instance lies on */
	struct image_upper upper;      /* `layers` are those of `base` */
	char *const *changes;          /* codec/image_change.h */
	const char *author, *message;  /* or NULL */
	const char *created_by;        /* what ran in it, for the history; or NULL */
	int64_t now_ms;
	int cancel_fd;
	/* The instance's files have been read and may change again; or NULL. */
	void (*files_read)(void *data);
	void *data; /* of files_read */
};

/* `ret` (may be NULL) belongs to the caller on success. */
int image_commit(struct image_store *store, const struct image_commit *commit,
		 image_progress_fn progress, void *progress_data, struct image_info *ret,
		 struct error *err);
