/* Exec, logs, export and import through the agent link; its protocol, and what happens when it
 * breaks. */
#include "fixture.h"

/* Launches "web" (its image is ready at once) and lets it run; ret_uid gets its uid. */
static void launch(struct world *w, char ret_uid[UID_SIZE])
{
	char uid[UID_SIZE];
	AUTO(answer_done)
	struct answer answer =
		world_request(w, "POST", "/1.0/instances", "{\"name\":\"web\",\"image\":\"web\"}");

	assert_int_equal(answer.status, 202);
	world_agent_carry_out(w, "image", "ready", uid);
	world_agent_carry_out(w, "instance", "running", ret_uid);
	AUTO(answer_done)
	struct answer ended = world_request(
		w, "GET", json_string_value(json_object_get(answer.json, "operation")), NULL);
	assert_int_equal(ended.status, 200);
}

static json_t *json_of(const struct frame *frame)
{
	json_t *body = NULL;

	assert_int_equal(frame_json(frame, &body, NULL), 0);
	return body;
}

static void assert_data(const struct frame *frame, uint64_t id, enum frame_channel want,
			const char *text)
{
	enum frame_channel channel;
	const char *data;
	size_t size;

	assert_int_equal(frame->type, FRAME_STREAM_DATA);
	assert_true(frame->id == id);
	assert_int_equal(frame_data(frame, &channel, &data, &size, NULL), 0);
	assert_int_equal(channel, want);
	assert_int_equal(size, strlen(text));
	assert_memory_equal(data, text, size);
}

static void agent_says(struct world *w, uint64_t id, enum frame_channel channel, const char *text)
{
	AUTO(strbuf_done) struct strbuf out = {};

	frame_append_data(&out, id, channel, text, strlen(text));
	world_agent_send(w, &out);
}

/* Opens an exec session up to the agent's stream_open. */
static int open_exec(struct world *w, const char *uid, uint64_t *ret_id)
{
	struct answer answer;
	int fd = world_websocket(w, "/1.0/instances/web/exec", &answer);
	const char *arguments =
		"{\"command\":[\"sh\",\"-i\"],\"tty\":true,\"width\":80,\"height\":25}";

	answer_done_autop(&answer);
	assert_true(fd >= 0);
	world_ws_send(w, fd, 1, arguments, strlen(arguments));
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	AUTO(json_decref) json_t *open = json_of(&frame);
	assert_string_equal(json_string_value(json_object_get(open, "kind")), "exec");
	assert_string_equal(json_string_value(json_object_get(open, "uid")), uid);
	assert_true(json_is_true(json_object_get(open, "tty")));
	assert_int_equal(json_array_size(json_object_get(open, "command")), 2);
	*ret_id = frame.id;
	return fd;
}

static void exec_carries_everything(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf got = {};
	char uid[UID_SIZE];
	uint64_t id;

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close) int fd = open_exec(w, uid, &id);
	world_ws_send(w, fd, 2, "\0ls\n", 4);
	struct frame frame = world_agent_next(w);
	assert_data(&frame, id, FRAME_CHANNEL_IN, "ls\n");
	world_ws_send(w, fd, 1, "{\"resize\":{\"width\":100,\"height\":30}}", 36);
	frame = world_agent_next(w);
	assert_data(&frame, id, FRAME_CHANNEL_CONTROL,
		    "{\"resize\":{\"height\":30,\"width\":100}}");
	world_ws_send(w, fd, 1, "{\"eof\":true}", 12);
	frame = world_agent_next(w);
	assert_data(&frame, id, FRAME_CHANNEL_CONTROL, "{\"eof\":true}");

	agent_says(w, id, FRAME_CHANNEL_OUT, "file\n");
	assert_int_equal(world_ws_next(w, fd, &in, &got), 2);
	assert_int_equal(got.size, 6);
	assert_memory_equal(got.data, "\1file\n", 6);
	strbuf_done(&got);
	world_agent_send_json(w, FRAME_STREAM_CLOSE, id, json_pack("{s:i}", "exit_code", 3));
	assert_int_equal(world_ws_next(w, fd, &in, &got), 1);
	assert_string_equal(strbuf_str(&got), "{\"exit_code\":3}");
	strbuf_done(&got);
	assert_int_equal(world_ws_next(w, fd, &in, &got), 8);
	frame = world_agent_next(w);
	assert_int_equal(frame.type, FRAME_STREAM_CLOSE);
	assert_true(frame.id == id);
}

