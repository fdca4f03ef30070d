#pragma once
/*
 * base/file.h - whole files and whole buffers, bounded and restartable.
 *
 * All functions return 0 (or a count / fd) or -errno and leave no temporary file behind.
 * `dir_fd` may be AT_FDCWD.  Used by everything.  Thread-safe.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct error;

/*
 * Reads a whole file of at most `max_bytes` into a new NUL-terminated buffer that the caller frees.
 * -EFBIG when it is larger.  Works for /proc and /sys files too.  ret_size may be NULL.
 */
int file_read(int dir_fd, const char *path, size_t max_bytes, char **ret, size_t *ret_size);

/* The same from an open descriptor, from its present position. */
int file_read_fd(int fd, size_t max_bytes, char **ret, size_t *ret_size);

/* Writes to an existing file with one write() (kernel files: /proc, cgroups, /sys). */
int file_write_kernel(int dir_fd, const char *path, const char *text);

/*
 * Replaces a file so that a crash leaves the old or the new one, never a mixture.  With `durable`
 * it is on the disk when the call returns.
 */
int file_write_atomic(int dir_fd, const char *path, const void *data, size_t size, mode_t mode,
		      int durable);

/* Writes everything, through EINTR and short writes; blocking descriptors only. */
int file_write_all(int fd, const void *data, size_t size);

/* Creates `path` and its missing parents; existing folders are fine. */
int file_mkdir_all(const char *path, mode_t mode);

/*
 * Removes a tree without following symbolic links or crossing into mounts (what is mounted stays,
 * and gives -EBUSY).  A path that is not there is fine.
 */
int file_remove_tree(int dir_fd, const char *path);

/*
 * Takes the exclusive lock of a pid file, creating it, and writes our pid into it.  Returns the fd
 * to keep open, or -EWOULDBLOCK when another process has it.
 */
int file_lock_pid(const char *path);
