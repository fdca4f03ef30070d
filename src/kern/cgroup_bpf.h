#pragma once
/*
 * kern/cgroup_bpf.h - which devices a version 2 control group may use: a small BPF program.
 *
 * Used by container/.  Version 1 has files for it (devices.allow); version 2 asks a program at each
 * open and mknod.  The program lives as long as the group.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cgroup_device {
	char type;      /* 'a', 'b', 'c' */
	bool any_major; /* then `major` does not count */
	bool any_minor;
	uint32_t major;
	uint32_t minor;
	unsigned int access; /* CGROUP_DEVICE_* */
};

enum { CGROUP_DEVICE_MKNOD = 1, CGROUP_DEVICE_READ = 2, CGROUP_DEVICE_WRITE = 4 };

/*
 * Everything is allowed (or nothing), except what one of `list` matches: for an exception from "no"
 * all of the wanted access must be in it, for one from "yes" any.
 */
struct cgroup_device_policy {
	bool allow;
	const struct cgroup_device *list;
	size_t count;
};

struct bpf_insn;

/* The program's instructions (struct bpf_insn) into a new array; returns how many, or -E2BIG. */
int cgroup_bpf_devices_build(const struct cgroup_device_policy *policy, struct bpf_insn **ret);

/* Loads it and attaches it to the group. */
int cgroup_bpf_devices_attach(int cgroup_fd, const struct cgroup_device_policy *policy);
