#include "cli/stream.h"

#include <errno.h>
#include <poll.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/resource.h"
#include "cli/signals.h"

int stream_follow(struct websocket *websocket, struct error *err)
{
	int64_t no_end = -1;

	return stream_follow_for(websocket, &no_end, err);
}

/* Returns what poll() says; the time that it took is taken from *timeout_ms. */
static int wait_some(struct pollfd fds[2], int64_t *timeout_ms)
{
	uint64_t before = clock_monotonic_us(clock_system());
	int limit = *timeout_ms < 0 ? -1 : *timeout_ms > INT32_MAX ? INT32_MAX : (int) *timeout_ms;
	int n = poll(fds, 2, limit);
	int64_t taken = (int64_t) (clock_monotonic_us(clock_system()) - before + 999) / 1000;

	if (*timeout_ms >= 0)
		*timeout_ms = taken >= *timeout_ms ? 0 : *timeout_ms - taken;
	return n < 0 && errno != EINTR ? -errno : n;
}

int stream_follow_for(struct websocket *websocket, int64_t *timeout_ms, struct error *err)
{
	AUTO(signals_end) struct signals signals = { .fd = -1 };
	int r = signals_begin(&signals, (const int[]){ SIGINT, SIGTERM, 0 }, err);

	if (r < 0)
		return r;
	for (;;) {
		short events = websocket_events(websocket);
		struct pollfd fds[] = { { websocket_fd(websocket), events, 0 },
					{ signals.fd, POLLIN, 0 } };
		int64_t none = 0;

		r = wait_some(fds, events ? timeout_ms : &none);
		if (r < 0)
			return error_set(err, r, "cannot wait for the server");
		if (fds[1].revents && signals_take(&signals))
			return 1;
		if (r == 0 && events && *timeout_ms == 0)
			return error_say(err, -ETIMEDOUT, "the time is over");
		r = websocket_process(websocket, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

int stream_pause(int pause_ms)
{
	AUTO(signals_end) struct signals signals = { .fd = -1 };
	struct pollfd pollfd = { .events = POLLIN };

	if (signals_begin(&signals, (const int[]){ SIGINT, SIGTERM, 0 }, NULL) < 0)
		return 1;
	pollfd.fd = signals.fd;
	poll(&pollfd, 1, pause_ms);
	return signals_take(&signals) != 0;
}

int stream_control(const char *text, size_t size, int *ret_exit_code, struct error *err)
{
	AUTO(json_decref) json_t *message = NULL;
	const json_t *exit_code;
	const char *words;
	int r = json_parse(text, size, WEBSOCKET_MESSAGE_MAX, &message, err);

	if (r < 0)
		return error_wrap(err, r, "the server's message is not understood");
	if (json_object_get(message, "error")) {
		words = resource_text(message, "error");
		if (!words)
			words = resource_text(message, "error.message");
		return error_say(err, -EIO, "%s", words ? words : "the server ended the stream");
	}
	exit_code = json_object_get(message, "exit_code");
	if (json_is_integer(exit_code))
		*ret_exit_code = (int) (json_integer_value(exit_code) & 0xff);
	return 0;
}
