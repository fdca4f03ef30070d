#pragma once
/*
 * base/listen.h - stream sockets that a daemon listens on, by a path or an address.
 *
 * Used by brumed, while it still has the rights to make them.  Non-blocking, close-on-exec.  Any
 * thread; listen_unix() changes the umask for a moment.
 */
#include <sys/types.h>

struct error;

/*
 * A socket file of root and `group`.  The new one takes the place of an old one in one step: a
 * client finds the one or the other.
 */
int listen_unix(const char *path, mode_t mode, gid_t group, int *ret, struct error *err);

/* "192.0.2.1:8443", "[2001:db8::1]:8443", ":8443" for all addresses; `what` names it in errors. */
int listen_tcp(const char *what, const char *text, int *ret, struct error *err);
