#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <systemd/sd-event.h>

#include "agent/document_stream.h"
#include "base/error.h"
#include "base/pool.h"
#include "base/strbuf.h"

/* The stream is this file's: what the document says to it is seen here. */
struct stream {
	const struct stream_ops *ops;
	void *data;
	size_t credit;
	struct strbuf sent;
	int64_t exit_code; /* -1: open, -2: closed with an error */
	int error;
};

bool stream_send_text(struct stream *stream, enum frame_channel channel, struct strbuf *text)
{
	size_t size = text->size < stream->credit ? text->size : stream->credit;

	assert_int_equal(channel, FRAME_CHANNEL_OUT);
	strbuf_append(&stream->sent, text->data, size);
	strbuf_consume(text, size);
	stream->credit -= size;
	return text->size == 0;
}

void stream_close_code(struct stream *stream, int64_t exit_code)
{
	stream->ops->free(stream->data);
	stream->exit_code = exit_code;
}

void stream_close_error(struct stream *stream, const struct error *err)
{
	int code = err->code;

	stream->ops->free(stream->data);
	stream->exit_code = -2;
	stream->error = code;
}

struct job {
	sd_event *event;
	int result;
	int cancelled, freed;
};

static int work(void *data, struct strbuf *ret, struct error *err)
{
	const struct job *job = data;

	strbuf_puts(ret, "{\"answer\":1}");
	return job->result < 0 ? error_say(err, job->result, "it cannot be") : 0;
}

static void cancel(void *data)
{
	struct job *job = data;

	job->cancelled++;
}

static void release(void *data)
{
	struct job *job = data;

	job->freed++;
	sd_event_exit(job->event, 0);
}

/* Opens one, has the client go when `leave` says so, and waits for the end of the work. */
static void run(struct stream *stream, struct job *job, bool leave)
{
	static const struct document_ops ops = { work, cancel, release };
	AUTO(pool_free) struct pool *pool = NULL;

	assert_true(sd_event_new(&job->event) >= 0);
	assert_int_equal(pool_new(job->event, 1, &pool, NULL), 0);
	document_stream_open(stream, pool, &ops, job, &stream->ops, &stream->data);
	assert_null(stream->ops->received);
	stream->ops->writable(stream->data);
	assert_int_equal(stream->sent.size, 0);
	if (leave)
		stream->ops->free(stream->data);
	assert_int_equal(sd_event_loop(job->event), 0);
	pool_free(TAKE_PTR(pool));
	sd_event_unref(job->event);
}

static void sends_as_the_credit_comes(void **state)
{
	struct stream stream = { .credit = 5, .exit_code = -1 };
	struct job job = {};

	(void) state;
	run(&stream, &job, false);
	assert_int_equal(job.freed, 1);
	assert_int_equal(job.cancelled, 0);
	assert_string_equal(strbuf_str(&stream.sent), "{\"ans");
	assert_int_equal(stream.exit_code, -1);
	stream.credit = 100;
	stream.ops->writable(stream.data);
	assert_string_equal(strbuf_str(&stream.sent), "{\"answer\":1}");
	assert_int_equal(stream.exit_code, 0);
	strbuf_done(&stream.sent);
}

static void a_client_may_go_between_two_pieces(void **state)
{
	struct stream stream = { .credit = 5, .exit_code = -1 };
	struct job job = {};

	(void) state;
	run(&stream, &job, false);
	stream.ops->free(stream.data);
	assert_int_equal(job.freed, 1);
	assert_int_equal(job.cancelled, 0);
	strbuf_done(&stream.sent);
}

static void a_failure_ends_it_with_words(void **state)
{
	struct stream stream = { .credit = 100, .exit_code = -1 };
	struct job job = { .result = -ESRCH };

	(void) state;
	run(&stream, &job, false);
	assert_int_equal(job.freed, 1);
	assert_int_equal(stream.exit_code, -2);
	assert_int_equal(stream.error, -ESRCH);
	assert_int_equal(stream.sent.size, 0);
}

static void a_client_that_has_gone_hears_nothing(void **state)
{
	struct stream stream = { .credit = 100, .exit_code = -1 };
	struct job job = {};

	(void) state;
	run(&stream, &job, true);
	assert_int_equal(job.freed, 1);
	assert_int_equal(job.cancelled, 1);
	assert_int_equal(stream.exit_code, -1);
	assert_int_equal(stream.sent.size, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sends_as_the_credit_comes),
		cmocka_unit_test(a_client_may_go_between_two_pieces),
		cmocka_unit_test(a_failure_ends_it_with_words),
		cmocka_unit_test(a_client_that_has_gone_hears_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
