#include "codec/oci_spec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"

#define PROCESS "\"process\":{\"cwd\":\"/\",\"args\":[\"true\"]"
#define HEAD "{\"ociVersion\":\"1.0.2\","

static struct oci_spec *good(const char *text)
{
	struct oci_spec *spec = NULL;
	struct error err = {};

	if (oci_spec_decode(text, strlen(text), &spec, &err) < 0)
		fail_msg("%s: %s", text, err.msg);
	return spec;
}

static void refused(const char *text, const char *said)
{
	struct oci_spec *spec = NULL;
	struct error err = {};

	if (oci_spec_decode(text, strlen(text), &spec, &err) == 0)
		fail_msg("was taken: %s", text);
	assert_null(spec);
	if (!strstr(err.msg, said))
		fail_msg("%s does not say %s", err.msg, said);
}

static void test_smallest(void **state)
{
	AUTO(oci_spec_free) struct oci_spec *spec = good(HEAD "\"root\":{\"path\":\"r\"}}");

	(void) state;
	assert_string_equal(spec->root_path, "r");
	assert_null(spec->process);
	assert_false(spec->linux_.ns[OCI_NS_PID].wanted);
}

static void test_process(void **state)
{
	AUTO(oci_spec_free)
	struct oci_spec *spec =
		good(HEAD PROCESS
		     ",\"user\":{\"uid\":1,\"gid\":2,\"umask\":18,\"additionalGids\":[3,4]},"
		     "\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":18446744073709551615,"
		     "\"hard\":18446744073709551615}],\"oomScoreAdj\":-5,"
		     "\"capabilities\":{\"bounding\":[\"CAP_KILL\"]}}}");
	const struct oci_process *process = spec->process;

	(void) state;
	assert_int_equal(process->uid, 1);
	assert_int_equal(process->gid, 2);
	assert_true(process->umask.set && process->umask.value == 18);
	assert_int_equal(process->group_count, 2);
	assert_int_equal(process->groups[1], 4);
	assert_true(process->rlimits[0].hard == UINT64_MAX);
	assert_int_equal(process->oom_score_adj.value, -5);
	assert_string_equal(process->capabilities[OCI_CAPS_BOUNDING][0], "CAP_KILL");
	assert_null(process->capabilities[OCI_CAPS_EFFECTIVE]);
}

static void test_linux(void **state)
{
	AUTO(oci_spec_free)
	struct oci_spec *spec = good(
		HEAD "\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\","
		     "\"path\":\"/n\"}],\"uidMappings\":[{\"containerID\":0,\"hostID\":5,"
		     "\"size\":6}],\"sysctl\":{\"a.b\":\"c\"},\"resources\":{\"devices\":[{"
		     "\"allow\":true,\"type\":\"c\",\"major\":-1,\"access\":\"rw\"}],\"memory\":{"
		     "\"limit\":-1},\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,"
		     "\"minor\":0,\"rate\":9}]}},\"devices\":[{\"path\":\"/dev/x\",\"type\":\"u\","
		     "\"major\":1,\"minor\":2,\"fileMode\":438}]}}");
	const struct oci_linux *linux_ = &spec->linux_;

	(void) state;
	assert_true(linux_->ns[OCI_NS_PID].wanted && !linux_->ns[OCI_NS_PID].path);
	assert_string_equal(linux_->ns[OCI_NS_NETWORK].path, "/n");
	assert_int_equal(linux_->uid_maps.list[0].host_id, 5);
	assert_string_equal(linux_->sysctl[0].value, "c");
	assert_false(linux_->resources.devices[0].major.set);
	assert_true(linux_->resources.memory.limit.set);
	assert_int_equal(linux_->resources.block_io.throttles[OCI_THROTTLE_READ_BPS].list[0].rate,
			 9);
	assert_int_equal(linux_->devices[0].type, 'c');
	assert_int_equal(linux_->devices[0].mode, 0666);
}

