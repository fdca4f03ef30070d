#include "codec/guest_config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"

static const char minimal[] =
	"{\"version\":1,\"hostname\":\"web\",\"process\":{\"args\":[\"/bin/true\"],\"cwd\":\"/\"},"
	"\"root\":{\"lower\":\"brume-image\"}}";

static void test_round_trip(void **test_state)
{
	AUTO(json_decref)
	json_t *process =
		json_pack("{s:[s,s], s:s, s:[s], s:[{s:s, s:s, s:s}]}", "args", "/bin/sh", "-c",
			  "cwd", "/srv", "env", "A=b", "rlimits", "type", "RLIMIT_NOFILE", "soft",
			  "18446744073709551615", "hard", "18446744073709551615");
	AUTO(json_decref) json_t *object = NULL;
	AUTO(free) char *text = NULL;
	AUTO(guest_config_done) struct guest_config again = {};
	struct oci_pair sysctls[] = { { "net.core.somaxconn", "77" } };
	struct guest_config config = {
		.hostname = "web",
		.process_object = process,
		.user = "www",
		.input = true,
		.stop_signal = "QUIT",
		.lower = "brume-image",
		.upper = "brume-disk",
		.nics = { { .mac = { 2, 0, 0, 0xab, 0, 1 },
			    .name = "eth3",
			    .addresses = { "10.90.0.2/24", "fd00::2/64" },
			    .address_count = 2,
			    .gateways = { "10.90.0.1" },
			    .gateway_count = 1,
			    .mtu = 1400 } },
		.nic_count = 1,
		.nameservers = { "10.90.0.1" },
		.nameserver_count = 1,
		.search = { "brume.internal" },
		.search_count = 1,
		.hosts = "127.0.0.1 localhost\n",
		.tmpfs = { { .target = "/tmp", .size_bytes = 1 << 20, .mode = 0700 } },
		.tmpfs_count = 1,
		.sysctls = sysctls,
		.sysctl_count = 1,
		.reap = true,
		.pids_max = 100,
		.time_ms = 1795000000123,
	};

	(void) test_state;
	assert_int_equal(guest_config_encode(&config, &object, NULL), 0);
	text = json_text(object);
	assert_int_equal(guest_config_decode(text, strlen(text), &again, NULL), 0);
	assert_string_equal(again.hostname, "web");
	assert_string_equal(again.user, "www");
	assert_true(again.input && again.reap && !again.read_only);
	assert_string_equal(again.stop_signal, "QUIT");
	assert_string_equal(again.process->args[1], "-c");
	assert_string_equal(again.process->cwd, "/srv");
	assert_true(again.process->rlimits[0].soft == UINT64_MAX);
	assert_string_equal(again.upper, "brume-disk");
	assert_int_equal(again.nics[0].mac[3], 0xab);
	assert_string_equal(again.nics[0].name, "eth3");
	assert_string_equal(again.nics[0].addresses[1], "fd00::2/64");
	assert_int_equal(again.nics[0].mtu, 1400);
	assert_string_equal(again.search[0], "brume.internal");
	assert_string_equal(again.hosts, config.hosts);
	assert_int_equal(again.tmpfs[0].mode, 0700);
	assert_string_equal(again.sysctls[0].value, "77");
	assert_int_equal(again.pids_max, 100);
	assert_true(again.time_ms == config.time_ms);
}

static void test_interfaces_alone(void **test_state)
{
	AUTO(guest_config_done) struct guest_config again = {};
	AUTO(json_decref) json_t *list = NULL;
	const struct guest_nic nics[] = {
		{ .mac = { 2, 0, 0, 0, 0, 1 }, .name = "eth0", .mtu = 1500 },
		{ .mac = { 2, 0, 0, 0, 0, 2 }, .gateways = { "fd00::1" }, .gateway_count = 1 },
	};
	struct error err = {};

	(void) test_state;
	assert_int_equal(guest_nics_encode(nics, 2, &list, NULL), 0);
	assert_int_equal(guest_nics_decode(list, &again, NULL), 0);
	assert_int_equal(again.nic_count, 2);
	assert_string_equal(again.nics[0].name, "eth0");
	assert_null(again.nics[1].name);
	assert_string_equal(again.nics[1].gateways[0], "fd00::1");
	assert_int_equal(guest_nics_decode(NULL, &again, &err), -EINVAL);
	json_object_set_new(json_array_get(list, 1), "name", json_string("../eth"));
	assert_int_equal(guest_nics_decode(list, &again, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "network[1].name"));
	assert_int_equal(again.nic_count, 2);
}

static void test_defaults(void **test_state)
{
	AUTO(guest_config_done) struct guest_config config = {};

	(void) test_state;
	assert_int_equal(guest_config_decode(minimal, strlen(minimal), &config, NULL), 0);
	assert_null(config.upper);
	assert_null(config.user);
	assert_int_equal(config.nic_count, 0);
	assert_false(config.input);
}

static void test_bad(void **test_state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{ "", "not valid JSON" },
		{ "[]", "must be an object" },
		{ "{\"version\":2}", "version" },
		{ "{\"version\":1,\"hostname\":\"\"}", "hostname" },
		{ "{\"version\":1,\"hostname\":\"a\",\"x\":1}", "process" },
		{ "{\"version\":1,\"hostname\":\"a\",\"process\":{},\"root\":{}}", "root.lower" },
		{ "{\"version\":1,\"hostname\":\"a\",\"process\":{\"cwd\":\"/\"},\"root\":{"
		  "\"lower\":\"d\"}}",
		  "process.args" },
		{ "{\"version\":1,\"hostname\":\"a\",\"process\":{\"args\":[\"x\"],\"cwd\":\"/\"},"
		  "\"root\":{\"lower\":\"d\"},\"network\":[{\"mac\":\"02:00\"}]}",
		  "network[0].mac" },
		{ "{\"version\":1,\"hostname\":\"a\",\"process\":{\"args\":[\"x\"],\"cwd\":\"/\"},"
		  "\"root\":{\"lower\":\"d\"},\"tmpfs\":[{\"target\":\"tmp\"}]}",
		  "tmpfs[0].target" },
		{ "{\"version\":1,\"hostname\":\"a\",\"process\":{\"args\":[\"x\"],\"cwd\":\"/\"},"
		  "\"root\":{\"lower\":\"d\"},\"unknown\":1}",
		  "unknown" },
	};

	(void) test_state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct guest_config config = {};
		struct error err = {};

		assert_true(guest_config_decode(cases[i].text, strlen(cases[i].text), &config,
						&err) < 0);
		assert_non_null(strstr(err.msg, cases[i].words));
		assert_null(config.owner);
	}
}

static void test_not_utf8(void **test_state)
{
	AUTO(json_decref) json_t *process = json_object();
	struct guest_config config = {
		.hostname = "a", .process_object = process, .lower = "d", .hosts = "\xff"
	};
	json_t *object = NULL;

	(void) test_state;
	assert_int_equal(guest_config_encode(&config, &object, NULL), -EINVAL);
	assert_null(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_interfaces_alone),
		cmocka_unit_test(test_defaults),   cmocka_unit_test(test_bad),
		cmocka_unit_test(test_not_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
