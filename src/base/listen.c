#include "base/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

enum { BACKLOG = 512 };

/* Binds beside the path and renames: a client finds the old socket or the new one. */
int listen_unix(const char *path, mode_t mode, gid_t group, int *ret, struct error *err)
{
	AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	AUTO(free) char *temporary = mem_printf("%s.new", path);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	mode_t old_mask = umask(0177);
	int r = 0;

	if (strlen(temporary) >= sizeof(addr.sun_path))
		r = -ENAMETOOLONG;
	else
		strcpy(addr.sun_path, temporary);
	if (r == 0 && (fd < 0 || (unlink(temporary) < 0 && errno != ENOENT) ||
		       bind(fd, (struct sockaddr *) &addr, sizeof(addr)) < 0))
		r = -errno;
	umask(old_mask);
	if (r == 0 &&
	    ((geteuid() == 0 && chown(temporary, 0, group) < 0) || chmod(temporary, mode) < 0 ||
	     listen(fd, BACKLOG) < 0 || rename(temporary, path) < 0))
		r = -errno;
	if (r < 0)
		return error_set(err, r, "socket %s", path);
	*ret = TAKE_FD(fd);
	return 0;
}

static int bind_address(const struct addrinfo *address, int *ret)
{
	AUTO(fd_close)
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1, zero = 0;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		return -errno;
	if (address->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

int listen_tcp(const char *what, const char *text, int *ret, struct error *err)
{
	static const struct addrinfo hints = { .ai_flags =
						       AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
					       .ai_socktype = SOCK_STREAM };
	AUTO(free) char *copy = mem_strdup(text);
	char *colon = strrchr(copy, ':');
	char *host = copy;
	struct addrinfo *found = NULL;

	if (colon)
		*colon = '\0';
	if (host[0] == '[' && colon && colon > host + 1 && colon[-1] == ']') {
		colon[-1] = '\0';
		host++;
	} else if (colon && strchr(host, ':')) {
		colon = NULL;
	}
	if (!colon || getaddrinfo(host[0] ? host : "::", colon + 1, &hints, &found) != 0)
		return error_say(err, -EINVAL,
				 "%s %s: must be like 192.0.2.1:8443 or [2001:db8::1]:8443", what,
				 text);
	int r = bind_address(found, ret);
	freeaddrinfo(found);
	return r < 0 ? error_set(err, r, "listen on %s", text) : 0;
}
