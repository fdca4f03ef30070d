#pragma once
/*
 * guest/work.h - what the host asks about the machine, answered by a child (guest/spawn.h) on its
 * standard output: files, processes, statistics.
 *
 * The child is in the root of the image: paths are the instance's, and links cannot lead out of it.
 */
#include <stdbool.h>
#include <stdint.h>

struct error;

enum work_action { WORK_STAT, WORK_GET, WORK_PUT };

struct work_files {
	enum work_action action;
	const char *path; /* absolute */
	bool follow;      /* the last component too */
	bool keep_ids;    /* PUT: owners as the tar says, else user 0 */
};

/* Functions for spawn_work(). */
int work_files(void *data, struct error *err); /* struct work_files */
int work_top(void *data, struct error *err);
int work_stats(void *data, struct error *err);
int work_network(void *data, struct error *err); /* struct guest_config: its interfaces */

/* The parts of work_files(). */
int work_get(const struct work_files *files, const char *name, struct error *err);
int work_put(const struct work_files *files, struct error *err);
