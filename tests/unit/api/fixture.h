#pragma once
/*
 * tests/unit/api/fixture.h - the real server on temporary sockets, with a store in memory, and its
 * two neighbours played by the test: HTTP clients and the node's agent.
 *
 * One thread: every wait turns the server's event loop.  alarm() ends a test that hangs.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "control/control.h"
#include "store/sqlite.h"
#include "store/store.h"

struct world {
	char folder[32];
	char *api_path, *agent_path;
	sd_event *event;
	struct store *store;
	struct api *api;
	bool failed;
	int agent; /* the agent's end of the link */
	struct strbuf agent_in;
	size_t agent_used; /* of agent_in: the frame handed out last */
};

static inline int world_listen(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *) &addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 128), 0);
	return fd;
}

static inline int world_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *) &addr, sizeof(addr)), 0);
	return fd;
}

static inline void world_turn(struct world *w)
{
	assert_true(sd_event_run(w->event, 10000) >= 0);
}

static inline void world_on_failed(const struct error *err, void *user)
{
	struct world *w = user;

	(void) err;
	w->failed = true;
}

/* `change` (may be NULL) adjusts the configuration. */
static inline struct world *world_new_with(void (*change)(struct api_config *config))
{
	struct world *w = calloc(1, sizeof(*w));
	struct store_sqlite_config store = { .path = ":memory:", .clock = clock_system() };
	struct control_config control = { .clock = clock_system(),
					  .rng = rng_system(),
					  .node = "local",
					  .default_registry = "registry.test" };
	struct api_config config = { .control = &control,
				     .failed = world_on_failed,
				     .user = w,
				     .tls_fd = -1,
				     .agent_uid = geteuid(),
				     .group = (gid_t) -1,
				     .group_name = "brume" };

	alarm(60);
	w->agent = -1;
	strcpy(w->folder, "/tmp/brume-test-api-XXXXXX");
	assert_non_null(mkdtemp(w->folder));
	w->api_path = mem_printf("%s/brumed.sock", w->folder);
	w->agent_path = mem_printf("%s/agent.sock", w->folder);
	assert_true(sd_event_new(&w->event) >= 0);
	assert_int_equal(store_sqlite_open(w->event, &store, &control.store, NULL), 0);
	w->store = control.store;
	config.unix_fd = world_listen(w->api_path);
	config.agent_fd = world_listen(w->agent_path);
	if (change)
		change(&config);
	struct error err = {};
	if (api_new(w->event, &config, &w->api, &err) < 0)
		fail_msg("%s", err.msg);
	return w;
}

static inline int world_set_up(void **state)
{
	*state = world_new_with(NULL);
	return 0;
}

static inline void world_agent_drop(struct world *w)
{
	fd_close(TAKE_FD(w->agent));
	strbuf_done(&w->agent_in);
	w->agent_used = 0;
}

static inline int world_tear_down(void **state)
{
	struct world *w = *state;

	world_agent_drop(w);
	api_free(w->api);
	store_free(w->store);
	sd_event_unref(w->event);
	file_remove_tree(AT_FDCWD, w->folder);
	free(w->api_path);
	free(w->agent_path);
	assert_false(w->failed);
	free(w);
	alarm(0);
	return 0;
}

/* -- clients --------------------------------------------------------------------------------------
 */

/* Takes what has come; false when the server has closed. */
static inline bool world_receive(struct world *w, int fd, struct strbuf *in)
{
	ssize_t n = recv(fd, strbuf_reserve(in, 65536), 65536, MSG_DONTWAIT);

	if (n > 0)
		strbuf_grown(in, (size_t) n);
	else if (n == 0 || errno != EAGAIN)
		return false;
	else
		world_turn(w);
	return true;
}

static inline void world_send(struct world *w, int fd, const void *data, size_t size)
{
	const char *bytes = data;

	while (size > 0) {
		ssize_t n = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return;
		bytes += n > 0 ? n : 0;
		size -= n > 0 ? (size_t) n : 0;
		world_turn(w);
	}
}

