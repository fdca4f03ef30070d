#include "probe/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "codec/http_status.h"

enum { STATUS_GOOD_MIN = 200, STATUS_GOOD_MAX = 399, REQUEST_MAX = 2048 };

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* 0, or -ETIMEDOUT. */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };
	int n;

	do {
		int64_t left = deadline_ms - now_ms();

		n = left > 0 ? poll(&poll_fd, 1, left > INT32_MAX ? INT32_MAX : (int) left) : 0;
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : n < 0 ? -errno : -ETIMEDOUT;
}

static int connect_to(const struct sockaddr *address, socklen_t size, int64_t deadline_ms)
{
	AUTO(fd_close)
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t length = sizeof(int);
	int error = 0, r;

	if (fd < 0)
		return -errno;
	if (connect(fd, address, size) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		r = wait_for(fd, POLLOUT, deadline_ms);
		if (r < 0)
			return r;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
			return -errno;
		if (error)
			return -error;
	}
	return TAKE_FD(fd);
}

static int connect_address(const char *address, uint16_t port, int64_t deadline_ms)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
		return connect_to((struct sockaddr *) &v4, sizeof(v4), deadline_ms);
	if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1)
		return connect_to((struct sockaddr *) &v6, sizeof(v6), deadline_ms);
	return -EINVAL;
}

/* A program may listen for one family only. */
static int connect_any(uint16_t port, int64_t deadline_ms)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
				   .sin6_port = htons(port),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int r = connect_to((struct sockaddr *) &v4, sizeof(v4), deadline_ms);
	int r6;

	if (r >= 0 || r == -ETIMEDOUT)
		return r;
	r6 = connect_to((struct sockaddr *) &v6, sizeof(v6), deadline_ms);
	return r6 >= 0 ? r6 : r;
}

static int send_request(int fd, const char *path, int64_t deadline_ms)
{
	char request[REQUEST_MAX];
	int size = snprintf(request, sizeof(request),
			    "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: brume-probe\r\n"
			    "Accept: */*\r\nConnection: close\r\n\r\n",
			    path);
	size_t done = 0;

	if (size < 0 || (size_t) size >= sizeof(request))
		return -E2BIG;
	while (done < (size_t) size) {
		ssize_t n = send(fd, request + done, (size_t) size - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t) n;
		else if (wait_for(fd, POLLOUT, deadline_ms) < 0)
			return -ETIMEDOUT;
	}
	return 0;
}

static int read_status(int fd, int64_t deadline_ms, unsigned int *ret)
{
	char data[CHECK_READ_MAX];
	size_t size = 0;
	int r = -EAGAIN;

	while (r == -EAGAIN && size < sizeof(data)) {
		ssize_t n = recv(fd, data + size, sizeof(data) - size, 0);

		if (n == 0)
			return -EBADMSG;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0)
			size += (size_t) n;
		else if (wait_for(fd, POLLIN, deadline_ms) < 0)
			return -ETIMEDOUT;
		r = http_status_parse(data, size, ret);
	}
	return r == -EAGAIN ? -EBADMSG : r;
}

static bool fail(const struct check *check, const char *what, int r, char *words, size_t size)
{
	if (r == -ETIMEDOUT)
		snprintf(words, size, "port %u: %s within %u ms", check->port, what,
			 check->timeout_ms);
	else if (r == -EBADMSG)
		snprintf(words, size, "port %u: what answers does not speak HTTP", check->port);
	else
		snprintf(words, size, "port %u: %s: %s", check->port, what, strerrordesc_np(-r));
	return false;
}

bool check_run(const struct check *check, char *words, size_t size)
{
	int64_t deadline_ms = now_ms() + check->timeout_ms;
	AUTO(fd_close)
	int fd = check->address ? connect_address(check->address, check->port, deadline_ms)
				: connect_any(check->port, deadline_ms);
	unsigned int status = 0;
	int r;

	if (fd < 0)
		return fail(check, "no connection", fd, words, size);
	if (!check->path) {
		snprintf(words, size, "port %u takes connections", check->port);
		return true;
	}
	r = send_request(fd, check->path, deadline_ms);
	if (r == 0)
		r = read_status(fd, deadline_ms, &status);
	if (r < 0)
		return fail(check, "no answer", r, words, size);
	snprintf(words, size, "GET %.200s on port %u: %u", check->path, check->port, status);
	return status >= STATUS_GOOD_MIN && status <= STATUS_GOOD_MAX;
}