static void exec_refuses_bad_arguments(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"command\":[]}",
		"{\"command\":\"sh\"}",
		"{\"command\":[\"sh\"],\"surprise\":1}",
		"{\"command\":[\"sh\"],\"width\":70000}",
		"{\"command\":[\"sh\"],\"env\":{\"A\":1}}",
		"not json",
	};
	struct world *w = *state;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, uid);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(strbuf_done) struct strbuf in = {};
		AUTO(strbuf_done) struct strbuf got = {};
		AUTO(answer_done) struct answer answer = {};
		AUTO(fd_close) int fd = world_websocket(w, "/1.0/instances/web/exec", &answer);

		world_ws_send(w, fd, 1, bad[i], strlen(bad[i]));
		assert_int_equal(world_ws_next(w, fd, &in, &got), 1);
		assert_memory_equal(got.data, "{\"error\":{\"code\":22", 19);
		strbuf_done(&got);
		assert_int_equal(world_ws_next(w, fd, &in, &got), 8);
	}
}

static void exec_needs_a_running_instance(void **state)
{
	struct world *w = *state;
	AUTO(answer_done) struct answer none = {};
	AUTO(answer_done) struct answer plain = {};
	char uid[UID_SIZE];

	world_agent_connect(w);
	assert_int_equal(world_websocket(w, "/1.0/instances/web/exec", &none), -1);
	assert_int_equal(none.status, 404);
	launch(w, uid);
	plain = world_request(w, "GET", "/1.0/instances/web/exec", NULL);
	assert_int_equal(plain.status, 426);
	world_agent_send_json(w, FRAME_STATUS, 0,
			      json_pack("{s:s, s:s, s:{s:i, s:s, s:i}}", "kind", "instance", "uid",
					uid, "status", "generation", 1, "state", "stopped",
					"start_seq", 1));
	for (int tries = 0; tries < 100; tries++) {
		AUTO(answer_done) struct answer stopped = {};
		AUTO(fd_close) int fd = world_websocket(w, "/1.0/instances/web/exec", &stopped);

		if (fd >= 0)
			continue;
		assert_int_equal(stopped.status, 409);
		assert_string_equal(answer_error(&stopped), "instance web: is not running");
		return;
	}
	fail_msg("the stop was not noticed");
}

/* A client that goes away ends the command's stream. */
static void leaving_client_closes_the_stream(void **state)
{
	struct world *w = *state;
	char uid[UID_SIZE];
	uint64_t id;

	world_agent_connect(w);
	launch(w, uid);
	int fd = open_exec(w, uid, &id);
	close(fd);
	struct frame frame = world_agent_next(w);
	assert_int_equal(frame.type, FRAME_STREAM_CLOSE);
	assert_true(frame.id == id);
	/* What was on its way for the ended stream is dropped. */
	agent_says(w, id, FRAME_CHANNEL_OUT, "late");
	world_agent_send_json(w, FRAME_STREAM_CLOSE, id, json_object());
	AUTO(answer_done) struct answer answer = world_request(w, "GET", "/1.0", NULL);
	assert_int_equal(answer.status, 200);
}

/* Input beyond the window waits until the agent gives credit, and keeps its order. */
static void input_waits_for_credit(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf out = {};
	static char chunk[50001];
	size_t got = 0;
	char uid[UID_SIZE];
	uint64_t id;

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close) int fd = open_exec(w, uid, &id);
	for (int i = 0; i < 8; i++) {
		memset(chunk + 1, 'a' + i, sizeof(chunk) - 1);
		world_ws_send(w, fd, 2, chunk, sizeof(chunk));
	}
	world_ws_send(w, fd, 1, "{\"eof\":true}", 12);
	while (got < FRAME_CREDIT_INITIAL) {
		struct frame frame = world_agent_next(w);

		assert_int_equal(frame.type, FRAME_STREAM_DATA);
		assert_int_equal(frame.body[frame.size - 1],
				 'a' + (int) ((got + frame.size - 2) / 50000));
		got += frame.size - 1;
	}
	assert_int_equal(got, FRAME_CREDIT_INITIAL);
	/* Nothing more comes without credit; the next thing heard is the answer to a question. */
	AUTO(answer_done) struct answer answer = world_request(w, "GET", "/1.0", NULL);
	strbuf_consume(&w->agent_in, TAKE_(w->agent_used, 0));
	char byte;
	assert_int_equal(recv(w->agent, &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);

	frame_append_credit(&out, id, 1000000);
	world_agent_send(w, &out);
	while (got < 400000) {
		struct frame frame = world_agent_next(w);

		got += frame.size - 1;
	}
	struct frame eof = world_agent_next(w);
	assert_data(&eof, id, FRAME_CHANNEL_CONTROL, "{\"eof\":true}");
}