/* One answer: status, head and body as text. */
struct answer {
	int status;
	char *text;       /* everything */
	const char *body; /* in text */
	json_t *json;     /* of the body, or NULL */
};

static inline void answer_done_autop(struct answer *answer)
{
	free(answer->text);
	json_decref(answer->json);
}

/* Reads one answer with a Content-Length, or everything until the end. */
static inline struct answer world_answer(struct world *w, int fd)
{
	AUTO(strbuf_done) struct strbuf in = {};
	struct answer answer = {};
	size_t want = SIZE_MAX;

	while (in.size < want && world_receive(w, fd, &in)) {
		const char *end = strstr(strbuf_str(&in), "\r\n\r\n");
		const char *length = strcasestr(strbuf_str(&in), "\r\nContent-Length: ");

		if (end && length && length < end)
			want = (size_t) (end + 4 - in.data) + strtoul(length + 18, NULL, 10);
		else if (end && strncmp(in.data, "HTTP/1.1 101", 12) == 0)
			want = 0;
		else if (end && strncmp(in.data, "HTTP/1.1 204", 12) == 0)
			want = 0;
	}
	answer.text = strbuf_take(&in);
	sscanf(answer.text, "HTTP/1.1 %d", &answer.status);
	answer.body = strstr(answer.text, "\r\n\r\n");
	answer.body = answer.body ? answer.body + 4 : answer.text + strlen(answer.text);
	json_parse(answer.body, strlen(answer.body), SIZE_MAX, &answer.json, NULL);
	return answer;
}

/* One request on a connection of its own, as it is. */
static inline struct answer world_raw(struct world *w, const char *request, size_t size)
{
	AUTO(fd_close) int fd = world_connect(w->api_path);

	world_send(w, fd, request, size);
	return world_answer(w, fd);
}

static inline struct answer world_request(struct world *w, const char *method, const char *path,
					  const char *body)
{
	AUTO(free)
	char *request = mem_printf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
				   method, path, body ? strlen(body) : 0, body ? body : "");

	return world_raw(w, request, strlen(request));
}

static inline const char *answer_error(const struct answer *answer)
{
	const char *text = json_string_value(json_object_get(answer->json, "error"));

	return text ? text : answer->text;
}

static inline const char *answer_hint(const struct answer *answer)
{
	const char *text = json_string_value(json_object_get(answer->json, "hint"));

	return text ? text : "";
}

/* -- the agent ------------------------------------------------------------------------------------
 */

/* The next frame from brumed; its bytes stay until the one after it is asked for. */
static inline struct frame world_agent_next(struct world *w)
{
	struct frame frame;
	size_t used = 0;

	strbuf_consume(&w->agent_in, w->agent_used);
	w->agent_used = 0;
	while (frame_decode(w->agent_in.data, w->agent_in.size, &frame, &used, NULL) == 0)
		assert_true(world_receive(w, w->agent, &w->agent_in));
	assert_true(used > 0);
	w->agent_used = used;
	return frame;
}

static inline struct frame world_agent_expect(struct world *w, enum frame_type type)
{
	struct frame frame = world_agent_next(w);

	while (frame.type != type)
		frame = world_agent_next(w);
	return frame;
}

static inline void world_agent_send(struct world *w, struct strbuf *out)
{
	world_send(w, w->agent, out->data, out->size);
	strbuf_done(out);
}

static inline void world_agent_send_json(struct world *w, enum frame_type type, uint64_t id,
					 json_t *body)
{
	AUTO(strbuf_done) struct strbuf out = {};

	assert_int_equal(frame_append_json(&out, type, id, body), 0);
	json_decref(body);
	world_agent_send(w, &out);
}

/* Connects and says hello; returns after assigned_all. */
static inline void world_agent_connect(struct world *w)
{
	w->agent = world_connect(w->agent_path);
	world_agent_send_json(w, FRAME_HELLO, 0,
			      json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s}", "node", "local",
					"version", "test", "kernel", "6", "cgroup", "v2", "cpus", 2,
					"memory_bytes", 1024, "boot_id", "b"));
	world_agent_expect(w, FRAME_ASSIGNED_ALL);
}

