#pragma once
/*
 * agent/user.h - the user a process runs as: "1000", "www-data", "www-data:adm", "0:0".
 *
 * Names are looked up in the image's own /etc/passwd and /etc/group, which are hostile: opened
 * inside the root file system only, bounded in size.  Used by agent/bundle.c and for exec.
 * Thread-safe.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct error;

enum { USER_GROUPS_MAX = 64 };

struct user {
	uint32_t uid;
	uint32_t gid;
	uint32_t groups[USER_GROUPS_MAX]; /* supplementary */
	size_t group_count;
	char *home; /* never NULL */
};

/* `root_fd`: the root file system; `text` NULL or "": root.  -ESRCH when a name is not known. */
int user_resolve(int root_fd, const char *text, struct user *ret, struct error *err);

void user_done(struct user *user);
static inline void user_done_autop(struct user *user)
{
	user_done(user);
}
