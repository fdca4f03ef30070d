#include "cli/attachment.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/terminal.h"
#include "client/client.h"
#include "codec/uri.h"

enum {
	INPUT_BYTES = 16 * 1024,
	QUEUE_MAX_BYTES = 256 * 1024, /* then the input waits */
	HELD_MAX_BYTES = 1024 * 1024,
	IMPATIENT = 3, /* that many Ctrl-C without an answer leave */
	GOODBYE_MS = 2000,
};

struct held {
	uint32_t size;
	bool text;
};

static int send_json(struct attachment *attachment, json_t *message, struct error *err)
{
	AUTO(free) char *text = json_text(message);

	json_decref(message);
	return websocket_send(attachment->websocket, true, text, strlen(text), err);
}

/* -- what comes ------------------------------------------------------------------------------- */

static int show(void *userdata, char channel, const char *data, size_t size, struct error *err)
{
	struct attachment *attachment = userdata;
	bool is_err = channel == STREAM_ERR;
	bool *broken = is_err ? &attachment->broken_err : &attachment->broken_out;
	int r = *broken ? 0 : terminal_write(is_err ? STDERR_FILENO : STDOUT_FILENO, data, size);

	stream_retry_progress(&attachment->retry);
	/* Like a pipe in a shell: the instance goes on. */
	if (r == -EPIPE) {
		*broken = true;
		return 0;
	}
	attachment->unshown = r < 0;
	return r < 0 ? error_set(err, r, "cannot write the instance's output") : 0;
}

static int take_message(struct attachment *attachment, bool text, const char *data, size_t size,
			struct error *err)
{
	int r, exit_code = -1;

	if (attachment->end != ATTACHMENT_OPEN)
		return 0;
	if (!text) {
		stream_pieces_add(&attachment->pieces, data, size);
		return 0;
	}
	r = stream_pieces_control(&attachment->pieces, attachment->cli, data, size, show,
				  attachment, err);
	if (r == 0)
		r = stream_control(data, size, &exit_code, err);
	if (r == 0 && exit_code >= 0) {
		r = stream_pieces_flush(&attachment->pieces, show, attachment, err);
		attachment->end = ATTACHMENT_ENDED;
		attachment->exit_code = exit_code;
	}
	return r;
}

static int on_message(void *userdata, bool text, const char *data, size_t size, struct error *err)
{
	struct attachment *attachment = userdata;
	struct held held = { (uint32_t) size, text };

	if (!attachment->holding)
		return take_message(attachment, text, data, size, err);
	strbuf_append(&attachment->held, &held, sizeof(held));
	strbuf_append(&attachment->held, data, size);
	return 0;
}

static int take_what_was_held(struct attachment *attachment, struct error *err)
{
	AUTO(strbuf_done) struct strbuf all = attachment->held;
	size_t at = 0;
	int r = 0;

	attachment->held = (struct strbuf){};
	while (r == 0 && at < all.size) {
		struct held held;

		memcpy(&held, all.data + at, sizeof(held));
		at += sizeof(held);
		r = take_message(attachment, held.text, all.data + at, held.size, err);
		at += held.size;
	}
	return r;
}

/* -- what goes -------------------------------------------------------------------------------- */

static int detach(struct attachment *attachment, struct error *err)
{
	attachment->end = ATTACHMENT_DETACHED;
	return send_json(attachment, json_pack("{s:b}", "detach", 1), err);
}

static int read_input(struct attachment *attachment, struct error *err)
{
	AUTO(strbuf_done) struct strbuf message = {};
	char data[INPUT_BYTES], channel = STREAM_IN;
	ssize_t n = read(STDIN_FILENO, data, sizeof(data));
	bool leave = false;
	int r = 0;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) { /* an error of a terminal that went away is its end */
		attachment->input_open = false;
		/* Others may be at the same terminal: our end is not its end. */
		return attachment->tty ? 0
				       : send_json(attachment, json_pack("{s:b}", "eof", 1), err);
	}
	strbuf_append(&message, &channel, 1);
	if (attachment->raw)
		leave = detach_keys_feed(&attachment->keys, data, (size_t) n, &message);
	else
		strbuf_append(&message, data, (size_t) n);
	if (message.size > 1)
		r = websocket_send(attachment->websocket, false, message.data, message.size, err);
	return r == 0 && leave ? detach(attachment, err) : r;
}

