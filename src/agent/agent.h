#pragma once
/*
 * agent/agent.h - the hands of a node: makes it look like its share of the spec.
 *
 * One event loop owns everything; what blocks runs on worker threads.  Each instance, network and
 * image has an actor (instance_actor.c, network_actor.c, image_actor.c) that looks at what is
 * wanted and what is there, and does one step at a time.  Used by cmd/brume-agentd only.
 *
 * Crash-only: nothing is kept that cannot be read again from brumed (what is wanted), the keeper
 * (what runs) and the folders of the node.  Nothing is removed before brumed has said all it wants.
 */

#include "machine/machine.h"

struct error;

struct agent_options {
	const char *state;  /* STATE */
	const char *run;    /* RUN */
	const char *prefix; /* of kernel objects and cgroups */
	const char *node;   /* name of this node */
	const char *oci;    /* path of brume-oci */
	const char *keeper; /* path of brume-keeper; NULL: the service manager starts it */
	const char *image_worker;
	const char *tini;            /* path of brume-tini, the init of instances that want one */
	const char *probe;           /* path of brume-probe */
	const char *guest_init;      /* path of brume-init, the first process of virtual machines */
	const char *policy;          /* what the node gives to instances; NULL: STATE/policy.json */
	const char *registry;        /* completes short image references; NULL: none */
	unsigned int boot_timeout_s; /* for a guest to start its command */
	enum machine_preference vm_backend;
	const char *levels; /* log levels, handed on to the keeper; may be NULL */
};

/* Runs until SIGTERM or SIGINT: 0.  -EWOULDBLOCK when another agent has the run folder. */
int agent_run(const struct agent_options *options, struct error *err);
