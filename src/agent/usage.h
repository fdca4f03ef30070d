#pragma once
/*
 * agent/usage.h - reads what instances of this node have consumed.
 *
 * For worker threads: some twenty files and one netlink request per instance.  Used by stats.c and
 * by the check of a new memory limit.  No state.
 */
#include "model/usage.h"

struct agent;
struct cgroup;
struct error;

/* The folders of all instances' cgroups, for as many readings as wanted at one time. */
int usage_open(const struct agent *agent, struct cgroup **ret);

/* -ENOENT when the instance has no cgroup: it does not run. */
int usage_read(const struct agent *agent, const struct cgroup *all, const char *uid,
	       struct usage *ret);
