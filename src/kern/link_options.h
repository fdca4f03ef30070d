#pragma once
/*
 * kern/link_options.h - the options that the kernel says of an interface of one kind.
 *
 * Used by the files kern/link_*.c that know a kind.  As kern/link.h: 0 or -errno, no state.
 */
#include <libmnl/libmnl.h>

struct netlink;

/*
 * Hands each attribute of IFLA_INFO_DATA to `fn`, when the interface is of one of `kinds`
 * (NULL-terminated); for others, and without options, it is not called and that is no error.
 */
int link_read_options(struct netlink *nl, const char *name, const char *const *kinds,
		      void (*fn)(const struct nlattr *option, void *data), void *data);
