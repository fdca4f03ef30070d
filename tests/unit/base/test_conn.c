#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/conn.h"
#include "base/strbuf.h"

struct fixture {
	sd_event *event;
	struct conn *conn;
	int peer;
	struct strbuf got;
	size_t take; /* how much of what arrives is consumed at most */
	int read_result;
	bool free_in_read;
	bool closed;
	int reason;
	unsigned int drained;
};

static int on_read(struct conn *conn, struct strbuf *in, void *data)
{
	struct fixture *f = data;
	size_t n = in->size < f->take ? in->size : f->take;

	strbuf_append(&f->got, in->data, n);
	strbuf_consume(in, n);
	if (f->free_in_read) {
		conn_free(conn);
		f->conn = NULL;
	}
	return f->read_result;
}

static void on_drained(struct conn *conn, void *data)
{
	struct fixture *f = data;

	(void) conn;
	f->drained++;
}

static void on_closed(struct conn *conn, int reason, void *data)
{
	struct fixture *f = data;

	(void) conn;
	assert_false(f->closed);
	f->closed = true;
	f->reason = reason;
}

static int set_up(void **state)
{
	static const struct conn_ops ops = { on_read, on_drained, on_closed };
	static const struct conn_limits limits = { 4096, 100000, 1000000 };
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	f->take = SIZE_MAX;
	if (sd_event_new(&f->event) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	f->peer = fds[1];
	*state = f;
	return conn_new(f->event, fds[0], &limits, &ops, f, &f->conn, NULL);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	conn_free(f->conn);
	fd_close(f->peer);
	sd_event_unref(f->event);
	strbuf_done(&f->got);
	free(f);
	return 0;
}

/* Everything that is ready now. */
static void turn(struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

static void delivers_bytes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->peer, "hello ", 6), 6);
	turn(f);
	assert_int_equal(write(f->peer, "world", 5), 5);
	turn(f);
	assert_string_equal(strbuf_str(&f->got), "hello world");
	assert_int_equal(conn_write(f->conn, "answer", 6), 0);
	char text[16] = "";
	assert_int_equal(read(f->peer, text, sizeof(text)), 6);
	assert_string_equal(text, "answer");
}

static void keeps_what_is_not_taken(void **state)
{
	struct fixture *f = *state;

	f->take = 2;
	assert_int_equal(write(f->peer, "abcde", 5), 5);
	turn(f);
	assert_string_equal(strbuf_str(&f->got), "ab");
	assert_int_equal(write(f->peer, "f", 1), 1);
	turn(f);
	assert_string_equal(strbuf_str(&f->got), "abcd");
}

static void refuses_endless_messages(void **state)
{
	struct fixture *f = *state;
	char data[8192] = "";

	f->take = 0;
	assert_int_equal(write(f->peer, data, sizeof(data)), sizeof(data));
	turn(f);
	assert_true(f->closed);
	assert_int_equal(f->reason, -EMSGSIZE);
}

static void reports_the_end(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->peer, "x", 1), 1);
	close(f->peer);
	f->peer = -1;
	turn(f);
	assert_string_equal(strbuf_str(&f->got), "x");
	assert_true(f->closed);
	assert_int_equal(f->reason, 0);
	assert_int_equal(conn_write(f->conn, "y", 1), -EPIPE);
}

static void reader_may_refuse(void **state)
{
	struct fixture *f = *state;

	f->read_result = -EPROTO;
	assert_int_equal(write(f->peer, "x", 1), 1);
	turn(f);
	assert_true(f->closed);
	assert_int_equal(f->reason, -EPROTO);
}

static void may_be_freed_while_reading(void **state)
{
	struct fixture *f = *state;
	char byte;

	f->free_in_read = true;
	assert_int_equal(write(f->peer, "x", 1), 1);
	turn(f);
	assert_null(f->conn);
	assert_false(f->closed);
	assert_int_equal(read(f->peer, &byte, 1), 0);
}

static void holds_back_and_drains(void **state)
{
	struct fixture *f = *state;
	static char chunk[50000];
	size_t sent = 0, got = 0;
	int r;

	memset(chunk, 'c', sizeof(chunk));
	do {
		r = conn_write(f->conn, chunk, sizeof(chunk));
		if (r >= 0)
			sent += sizeof(chunk);
	} while (r == 0);
	assert_int_equal(r, 1);
	while (r >= 0) {
		r = conn_write(f->conn, chunk, sizeof(chunk));
		sent += r >= 0 ? sizeof(chunk) : 0;
	}
	assert_int_equal(r, -ENOBUFS);
	assert_true(conn_queued(f->conn) <= 1000000);
	assert_int_equal(f->drained, 0);
	while (got < sent) {
		static char data[65536];
		ssize_t n = recv(f->peer, data, sizeof(data), MSG_DONTWAIT);

		if (n > 0)
			got += (size_t) n;
		turn(f);
	}
	assert_int_equal(got, sent);
	assert_int_equal(f->drained, 1);
	assert_int_equal(conn_queued(f->conn), 0);
	assert_int_equal(conn_write(f->conn, "x", 1), 0);
}

static void pauses(void **state)
{
	struct fixture *f = *state;

	conn_pause(f->conn, true);
	assert_int_equal(write(f->peer, "x", 1), 1);
	turn(f);
	assert_int_equal(f->got.size, 0);
	conn_pause(f->conn, false);
	turn(f);
	assert_string_equal(strbuf_str(&f->got), "x");
}

static void finishes_after_the_queue(void **state)
{
	struct fixture *f = *state;
	static char chunk[900000];
	size_t got = 0;

	assert_int_equal(conn_write(f->conn, chunk, sizeof(chunk)), 1);
	conn_finish(f->conn);
	assert_int_equal(conn_write(f->conn, "x", 1), -EPIPE);
	while (!f->closed) {
		static char data[65536];
		ssize_t n = recv(f->peer, data, sizeof(data), MSG_DONTWAIT);

		got += n > 0 ? (size_t) n : 0;
		turn(f);
	}
	for (ssize_t n = 1; n > 0; got += n > 0 ? (size_t) n : 0)
		n = recv(f->peer, chunk, sizeof(chunk), MSG_DONTWAIT);
	assert_int_equal(got, sizeof(chunk));
	assert_int_equal(f->reason, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(delivers_bytes),           TEST(keeps_what_is_not_taken),
		TEST(refuses_endless_messages), TEST(reports_the_end),
		TEST(reader_may_refuse),        TEST(may_be_freed_while_reading),
		TEST(holds_back_and_drains),    TEST(pauses),
		TEST(finishes_after_the_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
