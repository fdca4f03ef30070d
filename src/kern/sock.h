#pragma once
/*
 * kern/sock.h - Unix seqpacket sockets: whole messages, file descriptors with them, and who sent
 * them.
 *
 * Used by keeper/ on both ends and by agent/ (consoles of containers come as a descriptor over a
 * stream socket). All descriptors are close-on-exec and non-blocking.  No state; thread-safe.  A
 * socket file left by a crash is replaced by the next listener, which holds the daemon's lock file
 * at that time.
 */
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

enum { SOCK_FDS_MAX = 16 };

/*
 * Listens on `path` (replacing a stale file) with the given mode; the file appears when it is
 * ready.  `type` is SOCK_SEQPACKET or SOCK_STREAM.  Returns the fd or -errno; a path over 107 bytes
 * works through its folder.
 */
int sock_listen(const char *path, int type, mode_t mode);

int sock_connect(const char *path, int type);

/* Returns the fd of the next peer, or -EAGAIN. */
int sock_accept(int fd);

/* The peer's credentials at the time of its connect(). */
int sock_peer(int fd, uid_t *ret_uid, pid_t *ret_pid);

/* Sends one message with its descriptors.  0 or -errno (-EAGAIN: nothing was sent). */
int sock_send(int fd, const void *data, size_t size, const int *fds, size_t fd_count);

/*
 * Receives one message.  Returns its size (0: the peer is gone) or -errno; -EMSGSIZE when it was
 * larger than `size` or had more than SOCK_FDS_MAX descriptors (they are closed).  The caller owns
 * the `*ret_fd_count` descriptors in `fds`.
 */
ssize_t sock_recv(int fd, void *data, size_t size, int fds[SOCK_FDS_MAX], size_t *ret_fd_count);

/*
 * The descriptor in the first message of a stream socket, which stays in the queue: it can be taken
 * again and again, by everybody who has the socket.  -EAGAIN when nothing has come yet, -ENOENT
 * when the peer has gone without sending one.
 */
int sock_peek_fd(int fd);
