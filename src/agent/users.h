#pragma once
/*
 * agent/users.h - "USER[:GROUP]" of an instance, looked up in its root file system.
 *
 * Its passwd and group belong to strangers: they are opened inside the root only (whatever symbolic
 * links say), must be regular, and are read up to USERS_FILE_MAX.  Used by agent/bundle.c,
 * agent/exec.c and agent/top.c; blocking, for any thread.
 */
#include "codec/users.h"

/* `spec` NULL or "" is user 0.  `root_fd` is the root of the file system. */
int users_resolve(int root_fd, const char *spec, struct users *ret, struct error *err);

/* /etc/passwd inside the root, NULL when there is none.  The caller frees. */
char *users_read_passwd(int root_fd);
