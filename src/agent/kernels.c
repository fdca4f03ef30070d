/*
 * The node's kernels for virtual machines, over a stream: "kernels" with {action, name, source,
 * modules}; the answer is one JSON document on channel 1.  The work is image/kernel.h's, on the
 * pool of slow things: an import unpacks a package.
 */
#include <errno.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "image/kernel.h"

/* Outlives the stream. */
struct kernel_work {
	struct kernels *kernels; /* NULL: the stream is gone */
	char *dir;
	char *action, *name, *source, *modules;
	struct kernel_tools tools;
	struct strbuf text;
	int result;
	struct error err;
};

struct kernels {
	struct stream *stream;
	struct kernel_work *work; /* on a worker */
	struct strbuf text;       /* what is not sent yet */
};

static void work_free(struct kernel_work *work)
{
	free(work->dir);
	free(work->action);
	free(work->name);
	free(work->source);
	free(work->modules);
	strbuf_done(&work->text);
	free(work);
}

static void kernels_free(void *data)
{
	struct kernels *kernels = data;

	if (kernels->work)
		kernels->work->kernels = NULL;
	strbuf_done(&kernels->text);
	free(kernels);
}

static int import(struct kernel_work *work, json_t **ret)
{
	const struct kernel_import args = { .name = work->name,
					    .source = work->source,
					    .modules = work->modules,
					    .tools = &work->tools };

	return kernel_import(work->dir, &args, ret, &work->err);
}

static int carry_out(struct kernel_work *work, json_t **ret)
{
	if (strcmp(work->action, "list") == 0)
		return kernel_list(work->dir, ret, &work->err);
	if (strcmp(work->action, "import") == 0)
		return import(work, ret);
	if (strcmp(work->action, "default") == 0)
		return kernel_set_default(work->dir, work->name, &work->err);
	return kernel_delete(work->dir, work->name, &work->err);
}

/* On a worker thread. */
static void run(void *data)
{
	struct kernel_work *work = data;
	AUTO(json_decref) json_t *answer = NULL;
	AUTO(free) char *text = NULL;

	work->result = carry_out(work, &answer);
	if (work->result < 0)
		return;
	if (!answer)
		answer = json_object();
	text = json_text(answer);
	strbuf_puts(&work->text, text);
}

static void send_answer(struct kernels *kernels)
{
	if (stream_send_text(kernels->stream, FRAME_CHANNEL_OUT, &kernels->text))
		stream_close_code(kernels->stream, 0);
}

static void done(void *data)
{
	struct kernel_work *work = data;
	struct kernels *kernels = work->kernels;

	if (kernels) {
		kernels->work = NULL;
		if (work->result < 0) {
			stream_close_error(kernels->stream, &work->err);
		} else {
			kernels->text = work->text;
			work->text = (struct strbuf){};
			send_answer(kernels);
		}
	}
	work_free(work);
}

static void kernels_writable(void *data)
{
	struct kernels *kernels = data;

	if (!kernels->work)
		send_answer(kernels);
}

static const struct stream_ops kernels_ops = { NULL, kernels_writable, kernels_free };

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
	struct agent *agent = stream_agent(stream);
	struct kernel_work *work = mem_new0(struct kernel_work);
	struct kernels *kernels;
	int r = read_arguments(arguments, work, err);

	if (r < 0) {
		work_free(work);
		return r;
	}
	kernels = mem_new0(struct kernels);
	kernels->stream = stream;
	kernels->work = work;
	work->kernels = kernels;
	work->dir = mem_printf("%s/kernels", agent->options->state);
	work->tools =
		(struct kernel_tools){ agent->options->guest_init, agent->options->image_worker };
	pool_submit(agent->slow_pool, run, done, work);
	*ret_ops = &kernels_ops;
	*ret_data = kernels;
	return 0;
}
