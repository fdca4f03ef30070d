#pragma once
/*
 * tests/unit/own_netns.h - a fresh network namespace for a test, without being root where the
 * kernel lets us.  The process stays in it, so a test program enters once, in its group setup.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"

static bool own_netns;

static int enter_own_netns(void **state)
{
	char map[64];
	unsigned int uid = geteuid();

	(void) state;
	if (uid == 0) {
		own_netns = unshare(CLONE_NEWNET) == 0;
	} else if (unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) {
		snprintf(map, sizeof(map), "0 %u 1", uid);
		own_netns = file_write_kernel(AT_FDCWD, "/proc/self/uid_map", map) == 0;
	}
	return 0;
}

/* First line of a test. */
#define NEED_OWN_NETNS()                                                                           \
	do {                                                                                       \
		if (!own_netns) {                                                                  \
			print_message("skipped: no network namespace of our own: needs root or "   \
				      "unprivileged user namespaces\n");                           \
			skip();                                                                    \
		}                                                                                  \
	} while (0)