static int take_signal(struct attachment *attachment, struct error *err)
{
	static const struct {
		int number;
		const char *name;
	} names[] = { { SIGINT, "INT" },   { SIGTERM, "TERM" }, { SIGHUP, "HUP" },
		      { SIGQUIT, "QUIT" }, { SIGUSR1, "USR1" }, { SIGUSR2, "USR2" } };
	int signal = signals_take(&attachment->signals);
	unsigned int width, height;

	if (signal == SIGWINCH && attachment->tty && isatty(STDIN_FILENO)) {
		terminal_size(STDIN_FILENO, &width, &height);
		return send_json(attachment,
				 json_pack("{s:{s:i,s:i}}", "resize", "width", (int) width,
					   "height", (int) height),
				 err);
	}
	bool stop = signal == SIGINT || signal == SIGTERM;
	if ((stop && !attachment->sig_proxy) || signal == SIGHUP)
		return detach(attachment, err);
	if (stop && ++attachment->interrupts >= IMPATIENT)
		return detach(attachment, err);
	for (size_t i = 0; i < ARRAY_COUNT(names) && attachment->sig_proxy; i++)
		if (names[i].number == signal)
			return send_json(attachment, json_pack("{s:s}", "signal", names[i].name),
					 err);
	return 0;
}

/* -- the connection --------------------------------------------------------------------------- */

static char *path_of(const struct attachment *attachment, bool wait)
{
	AUTO(free) char *name = uri_encode(attachment->name);
	const char *cursor = attachment->pieces.cursor;
	unsigned int width = 0, height = 0;

	if (attachment->tty && isatty(STDIN_FILENO))
		terminal_size(STDIN_FILENO, &width, &height);
	return mem_printf("/instances/%s/attach?stdin=%d&wait=%d&width=%u&height=%u&cursors=1"
			  "&tail=%d%s%s",
			  name, attachment->input, wait, width, height, attachment->tail,
			  cursor ? "&cursor=" : "", cursor ? cursor : "");
}

static int connect_once(struct attachment *attachment, bool wait, struct error *err)
{
	AUTO(free) char *path = path_of(attachment, wait);
	struct client *client = NULL;
	int r = cli_connect(attachment->cli, &client, err);

	if (r < 0)
		return r;
	websocket_free(attachment->websocket);
	attachment->websocket = NULL;
	r = client_open_websocket(client, path, &attachment->websocket, err);
	if (r < 0)
		return cli_failed(attachment->cli, path, r);
	attachment->retry.connected = true;
	attachment->cli->hint[0] = '\0';
	websocket_set_handler(attachment->websocket, on_message, attachment);
	return 0;
}

/* Before anything is shown: who sees it may type, or press Ctrl-C, at once. */
static int take_terminal(struct attachment *attachment, struct error *err)
{
	static const int signals[] = { SIGINT,  SIGTERM, SIGHUP,   SIGQUIT, SIGUSR1,
				       SIGUSR2, SIGPIPE, SIGWINCH, 0 };
	int r = 0;

	if (attachment->signals.fd < 0)
		r = signals_begin(&attachment->signals, signals, err);
	if (r < 0 || attachment->raw || !attachment->tty || !attachment->input ||
	    !isatty(STDIN_FILENO))
		return r;
	r = terminal_raw(STDIN_FILENO, err);
	attachment->raw = r == 0;
	return r;
}

static void give_terminal_back(struct attachment *attachment)
{
	terminal_restore();
	/* A signal that is still pending would kill us when it is unblocked. */
	while (attachment->signals.fd >= 0 && signals_take(&attachment->signals))
		;
	signals_end(&attachment->signals);
}

