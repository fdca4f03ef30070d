#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "machine/qemu_internal.h"

/* brume-qemu without its loop: the test is QEMU, and the client at a socket. */
struct fixture {
	char *argv[8];
	struct qemu_run_options options;
	struct qemu qemu;
	struct qemu_client *client;
	int client_fd;
};

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);
	int fds[2];

	f->argv[0] = (char *) "qemu";
	f->argv[1] = (char *) "pcie-root-port,id=slot0";
	f->argv[2] = (char *) "virtio-net-pci,netdev=host-p0,mac=02:00:00:00:00:01,id=p0,bus=slot0,"
			      "romfile=";
	f->argv[3] = (char *) "virtio-net-pci,netdev=host-x,id=x,bus=slot9";
	f->options.argv = f->argv;
	f->qemu.options = &f->options;
	f->qemu.passed.fd = -1;
	f->qemu.listen_fd = -1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	for (unsigned int i = 0; i < QEMU_CLIENTS_MAX; i++)
		f->qemu.clients[i].fd = f->qemu.clients[i].given_fd = -1;
	f->client = &f->qemu.clients[0];
	f->client->fd = fds[0];
	f->client->serial = 1;
	f->client_fd = fds[1];
	qemu_cards_begin(&f->qemu);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	qemu_control_done(&f->qemu);
	fd_close(f->qemu.passed.fd);
	fd_close(f->client_fd);
	strbuf_done(&f->qemu.qmp_out);
	free(f);
	return 0;
}

static void call_fd(struct fixture *f, const char *body, int fd)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	frame_append(&frame, FRAME_CALL, 7, body, strlen(body));
	assert_int_equal(sock_send(f->client_fd, frame.data, frame.size, &fd, fd >= 0 ? 1 : 0), 0);
	qemu_control_ready(&f->qemu, f->client, POLLIN);
}

