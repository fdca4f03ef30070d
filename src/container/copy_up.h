#pragma once
/*
 * container/copy_up.h - fills a new tmpfs with what the folder below it holds (tmpcopyup).
 *
 * Runs in the container's init.  Follows no link; bounded by the tmpfs's own size.
 */
struct error;

/* Copies `path` (inside of `root`) into the detached mount `mount_fd`; no such folder: nothing. */
int copy_up(int root, const char *path, int mount_fd, struct error *err);
