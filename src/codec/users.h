#pragma once
/*
 * codec/users.h - "USER[:GROUP]" of an instance, looked up in the texts of the image's passwd and
 * group.
 *
 * Both belong to strangers.  Used by agent/users.h, which opens them, and by guest/ inside of a
 * virtual machine.  Pure functions, thread-safe.
 */
#include <stddef.h>
#include <stdint.h>

struct error;

enum {
	USERS_FILE_MAX = 1 << 20, /* bytes of passwd or group that are looked at */
	USERS_GROUPS_MAX = 64,
	USERS_HOME_MAX = 256,
};

struct users {
	uint32_t uid, gid;
	uint32_t groups[USERS_GROUPS_MAX]; /* additional ones */
	size_t group_count;
	char home[USERS_HOME_MAX]; /* "/" when it is not known */
};

/* `spec` NULL or "" is user 0.  Texts may be NULL: there is no such file. */
int users_find(const char *passwd, const char *group, const char *spec, struct users *ret,
	       struct error *err);

/* The other way round: the name of a user in a text of passwd; -ENOENT. */
int users_name(const char *passwd, uint32_t uid, char *ret, size_t size);