/* A client that does not read stops the agent: credit comes only for what the client took. */
static void output_waits_for_the_client(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf got = {};
	AUTO(strbuf_done) struct strbuf out = {};
	static char chunk[60000];
	uint64_t credit = FRAME_CREDIT_INITIAL, sent = 0;
	char uid[UID_SIZE];
	uint64_t id;

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close) int fd = open_exec(w, uid, &id);
	memset(chunk, 'x', sizeof(chunk));
	/* Send as long as credit comes back within a question and its answer. */
	for (;;) {
		while (credit >= sizeof(chunk)) {
			frame_append_data(&out, id, FRAME_CHANNEL_OUT, chunk, sizeof(chunk));
			world_agent_send(w, &out);
			credit -= sizeof(chunk);
			sent += sizeof(chunk);
		}
		AUTO(answer_done) struct answer answer = world_request(w, "GET", "/1.0", NULL);
		char byte;

		if (recv(w->agent, &byte, 1, MSG_DONTWAIT | MSG_PEEK) <= 0)
			break;
		struct frame frame = world_agent_next(w);
		uint32_t bytes = 0;
		assert_int_equal(frame_credit(&frame, &bytes, NULL), 0);
		credit += bytes;
		assert_true(sent < 4000000);
	}
	while (got.size < sent + sent / sizeof(chunk))
		assert_int_equal(world_ws_next(w, fd, &in, &got), 2);
	struct frame frame = world_agent_expect(w, FRAME_STREAM_CREDIT);
	assert_true(frame.id == id);
}

static void greedy_agent_is_disconnected(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf got = {};
	AUTO(strbuf_done) struct strbuf out = {};
	AUTO(free) char *data = calloc(1, FRAME_CREDIT_INITIAL + 1);
	char uid[UID_SIZE];
	uint64_t id;

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close) int fd = open_exec(w, uid, &id);
	frame_append_data(&out, id, FRAME_CHANNEL_OUT, data, FRAME_CREDIT_INITIAL + 1);
	world_agent_send(w, &out);
	while (world_receive(w, w->agent, &w->agent_in))
		;
	/* The session learns that its other end is gone. */
	assert_int_equal(world_ws_next(w, fd, &in, &got), 1);
	assert_string_equal(strbuf_str(&got),
			    "{\"error\":{\"code\":112,\"message\":\"the agent of the "
			    "node has gone\"}}");
	world_agent_drop(w);
	world_agent_connect(w);
	AUTO(answer_done) struct answer answer = world_request(w, "GET", "/1.0", NULL);
	assert_true(json_is_true(
		json_object_get(json_object_get(answer.json, "metadata"), "agent_connected")));
}

static void wrong_first_words_end_the_link(void **state)
{
	struct world *w = *state;
	static const char http[] = "GET / HTTP/1.1\r\n\r\n";
	AUTO(strbuf_done) struct strbuf out = {};

	w->agent = world_connect(w->agent_path);
	world_send(w, w->agent, http, sizeof(http) - 1);
	while (world_receive(w, w->agent, &w->agent_in))
		;
	world_agent_drop(w);
	w->agent = world_connect(w->agent_path);
	frame_append(&out, FRAME_STATUS, 0, "{}", 2);
	world_agent_send(w, &out);
	while (world_receive(w, w->agent, &w->agent_in))
		;
	world_agent_drop(w);
	/* Not our node. */
	w->agent = world_connect(w->agent_path);
	world_agent_send_json(w, FRAME_HELLO, 0, json_pack("{s:s}", "node", "other"));
	while (world_receive(w, w->agent, &w->agent_in))
		;
}

