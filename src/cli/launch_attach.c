#include <errno.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/attachment.h"
#include "cli/cli.h"
#include "cli/launch_build.h"
#include "cli/resource.h"
#include "cli/wait.h"
#include "client/client.h"
#include "codec/uri.h"

enum { UNUSABLE = 126, MISSING = 127 };

/* *ret_code: as a shell has it when the program cannot be executed or is not there; else 0. */
static int begin(struct cli *cli, const char *name, int *ret_code, struct error *err)
{
	struct action_request request = { .action = INSTANCE_START, .timeout_s = -1 };
	AUTO(json_decref) json_t *body = action_request_encode(&request);
	AUTO(json_decref) json_t *operation = NULL, *ended = NULL;
	AUTO(free) char *encoded = uri_encode(name);
	AUTO(free) char *path = mem_printf("/instances/%s/state", encoded);
	AUTO(free) char *title = mem_printf("starting %s", name);
	int r = cli_request(cli, "PUT", path, body, &operation, err);

	if (r == 0)
		r = wait_operation(cli, title, operation, &ended, err);
	int64_t code = resource_int(ended, "status.result.exit_code", 0);
	if (r < 0 && (code == UNUSABLE || code == MISSING))
		*ret_code = (int) code;
	return r;
}

/* What never ran will not end, so nobody else would delete it. */
static void take_back(struct cli *cli, const char *name)
{
	AUTO(json_decref) json_t *operation = NULL;
	AUTO(free) char *encoded = uri_encode(name);
	AUTO(free) char *path = mem_printf("/instances/%s?force=1", encoded);
	AUTO(free) char *title = mem_printf("deleting %s", name);

	if (cli_request(cli, "DELETE", path, NULL, &operation, NULL) == 0)
		wait_operation(cli, title, operation, NULL, NULL);
	cli->hint[0] = '\0';
}

int launch_attach(struct cli *cli, const struct launch_options *options, const json_t *operation,
		  struct error *err)
{
	const char *name = resource_text(operation, "spec.target.name");
	const char *uid = resource_text(operation, "spec.target.uid");
	AUTO(attachment_done)
	struct attachment attachment = { .cli = cli,
					 .name = name,
					 .uid = uid,
					 .tty = options->tty,
					 .input = options->interactive,
					 .sig_proxy = true,
					 .tail = 0 };
	const char *keys = options->detach_keys ? options->detach_keys : DETACH_KEYS_DEFAULT;
	int code = 0, r;

	if (!name || !uid)
		return error_say(err, -EPROTO,
				 "the server's answer is not understood: no target in it");
	r = detach_keys_parse(keys, &attachment.keys, err);
	if (r == 0)
		r = attachment_open(&attachment, true, err);
	if (r == 0) {
		attachment_hold(&attachment);
		r = begin(cli, name, &code, err);
	}
	if (r < 0 && options->remove_on_exit)
		take_back(cli, name);
	if (r < 0 && code > 0) {
		cli_print_error(cli, err->msg);
		return code;
	}
	if (r == 0)
		r = attachment_run(&attachment, err);
	/* Its name is free again when the command returns; who cannot wait for that has the code
	 * all the same. */
	if (r >= 0 && options->remove_on_exit && attachment.end == ATTACHMENT_ENDED) {
		(void) wait_until_deleted(cli, name, uid, NULL);
		cli->hint[0] = '\0';
	}
	return r;
}
