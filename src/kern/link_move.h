#pragma once
/*
 * kern/link_move.h - gives a network interface to another network namespace.
 *
 * Used by container/, whose program is linked statically; so it speaks rtnetlink itself instead of
 * through kern/netlink.  The calling process must have one thread: it visits the other namespace
 * and comes back.  No state.
 */

/*
 * Moves `name` of our namespace into the one behind `netns_fd` as `new_name`, with its permanent
 * addresses of global scope, and switches it on there.  0 or -errno: -ENODEV when there is no such
 * interface, -EEXIST when the name is taken there, -EBUSY for one that cannot leave.
 */
int link_move(const char *name, int netns_fd, const char *new_name);
