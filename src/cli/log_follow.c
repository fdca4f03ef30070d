#include "cli/log_follow.h"

#include <errno.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/log_range.h"
#include "client/client.h"

struct follower {
	struct cli *cli;
	const struct log_source *source;
	struct stream_pieces pieces;
	struct stream_retry retry;
	int exit_code; /* -1: the server has not said that this is the end */
	bool broken;   /* what comes cannot be shown */
};

static int show(void *userdata, char channel, const char *data, size_t size, struct error *err)
{
	struct follower *follower = userdata;
	int r = follower->source->show(follower->source->userdata, channel, data, size, err);

	stream_retry_progress(&follower->retry);
	follower->broken = r < 0;
	return r;
}

static int take_message(void *userdata, bool text, const char *data, size_t size, struct error *err)
{
	struct follower *follower = userdata;
	int r;

	if (!text) {
		stream_pieces_add(&follower->pieces, data, size);
		return 0;
	}
	r = stream_pieces_control(&follower->pieces, follower->cli, data, size, show, follower,
				  err);
	return r < 0 ? r : stream_control(data, size, &follower->exit_code, err);
}

/* One connection's worth.  1 after Ctrl-C, 0 when the server has ended it, -errno. */
static int connect_once(struct follower *follower, struct client *client, const char *path,
			struct error *err)
{
	AUTO(websocket_free) struct websocket *websocket = NULL;
	int r = client_open_websocket(client, path, &websocket, err);

	if (r < 0)
		return r;
	follower->retry.connected = true;
	follower->cli->hint[0] = '\0';
	websocket_set_handler(websocket, take_message, follower);
	r = stream_follow(websocket, err);
	if (r == 0 && follower->exit_code < 0)
		return error_say(err, -ECONNRESET, "the server closed the stream before its end");
	return r < 0 ? r : stream_pieces_flush(&follower->pieces, show, follower, err);
}

/* A server that was never there is an error at once; so is what will be no better then. */
static enum stream_again ask_again(struct follower *follower, const struct client *client, int r)
{
	bool was_there = follower->pieces.cursor || follower->retry.connected;

	if (!was_there || follower->broken)
		return STREAM_GIVE_UP;
	return stream_retry(&follower->retry, client, r);
}

static int follow(struct follower *follower, struct client *client, struct error *err)
{
	const struct log_source *source = follower->source;
	enum stream_again again;

	for (;;) {
		AUTO(free) char *rest = log_range_rest(source->range, follower->pieces.cursor);
		AUTO(free) char *path = mem_printf("%s&cursors=1%s", source->path, rest);
		int r = connect_once(follower, client, path, err);

		if (r >= 0)
			return 0;
		again = ask_again(follower, client, r);
		if (again == STREAM_GIVE_UP)
			return cli_failed(follower->cli, source->path, r);
		if (again == STREAM_INTERRUPTED)
			return 0;
		stream_pieces_drop(&follower->pieces);
	}
}

int log_follow(struct cli *cli, const struct log_source *source, struct error *err)
{
	struct follower follower = { .cli = cli, .source = source, .exit_code = -1 };
	struct client *client = NULL;
	int r = cli_connect(cli, &client, err);

	if (r == 0)
		r = follow(&follower, client, err);
	stream_pieces_done(&follower.pieces);
	return r;
}
