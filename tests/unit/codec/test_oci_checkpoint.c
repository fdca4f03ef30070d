#include "codec/oci_checkpoint.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"

static void test_round(void **state)
{
	AUTO(oci_checkpoint_done) struct oci_checkpoint from = {};
	AUTO(oci_checkpoint_done) struct oci_checkpoint to = {};
	AUTO(free) char *text = NULL;
	AUTO(free) char *again = NULL;

	(void) state;
	oci_checkpoint_add(&from, OCI_EXTERNAL_MOUNT, "/data", "sub/x");
	oci_checkpoint_add(&from, OCI_EXTERNAL_ROOT, "", "..a/b..");
	oci_checkpoint_add(&from, OCI_EXTERNAL_CGROUP, "cpu,cpuacct", "");
	oci_checkpoint_add(&from, OCI_EXTERNAL_DEVICE, "c:1:3", "");
	strv_append(&from.stdio, "");
	strv_append(&from.stdio, "pipe:[7]");
	text = oci_checkpoint_encode(&from);
	assert_int_equal(oci_checkpoint_decode(text, strlen(text), &to, NULL), 0);
	assert_int_equal(to.external_count, 4);
	assert_int_equal(to.externals[0].kind, OCI_EXTERNAL_MOUNT);
	assert_string_equal(to.externals[0].of, "/data");
	assert_string_equal(to.externals[0].below, "sub/x");
	assert_string_equal(to.externals[3].of, "c:1:3");
	assert_string_equal(to.stdio[1], "pipe:[7]");
	again = oci_checkpoint_encode(&to);
	assert_string_equal(text, again);
}

static void test_refused(void **state)
{
	static const struct {
		const char *text;
		const char *said;
	} bad[] = {
		{ "[]", "" },
		{ "{}", "version" },
		{ "{\"version\":2}", "version: 2" },
		{ "{\"version\":1,\"more\":1}", "more" },
		{ "{\"version\":1,\"externals\":[7]}", "externals[0]" },
		{ "{\"version\":1,\"externals\":[{\"kind\":\"host\"}]}", "host" },
		{ "{\"version\":1,\"externals\":[{\"kind\":\"root\",\"below\":\"/etc\"}]}",
		  "below" },
		{ "{\"version\":1,\"externals\":[{\"kind\":\"root\",\"below\":\"a/..\"}]}",
		  "below" },
		{ "{\"version\":1,\"externals\":[{\"kind\":\"root\",\"below\":\"..//a\"}]}",
		  "below" },
		{ "{\"version\":1,\"externals\":[{\"kind\":\"device\",\"of\":\"c:1\"}]}", "of" },
		{ "{\"version\":1,\"externals\":[{\"kind\":\"cgroup\",\"of\":\"../x\"}]}", "of" },
		{ "{\"version\":1,\"stdio\":[\"\",\"\",\"\",\"\"]}", "at most three" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct oci_checkpoint got;
		struct error err = {};

		if (oci_checkpoint_decode(bad[i].text, strlen(bad[i].text), &got, &err) >= 0)
			fail_msg("%s was taken", bad[i].text);
		if (!strstr(err.msg, bad[i].said))
			fail_msg("%s: %s", bad[i].text, err.msg);
	}
}

static void test_devices(void **state)
{
	static const char *const bad[] = {
		"", "c", "c:", "c:1", "d:1:3", "c:1:3x", "c:-1:3", "c: 1:3", "c:99999999999:1"
	};
	char type;
	dev_t dev;

	(void) state;
	assert_int_equal(oci_external_device("b:259:4", &type, &dev), 0);
	assert_int_equal(type, 'b');
	assert_int_equal(dev, makedev(259, 4));
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		if (oci_external_device(bad[i], &type, &dev) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
