#pragma once
/*
 * kern/cgroup_host.h - which hierarchies of control groups this mount namespace shows.
 *
 * Used by kern/cgroup.h, and by those who only want to know the version.  Read once, then never
 * changed: for any thread.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

enum { CGROUP_HIERARCHIES_MAX = 24 };

enum cgroup_mode { CGROUP_NONE, CGROUP_V1, CGROUP_V2, CGROUP_HYBRID };

struct cgroup_hierarchy {
	char *controllers; /* v1: "cpu,cpuacct" or "name=systemd"; v2: what it offers, by commas */
	char *mount;       /* where it is mounted */
	bool v2;
};

struct cgroup_host {
	enum cgroup_mode mode;
	struct cgroup_hierarchy list[CGROUP_HIERARCHIES_MAX];
	size_t count;
};

/* The hierarchies of this mount namespace. */
int cgroup_host_read(struct cgroup_host **ret);

/*
 * The same from the text of /proc/self/mountinfo; version 2's controllers stay empty.  visible()
 * says whether what is mounted there can be reached.
 */
int cgroup_host_parse(const char *mountinfo, bool (*visible)(const char *mount, bool v2),
		      struct cgroup_host *ret);

/* Whether "memory" is among its controllers. */
bool cgroup_hierarchy_offers(const struct cgroup_hierarchy *hierarchy, const char *controller);

void cgroup_host_free(struct cgroup_host *host);
DEFINE_AUTO(struct cgroup_host *, cgroup_host_free)
