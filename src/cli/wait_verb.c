#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/number.h"
#include "cli/resource.h"
#include "cli/stream.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "client/client.h"
#include "codec/uri.h"

/*
 * By events, never by asking again: the stream of changes is opened first and then the present
 * state is read, so that no change is missed.  When the server is started again both are done anew.
 */

enum {
	WAIT_TIMEOUT_MAX_S = 365 * 86400,
	WAIT_EXIT_UNKNOWN = -1,
	HTTP_ERROR = 400,
	HTTP_UNAVAILABLE = 503,
};

enum wait_condition { WAIT_STOPPED, WAIT_RUNNING, WAIT_HEALTHY, WAIT_DELETED };

static const char *const wait_conditions[] = { "stopped", "running", "healthy", "deleted", NULL };

struct wait_options {
	const char *condition, *timeout;
};

#define WAIT(member) offsetof(struct wait_options, member)

static const struct option_def wait_options[] = {
	{ 0, "condition", "CONDITION", OPTION_STRING, WAIT(condition),
	  "stopped (the default), running, healthy or deleted", COMPLETE_CONDITION },
	{ 't', "timeout", "SECONDS", OPTION_STRING, WAIT(timeout),
	  "give up, and fail, after this time" },
	{},
};

struct waited {
	const char *name; /* as it was typed */
	char *uid;        /* NULL: not seen yet */
	bool met;
	int64_t exit_code;
};

struct waiting {
	struct cli *cli;
	enum wait_condition condition;
	struct waited *list;
	size_t count;
	int64_t timeout_ms; /* -1 = none; what is left */
	bool refused;       /* what is waited for will not come, or the server has said no */
};

static bool wait_is_over(const struct waiting *waiting)
{
	for (size_t i = 0; i < waiting->count; i++)
		if (!waiting->list[i].met)
			return false;
	return true;
}

static void wait_look(const struct waiting *waiting, struct waited *one, const json_t *instance)
{
	const char *state = resource_text(instance, "status.state");
	const char *health = resource_text(instance, "status.health.state");
	bool running = state && strcmp(state, "running") == 0;

	if (one->met || !state)
		return;
	switch (waiting->condition) {
	case WAIT_STOPPED:
		one->met = strcmp(state, "stopped") == 0 || strcmp(state, "failed") == 0;
		one->exit_code = resource_int(instance, "status.exit_code", WAIT_EXIT_UNKNOWN);
		break;
	case WAIT_RUNNING:
		one->met = running;
		break;
	case WAIT_HEALTHY:
		one->met = running && health && strcmp(health, "healthy") == 0;
		break;
	case WAIT_DELETED:
		break;
	}
}

/* What is deleted has also stopped; for the other conditions it is too late. */
static int wait_gone(struct waiting *waiting, struct waited *one, struct error *err)
{
	if (waiting->condition == WAIT_DELETED || waiting->condition == WAIT_STOPPED)
		one->met = true;
	if (one->met)
		return 0;
	waiting->refused = true;
	return error_say(err, -ENOENT, "instance \"%s\" was deleted, it never was %s", one->name,
			 wait_conditions[waiting->condition]);
}

