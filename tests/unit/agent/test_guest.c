#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/guest.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "kern/sock.h"

/* A machine whose monitor and guest are the test: their sockets in a run folder, on one loop. */
struct fixture {
	sd_event *event;
	struct pool *pool;
	struct guest *guest;
	char dir[64];
	int control_fd, guest_fd;
	sd_event_source *control, *channel;
	int call_fd; /* the call that is being answered */
	int fd;      /* the connection to the guest; -1: none */
	struct strbuf from_host;
	unsigned int connections;
	unsigned int told;
	/* The request. */
	struct guest_request *request;
	unsigned int closed;
	int64_t exit_code;
	struct error failure;
};

static void on_told(void *data)
{
	struct fixture *f = data;

	f->told++;
}

static void on_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct fixture *f = data;

	(void) channel;
	(void) bytes;
	guest_request_grant(f->request, size);
}

static void on_closed(void *data, int64_t exit_code, const struct error *err)
{
	struct fixture *f = data;

	f->request = NULL;
	f->closed++;
	f->exit_code = exit_code;
	f->failure = err ? *err : (struct error){};
}

/* "info": somebody in the guest listens. */
static int on_control(sd_event_source *source, int fd, uint32_t events, void *data)
{
	static const char body[] = "{\"result\":{\"guest_open\":true}}";
	AUTO(strbuf_done) struct strbuf answer = {};
	struct fixture *f = data;
	int call = sock_accept(fd);

	(void) source;
	(void) events;
	assert_true(call >= 0);
	frame_append(&answer, FRAME_RETURN, 1, body, sizeof(body) - 1);
	assert_int_equal(write(call, answer.data, answer.size), answer.size);
	/* What it asks is known; closing at once would lose the answer to who still writes. */
	shutdown(call, SHUT_WR);
	fd_close(f->call_fd);
	f->call_fd = call;
	return 0;
}

static int on_channel(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct fixture *f = data;

	(void) source;
	(void) events;
	assert_int_equal(f->fd, -1);
	f->fd = sock_accept(fd);
	assert_true(f->fd >= 0);
	f->connections++;
	return 0;
}

static int listen_in(struct fixture *f, const char *name, sd_event_io_handler_t handler,
		     sd_event_source **ret)
{
	AUTO(free) char *path = mem_printf("%s/%s", f->dir, name);
	int fd = sock_listen(path, SOCK_STREAM, 0600);

	assert_true(fd >= 0);
	assert_return_code(sd_event_add_io(f->event, ret, fd, EPOLLIN, handler, f), errno);
	return fd;
}