static int some_file(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static void add(struct fixture *f, const char *id)
{
	AUTO(free)
	char *body = mem_printf("{\"method\":\"add_nic\",\"arguments\":{\"id\":\"%s\","
				"\"mac\":\"02:00:00:00:00:09\",\"mtu\":1400}}",
				id);
	AUTO(fd_close) int fd = some_file();

	call_fd(f, body, fd);
}

/* What QEMU is asked next, one line. */
static void expect_asked(struct fixture *f, const char *words)
{
	const char *text = strbuf_str(&f->qemu.qmp_out);
	size_t size = strcspn(text, "\n");
	AUTO(free) char *line = mem_strndup(text, size);

	if (!strstr(line, words))
		fail_msg("'%s' is not in '%s'", words, line);
	assert_true(size < f->qemu.qmp_out.size);
	strbuf_consume(&f->qemu.qmp_out, size + 1);
	/* The descriptor has gone with it. */
	fd_close(TAKE_FD(f->qemu.passed.fd));
}

static void answer(struct fixture *f, enum qmp_kind kind)
{
	struct qmp_message message = { .kind = kind,
				       .id = f->qemu.next_qmp_id,
				       .text = (char *) "no such thing" };

	assert_true(qemu_cards_answered(&f->qemu, &message));
}

static void expect_heard(struct fixture *f, const char *words)
{
	char text[512] = "";
	ssize_t n = recv(f->client_fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	assert_true(n > FRAME_HEADER_SIZE);
	if (!strstr(text + FRAME_HEADER_SIZE, words))
		fail_msg("'%s' is not in '%s'", words, text + FRAME_HEADER_SIZE);
}

static void expect_silence(struct fixture *f)
{
	char byte;

	assert_int_equal(recv(f->client_fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void expect_cards(struct fixture *f, const char *text)
{
	AUTO(json_decref) json_t *cards = qemu_cards_json(&f->qemu);
	AUTO(free) char *is = json_text(cards);

	assert_string_equal(is, text);
}

static void those_of_the_command_line(void **state)
{
	expect_cards(*state, "[\"p0\"]");
}

static void one_comes(void **state)
{
	struct fixture *f = *state;

	add(f, "p1");
	assert_int_equal(f->client->given_fd, -1);
	assert_true(f->qemu.passed.fd >= 0);
	assert_int_equal(f->qemu.passed.size, f->qemu.qmp_out.size);
	expect_asked(f, "\"getfd\",\"arguments\":{\"fdname\":\"p1\"}");
	expect_cards(f, "[\"p0\"]");
	answer(f, QMP_RETURN);
	expect_asked(f, "{\"type\":\"tap\",\"id\":\"host-p1\",\"fd\":\"p1\",\"vhost\":false}");
	answer(f, QMP_RETURN);
	expect_asked(f, "\"id\":\"p1\",\"bus\":\"slot1\",\"netdev\":\"host-p1\",\"mac\":"
			"\"02:00:00:00:00:09\",\"romfile\":\"\",\"disable-legacy\":\"on\","
			"\"host_mtu\":1400}");
	expect_silence(f);
	answer(f, QMP_RETURN);
	expect_heard(f, "{\"result\":{\"id\":\"p1\"}}");
	expect_cards(f, "[\"p0\",\"p1\"]");
	add(f, "p1");
	expect_heard(f, "there is a device p1 already");
}

static void what_fails_leaves_nothing(void **state)
{
	static const char *const undone[] = { NULL, "\"closefd\"", "\"netdev_del\"" };
	struct fixture *f = *state;

	for (unsigned int failing = 0; failing < ARRAY_COUNT(undone); failing++) {
		add(f, "p1");
		expect_asked(f, "getfd");
		for (unsigned int i = 0; i < failing; i++) {
			answer(f, QMP_RETURN);
			expect_asked(f, i == 0 ? "netdev_add" : "device_add");
		}
		answer(f, QMP_ERROR);
		expect_heard(f, "{\"error\":\"no such thing\"}");
		if (undone[failing])
			expect_asked(f, undone[failing]);
		expect_cards(f, "[\"p0\"]");
	}
}

static void one_goes_when_the_guest_lets_go(void **state)
{
	struct fixture *f = *state;

	call_fd(f, "{\"method\":\"remove\",\"arguments\":{\"id\":\"p0\"}}", -1);
	expect_asked(f, "\"device_del\",\"arguments\":{\"id\":\"p0\"}");
	answer(f, QMP_RETURN);
	expect_silence(f);
	assert_true(qemu_cards_wait_ms(&f->qemu) > 9000);
	expect_cards(f, "[\"p0\"]");
	call_fd(f, "{\"method\":\"remove\",\"arguments\":{\"id\":\"p0\"}}", -1);
	expect_heard(f, "already");
	qemu_cards_deleted(&f->qemu, "somebody-else");
	qemu_cards_deleted(&f->qemu, "p0");
	expect_asked(f, "\"netdev_del\",\"arguments\":{\"id\":\"host-p0\"}");
	expect_heard(f, "{\"result\":{}}");
	expect_cards(f, "[]");
	assert_int_equal(qemu_cards_wait_ms(&f->qemu), -1);
	call_fd(f, "{\"method\":\"remove\",\"arguments\":{\"id\":\"p0\"}}", -1);
	expect_heard(f, "there is no card 'p0'");
}

static void one_that_the_guest_keeps_stays(void **state)
{
	struct fixture *f = *state;

	call_fd(f, "{\"method\":\"remove\",\"arguments\":{\"id\":\"p0\",\"timeout_ms\":0}}", -1);
	expect_asked(f, "device_del");
	answer(f, QMP_RETURN);
	assert_int_equal(qemu_cards_wait_ms(&f->qemu), 0);
	qemu_cards_tick(&f->qemu);
	expect_heard(f, "the guest did not let go of p0 within 0 ms; it stays");
	expect_cards(f, "[\"p0\"]");
	/* It may be asked again; when it lets go in between, that is known as well. */
	qemu_cards_deleted(&f->qemu, "p0");
	expect_silence(f);
	expect_cards(f, "[]");
}

static void there_is_room_for_so_many(void **state)
{
	struct fixture *f = *state;
	char id[] = "pX";

	for (int i = 1; i <= MACHINE_NICS_MAX; i++) {
		id[1] = (char) ('0' + i);
		add(f, id);
		if (i == MACHINE_NICS_MAX)
			break;
		expect_asked(f, "getfd");
		for (int step = 0; step < 3; step++) {
			answer(f, QMP_RETURN);
			if (step < 2)
				expect_asked(f, step == 0 ? "netdev_add" : "device_add");
		}
		expect_heard(f, "result");
	}
	expect_heard(f, "there can be 8 network cards");
}

static void what_is_no_card_is_refused(void **state)
{
	static const struct {
		const char *arguments, *words;
		bool fd;
	} wrong[] = {
		{ "{\"id\":\"a\\\"b\",\"mac\":\"02:00:00:00:00:09\"}", "arguments.id" },
		{ "{\"id\":\"1a\",\"mac\":\"02:00:00:00:00:09\"}", "arguments.id" },
		{ "{\"mac\":\"02:00:00:00:00:09\"}", "arguments.id" },
		{ "{\"id\":\"a\",\"mac\":\"02:00:00:00:00\"}", "arguments.mac" },
		{ "{\"id\":\"a\",\"mac\":\"02:00:00:00:00:0\\\"\"}", "arguments.mac" },
		{ "{\"id\":\"a\",\"mac\":\"02:00:00:00:00:09\",\"mtu\":70000}", "mtu" },
		{ "{\"id\":\"a\",\"mac\":\"02:00:00:00:00:09\",\"x\":1}", "x" },
		{ "{\"id\":\"a\",\"mac\":\"02:00:00:00:00:09\"}", "SCM_RIGHTS" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
		AUTO(free)
		char *body =
			mem_printf("{\"method\":\"add_nic\",\"arguments\":%s}", wrong[i].arguments);

		call_fd(f, body, -1);
		expect_heard(f, wrong[i].words);
	}
	assert_int_equal(f->qemu.qmp_out.size, 0);
	/* A descriptor that nobody wants ends the connection. */
	AUTO(fd_close) int fd = some_file();
	call_fd(f, "{\"method\":\"info\"}", fd);
	assert_int_equal(f->client->fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(those_of_the_command_line, setup, teardown),
		cmocka_unit_test_setup_teardown(one_comes, setup, teardown),
		cmocka_unit_test_setup_teardown(what_fails_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(one_goes_when_the_guest_lets_go, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_the_guest_keeps_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(there_is_room_for_so_many, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_card_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
