#pragma once
/*
 * codec/file_stat.h - the line of JSON that says what a path in an instance is.
 *
 * Used by image/, which looks into containers, and by guest/ inside of virtual machines; names
 * belong to strangers and need not be UTF-8.  Pure functions, thread-safe.
 */

struct stat;

/* The last component of a path; "." for the root and what leads above it.  The caller frees. */
char *file_stat_name(const char *path);

/*
 * {"name", "type": "file" | "folder" | "symlink" | "fifo" | "socket" | "device", "mode"
 * (permissions), "uid", "gid", "size_bytes", "mtime" (RFC 3339), "link_target"?} and a newline.
 * `link_target` may be NULL.  The caller frees.
 */
char *file_stat_line(const char *name, const struct stat *st, const char *link_target);