static void newer_agent_replaces_older(void **state)
{
	struct world *w = *state;

	world_agent_connect(w);
	int old = TAKE_FD(w->agent);
	world_agent_connect(w);
	AUTO(strbuf_done) struct strbuf in = {};
	while (world_receive(w, old, &in))
		;
	close(old);
	AUTO(answer_done) struct answer answer = world_request(w, "GET", "/1.0", NULL);
	assert_true(json_is_true(
		json_object_get(json_object_get(answer.json, "metadata"), "agent_connected")));
}

static void attach_goes_both_ways(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf got = {};
	AUTO(answer_done) struct answer answer = {};
	AUTO(answer_done) struct answer refused = {};
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close)
	int none = world_websocket(w, "/1.0/instances/web/attach?width=70000", &refused);
	assert_non_null(strstr(refused.text, "400"));
	AUTO(fd_close)
	int fd = world_websocket(
		w, "/1.0/instances/web/attach?stdin=1&wait=1&width=80&height=24&tail=3", &answer);
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	AUTO(json_decref) json_t *open = json_of(&frame);
	assert_string_equal(json_string_value(json_object_get(open, "kind")), "attach");
	assert_true(json_is_true(json_object_get(open, "stdin")));
	assert_true(json_is_true(json_object_get(open, "wait")));
	assert_int_equal(json_integer_value(json_object_get(open, "width")), 80);
	assert_int_equal(json_integer_value(json_object_get(open, "tail")), 3);
	world_ws_send(w, fd, 2, "\0typed", 6);
	frame = world_agent_expect(w, FRAME_STREAM_DATA);
	assert_memory_equal(frame.body, "\0typed", 6);
	world_ws_send(w, fd, 1, "{\"detach\":true}", 15);
	frame = world_agent_expect(w, FRAME_STREAM_DATA);
	assert_memory_equal(frame.body, "\3{\"detach\":true}", 16);
	/* What is not known ends the stream, as everywhere. */
	world_ws_send(w, fd, 1, "{\"leave\":true}", 14);
	assert_int_equal(world_ws_next(w, fd, &in, &got), 1);
	assert_non_null(strstr(got.data, "leave"));
}

static void logs_are_one_way(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf got = {};
	AUTO(answer_done) struct answer answer = {};
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close)
	int fd = world_websocket(w,
				 "/1.0/instances/web/logs?follow=1&tail=5&timestamps=0&since_ms=7"
				 "&stderr=0&cursor=c-1-0&cursors=1",
				 &answer);
	assert_non_null(strstr(answer.text, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	AUTO(json_decref) json_t *open = json_of(&frame);
	AUTO(json_decref)
	json_t *want = json_pack("{s:s, s:s, s:b, s:i, s:b, s:b, s:i, s:i, s:b, s:b, s:s}", "kind",
				 "logs", "uid", uid, "follow", 1, "tail", 5, "timestamps", 0,
				 "cursors", 1, "since_ms", 7, "until_ms", 0, "stdout", 1, "stderr",
				 0, "cursor", "c-1-0");
	assert_true(json_equal(open, want));
	agent_says(w, frame.id, FRAME_CHANNEL_ERR, "warning\n");
	assert_int_equal(world_ws_next(w, fd, &in, &got), 2);
	assert_memory_equal(got.data, "\2warning\n", 9);
	/* A ping is answered. */
	strbuf_done(&got);
	world_ws_send(w, fd, 9, "hi", 2);
	assert_int_equal(world_ws_next(w, fd, &in, &got), 10);
	assert_string_equal(strbuf_str(&got), "hi");
	/* The closing handshake ends the stream. */
	strbuf_done(&got);
	world_ws_send(w, fd, 8, "\x03\xe8", 2);
	assert_int_equal(world_ws_next(w, fd, &in, &got), 8);
	frame = world_agent_expect(w, FRAME_STREAM_CLOSE);
}

static void broken_websocket_frames_are_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
	} frames[] = {
		{ "\x81\x02hi", 4 },                                 /* not masked */
		{ "\xf1\x82\0\0\0\0hi", 8 },                         /* reserved bits */
		{ "\x83\x80\0\0\0\0", 6 },                           /* unknown opcode */
		{ "\x89\xfe\x01\0\0\0\0\0", 8 },                     /* large control frame */
		{ "\x82\xff\0\0\0\0\xff\xff\xff\xff\0\0\0\0x", 15 }, /* 4 GiB */
		{ "\x81\x82\0\0\0\0\xff\xff", 8 },                   /* not UTF-8 */
	};
	struct world *w = *state;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, uid);
	for (size_t i = 0; i < ARRAY_COUNT(frames); i++) {
		AUTO(strbuf_done) struct strbuf in = {};
		AUTO(strbuf_done) struct strbuf got = {};
		AUTO(answer_done) struct answer answer = {};
		AUTO(fd_close) int fd = world_websocket(w, "/1.0/instances/web/exec", &answer);

		assert_true(fd >= 0);
		world_send(w, fd, frames[i].bytes, frames[i].size);
		unsigned int opcode = world_ws_next(w, fd, &in, &got);
		assert_true(opcode == 8 || opcode == 0);
	}
}

