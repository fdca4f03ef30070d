/* Traces: what is computed, and what the node's agent tells of a packet that is sent. */
#include "fixture.h"

static void launch(struct world *w, char ret_uid[UID_SIZE])
{
	char uid[UID_SIZE];
	AUTO(answer_done)
	struct answer answer =
		world_request(w, "POST", "/1.0/instances", "{\"name\":\"web\",\"image\":\"web\"}");

	assert_int_equal(answer.status, 202);
	world_agent_carry_out(w, "image", "ready", uid);
	world_agent_carry_out(w, "instance", "running", ret_uid);
	AUTO(free)
	char *wait =
		mem_printf("%s/wait", json_string_value(json_object_get(answer.json, "operation")));
	AUTO(answer_done) struct answer ended = world_request(w, "GET", wait, NULL);
	assert_int_equal(ended.status, 200);
}

static json_t *json_of(const struct frame *frame)
{
	json_t *body = NULL;

	assert_int_equal(frame_json(frame, &body, NULL), 0);
	return body;
}

static int ask(struct world *w, const char *body)
{
	AUTO(free)
	char *request = mem_printf("POST /1.0/instances/web/trace HTTP/1.1\r\nHost: x\r\n"
				   "Connection: close\r\nContent-Type: application/json\r\n"
				   "Content-Length: %zu\r\n\r\n%s",
				   strlen(body), body);
	int fd = world_connect(w->api_path);

	world_send(w, fd, request, strlen(request));
	return fd;
}

static const char *text_at(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

static void answer_live(struct world *w, uint64_t id, const char *text)
{
	AUTO(strbuf_done) struct strbuf out = {};

	frame_append_data(&out, id, FRAME_CHANNEL_OUT, text, strlen(text));
	world_agent_send(w, &out);
	world_agent_send_json(w, FRAME_STREAM_CLOSE, id, json_pack("{s:i}", "exit_code", 0));
}

static void computed(void **state)
{
	struct world *w = *state;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, uid);
	AUTO(answer_done)
	struct answer answer = world_request(w, "POST", "/1.0/instances/web/trace",
					     "{\"to\":\"203.0.113.1\",\"port\":80}");
	const json_t *metadata = json_object_get(answer.json, "metadata");

	assert_int_equal(answer.status, 200);
	assert_string_equal(text_at(metadata, "verdict"), "leaves");
	assert_true(json_array_size(json_object_get(metadata, "hops")) > 3);
	assert_null(json_object_get(metadata, "live"));
	/* Nothing is sent: nobody is asked. */
	AUTO(answer_done)
	struct answer self = world_request(w, "POST", "/1.0/instances/web/trace",
					   "{\"to\":\"web\",\"live\":true}");
	assert_int_equal(self.status, 200);
	AUTO(answer_done)
	struct answer unknown =
		world_request(w, "POST", "/1.0/instances/wep/trace", "{\"to\":\"web\"}");
	assert_int_equal(unknown.status, 404);
	assert_string_equal(answer_hint(&unknown), "did you mean 'web'?");
	AUTO(answer_done)
	struct answer bad = world_request(w, "POST", "/1.0/instances/web/trace", "{}");
	assert_int_equal(bad.status, 400);
}

static void live(void **state)
{
	struct world *w = *state;
	char uid[UID_SIZE];

	world_agent_connect(w);
	launch(w, uid);
	AUTO(fd_close) int fd = ask(w, "{\"to\":\"203.0.113.1\",\"port\":80,\"live\":true}");
	struct frame frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	uint64_t id = frame.id;
	AUTO(json_decref) json_t *open = json_of(&frame);
	assert_string_equal(text_at(open, "kind"), "trace");
	assert_string_equal(text_at(open, "uid"), uid);
	assert_int_equal(strlen(text_at(open, "port")), 32);
	assert_string_equal(text_at(open, "destination"), "203.0.113.1");
	answer_live(
		w, id,
		"{\"sent\":true,\"answer\":\"none\",\"steps\":[{\"table\":\"filter\",\"family\":"
		"\"ip\",\"chain\":\"FORWARD\",\"verdict\":\"drop\"}],\"dropped_by\":0}");
	AUTO(answer_done) struct answer answer = world_answer(w, fd);
	const json_t *metadata = json_object_get(answer.json, "metadata");
	const json_t *found = json_object_get(metadata, "live");
	assert_int_equal(answer.status, 200);
	assert_string_equal(text_at(metadata, "verdict"), "leaves");
	assert_true(json_is_false(json_object_get(found, "agrees")));
	assert_non_null(strstr(text_at(found, "text"), "(not brume's)"));

	AUTO(fd_close) int again = ask(w, "{\"to\":\"203.0.113.1\",\"live\":true}");
	frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	id = frame.id;
	answer_live(w, id, "{\"nix\":1}");
	AUTO(answer_done) struct answer odd = world_answer(w, again);
	assert_int_equal(odd.status, 500);

	AUTO(fd_close) int refused = ask(w, "{\"to\":\"203.0.113.1\",\"live\":true}");
	frame = world_agent_expect(w, FRAME_STREAM_OPEN);
	world_agent_send_json(w, FRAME_STREAM_CLOSE, frame.id,
			      json_pack("{s:{s:i, s:s}}", "error", "code", EBUSY, "message",
					"two traces are under way"));
	AUTO(answer_done) struct answer busy = world_answer(w, refused);
	assert_int_equal(busy.status, 409);

	/* A client that goes away ends the stream. */
	int gone = ask(w, "{\"to\":\"203.0.113.1\",\"live\":true}");
	(void) world_agent_expect(w, FRAME_STREAM_OPEN);
	close(gone);
	(void) world_agent_expect(w, FRAME_STREAM_CLOSE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(computed, world_set_up, world_tear_down),
		cmocka_unit_test_setup_teardown(live, world_set_up, world_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
