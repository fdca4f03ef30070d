#include "codec/criu_rpc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void expect_bytes(const struct strbuf *got, const void *wanted, size_t size)
{
	assert_int_equal(got->size, size);
	assert_memory_equal(got->data, wanted, size);
}

/* The bytes are what the library of Protocol Buffers writes for the same message. */
static void test_requests(void **state)
{
	static const char wanted[] = "\x08\x02\x12\x31"
				     "\x08\x05"
				     "\x18\x01"
				     "\x52\x03log"
				     "\xba\x01\x0a\x0a\x04/key\x12\x02v1"
				     "\xca\x01\x03\x12\x01/"
				     "\xda\x01\x08\x0a\x03"
				     "k:1\x10\x81\x01"
				     "\x90\x02\x03"
				     "\xb0\x02\x80\x80\x80\x80\x04";
	AUTO(strbuf_done) struct strbuf options = {};
	AUTO(strbuf_done) struct strbuf request = {};

	(void) state;
	criu_put_number(&options, CRIU_OPT_IMAGES_DIR_FD, 5);
	criu_put_switch(&options, CRIU_OPT_LEAVE_RUNNING, true);
	criu_put_switch(&options, CRIU_OPT_SHELL_JOB, false);
	criu_put_text(&options, CRIU_OPT_LOG_FILE, "log");
	criu_put_text(&options, CRIU_OPT_ROOT, NULL);
	criu_put_mount(&options, "/key", "v1");
	criu_put_cgroup_root(&options, "/");
	criu_put_inherit(&options, "k:1", 129);
	criu_put_number(&options, CRIU_OPT_CGROUPS_MODE, CRIU_CGROUPS_SOFT);
	criu_put_number(&options, CRIU_OPT_EMPTY_NS, 0x40000000);
	criu_request_encode(&request, CRIU_RESTORE, &options);
	expect_bytes(&request, wanted, sizeof(wanted) - 1);
}

static void test_small_requests(void **state)
{
	AUTO(strbuf_done) struct strbuf version = {};
	AUTO(strbuf_done) struct strbuf good = {};
	AUTO(strbuf_done) struct strbuf bad = {};

	(void) state;
	criu_request_encode(&version, CRIU_VERSION, NULL);
	expect_bytes(&version, "\x08\x0a", 2);
	criu_notify_encode(&good, true);
	expect_bytes(&good, "\x08\x06\x18\x01", 4);
	criu_notify_encode(&bad, false);
	expect_bytes(&bad, "\x08\x06\x18\x00", 4);
}

static void test_version(void **state)
{
	/* As criu 3.17.1 has sent it. */
	static const char bytes[] = "\x08\n\x10\x01R\x06\x08\x03\x10\x11 \x01";
	struct criu_reply reply;

	(void) state;
	assert_int_equal(criu_reply_decode(bytes, sizeof(bytes) - 1, &reply), 0);
	assert_int_equal(reply.type, CRIU_VERSION);
	assert_true(reply.success);
	assert_int_equal(reply.version, 31701);
}

static void test_answers(void **state)
{
	/* As criu 3.17.1 has sent them: a dump that failed, a notice; then a restore. */
	static const char failed[] = "\x08\x01\x10\x00\x1a\x02\x08\x00";
	static const char notice[] = "\x08\x06\x10\x01*\x14\n\x10setup-namespaces\x10\x07";
	static const char restored[] = "\x08\x02\x10\x01\"\x03\x08\xb9`";
	struct criu_reply reply;

	(void) state;
	assert_int_equal(criu_reply_decode(failed, sizeof(failed) - 1, &reply), 0);
	assert_int_equal(reply.type, CRIU_DUMP);
	assert_false(reply.success);
	assert_int_equal(criu_reply_decode(notice, sizeof(notice) - 1, &reply), 0);
	assert_int_equal(reply.type, CRIU_NOTIFY);
	assert_string_equal(reply.script, "setup-namespaces");
	assert_int_equal(reply.pid, 7);
	assert_int_equal(criu_reply_decode(restored, sizeof(restored) - 1, &reply), 0);
	assert_int_equal(reply.type, CRIU_RESTORE);
	assert_int_equal(reply.pid, 12345);
}

static void test_what_is_not_known_is_passed_over(void **state)
{
	static const char bytes[] = "\x08\x02\x10\x01"
				    "\x99\x06"
				    "12345678"
				    "\x9d\x06"
				    "1234"
				    "\xa2\x06\x02zz";
	struct criu_reply reply;

	(void) state;
	assert_int_equal(criu_reply_decode(bytes, sizeof(bytes) - 1, &reply), 0);
	assert_int_equal(reply.type, CRIU_RESTORE);
}

static void test_hostile(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
	} bad[] = {
		{ "", 0 },
		{ "\x10\x01", 2 },                                          /* no type */
		{ "\x08", 1 },                                              /* no value */
		{ "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12 }, /* never ends */
		{ "\x08\x06*\x7f", 4 },                                     /* longer than it is */
		{ "\x08\x06*\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 13 },
		{ "\x08\x06*\x02\x0a\x05", 6 }, /* the same, inside */
		{ "\x0b\x01", 2 },              /* a group */
		{ "\x08\x06\x99\x06"
		  "1234",
		  8 },
	};
	struct criu_reply reply = { .version = 77 };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		if (criu_reply_decode(bad[i].bytes, bad[i].size, &reply) != -EBADMSG)
			fail_msg("number %zu was taken", i);
	assert_int_equal(reply.version, 77);
}

static void test_long_texts_are_cut(void **state)
{
	AUTO(strbuf_done) struct strbuf bytes = {};
	struct criu_reply reply;

	(void) state;
	strbuf_append(&bytes, "\x08\x06*\x66\n\x64", 6);
	for (int i = 0; i < 100; i++)
		strbuf_append(&bytes, "a", 1);
	assert_int_equal(criu_reply_decode(bytes.data, bytes.size, &reply), 0);
	assert_int_equal(strlen(reply.script), sizeof(reply.script) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_small_requests),
		cmocka_unit_test(test_version),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_what_is_not_known_is_passed_over),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_long_texts_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
