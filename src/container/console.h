#pragma once
/*
 * container/console.h - terminals: made inside of the container, held by whoever is outside.
 *
 * The child makes the pair on the container's own devpts, keeps the slave as its stdio and sends
 * the master's descriptor over a socket: to --console-socket, or to the runtime itself, which then
 * passes bytes between it and its own terminal.
 */
#include <stdint.h>
#include <sys/types.h>

struct error;

/* Connects to `path` and hands out a pidfd (--pidfd-socket). */
int console_send_pidfd(const char *path, int pidfd, struct error *err);

/* Connects to --console-socket. */
int console_connect(const char *path, struct error *err);

/*
 * For the child, in the container's root and in a session of its own: makes the terminal its stdio
 * and sends the master over `socket_fd`.  *ret_tty is the slave's descriptor.
 */
int console_make(int socket_fd, uint32_t width, uint32_t height, uid_t owner, int *ret_tty,
		 struct error *err);

/* Hands a terminal's master out as console_make() does; 0 or -errno. */
int console_send_master(int socket_fd, int master);

/* Receives the master's descriptor that console_make() sent. */
int console_receive(int socket_fd, struct error *err);

/*
 * Passes bytes until `pidfd` has ended; SIGWINCH resizes, other signals that come through
 * `signal_fd` are given to the process.  The terminal is as before when this returns.
 */
int console_relay(int master, int pidfd, int signal_fd, struct error *err);
