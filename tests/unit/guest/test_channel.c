#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "guest/guest_internal.h"
#include "guest/poller.h"

/*
 * The port is one end of a socket pair; whether the guest sees it open is what `open` says, because
 * the kernel tells that by other ways than what comes through it.  The test is all of the hosts,
 * one after the other.
 */
enum { TESTS_MAX = 16, CLOSED_MS = 20, NEVER_MS = 1000 * 1000, SLACK_MS = 50 };

struct fixture {
	struct guest guest;
	int host_fd;
	struct strbuf from_guest;
};

/* Channels live as long as their guest, and that is for ever. */
static struct fixture fixtures[TESTS_MAX];
static size_t fixture_count;
static bool port_is_open;

static bool is_open(int fd)
{
	(void) fd;
	return port_is_open;
}

static int setup_with(void **state, unsigned int closed_ms)
{
	struct fixture *f = &fixtures[fixture_count++];
	int fds[2];

	assert_true(fixture_count <= TESTS_MAX);
	port_is_open = true;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
			 0);
	assert_int_equal(poller_new(&f->guest.poller, NULL), 0);
	f->guest.state = GUEST_RUNNING;
	f->guest.proc_fd = f->guest.upper_fd = -1;
	struct channel_port port = { .fd = fds[0],
				     .is_connected = is_open,
				     .closed_ms = closed_ms };
	assert_int_equal(channel_serve_port(&f->guest, &port), 0);
	f->host_fd = fds[1];
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, CLOSED_MS);
}

static int setup_patient(void **state)
{
	return setup_with(state, NEVER_MS);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->host_fd);
	poller_free(f->guest.poller);
	strbuf_done(&f->from_guest);
	while (waitpid(-1, NULL, 0) > 0)
		;
	return 0;
}

static void stop(void *data)
{
	struct fixture *f = data;

	poller_stop(f->guest.poller);
}

