#include "container/checkpoint.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static struct oci_spec *decode(const char *namespaces)
{
	AUTO(free)
	char *text = mem_printf("{\"ociVersion\":\"1.2.0\",\"process\":{\"cwd\":\"/\","
				"\"args\":[\"x\"],\"user\":{\"uid\":0,\"gid\":0}},\"root\":{"
				"\"path\":\"r\"},\"linux\":{\"namespaces\":[{\"type\":\"mount\"}"
				"%s]}}",
				namespaces);
	struct oci_spec *spec = NULL;
	struct error err = {};

	if (oci_spec_decode(text, strlen(text), &spec, &err) < 0)
		fail_msg("%s", err.msg);
	return spec;
}

static void test_check(void **state)
{
	AUTO(oci_spec_free)
	struct oci_spec *good = decode(",{\"type\":\"pid\"},{\"type\":\"network\","
				       "\"path\":\"/proc/1/ns/net\"}");
	AUTO(oci_spec_free)
	struct oci_spec *bad = decode(",{\"type\":\"ipc\",\"path\":\"/proc/1/ns/ipc\"}");
	struct error err = {};

	(void) state;
	assert_int_equal(checkpoint_check(good, NULL), 0);
	assert_int_equal(checkpoint_check(bad, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "linux.namespaces: ipc: CRIU cannot carry"));
}

static bool contains(const struct strbuf *request, const void *bytes, size_t size)
{
	for (size_t i = 0; i + size <= request->size; i++)
		if (memcmp(request->data + i, bytes, size) == 0)
			return true;
	return false;
}

#define HAS(request, bytes) contains(request, bytes, sizeof(bytes) - 1)

/* Options begin with their numbers; "\xb0\x02" is --empty-ns. */
static void test_request(void **state)
{
	AUTO(oci_spec_free) struct oci_spec *own = decode(",{\"type\":\"network\"}");
	AUTO(oci_spec_free)
	struct oci_spec *path = decode(",{\"type\":\"network\",\"path\":\"/proc/1/ns/net\"}");
	struct criu_folders folders = { 5, -1, "/images", "dump.log" };
	struct criu_options options = { .image_path = "/images", .cgroups = CRIU_CGROUPS_STRICT };
	AUTO(strbuf_done) struct strbuf plain = {};
	AUTO(strbuf_done) struct strbuf all = {};

	(void) state;
	checkpoint_request(path, &options, &folders, 77, &plain);
	assert_true(HAS(&plain, "\x08\x05")); /* folder */
	assert_true(HAS(&plain, "\x10\x4d")); /* pid */
	assert_true(HAS(&plain, "\x52\x08"
				"dump.log"));
	assert_true(HAS(&plain, "\x90\x02\x05")); /* control groups */
	assert_false(HAS(&plain, "\x18\x01"));    /* leave running */
	assert_false(HAS(&plain, "\x28\x01"));    /* connections */
	assert_false(HAS(&plain, "\x88\x01"));    /* other folder */
	assert_false(HAS(&plain, "\xb0\x02"));
	folders.work = 6;
	options.leave_running = options.tcp_established = options.ext_unix_sk = true;
	options.shell_job = options.file_locks = options.link_remap = options.auto_dedup = true;
	options.tcp_skip_in_flight = true;
	options.parent_path = "../first";
	checkpoint_request(own, &options, &folders, 77, &all);
	assert_true(HAS(&all, "\x18\x01\xf0\x02\x01\x90\x01\x01\x72\x08../first\x78\x01"));
	assert_true(HAS(&all, "\x28\x01\x20\x01\x38\x01\x40\x01\x80\x01\x01"));
	assert_true(HAS(&all, "\x88\x01\x06"));
	assert_true(HAS(&all, "\xb0\x02\x80\x80\x80\x80\x04"));
}

static void test_a_dump_before_the_dump_tracks_memory(void **state)
{
	AUTO(oci_spec_free) struct oci_spec *spec = decode("");
	struct criu_folders folders = { 5, -1, "/images", "dump.log" };
	struct criu_options options = { .image_path = "/images", .pre_dump = true };
	AUTO(strbuf_done) struct strbuf request = {};

	(void) state;
	checkpoint_request(spec, &options, &folders, 77, &request);
	assert_true(HAS(&request, "\x78\x01"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_a_dump_before_the_dump_tracks_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