static int setup(void **state)
{
	static const struct guest_ops ops = { on_told };
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/brume-test-guest-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->fd = f->call_fd = -1;
	assert_return_code(sd_event_new(&f->event), errno);
	assert_int_equal(pool_new(f->event, 2, &f->pool, NULL), 0);
	f->control_fd = listen_in(f, "control.sock", on_control, &f->control);
	f->guest_fd = listen_in(f, "guest.sock", on_channel, &f->channel);
	f->guest = guest_new(f->event, f->pool, MACHINE_QEMU, f->dir, true, &ops, f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	AUTO(free) char *control = mem_printf("%s/control.sock", f->dir);
	AUTO(free) char *channel = mem_printf("%s/guest.sock", f->dir);

	guest_free(f->guest);
	pool_free(f->pool);
	sd_event_source_disable_unref(f->control);
	sd_event_source_disable_unref(f->channel);
	fd_close(f->control_fd);
	fd_close(f->guest_fd);
	fd_close(f->call_fd);
	fd_close(f->fd);
	sd_event_unref(f->event);
	strbuf_done(&f->from_host);
	unlink(control);
	unlink(channel);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void wait_connection(struct fixture *f)
{
	while (f->fd < 0)
		assert_return_code(sd_event_run(f->event, UINT64_MAX), errno);
}

static void hang_up(struct fixture *f)
{
	fd_close(f->fd);
	f->fd = -1;
	strbuf_done(&f->from_host);
}

/* The next frame of the host, which stays in from_host until the next one. */
static struct frame next_frame(struct fixture *f, size_t *used)
{
	struct frame frame;

	strbuf_consume(&f->from_host, *used);
	while (frame_decode(f->from_host.data, f->from_host.size, &frame, used, NULL) != 1) {
		ssize_t n = recv(f->fd, strbuf_reserve(&f->from_host, 4096), 4096, MSG_DONTWAIT);

		if (n > 0)
			strbuf_grown(&f->from_host, (size_t) n);
		else
			assert_return_code(sd_event_run(f->event, 10000), errno);
	}
	return frame;
}

static void say(struct fixture *f, enum frame_type type, uint64_t id, const char *text)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	frame_append(&frame, type, id, text, strlen(text));
	assert_int_equal(write(f->fd, frame.data, frame.size), frame.size);
}

/* The guest's answer to the hello of the connection that there is; its number. */
static uint64_t answer_hello(struct fixture *f)
{
	char text[100];
	size_t used = 0;
	struct frame frame = next_frame(f, &used);
	uint64_t number = frame.id;

	assert_string_equal(frame_type_name(frame.type), "hello");
	assert_true(number > 0 && number < 1ull << 53);
	snprintf(text, sizeof(text), "{\"connection\":%llu,\"protocol\":1}",
		 (unsigned long long) number);
	assert_int_equal(frame.size, strlen(text));
	assert_memory_equal(frame.body, text, frame.size);
	strbuf_consume(&f->from_host, used);
	snprintf(text, sizeof(text), "{\"protocol\":1,\"state\":\"running\",\"connection\":%llu}",
		 (unsigned long long) number);
	say(f, FRAME_HELLO, number, text);
	return number;
}

static void ask(struct fixture *f)
{
	static const struct guest_call_ops ops = { on_received, NULL, on_closed };
	AUTO(json_decref) json_t *arguments = json_pack("{s:s}", "kind", "exec");

	f->request = guest_request_new(f->guest, arguments, &ops, f);
}

/* The request comes, and is answered. */
static void serve(struct fixture *f)
{
	size_t used = 0;
	struct frame frame = next_frame(f, &used);

	assert_string_equal(frame_type_name(frame.type), "stream_open");
	say(f, FRAME_STREAM_CLOSE, frame.id, "{\"exit_code\":7}");
	while (f->closed == 0)
		assert_return_code(sd_event_run(f->event, UINT64_MAX), errno);
	assert_int_equal(f->failure.code, 0);
	assert_int_equal(f->exit_code, 7);
}

static void a_request_waits_for_the_connection(void **state)
{
	struct fixture *f = *state;

	ask(f);
	wait_connection(f);
	answer_hello(f);
	serve(f);
	assert_true(guest_is_up(f->guest));
	assert_null(guest_breach(f->guest));
}

static void a_request_waits_while_the_connection_is_made_again(void **state)
{
	struct fixture *f = *state;
	uint64_t first;

	wait_connection(f);
	first = answer_hello(f);
	while (f->told == 0)
		assert_return_code(sd_event_run(f->event, UINT64_MAX), errno);
	hang_up(f);
	while (f->told == 1)
		assert_return_code(sd_event_run(f->event, UINT64_MAX), errno);
	ask(f);
	wait_connection(f);
	/* What is left of the first one is nothing. */
	say(f, FRAME_STREAM_DATA, 9, "\1old");
	say(f, FRAME_HELLO, first, "{\"protocol\":1,\"state\":\"running\",\"connection\":1}");
	assert_true(answer_hello(f) != first);
	serve(f);
	assert_int_equal(f->connections, 2);
	assert_null(guest_breach(f->guest));
}

/* Half a frame has swallowed the hello: it is said again, on a new connection. */
static void a_hello_without_an_answer_is_said_again(void **state)
{
	struct fixture *f = *state;
	size_t used = 0;

	ask(f);
	wait_connection(f);
	(void) next_frame(f, &used);
	while (f->told == 0)
		assert_return_code(sd_event_run(f->event, UINT64_MAX), errno);
	hang_up(f);
	wait_connection(f);
	answer_hello(f);
	serve(f);
	assert_null(guest_breach(f->guest));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_request_waits_for_the_connection, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_request_waits_while_the_connection_is_made_again,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_hello_without_an_answer_is_said_again, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
