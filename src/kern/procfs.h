#pragma once
/*
 * kern/procfs.h - writing to /proc in a mount namespace that somebody hostile may have arranged.
 *
 * What lies at /proc inside of a container may be a plain folder, a part of another procfs, or a
 * real one with something mounted on the very file that is asked for: then a write that should
 * label or limit a process is lost, or goes where it does harm.  These functions open the top of a
 * real procfs once and reach everything else from there without following a link or entering
 * another mount.  Used by container/.  Functions return 0, an fd or -errno; -EXDEV and -ELOOP mean
 * that something is in the way, -ENOTTY that it is no procfs.  Thread-safe.
 */

/* Descriptor (O_PATH) of the procfs at /proc. */
int procfs_open(void);

/* Writes to a file below it, like "sys/kernel/msgmax". */
int procfs_write(int proc_fd, const char *path, const char *text);

/* Writes to a file of the calling thread, like "attr/exec". */
int procfs_write_self(int proc_fd, const char *path, const char *text);
