#pragma once
/*
 * agent/instance_trace.h - what a trace has to know of the instance that it starts from.
 *
 * instance_trace_find() is for the loop's thread; what it returns goes to a worker, where the
 * others run.  Used by trace_stream.c.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "agent/network_actor.h"
#include "model/port.h"

struct agent;
struct error;

struct instance_trace {
	char uid[UID_SIZE];
	pid_t pid;
	bool machine;
	size_t port_count; /* that are there */
	struct {
		char uid[UID_SIZE], mac[MAC_TEXT_SIZE];
		struct network_args network;
	} ports[PORTS_MAX];
	size_t port; /* the one that was asked for */
};

/* -ESRCH: it does not run; -EINVAL: it has no such port, or not this address there. */
int instance_trace_find(struct agent *agent, const char *uid, const char *port_uid,
			const char *source, struct instance_trace *ret, struct error *err);

/* Its network namespace; -ESRCH when the process has gone. */
int instance_trace_open(const struct instance_trace *trace, struct error *err);

/* The processes of a machine; the caller frees. */
int instance_trace_pids(const struct agent *agent, const struct instance_trace *trace, pid_t **ret,
			size_t *ret_count, struct error *err);
