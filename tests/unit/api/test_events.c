/* Following changes, waiting for operations, conditional requests. */
#include "fixture.h"

static int follow(struct world *w, const char *path)
{
	AUTO(answer_done) struct answer answer = {};
	int fd = world_websocket(w, path, &answer);

	assert_true(fd >= 0);
	return fd;
}

/* The next text message as JSON. */
static json_t *next_message(struct world *w, int fd, struct strbuf *in)
{
	AUTO(strbuf_done) struct strbuf got = {};
	json_t *message = NULL;

	assert_int_equal(world_ws_next(w, fd, in, &got), 1);
	assert_int_equal(json_parse(got.data, got.size, got.size, &message, NULL), 0);
	return message;
}

static const char *member(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

static void make_network(struct world *w, const char *name)
{
	AUTO(free) char *body = mem_printf("{\"name\":\"%s\"}", name);
	AUTO(answer_done) struct answer answer = world_request(w, "POST", "/1.0/networks", body);

	assert_int_equal(answer.status, 202);
}

static void every_change_once_and_again_from_a_cursor(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf again_in = {};
	json_int_t first = 0, second;

	AUTO(fd_close) int fd = follow(w, "/1.0/events?kind=network");
	make_network(w, "one");
	make_network(w, "two");
	for (const char *name = "one"; name; name = strcmp(name, "one") == 0 ? "two" : NULL) {
		AUTO(json_decref) json_t *event = next_message(w, fd, &in);

		assert_string_equal(member(event, "kind"), "network");
		assert_string_equal(member(event, "action"), "created");
		assert_string_equal(member(event, "name"), name);
		assert_true(json_is_object(json_object_get(event, "resource")));
		second = json_integer_value(json_object_get(event, "revision"));
		assert_true(second > first);
		first = first ? first : second;
	}
	AUTO(free)
	char *path = mem_printf("/1.0/events?kind=network&cursor=%lld", (long long) first);
	AUTO(fd_close) int again = follow(w, path);
	AUTO(json_decref) json_t *event = next_message(w, again, &again_in);
	assert_string_equal(member(event, "name"), "two");
}

static void filters_and_bad_ones(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(strbuf_done) struct strbuf got = {};

	AUTO(fd_close) int fd = follow(w, "/1.0/events?cursor=1&kind=network&name=one");
	make_network(w, "other");
	make_network(w, "one");
	AUTO(json_decref) json_t *event = next_message(w, fd, &in);
	assert_string_equal(member(event, "name"), "one");
	AUTO(answer_done)
	struct answer bad = world_request(w, "GET", "/1.0/events?cursor=-1", NULL);
	assert_int_equal(bad.status, 400);
	AUTO(answer_done)
	struct answer kind = world_request(w, "GET", "/1.0/events?kind=cat", NULL);
	assert_int_equal(kind.status, 400);
}

/* A follower that does not read costs a bounded queue, and misses nothing when it reads again. */
static void slow_followers_miss_nothing(void **state)
{
	struct world *w = *state;
	AUTO(strbuf_done) struct strbuf in = {};
	enum { NETWORKS = 150 };
	json_int_t last = 0;
	unsigned int created = 0;
	int size = 4096;

	AUTO(fd_close) int fd = follow(w, "/1.0/events");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (int i = 0; i < NETWORKS; i++) {
		AUTO(free) char *name = mem_printf("n%d", i);

		make_network(w, name);
	}
	while (created < NETWORKS) {
		AUTO(json_decref) json_t *event = next_message(w, fd, &in);
		json_int_t revision = json_integer_value(json_object_get(event, "revision"));

		assert_true(revision >= last);
		last = revision;
		created += strcmp(member(event, "kind"), "network") == 0 &&
			   strcmp(member(event, "action"), "created") == 0;
	}
}

static void waits_until_it_is_done(void **state)
{
	struct world *w = *state;
	char uid[UID_SIZE];

	world_agent_connect(w);
	AUTO(answer_done)
	struct answer begun = world_request(w, "POST", "/1.0/networks", "{\"name\":\"one\"}");
	assert_int_equal(begun.status, 202);
	const char *operation = member(begun.json, "operation");
	assert_non_null(strstr(begun.text, "Location: /1.0/operations/"));
	AUTO(free) char *path = mem_printf("%s/wait?timeout_s=20", operation);
	AUTO(fd_close) int fd = world_connect(w->api_path);
	AUTO(free) char *request = mem_printf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
	world_send(w, fd, request, strlen(request));
	world_agent_carry_out(w, "network", "ready", uid);
	AUTO(answer_done) struct answer ended = world_answer(w, fd);
	assert_int_equal(ended.status, 200);
	json_t *status = json_object_get(json_object_get(ended.json, "metadata"), "status");
	assert_string_equal(member(status, "state"), "done");
	/* Once more: it has ended already. */
	AUTO(answer_done) struct answer at_once = world_request(w, "GET", path, NULL);
	assert_true(json_equal(at_once.json, ended.json));
}

static void waiting_has_an_end(void **state)
{
	struct world *w = *state;
	AUTO(answer_done)
	struct answer begun = world_request(w, "POST", "/1.0/networks", "{\"name\":\"one\"}");
	AUTO(free) char *path = mem_printf("%s/wait?timeout_s=0", member(begun.json, "operation"));
	AUTO(answer_done) struct answer answer = world_request(w, "GET", path, NULL);
	AUTO(answer_done)
	struct answer none = world_request(w, "GET", "/1.0/operations/nothing/wait", NULL);

	assert_int_equal(answer.status, 200);
	json_t *status = json_object_get(json_object_get(answer.json, "metadata"), "status");
	assert_string_equal(member(status, "state"), "running");
	assert_int_equal(none.status, 404);
}

/* Clients that leave while they wait are forgotten; who only closed its sending side is answered.
 */
static void leaving_while_waiting(void **state)
{
	struct world *w = *state;
	AUTO(answer_done)
	struct answer begun = world_request(w, "POST", "/1.0/networks", "{\"name\":\"one\"}");
	AUTO(free)
	char *request = mem_printf("GET %s/wait HTTP/1.1\r\nHost: x\r\n\r\n",
				   member(begun.json, "operation"));

	for (int i = 0; i < 5; i++) {
		int fd = world_connect(w->api_path);

		world_send(w, fd, request, strlen(request));
		close(fd);
	}
	AUTO(fd_close) int half = world_connect(w->api_path);
	world_send(w, half, request, strlen(request));
	world_turn(w);
	shutdown(half, SHUT_WR);
	AUTO(answer_done) struct answer answer = world_answer(w, half);
	assert_int_equal(answer.status, 200);
}

static void if_match_guards_changes(void **state)
{
	static const char stale[] = "DELETE /1.0/networks/one HTTP/1.1\r\nHost: x\r\nIf-Match: "
				    "\"999999\"\r\n\r\n";
	static const char bad[] = "DELETE /1.0/networks/one HTTP/1.1\r\nHost: x\r\nIf-Match: "
				  "nonsense\r\n\r\n";
	struct world *w = *state;

	make_network(w, "one");
	AUTO(answer_done) struct answer refused = world_raw(w, stale, sizeof(stale) - 1);
	assert_int_equal(refused.status, 412);
	AUTO(answer_done) struct answer wrong = world_raw(w, bad, sizeof(bad) - 1);
	assert_int_equal(wrong.status, 400);
	AUTO(answer_done)
	struct answer shown = world_request(w, "GET", "/1.0/networks/one", NULL);
	const char *etag = strstr(shown.text, "ETag: ");
	assert_non_null(etag);
	AUTO(free)
	char *request = mem_printf("DELETE /1.0/networks/one HTTP/1.1\r\nHost: x\r\nIf-Match: "
				   "%.*s\r\n\r\n",
				   (int) strcspn(etag + 6, "\r"), etag + 6);
	AUTO(answer_done) struct answer done = world_raw(w, request, strlen(request));
	assert_int_equal(done.status, 202);
}

/* A client that has gone before control answers must not be answered. */
static void leaving_before_the_answer(void **state)
{
	struct world *w = *state;
	static const char request[] = "POST /1.0/networks HTTP/1.1\r\nHost: x\r\nContent-Length: "
				      "14\r\n\r\n{\"name\":\"one\"}";

	for (int i = 0; i < 10; i++) {
		int fd = world_connect(w->api_path);

		assert_int_equal(send(fd, request, sizeof(request) - 1, 0), sizeof(request) - 1);
		close(fd);
		world_turn(w);
	}
	AUTO(answer_done) struct answer answer = world_request(w, "GET", "/1.0", NULL);
	assert_int_equal(answer.status, 200);
}

/* The server ends while clients wait and follow. */
static void stops_over_open_sessions(void **state)
{
	struct world *w = world_new_with(NULL);
	AUTO(answer_done)
	struct answer begun = world_request(w, "POST", "/1.0/networks", "{\"name\":\"one\"}");
	AUTO(free)
	char *request = mem_printf("GET %s/wait HTTP/1.1\r\nHost: x\r\n\r\n",
				   member(begun.json, "operation"));
	AUTO(fd_close) int waiting = world_connect(w->api_path);
	AUTO(fd_close) int following = follow(w, "/1.0/events");

	(void) state;
	assert_true(following >= 0);
	world_send(w, waiting, request, strlen(request));
	world_turn(w);
	world_tear_down((void **) &w);
}

static void refuse_everybody(struct api_config *config)
{
	config->agent_uid = 12345;
}

static void only_the_agent_may_be_the_agent(void **state)
{
	struct world *w = world_new_with(refuse_everybody);

	(void) state;
	w->agent = world_connect(w->agent_path);
	while (world_receive(w, w->agent, &w->agent_in))
		;
	assert_int_equal(w->agent_in.size, 0);
	world_tear_down((void **) &w);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_set_up, world_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_change_once_and_again_from_a_cursor),
		TEST(filters_and_bad_ones),
		TEST(slow_followers_miss_nothing),
		TEST(waits_until_it_is_done),
		TEST(waiting_has_an_end),
		TEST(leaving_while_waiting),
		TEST(if_match_guards_changes),
		TEST(leaving_before_the_answer),
		cmocka_unit_test(stops_over_open_sessions),
		cmocka_unit_test(only_the_agent_may_be_the_agent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
