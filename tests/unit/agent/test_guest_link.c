#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/guest_link.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"

/* The other end is played by the test: well-behaved or hostile. */
struct fixture {
	sd_event *event;
	struct guest_link *link;
	int guest_fd;
	struct strbuf from_host;
	unsigned int told, lost;
	bool broken;
	struct error why;
	/* The call. */
	struct guest_call *call;
	struct strbuf out, err_out;
	unsigned int writable, closed;
	int64_t exit_code;
	struct error failure;
	bool grant;       /* give credit back at once */
	bool free_in_end; /* the link ends inside of a callback */
};

static void on_told(void *data)
{
	struct fixture *f = data;

	f->told++;
}

static void on_lost(void *data, const struct error *why)
{
	struct fixture *f = data;

	f->lost++;
	f->why = *why;
	f->broken = guest_link_broken(f->link);
	guest_link_free(f->link);
	f->link = NULL;
}

static void on_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct fixture *f = data;

	strbuf_append(channel == FRAME_CHANNEL_OUT ? &f->out : &f->err_out, bytes, size);
	if (f->grant)
		guest_call_grant(f->call, size);
}

static void on_writable(void *data)
{
	struct fixture *f = data;

	f->writable++;
}

static void on_closed(void *data, int64_t exit_code, const struct error *err)
{
	struct fixture *f = data;

	f->closed++;
	f->call = NULL;
	f->exit_code = exit_code;
	f->failure = err ? *err : (struct error){};
	if (f->free_in_end) {
		guest_link_free(f->link);
		f->link = NULL;
	}
}

static const struct guest_call_ops call_ops = { on_received, on_writable, on_closed };

enum { NUMBER = 77 };

static int setup_with(void **state, uint64_t connection)
{
	static const struct guest_link_ops ops = { on_told, on_lost };
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2], size = 4 << 20;

	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), errno);
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	assert_return_code(sd_event_new(&f->event), errno);
	assert_int_equal(guest_link_new(f->event, fds[0], connection, &ops, f, &f->link, NULL), 0);
	f->guest_fd = fds[1];
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, 0);
}

static int setup_port(void **state)
{
	return setup_with(state, NUMBER);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_link_free(f->link);
	fd_close(f->guest_fd);
	sd_event_unref(f->event);
	strbuf_done(&f->from_host);
	strbuf_done(&f->out);
	strbuf_done(&f->err_out);
	free(f);
	return 0;
}

/* Until nothing moves any more. */
static void run(struct fixture *f)
{
	char buffer[65536];
	ssize_t n;
	bool moved;

	do {
		moved = false;
		while (sd_event_run(f->event, 0) > 0)
			moved = true;
		while ((n = recv(f->guest_fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0) {
			strbuf_append(&f->from_host, buffer, (size_t) n);
			moved = true;
		}
	} while (moved);
}

/* One frame, as it is. */
static void say(struct fixture *f, enum frame_type type, uint64_t id, const char *text)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	frame_append(&frame, type, id, text, strlen(text));
	assert_int_equal(write(f->guest_fd, frame.data, frame.size), frame.size);
	run(f);
}

static void say_data(struct fixture *f, uint64_t id, enum frame_channel channel, const void *data,
		     size_t size)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	frame_append_data(&frame, id, channel, data, size);
	assert_int_equal(write(f->guest_fd, frame.data, frame.size), frame.size);
	run(f);
}

static void hello(struct fixture *f)
{
	say(f, FRAME_HELLO, 0,
	    "{\"protocol\":1,\"version\":\"1\",\"kernel\":\"6.1\",\"state\":\"running\","
	    "\"boot_ms\":900,\"pid\":7}");
	assert_true(guest_link_ready(f->link));
	strbuf_done(&f->from_host);
	f->from_host = (struct strbuf){};
}

/* What the host has said next; the body is text for as long as nothing else is read. */
static struct frame heard(struct fixture *f, enum frame_type type)
{
	struct frame frame = {};
	size_t used = 0;

	run(f);
	assert_int_equal(frame_decode(f->from_host.data, f->from_host.size, &frame, &used, NULL),
			 1);
	assert_string_equal(frame_type_name(frame.type), frame_type_name(type));
	frame.body = strndup(frame.body, frame.size);
	strbuf_consume(&f->from_host, used);
	return frame;
}

static void expect_json(struct fixture *f, enum frame_type type, uint64_t id, const char *text)
{
	struct frame frame = heard(f, type);

	assert_int_equal(frame.id, id);
	assert_string_equal(frame.body, text);
	free((char *) frame.body);
}

