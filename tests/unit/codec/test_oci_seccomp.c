#include "codec/oci_seccomp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void test_good(void **state)
{
	static const char text[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"architectures\":["
		"\"SCMP_ARCH_X86\"],\"flags\":[],\"listenerPath\":\"/l\",\"syscalls\":[{\"names\":["
		"\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":1,\"value\":"
		"18446744073709551615,\"op\":\"SCMP_CMP_NE\"}]}]}";
	AUTO(oci_seccomp_free) struct oci_seccomp *seccomp = NULL;

	(void) state;
	assert_int_equal(oci_seccomp_decode(text, strlen(text), &seccomp, NULL), 0);
	assert_int_equal(seccomp->default_errno_ret.value, 38);
	assert_string_equal(seccomp->listener_path, "/l");
	assert_int_equal(seccomp->rule_count, 1);
	assert_string_equal(seccomp->rules[0].names[0], "read");
	assert_true(seccomp->rules[0].args[0].value == UINT64_MAX);
	assert_false(seccomp->rules[0].errno_ret.set);
}

static void test_bad(void **state)
{
	static const char *const cases[][2] = {
		{ "{}", "defaultAction" },
		{ "x", "JSON" },
		{ "{]", "JSON" },
		{ "{\"defaultAction\":\"A\",\"syscalls\":[{\"action\":\"B\"}]}", "names" },
		{ "{\"defaultAction\":\"A\",\"syscalls\":[{\"names\":[\"x\"]}]}", "action" },
		{ "{\"defaultAction\":\"A\",\"syscalls\":[{\"names\":[\"x\"],\"action\":\"B\","
		  "\"args\":[{\"index\":6,\"value\":0,\"op\":\"C\"}]}]}",
		  "index" },
		{ "{\"defaultAction\":\"A\",\"syscalls\":[{\"names\":[\"x\"],\"action\":\"B\","
		  "\"args\":[{\"index\":1,\"value\":0}]}]}",
		  "op" },
		{ "{\"defaultAction\":\"A\",\"syscalls\":[{\"names\":[\"x\"],\"action\":\"B\","
		  "\"args\":[{\"index\":1,\"op\":\"C\"}]}]}",
		  "value: is missing" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultErrnoRet\":1}",
		  "defaultErrnoRet" },
		{ "{\"defaultAction\":\"A\",\"syscalls\":[{\"names\":[\"x\"],\"action\":"
		  "\"SCMP_ACT_LOG\",\"errnoRet\":1}]}",
		  "errnoRet" },
		{ "{\"defaultAction\":\"A\",\"listenerMetadata\":\"x\"}", "listenerPath" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct oci_seccomp *seccomp = NULL;
		struct error err = {};

		assert_true(oci_seccomp_decode(cases[i][0], strlen(cases[i][0]), &seccomp, &err) <
			    0);
		assert_non_null(strstr(err.msg, cases[i][1]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
