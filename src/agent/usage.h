#pragma once
/*
 * agent/usage.h - reads what instances of this node have consumed.
 *
 * For worker threads: some twenty files per instance, a netlink request per port.  Used by stats.c
 * and by the check of a new memory limit.  No state.
 */
#include "model/usage.h"

struct agent;
struct cgroup;
struct error;

/* The folders of all instances' cgroups, for as many readings as wanted at one time. */
int usage_open(const struct agent *agent, struct cgroup **ret);

/* Without its ports.  -ENOENT when the instance has no cgroup: it does not run. */
int usage_read(const struct cgroup *all, const char *uid, struct usage *ret);

/* Those whose uid is given; the sum goes to *usage. */
void usage_read_ports(const struct agent *agent, struct usage_port *ports, size_t count,
		      struct usage *usage);