/* Reads a body that comes in chunks until the server closes or the last chunk. */
static void read_all(struct world *w, int fd, struct strbuf *ret)
{
	while (!(ret->size >= 5 && memcmp(ret->data + ret->size - 5, "0\r\n\r\n", 5) == 0) &&
	       world_receive(w, fd, ret))
		;
}

static void export_streams(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf out = {};
	static const char request[] = "GET /1.0/images/web/export HTTP/1.1\r\nHost: x\r\n\r\n";
	static char chunk[65536];
	uint64_t credit = FRAME_CREDIT_INITIAL, sent = 0;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close) int fd = world_connect(w->api_path);
	world_send(w, fd, request, sizeof(request) - 1);
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	uint64_t id = frame.id;
	AUTO(json_decref) json_t *open = json_of(&frame);
	assert_string_equal(json_string_value(json_object_get(open, "kind")), "export");
	memset(chunk, 'x', sizeof(chunk));
	while (sent < 20 * sizeof(chunk)) {
		while (credit >= sizeof(chunk) && sent < 20 * sizeof(chunk)) {
			frame_append_data(&out, id, FRAME_CHANNEL_OUT, chunk, sizeof(chunk));
			world_agent_send(w, &out);
			credit -= sizeof(chunk);
			sent += sizeof(chunk);
		}
		while (credit < sizeof(chunk)) {
			AUTO(strbuf_done) struct strbuf frame_in = {};
			uint32_t bytes = 0;

			world_receive(w, fd, &in);
			strbuf_consume(&w->agent_in, TAKE_(w->agent_used, 0));
			char byte;
			if (w->agent_in.size == 0 &&
			    recv(w->agent, &byte, 1, MSG_DONTWAIT | MSG_PEEK) <= 0)
				continue;
			frame = world_agent_next(w);
			assert_int_equal(frame_credit(&frame, &bytes, NULL), 0);
			credit += bytes;
		}
	}
	world_agent_send_json(w, FRAME_STREAM_CLOSE, id, json_pack("{s:i}", "exit_code", 0));
	read_all(w, fd, &in);
	assert_memory_equal(in.data, "HTTP/1.1 200", 12);
	size_t count = 0;
	for (size_t i = 0; i < in.size; i++)
		count += in.data[i] == 'x';
	/* "application/x-tar" has one as well. */
	assert_int_equal(count, sent + 1);
}

static void export_errors_are_answers(void **state)
{
	struct world *w = *state;
	static const char request[] = "GET /1.0/images/web/export HTTP/1.1\r\nHost: x\r\n\r\n";
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close) int fd = world_connect(w->api_path);
	world_send(w, fd, request, sizeof(request) - 1);
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	world_agent_send_json(
		w, FRAME_STREAM_CLOSE, frame.id,
		json_pack("{s:{s:i, s:s}}", "error", "code", ENOSPC, "message", "no room"));
	AUTO(answer_done) struct answer answer = world_answer(w, fd);
	assert_int_equal(answer.status, 507);
	assert_string_equal(answer_error(&answer), "no room");
	AUTO(answer_done)
	struct answer none = world_request(w, "GET", "/1.0/images/nothing/export", NULL);
	assert_int_equal(none.status, 404);
}

