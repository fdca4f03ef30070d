#pragma once
/*
 * kern/caps.h - the five capability sets of the calling thread.
 *
 * Used by container/.  Raw system calls, safe in a forked child.
 */
#include <stdint.h>

struct caps {
	uint64_t bounding;
	uint64_t effective;
	uint64_t inheritable;
	uint64_t permitted;
	uint64_t ambient;
};

/* What the kernel knows: bits 0..last. */
uint64_t caps_all(void);

int caps_get(struct caps *ret);
/* The three that one system call tells; the others stay as they are. */
int caps_get_basic(struct caps *ret);

/* Drops everything from the bounding set that is not in `keep`. */
int caps_drop_bounding(uint64_t keep);

/* Sets effective, permitted and inheritable. */
int caps_set(uint64_t effective, uint64_t permitted, uint64_t inheritable);

/* Makes the ambient set exactly `ambient`. */
int caps_set_ambient(uint64_t ambient);
