#include "probe/round.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "codec/http_status.h"

enum { STATUS_GOOD_MIN = 200, STATUS_GOOD_MAX = 399, REQUEST_MAX = 2048, ANSWER_MAX = 64 };

/* One check under way. */
struct slot {
	size_t address; /* its index */
	int64_t deadline_ms;
	size_t sent, received;
	bool connected;
	char answer[ANSWER_MAX];
};

struct run {
	const struct round *round;
	char *results;
	size_t next; /* address to begin with */
	size_t request_size;
	char request[REQUEST_MAX];
	struct pollfd polls[ROUND_AT_A_TIME];
	struct slot slots[ROUND_AT_A_TIME];
	size_t count; /* slots in use */
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int read_address(const char *text, uint16_t port, struct sockaddr_storage *ret,
			socklen_t *ret_size)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		memcpy(ret, &v4, sizeof(v4));
		*ret_size = sizeof(v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1)
		return -EINVAL;
	memcpy(ret, &v6, sizeof(v6));
	*ret_size = sizeof(v6);
	return 0;
}

static char meaning(int error)
{
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET:
		return ROUND_REFUSED;
	case ETIMEDOUT:
		return ROUND_TIMEOUT;
	default:
		return ROUND_UNREACHABLE;
	}
}

/* Begins the next check, which may end at once. */
static void begin(struct run *run)
{
	size_t address = run->next++;
	struct slot *slot = &run->slots[run->count];
	struct sockaddr_storage to;
	socklen_t size;
	AUTO(fd_close) int fd = -1;

	run->results[address] = ROUND_UNREACHABLE;
	if (read_address(run->round->addresses[address], run->round->port, &to, &size) < 0)
		return;
	fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *) &to, size) < 0 && errno != EINPROGRESS) {
		run->results[address] = meaning(errno);
		return;
	}
	*slot = (struct slot){ .address = address,
			       .deadline_ms = now_ms() + run->round->timeout_ms };
	run->polls[run->count++] = (struct pollfd){ .fd = TAKE_FD(fd), .events = POLLOUT };
}

static void end(struct run *run, size_t i, char result)
{
	run->results[run->slots[i].address] = result;
	close(run->polls[i].fd);
	run->count--;
	run->polls[i] = run->polls[run->count];
	run->slots[i] = run->slots[run->count];
}

/* Each returns a letter when the check has ended, 0 when it goes on. */

static char go_on_sending(struct run *run, size_t i)
{
	struct slot *slot = &run->slots[i];
	ssize_t n = send(run->polls[i].fd, run->request + slot->sent,
			 run->request_size - slot->sent, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : meaning(errno);
	slot->sent += (size_t) n;
	if (slot->sent == run->request_size)
		run->polls[i].events = POLLIN;
	return 0;
}

static char go_on_connecting(struct run *run, size_t i)
{
	socklen_t size = sizeof(int);
	int error = 0;

	if (getsockopt(run->polls[i].fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		return ROUND_UNREACHABLE;
	if (error)
		return meaning(error);
	run->slots[i].connected = true;
	return run->round->path ? go_on_sending(run, i) : ROUND_PASSED;
}

static char go_on_receiving(struct run *run, size_t i)
{
	struct slot *slot = &run->slots[i];
	ssize_t n = recv(run->polls[i].fd, slot->answer + slot->received,
			 sizeof(slot->answer) - slot->received, 0);
	unsigned int status = 0;
	int r;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : meaning(errno);
	slot->received += (size_t) n;
	r = http_status_parse(slot->answer, slot->received, &status);
	if (r == -EAGAIN && n > 0 && slot->received < sizeof(slot->answer))
		return 0;
	if (r < 0)
		return ROUND_NOT_HTTP;
	return status >= STATUS_GOOD_MIN && status <= STATUS_GOOD_MAX ? ROUND_PASSED
								      : ROUND_BAD_STATUS;
}

static char go_on(struct run *run, size_t i)
{
	if (!run->slots[i].connected)
		return go_on_connecting(run, i);
	return run->slots[i].sent < run->request_size ? go_on_sending(run, i)
						      : go_on_receiving(run, i);
}

/* Waits for the next that can go on, or whose time is up. */
static void wait_for_any(struct run *run)
{
	int64_t first = INT64_MAX, now = now_ms();
	int left;

	for (size_t i = 0; i < run->count; i++)
		if (run->slots[i].deadline_ms < first)
			first = run->slots[i].deadline_ms;
	left = first <= now ? 0 : first - now > INT32_MAX ? INT32_MAX : (int) (first - now);
	/* An error, a signal say, is a round in which nobody can go on. */
	if (poll(run->polls, run->count, left) < 0)
		for (size_t i = 0; i < run->count; i++)
			run->polls[i].revents = 0;
	now = now_ms();
	for (size_t i = run->count; i > 0; i--) {
		char result = run->polls[i - 1].revents ? go_on(run, i - 1) : 0;

		if (!result && run->slots[i - 1].deadline_ms <= now)
			result = ROUND_TIMEOUT;
		if (result)
			end(run, i - 1, result);
	}
}

void round_run(const struct round *round, char *results)
{
	struct run run = { .round = round, .results = results };

	if (round->path) {
		int size = snprintf(run.request, sizeof(run.request),
				    "GET %s HTTP/1.1\r\nHost: localhost\r\n"
				    "User-Agent: brume-probe\r\nAccept: */*\r\n"
				    "Connection: close\r\n\r\n",
				    round->path);

		/* Too long a path is no request: nobody passes. */
		if (size < 0 || (size_t) size >= sizeof(run.request)) {
			memset(results, ROUND_NOT_HTTP, round->count);
			return;
		}
		run.request_size = (size_t) size;
	}
	while (run.next < round->count || run.count > 0) {
		while (run.next < round->count && run.count < ROUND_AT_A_TIME)
			begin(&run);
		if (run.count > 0)
			wait_for_any(&run);
	}
}