static void open_call(struct fixture *f)
{
	AUTO(json_decref) json_t *arguments = json_pack("{s:s}", "kind", "top");

	assert_int_equal(guest_call_new(f->link, arguments, &call_ops, f, &f->call, NULL), 0);
	expect_json(f, FRAME_STREAM_OPEN, 1, "{\"kind\":\"top\"}");
}

static void expect_lost(struct fixture *f, const char *words)
{
	assert_int_equal(f->lost, 1);
	assert_null(f->link);
	assert_int_equal(f->broken, !strstr(words, "has ended the connection"));
	if (!strstr(f->why.msg, words))
		fail_msg("'%s' does not say '%s'", f->why.msg, words);
}

static void says_hello_and_states(void **state)
{
	struct fixture *f = *state;

	assert_false(guest_link_ready(f->link));
	say(f, FRAME_HELLO, 0, "{\"protocol\":1,\"state\":\"booting\",\"new\":[1]}");
	assert_true(guest_link_ready(f->link));
	assert_int_equal(guest_link_state(f->link), GUEST_BOOTING);
	expect_json(f, FRAME_HELLO, 0, "{\"protocol\":1}");
	say(f, FRAME_STATUS, 0, "{\"state\":\"running\"}");
	assert_int_equal(guest_link_state(f->link), GUEST_RUNNING);
	assert_null(guest_link_error(f->link));
	say(f, FRAME_STATUS, 0,
	    "{\"state\":\"ending\",\"exit_code\":127,\"error\":\"no such\\u001b[31m\\nprogram\"}");
	assert_int_equal(guest_link_state(f->link), GUEST_ENDING);
	assert_string_equal(guest_link_error(f->link), "no such\\x1b[31m\\x0aprogram");
	assert_int_equal(f->told, 3);
}

static void carries_a_call(void **state)
{
	struct fixture *f = *state;

	hello(f);
	open_call(f);
	assert_int_equal(guest_call_credit(f->call), FRAME_CREDIT_INITIAL);
	assert_int_equal(guest_call_send(f->call, FRAME_CHANNEL_IN, "abc", 3), 0);
	assert_int_equal(guest_call_credit(f->call), FRAME_CREDIT_INITIAL - 3);
	struct frame frame = heard(f, FRAME_STREAM_DATA);
	assert_memory_equal(frame.body, "\0abc", 1);
	free((char *) frame.body);
	say_data(f, 1, FRAME_CHANNEL_OUT, "out", 3);
	say_data(f, 1, FRAME_CHANNEL_ERR, "err", 3);
	assert_string_equal(strbuf_str(&f->out), "out");
	assert_string_equal(strbuf_str(&f->err_out), "err");
	say(f, FRAME_STREAM_CREDIT, 1, "\3");
	assert_int_equal(f->lost, 1); /* a credit has four bytes */
}

static void ends_with_a_code_or_an_error(void **state)
{
	struct fixture *f = *state;

	hello(f);
	open_call(f);
	say(f, FRAME_STREAM_CLOSE, 1, "{\"exit_code\":3}");
	assert_int_equal(f->closed, 1);
	assert_int_equal(f->exit_code, 3);
	assert_int_equal(f->failure.code, 0);
	expect_json(f, FRAME_STREAM_CLOSE, 1, "{}");
	AUTO(json_decref) json_t *arguments = json_pack("{s:s}", "kind", "exec");
	assert_int_equal(guest_call_new(f->link, arguments, &call_ops, f, &f->call, NULL), 0);
	say(f, FRAME_STREAM_CLOSE, 2,
	    "{\"exit_code\":127,\"error\":{\"code\":2,\"message\":\"not \\u0007there\"}}");
	assert_int_equal(f->exit_code, 127);
	assert_int_equal(f->failure.code, -ENOENT);
	assert_string_equal(f->failure.msg, "not \\x07there");
	assert_int_equal(f->lost, 0);
}

static void hostile_numbers_are_none(void **state)
{
	struct fixture *f = *state;

	hello(f);
	open_call(f);
	say(f, FRAME_STREAM_CLOSE, 1, "{\"error\":{\"code\":-5,\"message\":3}}");
	assert_int_equal(f->failure.code, -EIO);
	assert_string_equal(f->failure.msg, "it says no more");
	AUTO(json_decref) json_t *arguments = json_object();
	assert_int_equal(guest_call_new(f->link, arguments, &call_ops, f, &f->call, NULL), 0);
	say(f, FRAME_STREAM_CLOSE, 2, "{\"exit_code\":256}");
	expect_lost(f, "exit code");
	assert_int_equal(f->closed, 2);
	assert_int_equal(f->exit_code, -1);
}