/* Reports a status for the next assignment of `kind`; ret_uid gets its uid. */
static inline void world_agent_carry_out(struct world *w, const char *kind, const char *state,
					 char ret_uid[UID_SIZE])
{
	AUTO(json_decref) json_t *resource = NULL;
	json_int_t generation;
	json_t *status, *spec;

	for (;;) {
		struct frame frame = world_agent_expect(w, FRAME_ASSIGN);

		json_decref(TAKE_PTR(resource));
		assert_int_equal(frame_json(&frame, &resource, NULL), 0);
		if (strcmp(json_string_value(json_object_get(resource, "kind")), kind) == 0)
			break;
	}
	json_t *meta = json_object_get(resource, "meta");
	spec = json_object_get(resource, "spec");
	snprintf(ret_uid, UID_SIZE, "%s", json_string_value(json_object_get(meta, "uid")));
	generation = json_integer_value(json_object_get(meta, "generation"));
	status = json_pack("{s:I, s:s}", "generation", generation, "state", state);
	if (json_object_get(spec, "start_seq"))
		json_object_set(status, "start_seq", json_object_get(spec, "start_seq"));
	if (json_object_get(spec, "pull_seq"))
		json_object_set(status, "pull_seq", json_object_get(spec, "pull_seq"));
	world_agent_send_json(
		w, FRAME_STATUS, 0,
		json_pack("{s:s, s:s, s:o}", "kind", kind, "uid", ret_uid, "status", status));
}

/* -- WebSockets
 * ------------------------------------------------------------------------------------ */

/* Connects, shakes hands and returns the socket, or -1 with the answer in *ret. */
static inline int world_websocket(struct world *w, const char *path, struct answer *ret)
{
	AUTO(fd_close) int fd = world_connect(w->api_path);
	AUTO(free)
	char *request =
		mem_printf("GET %s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n"
			   "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
			   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
			   path);

	world_send(w, fd, request, strlen(request));
	*ret = world_answer(w, fd);
	return ret->status == 101 ? TAKE_FD(fd) : -1;
}

/* One masked frame; sizes below 65536. */
static inline void world_ws_send(struct world *w, int fd, unsigned int opcode, const void *data,
				 size_t size)
{
	static const unsigned char mask[4] = { 1, 2, 3, 4 };
	AUTO(strbuf_done) struct strbuf out = {};
	unsigned char head[4] = { (unsigned char) (0x80 | opcode),
				  (unsigned char) (0x80 | (size < 126 ? size : 126)),
				  (unsigned char) (size >> 8), (unsigned char) size };

	strbuf_append(&out, head, size < 126 ? 2 : 4);
	strbuf_append(&out, mask, 4);
	for (size_t i = 0; i < size; i++) {
		char byte = (char) (((const unsigned char *) data)[i] ^ mask[i % 4]);

		strbuf_append(&out, &byte, 1);
	}
	world_send(w, fd, out.data, out.size);
}

/*
 * The next frame: its opcode (0 when the server has closed), the payload appended to `ret`.  `in`
 * keeps what was read too far.
 */
static inline unsigned int world_ws_next(struct world *w, int fd, struct strbuf *in,
					 struct strbuf *ret)
{
	for (;;) {
		const unsigned char *p = (const unsigned char *) in->data;
		size_t head = 2, size = in->size >= 2 ? p[1] & 0x7f : 0;

		if (in->size >= 4 && size == 126) {
			head = 4;
			size = (size_t) p[2] << 8 | p[3];
		} else if (in->size >= 10 && size == 127) {
			head = 10;
			size = (size_t) p[6] << 24 | (size_t) p[7] << 16 | (size_t) p[8] << 8 |
			       p[9];
		} else if (size >= 126) {
			head = 10;
		}
		if (in->size >= head && in->size - head >= size) {
			unsigned int opcode = p[0] & 15;

			strbuf_append(ret, p + head, size);
			strbuf_consume(in, head + size);
			return opcode;
		}
		if (!world_receive(w, fd, in))
			return 0;
	}
}
