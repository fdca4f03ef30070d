#include "container/sync.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "container/process.h"

static void test_messages(void **state)
{
	struct error sent = { .code = -ENOENT, .msg = "no such thing" }, got = {};
	pid_t pid = 0;
	int pair[2];

	(void) state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(sync_send(pair[0], SYNC_GO, 42), 0);
	assert_int_equal(sync_expect(pair[1], SYNC_GO, &pid, &got), 0);
	assert_int_equal(pid, 42);
	assert_int_equal(sync_send(pair[0], SYNC_GO, 0), 0);
	assert_int_equal(sync_expect(pair[1], SYNC_READY, NULL, &got), -EPROTO);
	assert_int_equal(sync_send_error(pair[0], &sent), 0);
	assert_int_equal(sync_expect(pair[1], SYNC_READY, NULL, &got), -ENOENT);
	assert_string_equal(got.msg, "no such thing");
	/* Codes beyond errno's that say why a program does not run; others are not believed. */
	assert_int_equal(sync_send_error(pair[0], &(struct error){ PROCESS_MISSING, "missing" }),
			 0);
	assert_int_equal(sync_expect(pair[1], SYNC_READY, NULL, &got), PROCESS_MISSING);
	assert_int_equal(sync_send_error(pair[0], &(struct error){ -10125, "unknown" }), 0);
	assert_int_equal(sync_expect(pair[1], SYNC_READY, NULL, &got), -EPROTO);
	assert_int_equal(send(pair[0], "junk", 4, 0), 4);
	assert_int_equal(sync_expect_end(pair[1], &got), -EPROTO);
	close(pair[0]);
	assert_int_equal(sync_expect_end(pair[1], &got), 0);
	assert_int_equal(sync_expect(pair[1], SYNC_GO, NULL, &got), -EPIPE);
	assert_int_equal(sync_send(pair[1], SYNC_GO, 0), -EPIPE);
	close(pair[1]);
}

/* The last word of somebody who ended without hearing ours is not lost. */
static void test_last_words(void **state)
{
	struct error sent = { .code = -EPERM, .msg = "refused" }, got = {};
	int pair[2];

	(void) state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(sync_send(pair[1], SYNC_GO, 42), 0);
	assert_int_equal(sync_send_error(pair[0], &sent), 0);
	close(pair[0]);
	assert_int_equal(sync_expect(pair[1], SYNC_READY, NULL, &got), -EPERM);
	assert_string_equal(got.msg, "refused");
	assert_int_equal(sync_expect_end(pair[1], &got), 0);
	close(pair[1]);
}

/* What becomes an exit code arrives; any other number that is no errno is not believed. */
static void test_codes(void **state)
{
	static const struct {
		int sent, got;
	} codes[] = { { PROCESS_MISSING, PROCESS_MISSING },
		      { PROCESS_UNUSABLE, PROCESS_UNUSABLE },
		      { -4095, -4095 },
		      { -4096, -EPROTO },
		      { 0, -EPROTO },
		      { 5, -EPROTO } };
	int pair[2];

	(void) state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
		struct error sent = { .code = codes[i].sent, .msg = "why" };

		assert_int_equal(sync_send_error(pair[0], &sent), 0);
		assert_int_equal(sync_expect(pair[1], SYNC_READY, NULL, NULL), codes[i].got);
	}
	close(pair[0]);
	close(pair[1]);
}

/* What sync.c sends, here with anything in it. */
struct raw {
	int type;
	pid_t pid;
	int code;
	char text[480];
};

static int receive(const struct raw *message, size_t size, enum sync_type *ret_type,
		   struct error *err)
{
	int pair[2], r;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(send(pair[0], message, size, 0), size);
	r = sync_next(pair[1], ret_type, NULL, err);
	close(pair[0]);
	close(pair[1]);
	return r;
}

/* Init is a container's by then: whatever it sends is refused, or means what it says. */
static void test_what_is_no_message(void **state)
{
	struct raw message = { .type = SYNC_READY };
	enum sync_type type = SYNC_GO;
	struct error err = {};

	(void) state;
	assert_int_equal(receive(&message, sizeof(message), &type, &err), 0);
	assert_int_equal(type, SYNC_READY);
	assert_int_equal(receive(&message, 8, &type, &err), -EPROTO);
	for (int number = -1; number <= SYNC_ERROR + 1; number += SYNC_ERROR + 2) {
		message.type = number;
		assert_int_equal(receive(&message, sizeof(message), &type, &err), -EPROTO);
	}
	message = (struct raw){ .type = SYNC_ERROR, .code = -ENOENT };
	assert_int_equal(receive(&message, sizeof(message), &type, &err), -EPROTO);
	memset(message.text, 'x', sizeof(message.text));
	assert_int_equal(receive(&message, sizeof(message), &type, &err), -ENOENT);
	assert_int_equal(strlen(err.msg), sizeof(message.text) - 1);
	assert_int_equal(type, SYNC_READY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_what_is_no_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