/* Reads the present state.  One that was seen before and is not there any more is gone. */
static int wait_read(struct waiting *waiting, struct waited *one, struct error *err)
{
	AUTO(free) char *escaped = uri_encode(one->name);
	AUTO(free) char *path = mem_printf("/instances/%s", escaped);
	AUTO(json_decref) json_t *instance = NULL;
	const char *uid;
	int r = cli_request(waiting->cli, "GET", path, NULL, &instance, err);

	if (r < 0 && client_status(waiting->cli->client) == 404 &&
	    (one->uid || waiting->condition == WAIT_DELETED)) {
		waiting->cli->hint[0] = '\0';
		return wait_gone(waiting, one, err);
	}
	if (r < 0) {
		waiting->refused = client_status(waiting->cli->client) >= HTTP_ERROR &&
				   client_status(waiting->cli->client) != HTTP_UNAVAILABLE;
		return r;
	}
	uid = resource_text(instance, "meta.uid");
	if (one->uid && uid && strcmp(one->uid, uid) != 0)
		return wait_gone(waiting, one, err);
	if (!one->uid)
		one->uid = mem_strdup(uid ? uid : "");
	if (waiting->condition == WAIT_HEALTHY && !resource_at(instance, "status.health") &&
	    resource_text(instance, "status.state") &&
	    strcmp(resource_text(instance, "status.state"), "running") == 0) {
		waiting->refused = true;
		return error_say(err, -EINVAL, "instance \"%s\" has no health check", one->name);
	}
	wait_look(waiting, one, instance);
	return 0;
}

static int wait_message(void *userdata, bool text, const char *data, size_t size, struct error *err)
{
	struct waiting *waiting = userdata;
	AUTO(json_decref) json_t *event = NULL;
	const char *uid, *action;
	int ignored = 0, r;

	if (!text)
		return 0;
	r = json_parse(data, size, WEBSOCKET_MESSAGE_MAX, &event, err);
	if (r < 0)
		return error_wrap(err, r, "the server's event is not understood");
	if (!resource_text(event, "kind")) {
		waiting->refused = true;
		return stream_control(data, size, &ignored, err);
	}
	uid = resource_text(event, "uid");
	action = resource_text(event, "action");
	for (size_t i = 0; uid && action && i < waiting->count && r == 0; i++) {
		struct waited *one = &waiting->list[i];

		if (!one->uid || strcmp(one->uid, uid) != 0)
			continue;
		wait_look(waiting, one, resource_at(event, "resource"));
		if (strcmp(action, "deleted") == 0)
			r = wait_gone(waiting, one, err);
	}
	/* Ends the stream, see wait_once(). */
	return r == 0 && wait_is_over(waiting) ? -ECANCELED : r;
}

/* One connection's worth: 0 when it ended before all was met, 1 after Ctrl-C. */
static int wait_once(struct waiting *waiting, struct client *client, bool *ret_connected,
		     struct error *err)
{
	AUTO(websocket_free) struct websocket *websocket = NULL;
	int r = client_open_websocket(client, "/events?kind=instance", &websocket, err);

	if (r < 0) {
		waiting->refused = client_status(client) >= HTTP_ERROR &&
				   client_status(client) != HTTP_UNAVAILABLE;
		return r;
	}
	*ret_connected = true;
	websocket_set_handler(websocket, wait_message, waiting);
	for (size_t i = 0; r == 0 && i < waiting->count; i++)
		r = wait_read(waiting, &waiting->list[i], err);
	if (r == 0 && !wait_is_over(waiting))
		r = stream_follow_for(websocket, &waiting->timeout_ms, err);
	if (r == -ETIMEDOUT)
		return error_say(err, r, "the time is over before %s %s",
				 waiting->count > 1 ? "all were" : "it was",
				 wait_conditions[waiting->condition]);
	return r == -ECANCELED ? 0 : r;
}

static int wait_until_met(struct waiting *waiting, struct client *client, struct error *err)
{
	struct stream_retry retry = {};
	enum stream_again again;
	bool ever = false;
	int r;

	for (;;) {
		bool connected = false;

		r = wait_once(waiting, client, &connected, err);
		if (r > 0 || r == -ETIMEDOUT || wait_is_over(waiting))
			return r;
		ever |= connected;
		if (connected && r == 0)
			stream_retry_progress(&retry);
		/* A server that is gone may come back; one that has said no will say it again. */
		again = !ever || waiting->refused ? STREAM_GIVE_UP : stream_retry_pause(&retry);
		if (again == STREAM_INTERRUPTED)
			return 1;
		if (again == STREAM_GIVE_UP)
			return r < 0 ? r : error_say(err, -EIO, "the server ended the stream");
	}
}

