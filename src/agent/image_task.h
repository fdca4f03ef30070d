#pragma once
/*
 * agent/image_task.h - the steps of an image that block: on threads of the slow pool.
 *
 * Used by agent/image_actor.c.  The actor fills a task, a worker carries it out; progress is read
 * meanwhile by image_task_progress().  Each step can be repeated after a crash.
 */
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/instance_files.h"
#include "base/clock.h"
#include "base/error.h"
#include "model/image.h"

struct agent;
struct image_actor;

enum image_task_kind {
	IMAGE_TASK_LOOKUP,
	IMAGE_TASK_PULL,
	IMAGE_TASK_IMPORT,
	IMAGE_TASK_COMMIT,
	IMAGE_TASK_REMOVE,
};

struct image_task_progress {
	uint64_t done_bytes, total_bytes;
	char text[128];
};

struct image_task {
	const struct agent *agent; /* options, images */
	struct image_actor *actor; /* for the loop's thread */
	enum image_task_kind kind;
	char uid[UID_SIZE];
	char *reference, *platform, *username, *password, *format;
	bool insecure;
	uint64_t pull_seq;               /* of PULL and IMPORT: put on record when it is done */
	int input_fd;                    /* of IMPORT; owned */
	struct instance_upper upper;     /* of COMMIT */
	struct image_commit_spec commit; /* likewise; owned */
	int cancel_fd;                   /* an eventfd; owned */

	pthread_mutex_t lock;
	struct image_task_progress progress; /* under the lock */

	/* Results. */
	int result;
	struct error err;
	uint64_t done_seq; /* LOOKUP: of the pull that is on record */
	json_t *info;      /* the image's members of a status; NULL when it is not here */
};

struct image_task *image_task_new(const struct agent *agent, enum image_task_kind kind,
				  const char *uid);
void image_task_run(struct image_task *task);
void image_task_cancel(struct image_task *task);
void image_task_progress(struct image_task *task, struct image_task_progress *ret);
void image_task_free(struct image_task *task);

/* Removes layers and blobs that neither an image nor an instance needs; blocks. */
int images_collect(const struct agent *agent, struct error *err);
