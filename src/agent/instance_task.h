#pragma once
/*
 * agent/instance_task.h - the steps of an instance that block: each idempotent, on a worker thread.
 *
 * The actor fills a task on the loop's thread, a worker carries it out, the actor takes the result.
 * A crash at any instruction is repaired by doing the step again, or by PLAN_CLEAN and PLAN_REMOVE,
 * which undo all of them.  Used by agent/instance_work.c.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/instance_ports.h"
#include "agent/plan.h"
#include "agent/record.h"
#include "base/error.h"
#include "model/instance.h"

struct agent;
struct grants;
struct instance_vm_fds;

struct instance_task {
	const struct agent *agent; /* options, images, net, cgroups, boot_id */
	enum plan_step step;
	char uid[UID_SIZE];
	const struct instance *instance; /* held by the actor; NULL: nobody wants it */
	char image_uid[UID_SIZE];
	struct instance_networks networks; /* PREPARE, ATTACH */
	pid_t pid;
	bool runs; /* ATTACH: what the user wants runs already */
	int64_t now_ms;
	bool crashed;         /* CLEAN: a machine that ended without telling how its command did */
	int64_t monitor_code; /* and how its monitor ended */
	bool killed;          /* CLEAN: it ended by SIGKILL, which may have been the memory limit */

	/* Results. */
	struct record record; /* PREPARE and CLEAN write it to disk, changed */
	int result;
	struct error err;
	bool reaped;                    /* CLEAN: the keeper has seen the end of its process */
	int rootfs_fd;                  /* PREPARE */
	struct grants *grants;          /* PREPARE; NULL: nothing of the node was asked for */
	struct instance_vm_fds *vm_fds; /* PREPARE of a machine */
	uint32_t owner;                 /* PREPARE: the user it runs as, on the host */
	int64_t started_ms;             /* START */
	bool stuck;                     /* ATTACH: what was to leave is still there */
	json_t *network; /* ATTACH of a machine that runs: what its guest is told; or NULL */
};

/* Carries out task->step. */
void instance_task_run(struct instance_task *task);

/* image.json: what the instance's changed files lie on. */
struct image_info;
int instance_image_read(const struct agent *agent, const char *uid, struct image_info *ret,
			struct error *err);

/* What the run folder says about a running instance: -ENOENT when it was not started yet. */
int instance_read_started(const struct agent *agent, const char *uid, int64_t *ret_started_ms,
			  bool *ret_paused);

void instance_task_free(struct instance_task *task);
