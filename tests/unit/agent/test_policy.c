#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/policy.h"
#include "base/capname.h"
#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"
#include "model/run_options.h"

static int decode(const char *text, struct policy **ret, struct error *err)
{
	AUTO(json_decref) json_t *document = json_loads(text, 0, NULL);

	assert_non_null(document);
	return policy_decode(document, ret, err);
}

static void test_everything_is_read(void **state)
{
	AUTO(policy_free) struct policy *policy = NULL;

	(void) state;
	assert_int_equal(
		decode("{\"mounts\": [{\"path\": \"/srv\", \"read_only\": true, \"idmap\": "
		       "\"same\", \"projects\": [\"a\"]}, {\"path\": \"/srv/b\", \"idmap\": "
		       "\"7:8\"}, {\"path\": \"/\"}],"
		       "\"devices\": [{\"path\": \"/dev/fuse\", \"access\": \"rw\"}, {\"path\": "
		       "\"/dev/x\"}],"
		       "\"deny_capabilities\": [\"net_admin\"]}",
		       &policy, NULL),
		0);
	assert_int_equal(policy->mount_count, 3);
	assert_true(policy->mounts[0].read_only);
	assert_int_equal(policy->mounts[0].idmap, POLICY_IDMAP_SAME);
	assert_int_equal(policy->mounts[1].idmap, POLICY_IDMAP_USER);
	assert_int_equal(policy->mounts[1].uid, 7);
	assert_int_equal(policy->mounts[1].gid, 8);
	assert_int_equal(policy->mounts[2].idmap, POLICY_IDMAP_NONE);
	assert_string_equal(policy->devices[0].access, "rw");
	assert_string_equal(policy->devices[1].access, "rwm");
	assert_int_equal(policy->denied_capabilities, UINT64_C(1) << capname_number("NET_ADMIN"));
}

static void test_uplinks(void **state)
{
	AUTO(policy_free) struct policy *policy = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(decode("{\"uplinks\": [{\"name\": \"eth1\"}, {\"name\": \"br0\", "
				"\"projects\": [\"a\"]}]}",
				&policy, NULL),
			 0);
	assert_int_equal(policy_check_uplink(policy, "b", "eth1", &err), 0);
	assert_int_equal(policy_check_uplink(policy, "a", "br0", &err), 0);
	assert_int_equal(policy_check_uplink(policy, "b", "br0", &err), -EPERM);
	assert_int_equal(policy_check_uplink(policy, "a", "eth10", &err), -EPERM);
	assert_non_null(strstr(err.msg, "uplink eth10"));
}

static void test_prefixes_that_may_be_announced(void **state)
{
	static const struct {
		const char *project, *subnet;
		bool allowed;
	} cases[] = {
		{ "a", "203.0.113.0/24", true },     { "b", "203.0.113.16/28", true },
		{ "b", "203.0.113.255/32", true },   { "b", "203.0.112.0/23", false },
		{ "b", "203.0.114.0/28", false },    { "b", "0.0.0.0/0", false },
		{ "a", "2001:db8:7::/48", true },    { "a", "2001:db8:7:1::/64", true },
		{ "b", "2001:db8:7:1::/64", false }, { "a", "2001:db8:6:1::/64", false },
	};
	AUTO(policy_free) struct policy *policy = NULL, *empty = NULL;
	struct subnet subnet;
	struct error err = {};

	(void) state;
	assert_int_equal(decode("{\"advertise\": [{\"prefix\": \"203.0.113.0/24\"}, {\"prefix\": "
				"\"2001:db8:7::/48\", \"projects\": [\"a\"]}]}",
				&policy, NULL),
			 0);
	assert_int_equal(decode("{}", &empty, NULL), 0);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		assert_int_equal(subnet_parse(cases[i].subnet, 0, "", &subnet, NULL), 0);
		if (policy_check_advertise(policy, cases[i].project, &subnet, &err) !=
		    (cases[i].allowed ? 0 : -EPERM))
			fail_msg("%s of %s", cases[i].subnet, cases[i].project);
		assert_int_equal(policy_check_advertise(empty, cases[i].project, &subnet, &err),
				 -EPERM);
	}
	assert_non_null(strstr(err.msg, "announce 2001:db8:6:1::/64"));
}