static void wait_print(const struct waiting *waiting)
{
	struct cli *cli = waiting->cli;
	AUTO(json_decref) json_t *list = json_array();

	for (size_t i = 0; i < waiting->count; i++) {
		const struct waited *one = &waiting->list[i];
		json_t *object = json_pack("{s:s, s:s}", "name", one->name, "condition",
					   wait_conditions[waiting->condition]);

		if (waiting->condition == WAIT_STOPPED)
			json_object_set_new(object, "exit_code", json_integer(one->exit_code));
		json_array_append_new(list, object);
		if (cli->style.format == FORMAT_JSON)
			continue;
		if (waiting->condition == WAIT_STOPPED)
			fprintf(cli->out, "%lld\n", (long long) one->exit_code);
		else if (!cli->options.quiet)
			fprintf(cli->out, "%s: %s\n", one->name,
				wait_conditions[waiting->condition]);
	}
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, list);
}

static int wait_read_options(struct cli *cli, const struct wait_options *options,
			     struct waiting *waiting, struct error *err)
{
	int64_t timeout_s = -1;
	int r = 0;

	waiting->timeout_ms = -1;
	if (options->timeout) {
		r = number_parse(options->timeout, "--timeout", 0, WAIT_TIMEOUT_MAX_S, &timeout_s,
				 err);
		cli->usage |= r < 0;
		waiting->timeout_ms = timeout_s * 1000;
	}
	if (r < 0 || !options->condition)
		return r;
	for (int i = 0; wait_conditions[i]; i++)
		if (strcmp(wait_conditions[i], options->condition) == 0) {
			waiting->condition = (enum wait_condition) i;
			return 0;
		}
	return cli_usage(cli, err, "--condition %s: must be stopped, running, healthy or deleted",
			 options->condition);
}

int wait_until_deleted(struct cli *cli, const char *name, const char *uid, struct error *err)
{
	struct waited one = { .name = name, .uid = mem_strdup(uid) };
	struct waiting waiting = {
		.cli = cli, .condition = WAIT_DELETED, .list = &one, .count = 1, .timeout_ms = -1
	};
	struct client *client = NULL;
	int r = cli_connect(cli, &client, err);

	if (r == 0)
		r = wait_until_met(&waiting, client, err);
	free(one.uid);
	return r > 0 ? error_say(err, -EINTR, "interrupted") : r;
}

static int wait_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	AUTO(free)
	struct waited *list = mem_new0_array(struct waited, arguments->word_count);
	struct waiting waiting = { .cli = cli, .list = list, .count = arguments->word_count };
	struct client *client = NULL;
	int r = wait_read_options(cli, userdata, &waiting, err);

	for (size_t i = 0; i < waiting.count; i++)
		list[i] = (struct waited){ .name = arguments->words[i],
					   .exit_code = WAIT_EXIT_UNKNOWN };
	if (r == 0)
		r = cli_connect(cli, &client, err);
	if (r == 0)
		r = wait_until_met(&waiting, client, err);
	for (size_t i = 0; i < waiting.count; i++)
		free(list[i].uid);
	if (r != 0)
		return r < 0 ? r : error_say(err, -EINTR, "interrupted");
	wait_print(&waiting);
	return 0;
}

const struct verb verb_wait = {
	.name = "wait",
	.synopsis = "[--condition CONDITION] [-t SECONDS] NAME...",
	.summary = "Wait until instances have stopped, run, are healthy or deleted",
	.help = "Prints the exit code of each when it waits for `stopped`, -1 for one that is not "
		"known.\nOne that is started again by its restart policy goes on, it does not "
		"stop.\n\n"
		"Examples:\n  brume wait job\n  brume wait --condition healthy -t 60 web db\n",
	.options = wait_options,
	.options_size = sizeof(struct wait_options),
	.words_min = 1,
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = wait_run,
};
