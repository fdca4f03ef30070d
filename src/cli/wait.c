#include "cli/wait.h"

#include <errno.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "client/client.h"
#include "client/operation.h"

static void wait_progress(void *userdata, const json_t *operation)
{
	progress_update(userdata, operation);
}

static int wait_cancel(struct cli *cli, const char *title, const char *id, struct error *err)
{
	struct error failure = {};

	cli_note(cli, "%s: cancelling; Ctrl-C again leaves it to the server", title);
	client_set_wakeup(cli->client, -1);
	if (operation_cancel(cli->client, id, &failure) < 0 && client_status(cli->client) != 404 &&
	    client_status(cli->client) != 409)
		return error_wrap(err, error_say(err, failure.code, "%s", failure.msg),
				  "cannot cancel");
	return 0;
}

static int wait_until_end(struct cli *cli, const char *title, const json_t *operation,
			  struct signals *signals, json_t **ret, struct error *err)
{
	struct progress progress = { .cli = cli, .title = title };
	bool cancelled = false;

	for (;;) {
		int r;

		client_set_wakeup(cli->client, signals->fd);
		r = operation_wait(cli->client, operation, wait_progress, &progress, ret, err);
		client_set_wakeup(cli->client, -1);
		progress_clear(&progress);
		if (r != -EINTR)
			return r < 0 ? cli_failed(cli, "/operations", r) : 0;
		while (signals_take(signals))
			;
		if (cancelled) {
			cli_set_hint(cli, "it goes on; look at it with: brume operation info %s",
				     operation_id(operation));
			return error_say(err, -EINTR, "%s: left while it runs", title);
		}
		cancelled = true;
		r = wait_cancel(cli, title, operation_id(operation), err);
		if (r < 0)
			return cli_failed(cli, "/operations", r);
	}
}

int wait_operation(struct cli *cli, const char *title, const json_t *operation, json_t **ret,
		   struct error *err)
{
	AUTO(json_decref) json_t *ended = NULL;
	AUTO(signals_end) struct signals signals = { .fd = -1 };
	int r = signals_begin(&signals, (const int[]){ SIGINT, 0 }, err);

	if (r == 0)
		r = wait_until_end(cli, title, operation, &signals, &ended, err);
	if (r < 0)
		return r;
	r = operation_result(ended, err);
	if (ret)
		*ret = TAKE_PTR(ended);
	return r < 0 ? error_wrap(err, r, "%s", title) : 0;
}
