#include "agent/guest_poll.h"

#include "agent/guest.h"
#include "agent/instance_actor.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { ANSWER_MAX = 4096, TIMER_ACCURACY_MS = 50 };

/* One guest that was asked. */
struct question {
	struct guest_poll *poll;
	struct guest_request *request; /* NULL: answered */
	struct strbuf answer;
	struct guest_memory *ret;
};

struct guest_poll {
	guest_poll_fn done;
	void *data;
	sd_event_source *timer;
	size_t count, open;
	struct question questions[];
};

void guest_poll_cancel(struct guest_poll *poll)
{
	if (!poll)
		return;
	for (size_t i = 0; i < poll->count; i++) {
		guest_request_free(poll->questions[i].request);
		strbuf_done(&poll->questions[i].answer);
	}
	sd_event_source_disable_unref(poll->timer);
	free(poll);
}

static void finish(struct guest_poll *poll)
{
	guest_poll_fn done = poll->done;
	void *data = poll->data;

	guest_poll_cancel(poll);
	done(data);
}

static void on_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct question *question = data;
	size_t room = ANSWER_MAX - question->answer.size;

	(void) channel;
	strbuf_append(&question->answer, bytes, size < room ? size : room);
	guest_request_grant(question->request, size);
}

/* A guest may say anything: numbers that cannot be are no answer. */
static void understand(const struct strbuf *answer, struct guest_memory *ret)
{
	AUTO(json_decref) json_t *document = NULL;
	json_int_t total, available;

	if (json_parse(answer->data, answer->size, ANSWER_MAX, &document, NULL) < 0)
		return;
	const json_t *memory = json_object_get(document, "memory");
	total = json_integer_value(json_object_get(memory, "total_bytes"));
	available = json_integer_value(json_object_get(memory, "available_bytes"));
	if (total > 0 && available >= 0 && available <= total)
		*ret = (struct guest_memory){ .used_bytes = (uint64_t) (total - available),
					      .total_bytes = (uint64_t) total };
}

static void on_closed(void *data, int64_t exit_code, const struct error *err)
{
	struct question *question = data;
	struct guest_poll *poll = question->poll;

	(void) exit_code;
	question->request = NULL;
	if (!err && question->answer.size > 0)
		understand(&question->answer, question->ret);
	if (--poll->open == 0)
		finish(poll);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void) source;
	(void) usec;
	finish(data);
	return 0;
}

struct guest_poll *guest_poll_new(struct agent *agent, const char *const *uids, size_t count,
				  struct guest_memory *ret, guest_poll_fn done, void *data)
{
	static const struct guest_call_ops ops = { on_received, NULL, on_closed };
	AUTO(json_decref) json_t *arguments = json_pack("{s:s, s:b}", "kind", "stats", "once", 1);
	struct guest_poll *poll = mem_zalloc(sizeof(*poll) + count * sizeof(poll->questions[0]));

	poll->done = done;
	poll->data = data;
	for (size_t i = 0; i < count; i++) {
		struct question *question = &poll->questions[poll->count];
		struct guest *guest = NULL;

		if (instance_guest(agent, uids[i], &guest, NULL) <= 0 || !guest_is_up(guest))
			continue;
		poll->count++;
		question->poll = poll;
		question->ret = &ret[i];
		question->request = guest_request_new(guest, arguments, &ops, question);
	}
	poll->open = poll->count;
	if (poll->count > 0 &&
	    sd_event_add_time_relative(agent->event, &poll->timer, CLOCK_MONOTONIC,
				       (uint64_t) GUEST_POLL_MS * 1000, TIMER_ACCURACY_MS * 1000,
				       on_timer, poll) >= 0)
		return poll;
	guest_poll_cancel(poll);
	return NULL;
}
