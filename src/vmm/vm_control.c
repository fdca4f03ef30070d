#include "vmm/vm_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "vmm/loop.h"
#include "vmm/vm.h"

enum {
	CONNECTIONS_MAX = 32,
	CALL_BYTES_MAX = 64 * 1024,
	OUT_BYTES_MAX = 1024 * 1024, /* who does not read its answers is not asked any more */
	READ_BYTES = 16 * 1024,
	SOCKET_MODE = 0600,
};

struct connection {
	struct vm_control *control;
	struct connection *next;
	struct loop_source *source;
	int fd;
	struct strbuf in, out;
};

struct vm_control {
	struct loop *loop;
	struct vm *vm;
	int fd;
	struct loop_source *source;
	struct connection *connections;
	unsigned int count;
};

/* ---- calls ---- */

typedef int (*action_fn)(struct vm *vm, struct error *err);

static int quit(struct vm *vm, struct error *err)
{
	(void) err;
	vm_quit(vm);
	return 0;
}

static json_t *error_answer(const char *words)
{
	return json_pack("{s:s}", "error", words);
}

static json_t *do_action(struct vm *vm, const char *method)
{
	static const struct {
		const char *name;
		action_fn fn;
	} actions[] = {
		{ "pause", vm_pause }, { "resume", vm_resume }, { "power_button", vm_power_button },
		{ "reset", vm_reset }, { "quit", quit },
	};
	struct error err = {};

	for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
		if (strcmp(actions[i].name, method) != 0)
			continue;
		if (actions[i].fn(vm, &err) < 0)
			return error_answer(err.msg);
		return json_pack("{s:{}}", "result");
	}
	return error_answer("unknown method; there are balloon, info, metrics, pause, "
			    "power_button, quit, reset and resume");
}

static json_t *do_balloon(struct vm *vm, const json_t *arguments)
{
	uint64_t target_bytes = UINT64_MAX;
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "arguments" };
	json_t *result = NULL;

	json_read_uint64(&in, arguments, "target_bytes", &target_bytes);
	if (json_reader_finish(&in, arguments) < 0)
		return error_answer(err.msg);
	if (vm_balloon(vm, target_bytes == UINT64_MAX ? NULL : &target_bytes, &result, &err) < 0)
		return error_answer(err.msg);
	return json_pack("{s:o}", "result", result);
}

json_t *vm_control_answer(struct vm *vm, const json_t *call)
{
	AUTO(free) char *method = NULL;
	AUTO(json_decref) json_t *none = json_object();
	json_t *arguments = none;
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "" };

	json_read_string(&in, call, "method", &method);
	json_read_object(&in, call, "arguments", &arguments);
	if (json_reader_finish(&in, call) < 0)
		return error_answer(err.msg);
	if (!method)
		return error_answer("\"method\" is missing");
	if (strcmp(method, "balloon") == 0)
		return do_balloon(vm, arguments);
	if (json_object_size(arguments) > 0)
		return error_answer("this method has no arguments");
	if (strcmp(method, "info") == 0)
		return json_pack("{s:o}", "result", vm_info(vm));
	if (strcmp(method, "metrics") == 0)
		return json_pack("{s:o}", "result", vm_metrics(vm));
	return do_action(vm, method);
}

/* ---- connections ---- */

static void connection_end(struct connection *connection)
{
	struct vm_control *control = connection->control;
	struct connection **at = &control->connections;

	while (*at != connection)
		at = &(*at)->next;
	*at = connection->next;
	control->count--;
	loop_source_free(connection->source);
	fd_close(connection->fd);
	strbuf_done(&connection->in);
	strbuf_done(&connection->out);
	free(connection);
}

static int on_frame(const struct frame *frame, void *data, struct error *err)
{
	struct connection *connection = data;
	AUTO(json_decref) json_t *call = NULL;
	AUTO(json_decref) json_t *answer = NULL;
	int r;

	if (frame->type != FRAME_CALL)
		return error_say(err, -EPROTO, "only calls are understood here");
	r = frame_json(frame, &call, err);
	if (r < 0)
		return r;
	answer = vm_control_answer(connection->control->vm, call);
	r = frame_append_json(&connection->out, FRAME_RETURN, frame->id, answer);
	if (r == 0 && connection->out.size > OUT_BYTES_MAX)
		r = -ENOBUFS;
	return r;
}

/* 0, or the connection cannot go on. */
static int flush(struct connection *connection)
{
	while (connection->out.size > 0) {
		ssize_t n = send(connection->fd, connection->out.data, connection->out.size,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n < 0)
			break;
		strbuf_consume(&connection->out, (size_t) n);
	}
	return loop_source_set_events(connection->source,
				      connection->out.size > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static int receive(struct connection *connection)
{
	ssize_t n = recv(connection->fd, strbuf_reserve(&connection->in, READ_BYTES), READ_BYTES,
			 MSG_DONTWAIT);
	struct error err = {};

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	strbuf_grown(&connection->in, (size_t) n);
	int r = frame_read_all(&connection->in, on_frame, connection, &err);
	if (r == 0 && connection->in.size > CALL_BYTES_MAX)
		r = -EMSGSIZE;
	return r;
}

static void on_connection(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct connection *connection = data;
	int r = 0;

	(void) source, (void) fd;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		r = receive(connection);
	if (r == 0)
		r = flush(connection);
	if (r < 0)
		connection_end(connection);
}

static void on_listener(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct vm_control *control = data;
	AUTO(fd_close) int peer = sock_accept(fd);
	struct connection *connection;

	(void) source, (void) events;
	if (peer < 0 || control->count >= CONNECTIONS_MAX)
		return;
	connection = mem_new0(struct connection);
	connection->control = control;
	connection->fd = TAKE_FD(peer);
	connection->next = control->connections;
	control->connections = connection;
	control->count++;
	if (loop_add_fd(control->loop, connection->fd, EPOLLIN, on_connection, connection,
			&connection->source) < 0)
		connection_end(connection);
}

int vm_control_new(const char *path, int fd, struct loop *loop, struct vm *vm,
		   struct vm_control **ret, struct error *err)
{
	AUTO(vm_control_free) struct vm_control *control = mem_new0(struct vm_control);
	int r;

	control->loop = loop;
	control->vm = vm;
	control->fd = -1;
	if (fd < 0) {
		fd = control->fd = sock_listen(path, SOCK_STREAM, SOCKET_MODE);
		if (fd < 0)
			return error_set(err, fd, "control socket %s", path);
	}
	r = loop_add_fd(loop, fd, EPOLLIN, on_listener, control, &control->source);
	if (r < 0)
		return error_set(err, r, "control socket");
	*ret = TAKE_PTR(control);
	return 0;
}

void vm_control_free(struct vm_control *control)
{
	if (!control)
		return;
	while (control->connections) {
		/* The answer to `quit` may still be on its way. */
		flush(control->connections);
		connection_end(control->connections);
	}
	loop_source_free(control->source);
	fd_close(control->fd);
	free(control);
}