static void test_seccomp_is_left_out(void **state)
{
	AUTO(oci_spec_free)
	struct oci_spec *spec = good(
		HEAD "\"linux\":{\"seccomp\":{\"defaultAction\":\"}\"},\"cgroupsPath\":\"/x\"}}");
	AUTO(oci_spec_free)
	struct oci_spec *escaped =
		good(HEAD "\"linux\":{\"sec\\u0063omp\":{\"defaultAction\":\"A\"}}}");

	(void) state;
	assert_string_equal(spec->linux_.seccomp_text, "{\"defaultAction\":\"}\"}");
	assert_null(spec->linux_.seccomp);
	assert_string_equal(spec->linux_.cgroups_path, "/x");
	assert_null(escaped->linux_.seccomp_text);
	assert_non_null(escaped->linux_.seccomp);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *text;
		const char *said;
	} cases[] = {
		{ "", "not valid JSON" },
		{ "[]", "must be an object" },
		{ "{}", "ociVersion" },
		{ "{\"ociVersion\":\"one\"}", "like \"1.0.2\"" },
		{ "{\"ociVersion\":\"1.0.2x\"}", "1.0.2" },
		{ "{\"ociVersion\":\"1..2\"}", "like \"1.0.2\"" },
		{ "{\"ociVersion\":\"1.0\"}", "like \"1.0.2\"" },
		{ "{\"ociVersion\":\"2.0.0\"}", "not supported" },
		{ HEAD "\"root\":{}}", "root.path" },
		{ HEAD "\"process\":{\"cwd\":\"/\"}}", "process.args" },
		{ HEAD "\"process\":{\"args\":[\"x\"]}}", "process.cwd" },
		{ HEAD PROCESS ",\"user\":{\"uid\":-1}}}", "process.user.uid" },
		{ HEAD PROCESS ",\"terminal\":1}}", "process.terminal" },
		{ HEAD PROCESS ",\"env\":[1]}}", "process.env" },
		{ HEAD PROCESS ",\"env\":[\"a\\u0000b\"]}}", "NUL" },
		{ HEAD PROCESS ",\"rlimits\":[{\"soft\":1}]}}", "process.rlimits[0].type" },
		{ HEAD PROCESS ",\"rlimits\":[{\"type\":\"X\",\"soft\":\"5\",\"hard\":9}]}}",
		  "soft" },
		{ HEAD "\"mounts\":[{}]}", "mounts[0].destination" },
		{ HEAD "\"mounts\":{}}", "mounts" },
		{ HEAD "\"hooks\":{\"poststop\":[{\"path\":\"x\"}]}}", "hooks.poststop[0].path" },
		{ HEAD "\"annotations\":{\"\":\"x\"}}", "annotations" },
		{ HEAD "\"linux\":{\"namespaces\":[{\"type\":\"x\"}]}}",
		  "linux.namespaces[0].type" },
		{ HEAD "\"linux\":{\"uidMappings\":[{\"containerID\":0,\"hostID\":0,\"size\":0}]}}",
		  "linux.uidMappings[0].size" },
		{ HEAD "\"linux\":{\"uidMappings\":[{\"size\":1}]}}",
		  "linux.uidMappings[0].containerID: is missing" },
		{ HEAD "\"linux\":{\"intelRdt\":{\"closID\":\"../x\"}}}", "linux.intelRdt" },
		{ HEAD "\"linux\":{\"intelRdt\":{\"memBwSchema\":\"L3:0=1\"}}}", "memBwSchema" },
		{ HEAD "\"linux\":{\"netDevices\":{\"a/b\":{}}}}", "linux.netDevices.a/b" },
		{ HEAD "\"linux\":{\"netDevices\":{\"a\":{\"name\":\"x\"},\"x\":{}}}}", "twice" },
		{ HEAD "\"linux\":{\"timeOffsets\":{\"realtime\":{\"secs\":1}}}}", "realtime" },
		{ HEAD "\"linux\":{\"memoryPolicy\":{\"nodes\":\"0\"}}}", "memoryPolicy.mode" },
		{ HEAD "\"linux\":{\"devices\":[{\"type\":\"c\",\"path\":\"/x\"}]}}",
		  "linux.devices[0].major: is missing" },
		{ HEAD "\"linux\":{\"resources\":{\"blockIO\":{\"weightDevice\":[{\"major\":8,"
		       "\"minor\":0}]}}}}",
		  "leafWeight" },
		{ HEAD "\"linux\":{\"resources\":{\"rdma\":{\"x\":{}}}}}", "hcaHandles" },
		{ HEAD PROCESS ",\"user\":{\"username\":\"x\"}}}", "username" },
		{ HEAD PROCESS ",\"commandLine\":\"x\"}}", "commandLine" },
		{ HEAD PROCESS ",\"terminal\":true,\"consoleSize\":{\"height\":1}}}",
		  "process.consoleSize.width: is missing" },
		{ HEAD "\"linux\":{\"resources\":{\"hugepageLimits\":[{\"pageSize\":\"../x\"}]}}}",
		  "pageSize" },
		{ HEAD "\"linux\":{\"resources\":{\"devices\":[{\"access\":\"x\"}]}}}",
		  "linux.resources.devices[0].access" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		refused(cases[i].text, cases[i].said);
}

static void test_process_alone(void **state)
{
	static const char text[] = "{\"cwd\":\"/\",\"args\":[\"a\",\"b\"]}";
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;

	(void) state;
	assert_int_equal(oci_spec_decode_process(text, strlen(text), &spec, NULL), 0);
	assert_string_equal(spec->process->args[1], "b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_smallest), cmocka_unit_test(test_process),
		cmocka_unit_test(test_linux),    cmocka_unit_test(test_seccomp_is_left_out),
		cmocka_unit_test(test_refusals), cmocka_unit_test(test_process_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
