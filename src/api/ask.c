#include "api/ask.h"

#include <errno.h>
#include <stdlib.h>

#include "api/api_internal.h"
#include "api/link.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { ANSWER_MAX = 4 * 1024 * 1024 };

struct question {
	struct request *req;
	struct link_stream *stream;
	struct strbuf answer;
	struct ask_finish then; /* finish NULL: the answer as it is */
};

static void question_free(void *state)
{
	struct question *question = state;

	link_stream_close(question->stream, "the client has gone");
	strbuf_done(&question->answer);
	if (question->then.free)
		question->then.free(question->then.data);
	free(question);
}

static void refuse(struct request *req, int code, const char *words)
{
	struct error err = {};

	error_say(&err, code, "%s", words);
	request_answer_error(req, code, &err, NULL);
}

static void on_data(struct link_stream *stream, enum frame_channel channel, const char *data,
		    size_t size, void *user)
{
	struct question *question = user;

	link_stream_consumed(stream, size);
	if (channel == FRAME_CHANNEL_OUT && question->answer.size + size <= ANSWER_MAX)
		strbuf_append(&question->answer, data, size);
}

static void on_closed(struct link_stream *stream, const json_t *result, void *user)
{
	struct question *question = user;
	const json_t *error = json_object_get(result, "error");
	struct strbuf *answer = &question->answer;
	json_t *metadata = NULL;
	struct error err = {};

	(void) stream;
	question->stream = NULL;
	if (error)
		reply_stream_error(question->req, error);
	else if (json_parse(strbuf_str(answer), answer->size, ANSWER_MAX, &metadata, &err) < 0)
		refuse(question->req, -EIO, "the node's answer is not understood");
	else if (question->then.finish &&
		 !(metadata = question->then.finish(metadata, question->then.data, &err)))
		refuse(question->req, -EIO, err.msg);
	else
		request_answer(question->req, metadata, 0);
}

int ask_agent(struct request *req, const json_t *arguments, struct error *err)
{
	return ask_agent_then(req, arguments, &(struct ask_finish){}, err);
}

int ask_agent_then(struct request *req, const json_t *arguments, const struct ask_finish *then,
		   struct error *err)
{
	static const struct link_stream_ops ops = { .data = on_data, .closed = on_closed };
	struct question *question = mem_new0(struct question);
	int r;

	question->req = req;
	question->then = *then;
	request_keep(req, question, question_free);
	r = link_stream_open(request_api(req)->link, arguments, &ops, question, &question->stream,
			     err);
	if (r < 0)
		return r;
	request_wait(req, NULL);
	return 0;
}

int ask_locate_running(struct request *req, struct control_location *ret, struct error *err)
{
	const char *name = request_arg(req, 0);
	int r = control_locate(request_api(req)->control, KIND_INSTANCE, request_project(req), name,
			       ret, err);

	if (r < 0) {
		reply_error(req, r, err, KIND_INSTANCE, name);
		return 1;
	}
	if (!ret->running && !ret->paused)
		return error_say(err, -EBUSY, "instance %s: is not running", name);
	return 0;
}
