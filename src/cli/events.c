#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/number.h"
#include "cli/resource.h"
#include "cli/stream.h"
#include "cli/verb.h"
#include "client/client.h"
#include "codec/uri.h"

struct events_options {
	const char *cursor, *kind, *name;
};

#define EVENTS(member) offsetof(struct events_options, member)

static const struct option_def events_options[] = {
	{ 'c', "cursor", "REVISION", OPTION_STRING, EVENTS(cursor),
	  "go on behind this revision, the first column of an earlier event" },
	{ 'k', "kind", "KIND", OPTION_STRING, EVENTS(kind),
	  "instance, network, image, operation, project or node", COMPLETE_KIND },
	{ 'n', "name", "NAME", OPTION_STRING, EVENTS(name), "of one resource", COMPLETE_INSTANCE },
	{},
};

struct events {
	struct cli *cli;
	int64_t cursor; /* last revision seen, -1 = none */
	bool refused;   /* the server has said no, or what it says cannot be shown */
};

/* "REVISION  KIND  ACTION  NAME  what it is now" */
static void events_print(struct cli *cli, const json_t *event)
{
	AUTO(strbuf_done) struct strbuf line = {};
	const char *kind = resource_text(event, "kind"), *action = resource_text(event, "action");
	const char *name = resource_text(event, "name");
	const char *state = resource_text(event, "resource.status.state");
	const char *failure = resource_text(event, "resource.status.error");
	bool tabs = cli->style.format != FORMAT_TABLE;
	bool state_matters = action && strcmp(action, "deleted") != 0;

	strbuf_printf(&line, tabs ? "%lld\t" : "%-8lld ",
		      (long long) resource_int(event, "revision", 0));
	human_text(&line, kind ? kind : "?");
	strbuf_puts(&line, tabs ? "\t" : " ");
	human_text(&line, name ? name : "?");
	strbuf_puts(&line, tabs ? "\t" : " ");
	human_text(&line, action ? action : "?");
	if (resource_text(event, "old_name")) {
		strbuf_puts(&line, " from ");
		human_text(&line, resource_text(event, "old_name"));
	}
	strbuf_puts(&line, tabs ? "\t" : " ");
	if (state && state_matters) {
		const char *colour = cli->style.colour ? table_state_colour(state) : "";

		strbuf_puts(&line, colour);
		human_text(&line, state);
		strbuf_puts(&line, *colour ? "\033[0m" : "");
	}
	if (failure && *failure && state_matters) {
		strbuf_puts(&line, tabs ? "\t" : ": ");
		human_text(&line, failure);
	}
	fprintf(cli->out, "%s\n", strbuf_str(&line));
}

static int events_message(void *userdata, bool text, const char *data, size_t size,
			  struct error *err)
{
	struct events *events = userdata;
	AUTO(json_decref) json_t *event = NULL;
	int ignored = 0, r;

	if (!text)
		return 0;
	r = json_parse(data, size, WEBSOCKET_MESSAGE_MAX, &event, err);
	if (r < 0)
		return error_wrap(err, r, "the server's event is not understood");
	if (!resource_text(event, "kind")) {
		events->refused = true;
		return stream_control(data, size, &ignored, err);
	}
	events->cursor = resource_int(event, "revision", events->cursor);
	if (events->cli->style.format == FORMAT_JSON) {
		AUTO(free) char *line = json_text(event);

		fprintf(events->cli->out, "%s\n", line);
	} else {
		events_print(events->cli, event);
	}
	if (fflush(events->cli->out) == 0)
		return 0;
	events->refused = true;
	return error_set(err, -errno, "cannot write the events");
}

static char *events_path(const struct events_options *options, int64_t cursor)
{
	AUTO(strbuf_done) struct strbuf path = {};
	char separator = '?';

	strbuf_puts(&path, "/events");
	if (cursor >= 0) {
		strbuf_printf(&path, "%ccursor=%lld", separator, (long long) cursor);
		separator = '&';
	}
	if (options->kind) {
		AUTO(free) char *kind = uri_encode(options->kind);

		strbuf_printf(&path, "%ckind=%s", separator, kind);
		separator = '&';
	}
	if (options->name) {
		AUTO(free) char *name = uri_encode(options->name);

		strbuf_printf(&path, "%cname=%s", separator, name);
	}
	return strbuf_take(&path);
}

/* One connection's worth.  1 after Ctrl-C, 0 when the server has ended it, -errno. */
static int events_follow(struct events *events, const struct events_options *options,
			 struct client *client, bool *ret_connected, struct error *err)
{
	AUTO(websocket_free) struct websocket *websocket = NULL;
	AUTO(free) char *path = events_path(options, events->cursor);
	int r = client_open_websocket(client, path, &websocket, err);

	if (r < 0)
		return r;
	*ret_connected = true;
	websocket_set_handler(websocket, events_message, events);
	return stream_follow(websocket, err);
}

static int events_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct events_options *options = userdata;
	struct events events = { .cli = cli, .cursor = -1 };
	struct client *client = NULL;
	struct stream_retry retry = {};
	enum stream_again again;
	bool ever = false;
	int r = 0;

	(void) arguments;
	if (options->cursor)
		r = number_parse(options->cursor, "--cursor", 0, INT64_MAX / 2, &events.cursor,
				 err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	r = cli_connect(cli, &client, err);
	while (r == 0) {
		bool connected = false;

		r = events_follow(&events, options, client, &connected, err);
		if (r > 0)
			return 0;
		ever |= connected;
		/* A server that is gone may come back; one that has said no will say it again. */
		if (!ever || events.refused || (!connected && client_status(client) != 0))
			break;
		if (connected) {
			stream_retry_progress(&retry);
			cli_note(cli,
				 "the server has closed the stream, waiting for it to come back");
		}
		again = stream_retry_pause(&retry);
		if (again == STREAM_INTERRUPTED)
			return 0;
		if (again == STREAM_GIVE_UP)
			break;
		r = 0;
	}
	if (r < 0 && client) {
		cli_failed(cli, "/events", r);
		if (events.cursor >= 0)
			cli_set_hint(cli, "go on later with: brume events --cursor %lld",
				     (long long) events.cursor);
	}
	return r;
}

const struct verb verb_events = {
	.name = "events",
	.synopsis = "[--cursor REVISION] [--kind KIND] [--name NAME]",
	.summary = "Follow what changes, until Ctrl-C",
	.help = "One line for each change: revision, kind, name, action, state.  With -f json one "
		"object a\n"
		"line.  After a restart of the server it goes on where it was.\n\n"
		"Examples:\n  brume events\n  brume events --kind instance -f json\n"
		"  brume events --cursor 4711\n",
	.options = events_options,
	.options_size = sizeof(struct events_options),
	.run = events_run,
};