static void a_call_of_ours_ends_with_two_closes(void **state)
{
	struct fixture *f = *state;

	hello(f);
	open_call(f);
	guest_call_free(f->call);
	f->call = NULL;
	free((char *) heard(f, FRAME_STREAM_CLOSE).body);
	/* What was on its way costs nobody anything. */
	say_data(f, 1, FRAME_CHANNEL_OUT, "late", 4);
	assert_int_equal(f->out.size, 0);
	free((char *) heard(f, FRAME_STREAM_CREDIT).body);
	say(f, FRAME_STREAM_CLOSE, 1, "{}");
	assert_int_equal(f->closed, 0);
	assert_int_equal(f->lost, 0);
	say_data(f, 1, FRAME_CHANNEL_OUT, "later", 5);
	expect_lost(f, "not open");
}

static void more_than_its_credit(void **state)
{
	struct fixture *f = *state;
	AUTO(free) char *much = calloc(1, FRAME_CREDIT_INITIAL);

	hello(f);
	open_call(f);
	say_data(f, 1, FRAME_CHANNEL_OUT, much, FRAME_CREDIT_INITIAL);
	assert_int_equal(f->lost, 0);
	guest_call_grant(f->call, 10);
	say_data(f, 1, FRAME_CHANNEL_ERR, much, 10);
	assert_int_equal(f->lost, 0);
	say_data(f, 1, FRAME_CHANNEL_OUT, much, 1);
	expect_lost(f, "more than it may");
	assert_int_equal(f->closed, 1);
}

static void more_credit_than_was_used(void **state)
{
	struct fixture *f = *state;
	AUTO(strbuf_done) struct strbuf frame = {};

	hello(f);
	open_call(f);
	assert_int_equal(guest_call_send(f->call, FRAME_CHANNEL_IN, "abc", 3), 0);
	frame_append_credit(&frame, 1, 3);
	assert_int_equal(write(f->guest_fd, frame.data, frame.size), frame.size);
	run(f);
	assert_int_equal(f->writable, 1);
	assert_int_equal(write(f->guest_fd, frame.data, frame.size), frame.size);
	run(f);
	expect_lost(f, "more credit");
}

static void only_so_many_calls(void **state)
{
	struct fixture *f = *state;
	AUTO(json_decref) json_t *arguments = json_object();
	struct guest_call *call;

	assert_int_equal(guest_call_new(f->link, arguments, &call_ops, f, &call, NULL), -EAGAIN);
	hello(f);
	for (int i = 0; i < GUEST_CALLS_MAX; i++)
		assert_int_equal(guest_call_new(f->link, arguments, &call_ops, f, &call, NULL), 0);
	assert_int_equal(guest_call_new(f->link, arguments, &call_ops, f, &call, NULL), -EBUSY);
	/* One that the guest never closes counts, too. */
	guest_call_free(call);
	assert_int_equal(guest_call_new(f->link, arguments, &call_ops, f, &call, NULL), -EBUSY);
	close(TAKE_FD(f->guest_fd));
	f->guest_fd = -1;
	while (f->lost == 0)
		assert_return_code(sd_event_run(f->event, 1000000), errno);
	assert_int_equal(f->closed, GUEST_CALLS_MAX - 1);
}

