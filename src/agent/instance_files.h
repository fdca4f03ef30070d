#pragma once
/*
 * agent/instance_files.h - where the files of an instance are, for those who copy and compare them.
 *
 * instance_root_find() on the loop's thread says in what state the instance is;
 * instance_root_open() on a worker thread opens its root as it is seen there.  A new run, and the
 * instance's removal, wait for the work on its files (files_stop()).  Used by agent/files.c,
 * changes.c and commits.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"

struct agent;
struct error;

enum { INSTANCE_PATH_MAX = 4095 };

struct instance_root {
	char uid[UID_SIZE];
	bool is_running; /* or paused */
	pid_t pid;
	uint32_t slot;
};

void instance_root_init(struct instance_root *root);

/* -ENOENT when there is no such instance here, -EBUSY while it begins or ends. */
int instance_root_find(struct agent *agent, const char *uid, struct instance_root *ret,
		       struct error *err);

/*
 * Of one at rest: -EBUSY for a path below something that is mounted when it runs, because what lies
 * there now is not what it will see; -EROFS when it is to be written and its root is read-only.
 */
int instance_root_check(struct agent *agent, const struct instance_root *root, const char *path,
			bool write, struct error *err);

/* A mount namespace's descriptor when it runs, else a detached mount's. */
int instance_root_open(const struct agent *agent, const struct instance_root *root, int *ret_fd,
		       struct error *err);

/* What of it differs from its image, wherever it is in its life. */
struct instance_upper {
	char uid[UID_SIZE];
	char *dir;
	uint32_t slot;
	char **mount_points;
};

int instance_upper_find(struct agent *agent, const char *uid, struct instance_upper *ret,
			struct error *err);
void instance_upper_done(struct instance_upper *upper);

/* Work on its files has ended: a step that waited for that may begin. */
void instance_files_ended(struct agent *agent, const char *uid);

/* Tells all work on files of the instance to stop; false: there is none. */
bool files_stop(struct agent *agent, const char *uid, const char *why);