static void test_what_is_wrong_is_named(void **state)
{
	static const char *const bad[][2] = {
		{ "{\"mount\": []}", "mount" },
		{ "{\"mounts\": [{}]}", "mounts[0].path" },
		{ "{\"uplinks\": [{}]}", "uplinks[0].name" },
		{ "{\"uplinks\": [{\"path\": \"eth1\", \"name\": \"eth1\"}]}", "path" },
		{ "{\"advertise\": [{}]}", "advertise[0].prefix" },
		{ "{\"advertise\": [{\"prefix\": \"203.0.113.1/24\"}]}", "did you mean" },
		{ "{\"advertise\": [{\"prefix\": \"203.0.113.0/24\", \"as\": 1}]}", "as" },
		{ "{\"mounts\": [{\"path\": \"srv\"}]}", "mounts[0].path" },
		{ "{\"mounts\": [{\"path\": \"/srv/\"}]}", "mounts[0].path" },
		{ "{\"mounts\": [{\"path\": \"/a//b\"}]}", "mounts[0].path" },
		{ "{\"mounts\": [{\"path\": \"/a/../b\"}]}", "mounts[0].path" },
		{ "{\"mounts\": [{\"path\": \"/a/..\"}]}", "mounts[0].path" },
		{ "{\"mounts\": [{\"path\": \"/..\"}]}", "mounts[0].path" },
		{ "{\"mounts\": [{\"path\": \"/a\", \"idmap\": \"1\"}]}", "mounts[0].idmap" },
		{ "{\"mounts\": [{\"path\": \"/a\", \"idmap\": \"1:2x\"}]}", "mounts[0].idmap" },
		{ "{\"mounts\": [{\"path\": \"/a\", \"idmap\": \":\"}]}", "mounts[0].idmap" },
		{ "{\"mounts\": [{\"path\": \"/a\"}, {\"path\": \"/b\", \"x\": 1}]}", "mounts[1]" },
		{ "{\"mounts\": [\"/a\"]}", "mounts[0]" },
		{ "{\"devices\": [{\"path\": \"/dev/x\", \"access\": \"rx\"}]}", "devices[0]" },
		{ "{\"deny_capabilities\": [\"NOTHING\"]}", "deny_capabilities" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct policy *policy = NULL;
		struct error err = {};

		if (decode(bad[i][0], &policy, &err) >= 0 || !strstr(err.msg, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], err.msg);
	}
}

static void test_the_longest_entry_of_the_project_covers(void **state)
{
	AUTO(policy_free) struct policy *policy = NULL;

	(void) state;
	assert_int_equal(decode("{\"mounts\": [{\"path\": \"/srv\"}, {\"path\": \"/srv/own\", "
				"\"projects\": [\"a\"]}]}",
				&policy, NULL),
			 0);
	assert_ptr_equal(policy_find_mount(policy, "a", "/srv/own/x"), &policy->mounts[1]);
	assert_ptr_equal(policy_find_mount(policy, "b", "/srv/own/x"), &policy->mounts[0]);
	assert_ptr_equal(policy_find_mount(policy, "a", "/srv"), &policy->mounts[0]);
	assert_ptr_equal(policy_find_mount(policy, "a", "/srv/ownership"), &policy->mounts[0]);
	assert_null(policy_find_mount(policy, "a", "/srvx"));
	assert_null(policy_find_mount(policy, "a", "/"));
	assert_null(policy_find_mount(policy, "a", "/sr"));
}

static void test_devices_are_named_exactly(void **state)
{
	AUTO(policy_free) struct policy *policy = NULL;

	(void) state;
	assert_int_equal(decode("{\"devices\": [{\"path\": \"/dev/net/tun\", \"projects\": "
				"[\"a\"]}]}",
				&policy, NULL),
			 0);
	assert_non_null(policy_find_device(policy, "a", "/dev/net/tun"));
	assert_null(policy_find_device(policy, "b", "/dev/net/tun"));
	assert_null(policy_find_device(policy, "a", "/dev/net"));
	assert_null(policy_find_device(policy, "a", "/dev/net/tun0"));
}

static void test_denied_capabilities(void **state)
{
	AUTO(policy_free) struct policy *policy = NULL;
	AUTO(policy_free) struct policy *empty = NULL;
	struct run_options run = {};
	struct error err = {};

	(void) state;
	assert_int_equal(decode("{\"deny_capabilities\": [\"SYS_ADMIN\"]}", &policy, NULL), 0);
	assert_int_equal(decode("{}", &empty, NULL), 0);
	strv_append(&run.cap_add, "CAP_NET_ADMIN");
	assert_int_equal(policy_check_capabilities(policy, &run, NULL), 0);
	strv_append(&run.cap_add, "CAP_SYS_ADMIN");
	assert_int_equal(policy_check_capabilities(policy, &run, &err), -EPERM);
	assert_non_null(strstr(err.msg, "CAP_SYS_ADMIN"));
	assert_int_equal(policy_check_capabilities(empty, &run, NULL), 0);
	run_options_done(&run);
	run.privileged = true;
	assert_int_equal(policy_check_capabilities(policy, &run, NULL), -EPERM);
	assert_int_equal(policy_check_capabilities(empty, &run, NULL), 0);
}

static void test_a_file_that_others_may_write_is_refused(void **state)
{
	char path[] = "/tmp/test-policy-XXXXXX";
	struct policy *policy = NULL;
	struct error err = {};
	int fd = mkstemp(path);

	(void) state;
	assert_true(fd >= 0 && write(fd, "{}", 2) == 2);
	assert_int_equal(fchmod(fd, 0644), 0);
	assert_int_equal(policy_load(path, &policy, &err), 0);
	policy_free(policy);
	assert_int_equal(fchmod(fd, 0664), 0);
	assert_int_equal(policy_load(path, &policy, &err), -EPERM);
	assert_int_equal(fchmod(fd, 0600), 0);
	assert_int_equal(ftruncate(fd, 1), 0);
	assert_true(policy_load(path, &policy, &err) < 0);
	assert_non_null(strstr(err.msg, path));
	close(fd);
	unlink(path);
	/* None at all gives nothing. */
	assert_int_equal(policy_load(path, &policy, &err), 0);
	assert_null(policy_find_mount(policy, "default", "/"));
	policy_free(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_is_read),
		cmocka_unit_test(test_uplinks),
		cmocka_unit_test(test_prefixes_that_may_be_announced),
		cmocka_unit_test(test_what_is_wrong_is_named),
		cmocka_unit_test(test_the_longest_entry_of_the_project_covers),
		cmocka_unit_test(test_devices_are_named_exactly),
		cmocka_unit_test(test_denied_capabilities),
		cmocka_unit_test(test_a_file_that_others_may_write_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