/* A tar of 2 MiB goes through windows of 256 KiB. */
static void import_streams(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf out = {};
	AUTO(free) char *body = malloc(2 * 1024 * 1024);
	size_t got = 0, sent = 0;
	const size_t size = 2 * 1024 * 1024;

	world_agent_connect(w);
	AUTO(fd_close) int fd = world_connect(w->api_path);
	AUTO(free)
	char *head = mem_printf("POST /1.0/images?import=1&name=mine HTTP/1.1\r\nHost: x\r\n"
				"Content-Length: %zu\r\n\r\n",
				size);
	world_send(w, fd, head, strlen(head));
	for (size_t i = 0; i < size; i++)
		body[i] = (char) (i / 1000);
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	uint64_t id = frame.id;
	AUTO(json_decref) json_t *open = json_of(&frame);
	assert_string_equal(json_string_value(json_object_get(open, "kind")), "import");
	while (got < size) {
		if (sent < size) {
			ssize_t n = send(fd, body + sent, size - sent, MSG_DONTWAIT);
			sent += n > 0 ? (size_t) n : 0;
		}
		world_turn(w);
		char byte;
		strbuf_consume(&w->agent_in, TAKE_(w->agent_used, 0));
		if (w->agent_in.size == 0 && recv(w->agent, &byte, 1, MSG_DONTWAIT | MSG_PEEK) <= 0)
			continue;
		frame = world_agent_next(w);
		assert_int_equal(frame.type, FRAME_STREAM_DATA);
		assert_memory_equal(frame.body + 1, body + got, frame.size - 1);
		got += frame.size - 1;
		frame_append_credit(&out, id, (uint32_t) frame.size - 1);
		world_agent_send(w, &out);
	}
	frame = world_agent_next(w);
	assert_data(&frame, id, FRAME_CHANNEL_CONTROL, "{\"eof\":true}");
	AUTO(answer_done) struct answer answer = world_answer(w, fd);
	assert_int_equal(answer.status, 202);
	world_agent_send_json(w, FRAME_STREAM_CLOSE, id, json_pack("{s:i}", "exit_code", 0));
}

static void import_error_reaches_the_client(void **state)
{
	struct world *w = *state;
	static const char head[] = "POST /1.0/images?import=1&name=mine HTTP/1.1\r\nHost: x\r\n"
				   "Content-Length: 100000\r\n\r\n";
	static char body[100000];

	world_agent_connect(w);
	AUTO(fd_close) int fd = world_connect(w->api_path);
	world_send(w, fd, head, sizeof(head) - 1);
	world_send(w, fd, body, 50000);
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	world_agent_send_json(
		w, FRAME_STREAM_CLOSE, frame.id,
		json_pack("{s:{s:i, s:s}}", "error", "code", EINVAL, "message", "not a tar"));
	world_agent_expect(w, FRAME_STREAM_CLOSE);
	world_send(w, fd, body, 50000);
	AUTO(answer_done) struct answer answer = world_answer(w, fd);
	assert_int_equal(answer.status, 400);
	assert_string_equal(answer_error(&answer), "not a tar");
}

static void broken_import_is_told_to_the_agent(void **state)
{
	struct world *w = *state;
	static const char head[] = "POST /1.0/images?import=1&name=mine HTTP/1.1\r\nHost: x\r\n"
				   "Content-Length: 100000\r\n\r\nxyz";

	world_agent_connect(w);
	int fd = world_connect(w->api_path);
	world_send(w, fd, head, sizeof(head) - 1);
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	uint64_t id = frame.id;
	close(fd);
	frame = world_agent_expect(w, FRAME_STREAM_CLOSE);
	assert_true(frame.id == id);
	AUTO(json_decref) json_t *body = json_of(&frame);
	assert_non_null(json_object_get(body, "error"));
}

static void without_agent_nothing_hangs(void **state)
{
	struct world *w = *state;
	AUTO(answer_done)
	struct answer answer = world_request(w, "POST", "/1.0/images?import=1&name=mine", "xyz");

	assert_int_equal(answer.status, 503);
	assert_true(answer_hint(&answer)[0] != '\0');
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_set_up, world_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(exec_carries_everything),
		TEST(exec_refuses_bad_arguments),
		TEST(exec_needs_a_running_instance),
		TEST(leaving_client_closes_the_stream),
		TEST(input_waits_for_credit),
		TEST(output_waits_for_the_client),
		TEST(greedy_agent_is_disconnected),
		TEST(wrong_first_words_end_the_link),
		TEST(newer_agent_replaces_older),
		TEST(attach_goes_both_ways),
		TEST(logs_are_one_way),
		TEST(broken_websocket_frames_are_refused),
		TEST(export_streams),
		TEST(export_errors_are_answers),
		TEST(import_streams),
		TEST(import_error_reaches_the_client),
		TEST(broken_import_is_told_to_the_agent),
		TEST(without_agent_nothing_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