/* The guest's loop, until `ms` have passed; what it has said is taken. */
static void run_for(struct fixture *f, uint64_t ms)
{
	char buffer[65536];
	ssize_t n;

	poller_watch_timer(f->guest.poller, ms, stop, f);
	assert_int_equal(poller_run(f->guest.poller), 0);
	while ((n = recv(f->host_fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
		strbuf_append(&f->from_guest, buffer, (size_t) n);
}

static void run(struct fixture *f)
{
	run_for(f, 0);
}

static void say_raw(struct fixture *f, const void *bytes, size_t size)
{
	assert_int_equal(write(f->host_fd, bytes, size), size);
	run(f);
}

static void say(struct fixture *f, enum frame_type type, uint64_t id, const char *text)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	frame_append(&frame, type, id, text, strlen(text));
	say_raw(f, frame.data, frame.size);
}

/* What the guest has said next, streams' data left out. */
static struct frame heard(struct fixture *f, enum frame_type type)
{
	struct frame frame = {};
	size_t used = 0;

	do {
		strbuf_consume(&f->from_guest, used);
		assert_int_equal(
			frame_decode(f->from_guest.data, f->from_guest.size, &frame, &used, NULL),
			1);
	} while (frame.type == FRAME_STREAM_DATA);
	assert_string_equal(frame_type_name(frame.type), frame_type_name(type));
	return frame;
}

static void forget(struct fixture *f)
{
	strbuf_done(&f->from_guest);
}

/* One hello with that number, and nothing else. */
static void expect_hello(struct fixture *f, int64_t connection)
{
	struct frame frame = heard(f, FRAME_HELLO);
	json_t *body = NULL;
	const json_t *number;

	assert_int_equal(frame_json(&frame, &body, NULL), 0);
	number = json_object_get(body, "connection");
	assert_true(json_is_integer(number));
	assert_int_equal(json_integer_value(number), connection);
	assert_int_equal(frame.id, connection);
	assert_string_equal(json_string_value(json_object_get(body, "state")), "running");
	json_decref(body);
	assert_int_equal(f->from_guest.size, FRAME_HEADER_SIZE + frame.size);
	forget(f);
}

static void expect_silence(struct fixture *f)
{
	assert_int_equal(f->from_guest.size, 0);
}

static void hello(struct fixture *f, int connection)
{
	char text[64];

	snprintf(text, sizeof(text), "{\"protocol\":1,\"connection\":%d}", connection);
	say(f, FRAME_HELLO, (uint64_t) connection, text);
}

static void connect_as(struct fixture *f, int connection)
{
	hello(f, connection);
	expect_hello(f, connection);
}

/* One that stays: nobody reaps its child here. */
static void open_stream(struct fixture *f, uint64_t id)
{
	say(f, FRAME_STREAM_OPEN, id, "{\"kind\":\"stats\",\"once\":true}");
}

/* Only a stream that is there answers to its end; it is gone then. */
static bool has_stream(struct fixture *f, uint64_t id)
{
	struct frame frame;
	bool there = false;
	size_t used;

	forget(f);
	say(f, FRAME_STREAM_CLOSE, id, "{}");
	while (frame_decode(f->from_guest.data, f->from_guest.size, &frame, &used, NULL) == 1) {
		there |= frame.type == FRAME_STREAM_CLOSE && frame.id == id;
		strbuf_consume(&f->from_guest, used);
	}
	return there;
}

/* Something comes, so that the guest looks at the port; it means nothing. */
static void look(struct fixture *f)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	frame_append_credit(&frame, 999, 1);
	say_raw(f, frame.data, frame.size);
}

static void says_nothing_by_itself(void **state)
{
	struct fixture *f = *state;

	run(f);
	expect_silence(f);
	connect_as(f, 5);
	open_stream(f, 1);
	assert_true(has_stream(f, 1));
	assert_false(has_stream(f, 1));
}

static void the_same_number_again_is_no_news(void **state)
{
	struct fixture *f = *state;

	connect_as(f, 5);
	open_stream(f, 1);
	forget(f);
	hello(f, 5);
	hello(f, 5);
	assert_true(has_stream(f, 1));
}

static void another_number_begins_anew(void **state)
{
	struct fixture *f = *state;

	connect_as(f, 5);
	open_stream(f, 1);
	open_stream(f, 2);
	forget(f);
	connect_as(f, 6);
	assert_false(has_stream(f, 1));
	/* Its own streams may have the same numbers. */
	open_stream(f, 2);
	assert_true(has_stream(f, 2));
}

/* The agent was killed and is there again before the guest's kernel has told about it. */
static void close_and_open_are_seen_after_the_hello(void **state)
{
	struct fixture *f = *state;

	connect_as(f, 5);
	open_stream(f, 1);
	forget(f);
	connect_as(f, 6);
	open_stream(f, 1);
	forget(f);
	port_is_open = false;
	look(f);
	open_stream(f, 2);
	port_is_open = true;
	look(f);
	assert_true(has_stream(f, 1));
	assert_true(has_stream(f, 2));
	expect_silence(f);
}

static void close_and_open_are_never_seen(void **state)
{
	struct fixture *f = *state;

	for (int i = 5; i < 50; i++) {
		connect_as(f, i);
		open_stream(f, 1);
		forget(f);
	}
	assert_true(has_stream(f, 1));
}

static void a_close_that_lasts_is_the_end(void **state)
{
	struct fixture *f = *state;

	connect_as(f, 5);
	open_stream(f, 1);
	port_is_open = false;
	look(f);
	run_for(f, CLOSED_MS + SLACK_MS);
	forget(f);
	port_is_open = true;
	connect_as(f, 6);
	assert_false(has_stream(f, 1));
}

static void a_hello_while_it_seems_closed_counts(void **state)
{
	struct fixture *f = *state;

	connect_as(f, 5);
	port_is_open = false;
	look(f);
	/* The port is written to, whatever it seems to be: a kernel takes it when it is open. */
	connect_as(f, 6);
	port_is_open = true;
	open_stream(f, 1);
	run_for(f, CLOSED_MS + SLACK_MS);
	assert_true(has_stream(f, 1));
}

static void half_a_frame_goes_with_its_connection(void **state)
{
	static const char half[] = "\x10\0\0\0\x07\0\0\0\x01\0\0\0\0\0\0\0\0abc";
	struct fixture *f = *state;

	connect_as(f, 5);
	say_raw(f, half, sizeof(half) - 2);
	port_is_open = false;
	say_raw(f, half + sizeof(half) - 2, 1);
	run_for(f, CLOSED_MS + SLACK_MS);
	port_is_open = true;
	connect_as(f, 6);
	open_stream(f, 1);
	assert_true(has_stream(f, 1));
}

/* What the host then does: it comes again, later than that. */
static void half_a_frame_swallows_a_hello(void **state)
{
	static const char half[] = "\xff\0\0\0\x07\0\0\0\x01\0\0\0\0\0\0\0\0abc";
	struct fixture *f = *state;

	connect_as(f, 5);
	say_raw(f, half, sizeof(half) - 1);
	hello(f, 6);
	expect_silence(f);
	port_is_open = false;
	look(f);
	run_for(f, CLOSED_MS + SLACK_MS);
	port_is_open = true;
	connect_as(f, 7);
	expect_silence(f);
}

static void garbage_is_answered_with_a_hello_of_no_connection(void **state)
{
	static const char garbage[] = "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy";
	struct fixture *f = *state;

	say_raw(f, garbage, sizeof(garbage) - 1);
	expect_hello(f, 0);
	connect_as(f, 5);
	open_stream(f, 1);
	forget(f);
	say_raw(f, garbage, sizeof(garbage) - 1);
	expect_hello(f, 0);
	/* The number is news again. */
	connect_as(f, 5);
	assert_false(has_stream(f, 1));
}

static void frames_before_a_hello_are_none(void **state)
{
	struct fixture *f = *state;

	open_stream(f, 1);
	expect_hello(f, 0);
	connect_as(f, 5);
	assert_false(has_stream(f, 1));
}

/* A hello without a number always begins anew. */
static void a_host_without_numbers(void **state)
{
	struct fixture *f = *state;

	say(f, FRAME_HELLO, 0, "{\"protocol\":1}");
	expect_hello(f, 0);
	open_stream(f, 1);
	forget(f);
	say(f, FRAME_HELLO, 0, "{\"protocol\":1}");
	expect_hello(f, 0);
	assert_false(has_stream(f, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(says_nothing_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(the_same_number_again_is_no_news, setup, teardown),
		cmocka_unit_test_setup_teardown(another_number_begins_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(close_and_open_are_seen_after_the_hello,
						setup_patient, teardown),
		cmocka_unit_test_setup_teardown(close_and_open_are_never_seen, setup_patient,
						teardown),
		cmocka_unit_test_setup_teardown(a_close_that_lasts_is_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hello_while_it_seems_closed_counts, setup,
						teardown),
		cmocka_unit_test_setup_teardown(half_a_frame_goes_with_its_connection, setup,
						teardown),
		cmocka_unit_test_setup_teardown(half_a_frame_swallows_a_hello, setup, teardown),
		cmocka_unit_test_setup_teardown(garbage_is_answered_with_a_hello_of_no_connection,
						setup, teardown),
		cmocka_unit_test_setup_teardown(frames_before_a_hello_are_none, setup, teardown),
		cmocka_unit_test_setup_teardown(a_host_without_numbers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