static int wait_for_cursor(struct attachment *attachment, struct error *err)
{
	int r = 0;

	/* The first cursor says that the node knows of us. */
	while (r == 0 && !attachment->pieces.cursor && attachment->end == ATTACHMENT_OPEN) {
		short events = websocket_events(attachment->websocket);
		struct pollfd fds[] = { { websocket_fd(attachment->websocket), events, 0 },
					{ attachment->signals.fd, POLLIN, 0 } };

		if (poll(fds, 2, events ? -1 : 0) < 0 && errno != EINTR)
			return error_set(err, -errno, "cannot wait for the server");
		if (fds[1].revents)
			r = take_signal(attachment, err);
		if (r == 0)
			r = websocket_process(attachment->websocket, err);
		/* All of it may have come at once, its end and the stream's, too. */
		if (attachment->end != ATTACHMENT_OPEN)
			return 0;
		if (r > 0)
			r = error_say(err, -ECONNRESET, "the server closed the stream");
	}
	return r;
}

int attachment_open(struct attachment *attachment, bool wait, struct error *err)
{
	int r = connect_once(attachment, wait, err);

	attachment->signals.fd = -1;
	if (r == 0 && !wait)
		r = take_terminal(attachment, err);
	if (r == 0)
		r = wait_for_cursor(attachment, err);
	if (r < 0)
		give_terminal_back(attachment);
	return r;
}

static int it_ended(struct attachment *attachment, int64_t exit_code, const char *what,
		    struct error *err)
{
	attachment->cli->hint[0] = '\0';
	if (exit_code < 0)
		return error_say(err, -EIO, "the connection was lost, and the instance %s", what);
	attachment->end = ATTACHMENT_ENDED;
	attachment->exit_code = (int) (exit_code & 0xff);
	return 0;
}

/* The operation that has taken it away is kept, and knows how it had ended. */
static int ask_its_deletion(struct attachment *attachment, struct error *err)
{
	AUTO(json_decref) json_t *list = NULL;
	int64_t exit_code = -1;
	const json_t *one;
	size_t i;
	int r = cli_request(attachment->cli, "GET", "/operations?recursion=1", NULL, &list, err);

	if (r < 0)
		return r;
	json_array_foreach(list, i, one)
	{
		const char *uid = resource_text(one, "spec.target.uid");
		const char *action = resource_text(one, "spec.action");

		if (uid && action && attachment->uid && strcmp(uid, attachment->uid) == 0 &&
		    strcmp(action, "delete") == 0)
			exit_code = resource_int(one, "status.result.exit_code", exit_code);
	}
	return it_ended(attachment, exit_code, "is deleted; how it ended is not known", err);
}

/* It may have ended, and be gone, while we were away: then `end` says so. */
static int look_after_it(struct attachment *attachment, struct error *err)
{
	AUTO(json_decref) json_t *instance = NULL;
	int r = listing_get(attachment->cli, "instances", attachment->name, &instance, err);
	const char *state = resource_text(instance, "status.state");
	const char *uid = resource_text(instance, "meta.uid");

	if ((r < 0 && client_status(attachment->cli->client) == 404) ||
	    (uid && attachment->uid && strcmp(uid, attachment->uid) != 0))
		return ask_its_deletion(attachment, err);
	if (r < 0 || !state || (strcmp(state, "stopped") != 0 && strcmp(state, "failed") != 0))
		return r;
	return it_ended(attachment, resource_int(instance, "status.exit_code", -1), "does not run",
			err);
}

static int connect_again(struct attachment *attachment, int r, struct error *err)
{
	struct client *client = attachment->cli->client;

	/* Its node knows that the run is over; how it ended is told by others in a moment. */
	if (r == -ESRCH && attachment->pieces.cursor)
		r = -ECONNRESET;
	/* What cannot be shown would be passed over. */
	while (r < 0 && !attachment->unshown &&
	       stream_retry(&attachment->retry, client, r) == STREAM_AGAIN) {
		stream_pieces_drop(&attachment->pieces);
		r = look_after_it(attachment, err);
		if (r < 0 || attachment->end != ATTACHMENT_OPEN)
			continue;
		r = connect_once(attachment, false, err);
		/* It boots, or its end is not settled: patience, like with a node that is away. */
		if (r < 0 && (client_status(client) == 409 || client_status(client) == 404)) {
			attachment->retry.connected = true;
			attachment->retry.tries = 0;
			r = -EHOSTDOWN;
		}
	}
	return r;
}

