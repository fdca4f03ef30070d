#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/keeper_wire.h"

static struct keeper_msg spawn_message(struct strbuf *argv, struct strbuf *env)
{
	static char *const words[] = { "/bin/echo", "", "three words here", NULL };
	static char *const vars[] = { "A=b", NULL };
	struct keeper_msg msg = { .type = KEEPER_SPAWN,
				  .job = "i-0123abc",
				  .mode = KEEPER_PID_FILE,
				  .stdio = KEEPER_LOGGED,
				  .cwd = "/tmp",
				  .log = "/tmp/log",
				  .pid_file = "/tmp/pid",
				  .log_max_bytes = 1 << 20,
				  .log_max_files = 7,
				  .input = KEEPER_INPUT_TERMINAL,
				  .owner_uid = 0x40000000,
				  .owner_gid = 7,
				  .fd_count = 2,
				  .fds = { 3, 4 } };

	msg.argv = keeper_strings_pack(argv, words);
	msg.env = keeper_strings_pack(env, vars);
	return msg;
}

static void decodes_what_it_encodes(void **state)
{
	AUTO(strbuf_done) struct strbuf argv = {}, env = {}, wire = {};
	struct keeper_msg msg = spawn_message(&argv, &env), got;

	(void) state;
	assert_int_equal(keeper_msg_encode(&msg, &wire), 0);
	assert_int_equal(keeper_msg_decode(wire.data, wire.size, &got), 0);
	assert_int_equal(got.type, KEEPER_SPAWN);
	assert_string_equal(got.job, "i-0123abc");
	assert_int_equal(got.mode, KEEPER_PID_FILE);
	assert_string_equal(got.cwd, "/tmp");
	assert_string_equal(got.log, "/tmp/log");
	assert_string_equal(got.pid_file, "/tmp/pid");
	assert_null(got.message);
	assert_int_equal(got.log_max_bytes, 1 << 20);
	assert_int_equal(got.log_max_files, 7);
	assert_int_equal(got.input, KEEPER_INPUT_TERMINAL);
	assert_int_equal(got.owner_uid, 0x40000000);
	assert_int_equal(got.owner_gid, 7);
	assert_int_equal(got.fd_count, 2);
	assert_int_equal(got.fds[1], 4);
	AUTO(free) char **words = keeper_strings_unpack(&got.argv);
	assert_int_equal(got.argv.count, 3);
	assert_string_equal(words[1], "");
	assert_string_equal(words[2], "three words here");
	assert_null(words[3]);
	assert_int_equal(got.env.count, 1);
}

static void decodes_an_event(void **state)
{
	AUTO(strbuf_done) struct strbuf wire = {};
	struct keeper_msg msg = { .type = KEEPER_EXITED,
				  .job = "d-1",
				  .pid = 77,
				  .exit_kind = KEEPER_EXIT_SIGNAL,
				  .exit_value = 9 };
	struct keeper_msg got;

	(void) state;
	assert_int_equal(keeper_msg_encode(&msg, &wire), 0);
	assert_int_equal(keeper_msg_decode(wire.data, wire.size, &got), 0);
	assert_int_equal(got.pid, 77);
	assert_int_equal(got.exit_kind, KEEPER_EXIT_SIGNAL);
	assert_int_equal(got.exit_value, 9);
}

/* Every cut of a message is refused or complete, never read beyond its end (the sanitizer looks).
 */
static void survives_every_cut_and_flip(void **state)
{
	AUTO(strbuf_done) struct strbuf argv = {}, env = {}, wire = {};
	struct keeper_msg msg = spawn_message(&argv, &env), got;

	(void) state;
	assert_int_equal(keeper_msg_encode(&msg, &wire), 0);
	for (size_t size = 0; size < wire.size; size++) {
		AUTO(free) char *cut = mem_zalloc(size + 1);
		memcpy(cut, wire.data, size);
		keeper_msg_decode(cut, size, &got);
	}
	for (size_t i = 0; i < wire.size; i++) {
		wire.data[i] = (char) ~wire.data[i];
		keeper_msg_decode(wire.data, wire.size, &got);
		wire.data[i] = (char) ~wire.data[i];
	}
}

static void refuses_incomplete_requests(void **state)
{
	struct keeper_msg bad[] = {
		{ .type = KEEPER_SPAWN, .job = "x" },
		{ .type = KEEPER_SIGNAL, .job = "x" },
		{ .type = KEEPER_FORGET },
		{ .type = KEEPER_FORGET, .job = "../etc" },
		{ .type = KEEPER_FORGET, .job = "a.b" },
		{ .type = (enum keeper_type) 31, .job = "x" },
		{ .type = KEEPER_RECORD, .job = "x" },
	};
	struct keeper_msg got;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		AUTO(strbuf_done) struct strbuf wire = {};
		assert_int_equal(keeper_msg_encode(&bad[i], &wire), 0);
		assert_int_equal(keeper_msg_decode(wire.data, wire.size, &got), -EBADMSG);
	}
}

static void refuses_what_is_too_large(void **state)
{
	AUTO(strbuf_done) struct strbuf words = {}, wire = {};
	AUTO(free) char *big = mem_zalloc(KEEPER_MSG_MAX + 1);
	char *strv[] = { big, NULL };
	struct keeper_msg msg = { .type = KEEPER_SPAWN, .job = "x", .stdio = KEEPER_GIVEN };

	(void) state;
	memset(big, 'a', KEEPER_MSG_MAX);
	msg.argv = keeper_strings_pack(&words, strv);
	assert_int_equal(keeper_msg_encode(&msg, &wire), -EMSGSIZE);
}

static void knows_job_names(void **state)
{
	char long_name[KEEPER_JOB_MAX + 2];

	(void) state;
	memset(long_name, 'a', sizeof(long_name));
	long_name[KEEPER_JOB_MAX + 1] = '\0';
	assert_false(keeper_job_valid(long_name));
	assert_true(keeper_job_valid(long_name + 1));
	assert_false(keeper_job_valid(""));
	assert_false(keeper_job_valid("a/b"));
	assert_true(keeper_job_valid("i-0_Z"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_what_it_encodes),
		cmocka_unit_test(decodes_an_event),
		cmocka_unit_test(survives_every_cut_and_flip),
		cmocka_unit_test(refuses_incomplete_requests),
		cmocka_unit_test(refuses_what_is_too_large),
		cmocka_unit_test(knows_job_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
