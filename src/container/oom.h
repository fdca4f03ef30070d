#pragma once
/*
 * container/oom.h - hears when the kernel kills in a container because its memory is at its limit.
 *
 * Version 1 counts up an eventfd, version 2 wakes who polls memory.events.  One thread; the kernel
 * forgets it with the descriptors.
 */
#include "kern/cgroup.h"

struct error;

struct oom {
	int fd;       /* to be polled, for `events`; -1: this group has no memory controller */
	short events; /* POLLIN or POLLPRI */
	int control_fd;
	int64_t kills;
};

int oom_init(struct oom *oom, const struct cgroup *cgroup, struct error *err);
void oom_done(struct oom *oom);

/* After fd was ready: whether something was killed since the last time. */
bool oom_happened(struct oom *oom);
