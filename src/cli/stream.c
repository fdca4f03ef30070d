#include "cli/stream.h"

#include <errno.h>
#include <poll.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/resource.h"
#include "cli/signals.h"

int stream_follow(struct websocket *websocket, struct error *err)
{
	AUTO(signals_end) struct signals signals = { .fd = -1 };
	int r = signals_begin(&signals, (const int[]){ SIGINT, SIGTERM, 0 }, err);

	if (r < 0)
		return r;
	for (;;) {
		short events = websocket_events(websocket);
		struct pollfd fds[] = { { websocket_fd(websocket), events, 0 },
					{ signals.fd, POLLIN, 0 } };

		if (poll(fds, 2, events ? -1 : 0) < 0 && errno != EINTR)
			return error_set(err, -errno, "cannot wait for the server");
		if (fds[1].revents && signals_take(&signals))
			return 1;
		r = websocket_process(websocket, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
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
