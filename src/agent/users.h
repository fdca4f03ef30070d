#pragma once
/*
 * agent/users.h - "USER[:GROUP]" of an instance, looked up in the image's /etc/passwd and group.
 *
 * Both files belong to strangers: they are opened inside the root only (whatever symbolic links
 * say), must be regular, and are read up to 1 MiB.  Used by agent/bundle.c, agent/exec.c and
 * agent/top.c; blocking, for any thread.
 */
#include <stddef.h>
#include <stdint.h>

struct error;

enum { USERS_GROUPS_MAX = 64, USERS_HOME_MAX = 256 };

struct users {
	uint32_t uid, gid;
	uint32_t groups[USERS_GROUPS_MAX]; /* additional ones */
	size_t group_count;
	char home[USERS_HOME_MAX]; /* "/" when it is not known */
};

/* `spec` NULL or "" is user 0.  `root_fd` is the root of the file system. */
int users_resolve(int root_fd, const char *spec, struct users *ret, struct error *err);

/* The same from the files' texts (NULL: there is none). */
int users_find(const char *passwd, const char *group, const char *spec, struct users *ret,
	       struct error *err);

/* The other way round: the name of a user in a text of passwd (NULL: there is none); -ENOENT. */
int users_name(const char *passwd, uint32_t uid, char *ret, size_t size);

/* /etc/passwd inside the root, NULL when there is none.  The caller frees. */
char *users_read_passwd(int root_fd);
