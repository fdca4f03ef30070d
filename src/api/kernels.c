/*
 * The node's kernels for virtual machines.  They are files of the node: the agent answers, and
 * nothing of them is in the store.
 */
#include <errno.h>

#include "api/api_internal.h"
#include "api/ask.h"
#include "api/handlers.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"

/* A kernel is the host's to give: all projects' machines run on it. */
static int check_root(struct request *req, struct error *err)
{
	if (request_is_root(req))
		return 0;
	return error_say(err, -EACCES,
			 "only root of the node may change its kernels, on its Unix socket");
}

static int ask(struct request *req, const char *action, const char *name, const char *source,
	       const char *modules, struct error *err)
{
	AUTO(json_decref)
	json_t *arguments = json_pack("{s:s, s:s, s:s*, s:s*, s:s*}", "kind", "kernels", "action",
				      action, "name", name, "source", source, "modules", modules);

	if (!arguments)
		return error_say(err, -EINVAL, "kernel: is not valid UTF-8");
	return ask_agent(req, arguments, err);
}

int kernels_list(struct request *req, struct error *err)
{
	return ask(req, "list", NULL, NULL, NULL, err);
}

int kernel_import_request(struct request *req, struct error *err)
{
	struct json_reader in = { .err = err, .where = "" };
	AUTO(json_decref) json_t *body = NULL;
	AUTO(free) char *name = NULL;
	AUTO(free) char *source = NULL;
	AUTO(free) char *modules = NULL;
	int r = check_root(req, err);

	if (r == 0)
		r = request_json(req, &body, err);
	if (r < 0)
		return r;
	json_read_string(&in, body, "name", &name);
	json_read_string(&in, body, "source", &source);
	json_read_string(&in, body, "modules", &modules);
	r = json_reader_finish(&in, body);
	if (r < 0)
		return r;
	if (!source || source[0] != '/')
		return error_say(err, -EINVAL,
				 "source: must be the absolute path of a kernel on the node");
	return ask(req, "import", name, source, modules, err);
}

int kernel_make_default(struct request *req, struct error *err)
{
	struct json_reader in = { .err = err, .where = "" };
	AUTO(json_decref) json_t *body = NULL;
	bool wanted = false;
	int r = check_root(req, err);

	if (r == 0)
		r = request_json(req, &body, err);
	if (r < 0)
		return r;
	json_read_bool(&in, body, "default", &wanted);
	r = json_reader_finish(&in, body);
	if (r == 0 && !wanted)
		r = error_say(err, -EINVAL,
			      "default: must be true: another kernel is made the default instead");
	return r < 0 ? r : ask(req, "default", request_arg(req, 0), NULL, NULL, err);
}

int kernel_remove(struct request *req, struct error *err)
{
	int r = check_root(req, err);

	return r < 0 ? r : ask(req, "delete", request_arg(req, 0), NULL, NULL, err);
}
