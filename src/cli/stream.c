#include "cli/stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/resource.h"
#include "cli/signals.h"
#include "client/client.h"

/* A server that restarts is back within this time; the pause grows from the first to the last. */
enum { RETRY_FIRST_MS = 50, RETRY_LAST_MS = 2000, RETRY_MAX = 40, HTTP_UNAVAILABLE = 503 };

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

static int error_of(int64_t code)
{
	if (code == EHOSTDOWN)
		return -EHOSTDOWN;
	return code == ESRCH || code == ENOENT ? -ESRCH : -EIO;
}

int stream_control(const char *text, size_t size, int *ret_exit_code, struct error *err)
{
	AUTO(json_decref) json_t *message = NULL;
	const json_t *exit_code;
	const char *words;
	int r = json_parse(text, size, WEBSOCKET_MESSAGE_MAX, &message, err);

	if (r < 0)
		return error_wrap(err, r, "the server's message is not understood");
	exit_code = json_object_get(message, "exit_code");
	if (json_is_integer(exit_code) && json_integer_value(exit_code) >= 0)
		*ret_exit_code = (int) (json_integer_value(exit_code) & 0xff);
	if (json_object_get(message, "error")) {
		words = resource_text(message, "error");
		if (!words)
			words = resource_text(message, "error.message");
		return error_say(err, error_of(resource_int(message, "error.code", 0)), "%s",
				 words ? words : "the server ended the stream");
	}
	return 0;
}

struct piece {
	uint32_t size;
	char channel;
};

void stream_pieces_add(struct stream_pieces *pieces, const char *data, size_t size)
{
	struct piece piece = { (uint32_t) size - 1, size > 0 ? data[0] : 0 };

	if (size < 1 || (piece.channel != STREAM_OUT && piece.channel != STREAM_ERR))
		return;
	strbuf_append(&pieces->waiting, &piece, sizeof(piece));
	strbuf_append(&pieces->waiting, data + 1, piece.size);
}

int stream_pieces_flush(struct stream_pieces *pieces, stream_piece_fn fn, void *userdata,
			struct error *err)
{
	size_t at = 0;
	int r = 0;

	while (r == 0 && at < pieces->waiting.size) {
		struct piece piece;

		memcpy(&piece, pieces->waiting.data + at, sizeof(piece));
		at += sizeof(piece);
		r = fn(userdata, piece.channel, pieces->waiting.data + at, piece.size, err);
		at += piece.size;
	}
	stream_pieces_drop(pieces);
	return r;
}

int stream_pieces_control(struct stream_pieces *pieces, struct cli *cli, const char *data,
			  size_t size, stream_piece_fn fn, void *userdata, struct error *err)
{
	AUTO(json_decref) json_t *message = NULL;
	int64_t dropped;
	const char *cursor;
	int r = json_parse(data, size, WEBSOCKET_MESSAGE_MAX, &message, err);

	if (r < 0)
		return error_wrap(err, r, "the server's message is not understood");
	dropped = resource_int(message, "dropped", 0);
	cursor = resource_text(message, "cursor");
	if (dropped > 0)
		cli_note(cli, "%lld bytes of the log were rotated away before they were read",
			 (long long) dropped);
	if (!cursor)
		return 0;
	mem_replace(&pieces->cursor, cursor);
	return stream_pieces_flush(pieces, fn, userdata, err);
}

void stream_pieces_drop(struct stream_pieces *pieces)
{
	strbuf_consume(&pieces->waiting, pieces->waiting.size);
}

void stream_pieces_done(struct stream_pieces *pieces)
{
	strbuf_done(&pieces->waiting);
	free(pieces->cursor);
	pieces->cursor = NULL;
}

/* 1 when Ctrl-C came. */
static int pause_for(int pause_ms)
{
	AUTO(signals_end) struct signals signals = { .fd = -1 };
	struct pollfd pollfd = { .events = POLLIN };

	if (signals_begin(&signals, (const int[]){ SIGINT, SIGTERM, 0 }, NULL) < 0)
		return 1;
	pollfd.fd = signals.fd;
	poll(&pollfd, 1, pause_ms);
	return signals_take(&signals) != 0;
}

void stream_retry_progress(struct stream_retry *retry)
{
	retry->tries = retry->pause_ms = 0;
}

enum stream_again stream_retry_pause(struct stream_retry *retry)
{
	if (retry->tries++ >= RETRY_MAX)
		return STREAM_GIVE_UP;
	retry->pause_ms = retry->pause_ms == 0 ? RETRY_FIRST_MS : retry->pause_ms * 2;
	if (retry->pause_ms > RETRY_LAST_MS)
		retry->pause_ms = RETRY_LAST_MS;
	return pause_for(retry->pause_ms) ? STREAM_INTERRUPTED : STREAM_AGAIN;
}

enum stream_again stream_retry(struct stream_retry *retry, const struct client *client, int r)
{
	bool connected = retry->connected;
	int status = connected ? 0 : client_status(client);

	retry->connected = false;
	/* These are the server's own words about this stream, or a broken disk of ours. */
	if (status == 0 && (r == -EIO || r == -ESRCH || r == -EPROTO))
		return STREAM_GIVE_UP;
	/* Unavailable: the node is offline, which may pass. */
	if (status != 0 && status != HTTP_UNAVAILABLE)
		return STREAM_GIVE_UP;
	if (connected && r != -EHOSTDOWN)
		stream_retry_progress(retry);
	return stream_retry_pause(retry);
}
