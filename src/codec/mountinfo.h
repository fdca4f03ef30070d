#pragma once
/*
 * codec/mountinfo.h - the kernel's list of mounts, /proc/PID/mountinfo.
 *
 * Used by container/ to tell CRIU what comes from outside.  Paths in it were chosen by whoever
 * mounted.  Pure; bounded by the size of the text.
 */
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct mountinfo_entry {
	int id;
	int parent;
	dev_t dev;
	char *root;  /* what of the file system is shown */
	char *place; /* where, as seen from the process's root */
	char *type;  /* "ext4" */
};

struct mountinfo {
	struct mountinfo_entry *list;
	size_t count;
};

/* -EBADMSG when a line is not understood. */
int mountinfo_parse(const char *text, struct mountinfo *ret);
void mountinfo_done(struct mountinfo *info);
static inline void mountinfo_done_autop(struct mountinfo *info)
{
	mountinfo_done(info);
}

/* NULL when there is none with this id. */
const struct mountinfo_entry *mountinfo_find(const struct mountinfo *info, int id);

/* What of `path` lies below `folder` ("" when they are the same), or NULL. */
const char *mountinfo_below(const char *path, const char *folder);
