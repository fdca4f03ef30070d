#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "machine/machine.h"

/* A machine that gives one canned answer to whoever connects, and remembers what it was asked. */
struct fake {
	char dir[40];
	int listen_fd;
	const char *answer;
	size_t answer_size;
	char asked[512];
	pthread_t thread;
};

static void *serve(void *data)
{
	struct fake *fake = data;
	int fd = accept4(fake->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : recv(fd, fake->asked, sizeof(fake->asked) - 1, 0);

	if (n > 0 && fake->answer_size > 0)
		n = send(fd, fake->answer, fake->answer_size, MSG_NOSIGNAL);
	(void) n;
	fd_close(fd);
	return NULL;
}

static void start(struct fake *fake, const char *name, const void *answer, size_t size)
{
	strcpy(fake->dir, "/tmp/brume-control-XXXXXX");
	assert_non_null(mkdtemp(fake->dir));
	AUTO(free) char *path = mem_printf("%s/%s", fake->dir, name);
	fake->listen_fd = sock_listen(path, SOCK_STREAM, 0600);
	assert_true(fake->listen_fd >= 0);
	fcntl(fake->listen_fd, F_SETFL, 0);
	fake->answer = answer;
	fake->answer_size = size;
	assert_int_equal(pthread_create(&fake->thread, NULL, serve, fake), 0);
}

static void stop(struct fake *fake)
{
	pthread_join(fake->thread, NULL);
	close(fake->listen_fd);
	file_remove_tree(AT_FDCWD, fake->dir);
}

static int call_answered(enum frame_type type, uint64_t id, const char *body,
			 enum machine_action action, struct error *err)
{
	AUTO(strbuf_done) struct strbuf answer = {};
	struct fake fake = {};
	struct frame frame;
	size_t used;

	frame_append(&answer, type, id, body, strlen(body));
	start(&fake, "control.sock", answer.data, answer.size);
	int r = machine_do(MACHINE_BRUME_VMM, fake.dir, action, err);
	stop(&fake);
	assert_int_equal(frame_decode(fake.asked, sizeof(fake.asked), &frame, &used, NULL), 1);
	assert_int_equal(frame.type, FRAME_CALL);
	if (action == MACHINE_POWER_BUTTON)
		assert_memory_equal(frame.body, "{\"method\":\"power_button\"}", frame.size);
	return r;
}

static void a_call_has_an_answer(void **state)
{
	struct error err = {};

	(void) state;
	assert_int_equal(
		call_answered(FRAME_RETURN, 1, "{\"result\":{}}", MACHINE_POWER_BUTTON, &err), 0);
	assert_int_equal(call_answered(FRAME_RETURN, 1, "{\"error\":\"not \\u001bnow\"}",
				       MACHINE_PAUSE, &err),
			 -EIO);
	assert_string_equal(err.msg, "pause: not \\x1bnow");
}

static void a_liar_is_told(void **state)
{
	struct error err = {};

	(void) state;
	assert_int_equal(call_answered(FRAME_CALL, 1, "{\"result\":{}}", MACHINE_PAUSE, &err),
			 -EPROTO);
	assert_int_equal(call_answered(FRAME_RETURN, 2, "{\"result\":{}}", MACHINE_PAUSE, &err),
			 -EPROTO);
	assert_int_equal(call_answered(FRAME_RETURN, 1, "{\"result\":1}", MACHINE_PAUSE, &err),
			 -EPROTO);
	assert_true(call_answered(FRAME_RETURN, 1, "[]", MACHINE_PAUSE, &err) < 0);
	assert_true(call_answered(FRAME_RETURN, 1, "no JSON", MACHINE_PAUSE, &err) < 0);
}

static int call_raw(const char *answer, size_t size, enum machine_action action)
{
	struct fake fake = {};

	start(&fake, "control.sock", answer, size);
	int r = machine_do(MACHINE_BRUME_VMM, fake.dir, action, NULL);
	stop(&fake);
	return r;
}

static void endless_and_ended_answers(void **state)
{
	AUTO(free) char *huge = mem_zalloc(1 << 20);

	(void) state;
	/* Announces a megabyte, and sends much of it. */
	memcpy(huge, "\0\0\x10\0\x0c\0\0\0\x01\0\0\0\0\0\0\0", 16);
	assert_int_equal(call_raw(huge, 1 << 19, MACHINE_PAUSE), -EPROTO);
	assert_int_equal(call_raw("", 0, MACHINE_PAUSE), -ECONNRESET);
	assert_int_equal(call_raw("abc", 3, MACHINE_RESET), -ECONNRESET);
	/* It may end before it has said that it will. */
	assert_int_equal(call_raw("", 0, MACHINE_QUIT), 0);
}

static int look_at_cards(const char *body, struct machine_cards *ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf answer = {};
	struct fake fake = {};

	frame_append(&answer, FRAME_RETURN, 1, body, strlen(body));
	start(&fake, "control.sock", answer.data, answer.size);
	int r = machine_cards(fake.dir, ret, err);
	stop(&fake);
	return r;
}

static void a_monitor_tells_of_its_cards(void **state)
{
	struct machine_cards cards;
	struct error err = {};

	(void) state;
	assert_int_equal(look_at_cards("{\"result\":{\"cards\":[\"p1\",7,\"p2\"]}}", &cards, &err),
			 0);
	assert_int_equal(cards.count, 2);
	assert_true(machine_cards_have(&cards, "p2") && !machine_cards_have(&cards, "p3"));
	assert_int_equal(
		look_at_cards("{\"result\":{\"devices\":[{\"id\":\"disk0\",\"type\":\"blk\"},"
			      "{\"id\":\"p1\",\"type\":\"net\"}]}}",
			      &cards, &err),
		0);
	assert_int_equal(cards.count, 1);
	assert_true(machine_cards_have(&cards, "p1"));
	/* Both back ends of before. */
	assert_int_equal(look_at_cards("{\"result\":{}}", &cards, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "an earlier brume"));
	assert_int_equal(
		look_at_cards("{\"result\":{\"devices\":[{\"id\":\"net0\",\"type\":\"net\"}]}}",
			      &cards, &err),
		-EOPNOTSUPP);
	assert_int_equal(
		look_at_cards("{\"result\":{\"cards\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\","
			      "\"h\",\"i\"]}}",
			      &cards, &err),
		-EPROTO);
}

static void a_card_comes_with_its_descriptor(void **state)
{
	static const char done[] = "{\"result\":{}}";
	struct machine_nic nic = { .mac = { 2, 0, 0, 0, 0, 9 }, .mtu = 1400, .id = "p1" };
	AUTO(strbuf_done) struct strbuf answer = {};
	struct fake fake = {};

	(void) state;
	nic.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	frame_append(&answer, FRAME_RETURN, 1, done, sizeof(done) - 1);
	start(&fake, "control.sock", answer.data, answer.size);
	assert_int_equal(machine_card_add(fake.dir, &nic, NULL), 0);
	stop(&fake);
	close(nic.fd);
	assert_non_null(
		memmem(fake.asked, sizeof(fake.asked),
		       "{\"arguments\":{\"id\":\"p1\",\"mac\":\"02:00:00:00:00:09\",\"mtu\":1400},"
		       "\"method\":\"add_nic\"}",
		       80));
}

static void a_guest_is_reached_through_vsock(void **state)
{
	struct fake fake = {};
	char rest[16] = "";

	(void) state;
	start(&fake, "guest.sock", "OK 1073741824\nframes", 20);
	int fd = machine_connect_guest(MACHINE_BRUME_VMM, fake.dir, NULL);
	assert_true(fd >= 0);
	assert_string_equal(fake.asked, "CONNECT 1024\n");
	assert_int_equal(recv(fd, rest, sizeof(rest), MSG_WAITALL), 6);
	assert_string_equal(rest, "frames");
	close(fd);
	stop(&fake);
}

static void a_guest_that_does_not_listen(void **state)
{
	static const struct {
		const char *answer;
		int want;
	} rows[] = {
		{ "", -ECONNREFUSED },
		{ "OK", -ECONNREFUSED },
		{ "NO\n", -EPROTO },
		{ "OK 1111111111111111111111111111111111111111111111111111111111111111111111\n",
		  -EPROTO },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fake fake = {};

		start(&fake, "guest.sock", rows[i].answer, strlen(rows[i].answer));
		assert_int_equal(machine_connect_guest(MACHINE_BRUME_VMM, fake.dir, NULL),
				 rows[i].want);
		stop(&fake);
	}
}

static int balloon_of(const char *text, struct machine_balloon *ret)
{
	AUTO(json_decref) json_t *answer = json_loads(text, 0, NULL);

	assert_non_null(answer);
	return machine_balloon_read(answer, ret);
}

static void sizes_of_a_balloon(void **state)
{
	struct machine_balloon balloon = {};

	(void) state;
	assert_int_equal(
		balloon_of("{\"memory_bytes\":100,\"balloon_bytes\":30,\"given_back_bytes\":"
			   "70,\"guest\":{\"total_bytes\":60,\"available_bytes\":20}}",
			   &balloon),
		0);
	assert_true(balloon.balloon_bytes == 30 && balloon.given_back_bytes == 70 &&
		    balloon.counts_given_back);
	assert_true(balloon.total_bytes == 60 && balloon.available_bytes == 20);
	/* QEMU does not count what is given back; nobody counts more than there is. */
	assert_int_equal(balloon_of("{\"memory_bytes\":100,\"balloon_bytes\":0,\"guest\":{"
				    "\"total_bytes\":600,\"available_bytes\":20}}",
				    &balloon),
			 0);
	assert_true(balloon.total_bytes == 0 && !balloon.counts_given_back);
	assert_int_equal(
		balloon_of("{\"memory_bytes\":100,\"guest\":{\"total_bytes\":50}}", &balloon), 0);
	assert_int_equal(balloon.total_bytes, 0);
	assert_int_equal(balloon_of("{\"memory_bytes\":100,\"balloon_bytes\":101}", &balloon),
			 -EPROTO);
	assert_int_equal(balloon_of("{}", &balloon), -EPROTO);
	assert_int_equal(balloon_of("[]", &balloon), -EPROTO);
}

static void a_balloon_has_a_target(void **state)
{
	static const char body[] = "{\"result\":{\"memory_bytes\":512,\"balloon_bytes\":1}}";
	AUTO(strbuf_done) struct strbuf answer = {};
	struct machine_balloon balloon = {};
	uint64_t target = 256;
	struct fake fake = {};

	(void) state;
	frame_append(&answer, FRAME_RETURN, 1, body, strlen(body));
	start(&fake, "control.sock", answer.data, answer.size);
	assert_int_equal(machine_balloon(fake.dir, &target, &balloon, NULL), 0);
	stop(&fake);
	assert_int_equal(balloon.memory_bytes, 512);
	assert_non_null(strstr(fake.asked + FRAME_HEADER_SIZE, "\"target_bytes\":256"));
}

static void many_are_asked_at_once(void **state)
{
	enum { TIMEOUT_MS = 200 };
	static const char body[] = "{\"result\":{\"memory_bytes\":512}}";
	AUTO(strbuf_done) struct strbuf answer = {};
	struct fake good = {}, liar = {}, mute = {};
	json_t *answers[5] = {};

	(void) state;
	frame_append(&answer, FRAME_RETURN, 1, body, strlen(body));
	start(&good, "control.sock", answer.data, answer.size);
	start(&liar, "control.sock", "no frame", 8);
	/* It takes the connection and says nothing: nobody accepts it. */
	strcpy(mute.dir, "/tmp/brume-control-XXXXXX");
	assert_non_null(mkdtemp(mute.dir));
	AUTO(free) char *path = mem_printf("%s/control.sock", mute.dir);
	mute.listen_fd = sock_listen(path, SOCK_STREAM, 0600);
	char *dirs[] = { mute.dir, NULL, liar.dir, (char *) "/nonexistent", good.dir };
	machine_ask_balloons(dirs, 5, TIMEOUT_MS, answers);
	for (size_t i = 0; i < 4; i++)
		assert_null(answers[i]);
	assert_int_equal(json_integer_value(json_object_get(answers[4], "memory_bytes")), 512);
	json_decref(answers[4]);
	stop(&good);
	stop(&liar);
	close(mute.listen_fd);
	file_remove_tree(AT_FDCWD, mute.dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_has_an_answer),
		cmocka_unit_test(a_liar_is_told),
		cmocka_unit_test(endless_and_ended_answers),
		cmocka_unit_test(a_monitor_tells_of_its_cards),
		cmocka_unit_test(a_card_comes_with_its_descriptor),
		cmocka_unit_test(a_guest_is_reached_through_vsock),
		cmocka_unit_test(a_guest_that_does_not_listen),
		cmocka_unit_test(sizes_of_a_balloon),
		cmocka_unit_test(a_balloon_has_a_target),
		cmocka_unit_test(many_are_asked_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
