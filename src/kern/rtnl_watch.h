#pragma once
/*
 * kern/rtnl_watch.h - hears that something of the network changed, of the messages that a filter
 * lets pass.
 *
 * Used by kern/'s watches (link_watch.h, route_mark.h) and by agent/, which reads them.  An fd, of
 * the network namespace of the calling thread, that becomes readable; the caller closes it.  No
 * other state.
 */
#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The fd, non-blocking, or -errno.  `groups` are RTMGRP_*; the program sees each message from its
 * struct nlmsghdr on.  What it does not let pass wakes nobody.
 */
int rtnl_watch(uint32_t groups, struct sock_filter *code, unsigned short count);

/* Empties it without blocking.  True: something was there; what, does not matter. */
bool rtnl_watch_read(int fd);
