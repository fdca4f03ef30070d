#pragma once
/*
 * image/job_internal.h - the agent's side of one image worker.
 *
 * Makes the job's folder, starts the worker, gives it its ids, answers it, and when it has exited
 *puts what it made into the store.  Everything that the worker says is checked as if a stranger
 *said it: sizes, counts, digests, names.  Devices and overlayfs attributes, which the worker may
 *not make, are made here, relative to the layer's folder and without following any link.
 *
 *	jobs/ID/work/		the worker's: blobs/DIGEST, layers/N
 *	jobs/ID/done/N/		a finished layer (fs, meta.json) before it goes to layers/HEX
 */
#include <jansson.h>
#include <sys/types.h>

#include "image/layer_meta_internal.h"
#include "image/pull.h"
#include "image/store_internal.h"
#include "image/wire_internal.h"

struct job_node {
	size_t layer;
	char *path;
	uint32_t mode, uid, gid, major, minor;
	bool opaque; /* not a device, but the attribute of a folder */
};

struct job_layer {
	struct layer_meta meta;
	bool done;
	unsigned int need;
};

struct job {
	struct image_store *store;
	const char *action; /* "pull" or "import" */
	int input_fd;       /* -1: none */
	int cancel_fd;
	image_progress_fn progress;
	void *progress_data;

	struct claim claim;
	char *dir; /* relative to the store */
	int dir_fd, work_fd, blobs_fd;
	pid_t pid;
	struct wire wire;

	/* What the worker said. */
	struct image_info info;
	struct job_layer *layers; /* as many as info has; NULL before */
	struct job_node *nodes;
	size_t node_count, device_count;
	struct digest unchanged; /* DIGEST_NONE: it did not say that */
	bool done;
};

/* `request` is taken.  On success the image's parts are in the store and job->info is filled. */
int job_run(struct job *job, json_t *request, struct error *err);

/* Puts the limits (defaults for 0) into a request. */
void job_put_limits(json_t *request, const struct image_limits *limits);

/* linux/ and this machine's architecture in the words of images. */
char *job_native_platform(void);

/* job_store.c: from the job's folder into the store, after the worker's end. */
int job_store_all(struct job *job, struct error *err);
void job_keep_partials(struct job *job);

void job_done(struct job *job);
static inline void job_done_autop(struct job *job)
{
	job_done(job);
}
