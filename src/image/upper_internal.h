#pragma once
/*
 * image/upper_internal.h - the inside of the worker that reads what an instance has changed.
 *
 *	upper_worker.c	the sandbox, the request
 *	upper_walk.c	upper folder and layers side by side, as overlayfs stacks them
 *	upper_changes.c	a list of what differs
 *	upper_layer.c	a layer's tar
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "image/wire_internal.h"

struct error;

enum { UPPER_LOWER_MAX = 500, UPPER_DEPTH_MAX = 1000, UPPER_XATTR_MAX = 64 << 10 };

/* The same folder in the layers that show through, topmost first. */
struct upper_lower {
	int *fds;
	size_t count;
};

struct upper {
	int upper_fd;
	struct upper_lower lower;
	uint32_t owner_base; /* ids in the upper folder begin here */
	char **mount_points;
	struct wire *wire;
	struct error *err;
};

/* One name of an upper folder. */
struct upper_entry {
	const char *path; /* absolute, for people and for tars without the first slash */
	const char *name;
	int dir_fd; /* of the upper folder that has it */
	struct stat st;
	bool whiteout;
	bool has_lower; /* the layers have something of this path */
	struct stat lower_st;
	int lower_dir_fd; /* the layer's folder that has it; -1 */
	/* Folders. */
	int fd;      /* opened; -1 for others */
	bool opaque; /* marked: what the layers have in it is hidden */
	bool hides;  /* the same, by its own mark or that of a folder above */
	struct upper_lower lower;
};

struct upper_ops {
	int (*visit)(struct upper *upper, const struct upper_entry *entry, void *data);
	/* After everything in the folder; `noise`: there were places to mount on in it. */
	int (*leave)(struct upper *upper, const struct upper_entry *entry, bool noise, void *data);
	/* A name of the layers that a folder hides and does not have. */
	int (*hidden)(struct upper *upper, const char *path, void *data);
};

int upper_walk(struct upper *upper, const struct upper_ops *ops, void *data);

/* An xattr without what depends on the host's ids; -ENODATA.  At most UPPER_XATTR_MAX bytes. */
ssize_t upper_xattr(int fd, const char *name, uint32_t owner_base, void *buffer);
/* Names that belong to the file, as "a\0b\0", sorted; the count of bytes.  Caller frees. */
size_t upper_xattr_names(int fd, char **ret);

int upper_worker(struct wire *wire, const char *action, struct error *err);
int upper_changes(struct upper *upper);
int upper_layer(struct upper *upper, json_t **ret);
