/*
 * The node's kernels for virtual machines, over a stream: "kernels" with {action, name, source,
 * modules}; the answer is one JSON document on channel 1.  The work is image/kernel.h's, on the
 * pool of slow things: an import unpacks a package.
 */
#include <errno.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/document_stream.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "image/kernel.h"

struct kernel_work {
	char *dir;
	char *action, *name, *source, *modules;
	struct kernel_tools tools;
};

static void work_free(void *data)
{
	struct kernel_work *work = data;

	free(work->dir);
	free(work->action);
	free(work->name);
	free(work->source);
	free(work->modules);
	free(work);
}

static int import(const struct kernel_work *work, json_t **ret, struct error *err)
{
	const struct kernel_import args = { .name = work->name,
					    .source = work->source,
					    .modules = work->modules,
					    .tools = &work->tools };

	return kernel_import(work->dir, &args, ret, err);
}

static int carry_out(const struct kernel_work *work, json_t **ret, struct error *err)
{
	if (strcmp(work->action, "list") == 0)
		return kernel_list(work->dir, ret, err);
	if (strcmp(work->action, "import") == 0)
		return import(work, ret, err);
	if (strcmp(work->action, "default") == 0)
		return kernel_set_default(work->dir, work->name, err);
	return kernel_delete(work->dir, work->name, err);
}

static int run(void *data, struct strbuf *ret, struct error *err)
{
	AUTO(json_decref) json_t *answer = NULL;
	AUTO(free) char *text = NULL;
	int r = carry_out(data, &answer, err);

	if (r < 0)
		return r;
	if (!answer)
		answer = json_object();
	text = json_text(answer);
	strbuf_puts(ret, text);
	return 0;
}

static int read_arguments(const json_t *arguments, struct kernel_work *work, struct error *err)
{
	static const char *const actions[] = { "list", "import", "default", "delete" };
	struct json_reader in = { .err = err, .where = "kernels" };
	size_t i = 0;
	int r;

	json_read_any(&in, arguments, "kind", NULL);
	json_read_string(&in, arguments, "action", &work->action);
	json_read_string(&in, arguments, "name", &work->name);
	json_read_string(&in, arguments, "source", &work->source);
	json_read_string(&in, arguments, "modules", &work->modules);
	r = json_reader_finish(&in, arguments);
	if (r < 0)
		return r;
	while (i < ARRAY_COUNT(actions) && (!work->action || strcmp(work->action, actions[i]) != 0))
		i++;
	if (i == ARRAY_COUNT(actions))
		return error_say(err, -EINVAL,
				 "kernels.action: must be list, import, default or delete");
	if (i >= 2 && !work->name)
		return error_say(err, -EINVAL, "kernels.name: is missing");
	return 0;
}

int kernels_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		 void **ret_data, struct error *err)
{
	static const struct document_ops ops = { .work = run, .free = work_free };
	struct agent *agent = stream_agent(stream);
	struct kernel_work *work = mem_new0(struct kernel_work);
	int r = read_arguments(arguments, work, err);

	if (r < 0) {
		work_free(work);
		return r;
	}
	work->dir = mem_printf("%s/kernels", agent->options->state);
	work->tools =
		(struct kernel_tools){ agent->options->guest_init, agent->options->image_worker };
	document_stream_open(stream, agent->slow_pool, &ops, work, ret_ops, ret_data);
	return 0;
}