static void breaks_the_format(void **state)
{
	static const struct {
		enum frame_type type;
		bool after_hello;
		const char *body, *words;
	} lies[] = {
		{ FRAME_STATUS, false, "{\"state\":\"running\"}", "hello first" },
		{ FRAME_STREAM_DATA, false, "\1x", "hello first" },
		{ FRAME_HELLO, false, "{\"protocol\":2,\"state\":\"running\"}",
		  "another protocol" },
		{ FRAME_HELLO, false, "{\"state\":\"running\"}", "another protocol" },
		{ FRAME_HELLO, false, "{\"protocol\":1,\"state\":\"up\"}", "a state" },
		{ FRAME_HELLO, false, "{\"protocol\":1}", "a state" },
		{ FRAME_HELLO, false, "[1]", "" },
		{ FRAME_HELLO, false, "{", "" },
		{ FRAME_HELLO, true, "{\"protocol\":1,\"state\":\"running\"}", "twice" },
		{ FRAME_STATUS, true, "{\"state\":7}", "a state" },
		{ FRAME_ASSIGN, true, "{}", "not open" },
		{ FRAME_STREAM_OPEN, true, "{}", "not open" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(lies); i++) {
		void *inner;

		setup(&inner);
		struct fixture *f = inner;
		if (lies[i].after_hello)
			hello(f);
		say(f, lies[i].type, 9, lies[i].body);
		expect_lost(f, lies[i].words);
		teardown(&inner);
	}
}

static void breaks_the_format_in_a_call(void **state)
{
	static const struct {
		enum frame_type type;
		const char *body, *words;
	} lies[] = {
		{ FRAME_STREAM_OPEN, "{}", "stream_open" },
		{ FRAME_GOODBYE, "{}", "goodbye" },
		{ FRAME_STREAM_DATA, "\3{}", "channel" },
		{ FRAME_STREAM_DATA, "\7x", "" },
		{ FRAME_STREAM_DATA, "", "" },
		{ FRAME_STREAM_CLOSE, "nothing", "" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(lies); i++) {
		void *inner;

		setup(&inner);
		struct fixture *f = inner;
		hello(f);
		open_call(f);
		say(f, lies[i].type, 1, lies[i].body);
		expect_lost(f, lies[i].words);
		assert_int_equal(f->closed, 1);
		teardown(&inner);
	}
}

static void may_be_freed_inside(void **state)
{
	struct fixture *f = *state;

	hello(f);
	open_call(f);
	f->free_in_end = true;
	AUTO(strbuf_done) struct strbuf frames = {};
	frame_append(&frames, FRAME_STREAM_CLOSE, 1, "{}", 2);
	frame_append(&frames, FRAME_STATUS, 0, "{}", 2);
	assert_int_equal(write(f->guest_fd, frames.data, frames.size), frames.size);
	run(f);
	assert_null(f->link);
	assert_int_equal(f->closed, 1);
	assert_int_equal(f->lost, 0);
}

/* ---- a port: connections follow each other in one stream of bytes ---- */

#define OUR_HELLO "{\"connection\":77,\"protocol\":1}"
#define ANSWER "{\"protocol\":1,\"state\":\"running\",\"connection\":77}"
#define ANEW "{\"protocol\":1,\"state\":\"running\",\"connection\":0}"
#define LATE "{\"protocol\":1,\"state\":\"running\",\"connection\":76}"

static void say_raw(struct fixture *f, const void *bytes, size_t size)
{
	assert_int_equal(write(f->guest_fd, bytes, size), size);
	run(f);
}

static void on_a_port_the_host_says_hello_first(void **state)
{
	struct fixture *f = *state;

	expect_json(f, FRAME_HELLO, NUMBER, OUR_HELLO);
	assert_false(guest_link_ready(f->link));
	say(f, FRAME_HELLO, NUMBER, ANSWER);
	assert_true(guest_link_ready(f->link));
	assert_int_equal(f->told, 1);
	assert_int_equal(f->from_host.size, 0);
}

static void a_guest_of_before_answers_without_a_number(void **state)
{
	struct fixture *f = *state;

	expect_json(f, FRAME_HELLO, NUMBER, OUR_HELLO);
	say(f, FRAME_HELLO, 0, "{\"protocol\":1,\"state\":\"running\"}");
	assert_true(guest_link_ready(f->link));
	assert_int_equal(f->from_host.size, 0);
	say(f, FRAME_HELLO, 0, "{\"protocol\":1,\"state\":\"running\"}");
	expect_lost(f, "twice");
}

static void what_is_left_of_an_earlier_connection_is_nothing(void **state)
{
	struct fixture *f = *state;
	AUTO(strbuf_done) struct strbuf bytes = {};
	char garbage[1000];

	expect_json(f, FRAME_HELLO, NUMBER, OUR_HELLO);
	/* A late answer, frames of its streams, the middle of one. */
	say(f, FRAME_HELLO, 76, LATE);
	say_data(f, 5, FRAME_CHANNEL_OUT, "old", 3);
	say(f, FRAME_STREAM_CLOSE, 5, "{}");
	say(f, FRAME_STATUS, 0, "{\"state\":\"running\"}");
	memset(garbage, 'y', sizeof(garbage));
	say_raw(f, garbage, sizeof(garbage));
	say_raw(f, garbage, 7);
	assert_int_equal(f->told + f->lost, 0);
	/* And one that is cut off by the answer, in whatever pieces it comes. */
	frame_append_data(&bytes, 5, FRAME_CHANNEL_OUT, garbage, sizeof(garbage));
	bytes.size -= 100;
	frame_append(&bytes, FRAME_HELLO, NUMBER, ANSWER, strlen(ANSWER));
	for (size_t i = 0; i < bytes.size; i++)
		say_raw(f, bytes.data + i, 1);
	assert_int_equal(f->lost, 0);
	assert_true(guest_link_ready(f->link));
	open_call(f);
	say(f, FRAME_STREAM_CLOSE, 1, "{\"exit_code\":3}");
	assert_int_equal(f->exit_code, 3);
	/* From now on what is said counts. */
	say(f, FRAME_HELLO, 76, LATE);
	assert_int_equal(f->lost, 0);
	say(f, FRAME_HELLO, NUMBER, ANSWER);
	expect_lost(f, "twice");
}

static void a_guest_that_lost_the_framing_hears_hello_again(void **state)
{
	struct fixture *f = *state;

	expect_json(f, FRAME_HELLO, NUMBER, OUR_HELLO);
	say(f, FRAME_HELLO, 0, ANEW);
	expect_json(f, FRAME_HELLO, NUMBER, OUR_HELLO);
	say(f, FRAME_HELLO, NUMBER, ANSWER);
	assert_true(guest_link_ready(f->link));
	/* When it loses what was begun, that is the end, but no breach. */
	say(f, FRAME_HELLO, 0, ANEW);
	assert_int_equal(f->lost, 1);
	assert_false(f->broken);
	assert_string_equal(f->why.msg, "the guest has lost the connection");
}

static void but_not_for_ever(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; f->link && i < 1000; i++)
		say(f, FRAME_HELLO, 0, ANEW);
	expect_lost(f, "again and again");
}

static void one_that_does_not_answer_is_given_up(void **state)
{
	struct fixture *f = *state;

	guest_link_give_up(f->link);
	assert_int_equal(f->lost, 1);
	assert_false(f->broken);
	assert_string_equal(f->why.msg, "the guest does not answer");
}

static void one_that_says_something_else_breaks_the_format(void **state)
{
	struct fixture *f = *state;
	void *other;

	say(f, FRAME_STATUS, 0, "{\"state\":\"running\"}");
	guest_link_give_up(f->link);
	expect_lost(f, "does not say hello first");
	setup_port(&other);
	f = other;
	say_raw(f, "\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377", 16);
	guest_link_give_up(f->link);
	expect_lost(f, "is not known");
	teardown(&other);
}

static void lies_on_a_port(void **state)
{
	static const struct {
		const char *body, *words;
	} lies[] = {
		{ "{\"protocol\":2,\"state\":\"running\",\"connection\":77}", "another protocol" },
		{ "{\"protocol\":1,\"state\":\"up\",\"connection\":77}", "a state" },
		{ "{\"connection\":77,\"protocol\":1}", "a state" },
		{ "{\"protocol\":1,\"state\":\"running\",", "" },
		{ "[77]", "" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(lies); i++) {
		void *inner;

		setup_port(&inner);
		struct fixture *f = inner;
		say(f, FRAME_HELLO, NUMBER, lies[i].body);
		expect_lost(f, lies[i].words);
		teardown(&inner);
	}
}

static void its_end_ends_calls(void **state)
{
	struct fixture *f = *state;

	hello(f);
	open_call(f);
	guest_link_free(f->link);
	f->link = NULL;
	assert_int_equal(f->closed, 1);
	assert_int_equal(f->failure.code, -ECONNRESET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(says_hello_and_states, setup, teardown),
		cmocka_unit_test_setup_teardown(carries_a_call, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_with_a_code_or_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_numbers_are_none, setup, teardown),
		cmocka_unit_test_setup_teardown(a_call_of_ours_ends_with_two_closes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(more_than_its_credit, setup, teardown),
		cmocka_unit_test_setup_teardown(more_credit_than_was_used, setup, teardown),
		cmocka_unit_test_setup_teardown(only_so_many_calls, setup, teardown),
		cmocka_unit_test(breaks_the_format),
		cmocka_unit_test(breaks_the_format_in_a_call),
		cmocka_unit_test_setup_teardown(may_be_freed_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(on_a_port_the_host_says_hello_first, setup_port,
						teardown),
		cmocka_unit_test_setup_teardown(a_guest_of_before_answers_without_a_number,
						setup_port, teardown),
		cmocka_unit_test_setup_teardown(what_is_left_of_an_earlier_connection_is_nothing,
						setup_port, teardown),
		cmocka_unit_test_setup_teardown(a_guest_that_lost_the_framing_hears_hello_again,
						setup_port, teardown),
		cmocka_unit_test_setup_teardown(but_not_for_ever, setup_port, teardown),
		cmocka_unit_test_setup_teardown(one_that_does_not_answer_is_given_up, setup_port,
						teardown),
		cmocka_unit_test_setup_teardown(one_that_says_something_else_breaks_the_format,
						setup_port, teardown),
		cmocka_unit_test(lies_on_a_port),
		cmocka_unit_test_setup_teardown(its_end_ends_calls, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