static int turn(struct attachment *attachment, struct error *err)
{
	struct websocket *websocket = attachment->websocket;
	short events = websocket_events(websocket);
	bool room = websocket_queued_bytes(websocket) < QUEUE_MAX_BYTES;
	struct pollfd fds[] = {
		{ websocket_fd(websocket), events, 0 },
		{ attachment->signals.fd, POLLIN, 0 },
		{ attachment->input_open && room ? STDIN_FILENO : -1, POLLIN, 0 },
	};
	int r = poll(fds, 3, events ? -1 : 0);

	if (r < 0 && errno != EINTR)
		return error_set(err, -errno, "cannot wait for the server");
	r = 0;
	if (fds[1].revents)
		r = take_signal(attachment, err);
	if (r == 0 && attachment->end == ATTACHMENT_OPEN && fds[2].revents)
		r = read_input(attachment, err);
	if (r == 0)
		r = websocket_process(websocket, err);
	if (attachment->end != ATTACHMENT_OPEN)
		return 0;
	return r > 0 ? error_say(err, -ECONNRESET, "the server closed the stream before its end")
		     : r;
}

/* What was typed last, and that we leave on purpose, is still to be sent. */
static void say_goodbye(struct attachment *attachment)
{
	struct pollfd pollfd = { websocket_fd(attachment->websocket), 0, 0 };
	struct error err = {};

	websocket_close(attachment->websocket);
	do {
		pollfd.events = websocket_events(attachment->websocket);
		if (pollfd.events && poll(&pollfd, 1, GOODBYE_MS) <= 0)
			return;
	} while (websocket_process(attachment->websocket, &err) == 0);
}

static int run(struct attachment *attachment, struct error *err)
{
	int r = 0;

	while (r == 0 && attachment->end == ATTACHMENT_OPEN) {
		r = turn(attachment, err);
		if (r < 0)
			r = connect_again(attachment, r, err);
	}
	if (r == 0 && attachment->end == ATTACHMENT_DETACHED)
		say_goodbye(attachment);
	return r;
}

/* False: it has ended, or there is too much to be kept; attachment_run() sees to that. */
static bool listen_aside(void *userdata)
{
	struct attachment *attachment = userdata;

	return websocket_process(attachment->websocket, NULL) == 0 &&
	       attachment->held.size < HELD_MAX_BYTES;
}

void attachment_hold(struct attachment *attachment)
{
	attachment->holding = true;
	client_set_aside(attachment->cli->client, websocket_fd(attachment->websocket), listen_aside,
			 attachment);
}

static void hold_no_more(struct attachment *attachment)
{
	if (attachment->holding)
		client_set_aside(attachment->cli->client, -1, NULL, NULL);
	attachment->holding = false;
}

int attachment_run(struct attachment *attachment, struct error *err)
{
	int r = take_terminal(attachment, err);

	hold_no_more(attachment);
	attachment->input_open = attachment->input;
	if (r == 0)
		r = take_what_was_held(attachment, err);
	if (r == 0)
		r = run(attachment, err);
	give_terminal_back(attachment);
	if (r < 0)
		return r;
	if (attachment->end == ATTACHMENT_DETACHED)
		cli_note(attachment->cli, "%sleft %s, which goes on; brume attach %s comes back",
			 attachment->raw ? "\r" : "", attachment->name, attachment->name);
	return attachment->end == ATTACHMENT_ENDED ? attachment->exit_code : 0;
}

void attachment_done(struct attachment *attachment)
{
	hold_no_more(attachment);
	websocket_free(attachment->websocket);
	stream_pieces_done(&attachment->pieces);
	strbuf_done(&attachment->held);
}
