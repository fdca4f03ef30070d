#pragma once
/*
 * image/tree_internal.h - writing a file tree below one folder, whatever the names say.
 *
 * Every name is taken apart; a component is opened relative to its parent and never through a
 * symbolic link, so nothing outside the folder can be named.  Folders that are needed again are
 * kept open.  A tree belongs to one thread; the limits may be shared by several trees. Errors name
 * the entry.  Used by the unpacking of layers and of imported archives.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"

struct error;
struct tree;

struct tree_limits {
	uint64_t bytes_max, inodes_max;
	atomic_uint_fast64_t bytes, inodes; /* used so far */
};

struct tree_attr {
	mode_t mode; /* permissions only */
	uint32_t uid, gid;
	struct timespec mtime;
};

/* `root_fd` is borrowed. */
struct tree *tree_new(int root_fd, struct tree_limits *limits);
void tree_free(struct tree *tree);
DEFINE_AUTO(struct tree *, tree_free)

/* A name from an archive without "./", doubled or leading "/"; -EINVAL says why it is refused. */
int tree_clean_name(const char *name, char **ret, struct error *err);

/*
 * All names below are clean ones.  What is there already is replaced, except that a folder stays a
 * folder.  Missing parents are made (0755, owner 0).
 */

/* *ret_replaced tells whether a whiteout was there. */
int tree_mkdir(struct tree *tree, const char *name, const struct tree_attr *attr, int *ret_fd,
	       bool *ret_replaced, struct error *err);

/* An empty file for writing; after the data call tree_finish_file(). */
int tree_create(struct tree *tree, const char *name, int *ret_fd, struct error *err);
int tree_finish_file(int fd, const struct tree_attr *attr);

int tree_symlink(struct tree *tree, const char *name, const char *target,
		 const struct tree_attr *attr, struct error *err);
int tree_link(struct tree *tree, const char *name, const char *target, struct error *err);
int tree_fifo(struct tree *tree, const char *name, const struct tree_attr *attr, struct error *err);

/*
 * Hides `name` of the layers below (a character device 0:0).  Where this layer has something itself
 * nothing is done; *ret_folder tells when that is a folder.
 */
int tree_whiteout(struct tree *tree, const char *name, bool *ret_folder, struct error *err);

/* Makes the parents of an entry. */
int tree_parents(struct tree *tree, const char *name, struct error *err);

/* Makes the parents, and makes place for something that another makes. */
int tree_prepare(struct tree *tree, const char *name, struct error *err);

/* Accounts for data that is written to a file. */
int tree_charge(struct tree *tree, uint64_t bytes, struct error *err);

/* Gives a folder an attribute when everything is written.  -E2BIG when there are too many. */
int tree_set_later(struct tree *tree, const char *name, const char *key, const void *value,
		   size_t size);

/* Sets what was put off, and the folders' times, which writing into them has changed. */
int tree_finish(struct tree *tree, struct error *err);
