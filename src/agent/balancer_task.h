#pragma once
/*
 * agent/balancer_task.h - one step of a balancer on a worker thread, with all that it needs.
 *
 * Used by balancer_actor.c.  Nothing in a task belongs to the loop while it runs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/balancer_check.h"
#include "base/error.h"
#include "model/balancer.h"

struct agent;

/* A member, as the actor knows it. */
struct balancer_person {
	char uid[UID_SIZE];
	char instance[BALANCER_NAME_SIZE];
	char ipv4[IP_TEXT_SIZE], ipv6[IP_TEXT_SIZE];
	struct balancer_health health;
	char why[BALANCER_WHY_MAX_BYTES + 1]; /* its last check failed */
	bool draining, drained;
	int64_t drain_since_ms; /* realtime */
	uint32_t connections;
	uint64_t due_us; /* of its next check */
};

enum balancer_task_kind {
	BALANCER_TASK_LOOK,   /* who gets connections now? */
	BALANCER_TASK_ENSURE, /* the rules become what is wanted */
	BALANCER_TASK_COUNT,  /* how many connections has each? */
	BALANCER_TASK_REMOVE,
};

struct balancer_task {
	enum balancer_task_kind kind;
	struct agent *agent;
	void (*done)(struct balancer_task *task); /* on the loop; the task goes afterwards */
	void *data;

	char uid[UID_SIZE], network_uid[UID_SIZE];
	uint64_t generation;
	bool routed;
	enum balancer_algorithm algorithm;
	char vip4[IP_TEXT_SIZE], vip6[IP_TEXT_SIZE];
	struct balancer_listen *listens;
	size_t listen_count;
	struct balancer_person *members; /* room for all of the spec */
	size_t member_count;
	struct balancer_person *gone; /* whose flows are to be forgotten */
	size_t gone_count;

	int result;
	struct error err;
	char **in_force; /* of LOOK: addresses */
};

/* `want` may be NULL, to remove it; its members are left to the caller. */
struct balancer_task *balancer_task_new(struct agent *agent, enum balancer_task_kind kind,
					const char *uid, const struct balancer *want);

/* Runs it, calls `done`, frees it. */
void balancer_task_submit(struct balancer_task *task);

/* Weights of those that get connections, 0 for the others; for people. */
void balancer_task_weights(const struct balancer_person *members, size_t count, uint32_t *weights);
