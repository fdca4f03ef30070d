/* Usage and processes: what the node's agent tells, as answers and over a WebSocket. */
#include "fixture.h"

static void launch(struct world *w, const char *state, char ret_uid[UID_SIZE])
{
	char uid[UID_SIZE];
	AUTO(answer_done)
	struct answer answer =
		world_request(w, "POST", "/1.0/instances", "{\"name\":\"web\",\"image\":\"web\"}");

	assert_int_equal(answer.status, 202);
	world_agent_carry_out(w, "image", "ready", uid);
	world_agent_carry_out(w, "instance", state, ret_uid);
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

static void agent_says(struct world *w, uint64_t id, const char *text)
{
	AUTO(strbuf_done) struct strbuf out = {};

	frame_append_data(&out, id, FRAME_CHANNEL_OUT, text, strlen(text));
	world_agent_send(w, &out);
}

static int ask(struct world *w, const char *what)
{
	AUTO(free)
	char *request = mem_printf(
		"GET /1.0/instances/web/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", what);
	int fd = world_connect(w->api_path);

	world_send(w, fd, request, strlen(request));
	return fd;
}

static void answers_come_in_pieces(void **state)
{
	struct world *w = *state;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, "running", uid);
	AUTO(fd_close) int fd = ask(w, "processes");
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	uint64_t id = frame.id;
	AUTO(json_decref) json_t *open = json_of(&frame);
	assert_string_equal(json_string_value(json_object_get(open, "kind")), "top");
	assert_string_equal(json_string_value(json_object_get(open, "uid")), uid);
	agent_says(w, id, "{\"processes\":[],");
	agent_says(w, id, "\"count\":0}");
	world_agent_send_json(w, FRAME_STREAM_CLOSE, id, json_pack("{s:i}", "exit_code", 0));
	AUTO(answer_done) struct answer answer = world_answer(w, fd);
	assert_int_equal(answer.status, 200);
	const json_t *metadata = json_object_get(answer.json, "metadata");
	assert_true(json_is_array(json_object_get(metadata, "processes")));
}

static void errors_and_nonsense_are_errors(void **state)
{
	struct world *w = *state;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, "running", uid);
	AUTO(fd_close) int fd = ask(w, "stats");
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	AUTO(json_decref) json_t *open = json_of(&frame);
	assert_true(json_is_true(json_object_get(open, "once")));
	assert_string_equal(json_string_value(json_object_get(open, "project")), "default");
	world_agent_send_json(w, FRAME_STREAM_CLOSE, frame.id,
			      json_pack("{s:{s:i, s:s}}", "error", "code", EBUSY, "message",
					"the instance does not run"));
	AUTO(answer_done) struct answer answer = world_answer(w, fd);
	assert_int_equal(answer.status, 409);

	AUTO(fd_close) int again = ask(w, "stats");
	frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	uint64_t id = frame.id;
	agent_says(w, id, "{\"cut");
	world_agent_send_json(w, FRAME_STREAM_CLOSE, id, json_pack("{s:i}", "exit_code", 0));
	AUTO(answer_done) struct answer broken = world_answer(w, again);
	assert_int_equal(broken.status, 500);
}

static void what_does_not_run_has_none(void **state)
{
	struct world *w = *state;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, "stopped", uid);
	AUTO(fd_close) int fd = ask(w, "stats");
	AUTO(answer_done) struct answer answer = world_answer(w, fd);
	assert_int_equal(answer.status, 409);
	assert_string_equal(answer_error(&answer), "instance web: is not running");
	AUTO(answer_done)
	struct answer unknown = world_request(w, "GET", "/1.0/instances/wep/processes", NULL);
	assert_int_equal(unknown.status, 404);
	assert_string_equal(answer_hint(&unknown), "did you mean 'web'?");
	for (size_t i = 0; i < 2; i++) {
		struct answer refused;

		assert_int_equal(
			world_websocket(w,
					i ? "/1.0/stats?instance=web" : "/1.0/stats?interval_ms=99",
					&refused),
			-1);
		assert_int_equal(refused.status, i ? 409 : 400);
		answer_done_autop(&refused);
	}
}

static void rounds_become_messages(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf got = {};
	struct answer answer;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, "running", uid);
	AUTO(fd_close)
	int fd = world_websocket(w, "/1.0/stats?instance=web&interval_ms=200", &answer);
	answer_done_autop(&answer);
	assert_true(fd >= 0);
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	uint64_t id = frame.id;
	AUTO(json_decref) json_t *open = json_of(&frame);
	assert_int_equal(json_integer_value(json_object_get(open, "interval_ms")), 200);
	assert_string_equal(json_string_value(json_array_get(json_object_get(open, "uids"), 0)),
			    uid);
	agent_says(w, id, "{\"samples\":[]}");
	assert_int_equal(world_ws_next(w, fd, &in, &got), 1);
	assert_string_equal(strbuf_str(&got), "{\"samples\":[]}");
	strbuf_done(&got);
	world_agent_drop(w);
	assert_int_equal(world_ws_next(w, fd, &in, &got), 1);
	assert_non_null(strstr(strbuf_str(&got), "\"error\""));
	strbuf_done(&got);
	assert_int_equal(world_ws_next(w, fd, &in, &got), 8);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_set_up, world_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_come_in_pieces),
		TEST(errors_and_nonsense_are_errors),
		TEST(what_does_not_run_has_none),
		TEST(rounds_become_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
