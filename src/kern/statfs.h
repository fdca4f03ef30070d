#pragma once
/*
 * kern/statfs.h - what kind of file system something is on.
 *
 * Used by image/ and guest/, which copy files of instances.  No state, thread-safe.
 */

/*
 * The name of the file system ("proc") when the kernel makes up what is in it, or NULL: its files
 * are endless, change while they are read, or do something when they are written.
 */
const char *statfs_made_up(int fd);
