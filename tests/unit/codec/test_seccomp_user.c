#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/seccomp_user.h"

#define CAP(name) (UINT64_C(1) << (name))

static const struct seccomp_user_host plain = { 0, 6, 1 };

/* The result, or NULL. */
static char *resolve(const char *text, const struct seccomp_user_host *host, struct error *err)
{
	AUTO(json_decref) json_t *profile = json_loads(text, 0, NULL);
	AUTO(json_decref) json_t *result = NULL;

	assert_non_null(profile);
	return seccomp_user_resolve(profile, host, &result, err) < 0 ? NULL : json_text(result);
}

static void the_specifications_form_stays_as_it_is(void **state)
{
	static const char text[] =
		"{\"architectures\":[\"SCMP_ARCH_X86_64\"],\"defaultAction\":\"SCMP_ACT_ALLOW\","
		"\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"],\"syscalls\":[{\"action\":"
		"\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":1}],"
		"\"errnoRet\":13,\"names\":[\"mkdir\",\"mkdirat\"]}]}";
	AUTO(free) char *got = resolve(text, &plain, NULL);

	(void) state;
	assert_string_equal(got, text);
}

static char *one_rule(const char *conditions)
{
	return mem_printf("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,"
			  "\"defaultErrno\":\"EPERM\",\"syscalls\":[{\"names\":[\"bpf\"],"
			  "\"action\":\"SCMP_ACT_ALLOW\",\"args\":null,\"comment\":\"x\"%s}]}",
			  conditions);
}

static bool is_there(const char *conditions, const struct seccomp_user_host *host)
{
	AUTO(free) char *text = one_rule(conditions);
	AUTO(free) char *got = resolve(text, host, NULL);

	assert_non_null(got);
	assert_null(strstr(got, "includes"));
	return strstr(got, "bpf");
}

static void conditions_count(void **state)
{
	struct seccomp_user_host admin = { CAP(CAP_SYS_ADMIN), 6, 1 };
	struct seccomp_user_host both = { CAP(CAP_SYS_ADMIN) | CAP(CAP_BPF), 6, 1 };

	(void) state;
	assert_true(is_there("", &plain));
	assert_true(is_there(",\"includes\":{},\"excludes\":{}", &plain));
	assert_false(is_there(",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}", &plain));
	assert_true(is_there(",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}", &admin));
	/* All of them must be there; of those that exclude one is enough. */
	assert_false(is_there(",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\",\"CAP_BPF\"]}", &admin));
	assert_true(is_there(",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\",\"CAP_BPF\"]}", &both));
	assert_false(is_there(",\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\",\"CAP_BPF\"]}", &admin));
	assert_true(is_there(",\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\",\"CAP_BPF\"]}", &plain));
	assert_false(is_there(",\"includes\":{\"arches\":[\"s390x\"]}", &plain));
	assert_true(is_there(",\"includes\":{\"arches\":[\"s390x\",\"amd64\",\"arm64\"]}", &plain));
	assert_false(is_there(",\"excludes\":{\"arches\":[\"amd64\",\"arm64\"]}", &plain));
	assert_true(is_there(",\"includes\":{\"minKernel\":\"4.8\"}", &plain));
	assert_true(is_there(",\"includes\":{\"minKernel\":\"6.1\"}", &plain));
	assert_false(is_there(",\"includes\":{\"minKernel\":\"6.2\"}", &plain));
	assert_false(is_there(",\"excludes\":{\"minKernel\":\"4.8\"}", &plain));
}

static void dockers_architectures(void **state)
{
	AUTO(free)
	char *got = resolve("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"archMap\":[{\"architecture\":"
			    "\"SCMP_ARCH_S390X\",\"subArchitectures\":[\"SCMP_ARCH_S390\"]},"
			    "{\"architecture\":\"SCMP_ARCH_X86_64\",\"subArchitectures\":"
			    "[\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"]},{\"architecture\":"
			    "\"SCMP_ARCH_AARCH64\",\"subArchitectures\":[\"SCMP_ARCH_ARM\"]}]}",
			    &plain, NULL);

	(void) state;
	assert_non_null(got);
#if defined(__x86_64__)
	assert_non_null(strstr(got, "[\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"]"));
#else
	assert_non_null(strstr(got, "[\"SCMP_ARCH_AARCH64\",\"SCMP_ARCH_ARM\"]"));
#endif
	assert_null(strstr(got, "S390"));
}

static void what_is_wrong_is_named(void **state)
{
	static const char *const rows[][2] = {
		{ "[]", "must be an object" },
		{ "{}", "defaultAction" },
		{ "{\"defaultAction\":3}", "defaultAction" },
		{ "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "process of the host" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/x\"}",
		  "listenerPath" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"more\":1}", "more" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[],\"archMap\":[]}",
		  "archMap" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":{}}", "syscalls" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[1]}", "syscalls[0]" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"action\":\"x\"}]}",
		  "syscalls[0].names" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"x\"]}]}",
		  "action" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"],"
		  "\"action\":\"SCMP_ACT_NOTIFY\"}]}",
		  "process of the host" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"],"
		  "\"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":9,\"value\":1}]}]}",
		  "index" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"],"
		  "\"action\":\"SCMP_ACT_ERRNO\",\"includes\":{\"caps\":[\"CAP_X\"]}}]}",
		  "syscalls[0].includes.caps" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"],"
		  "\"action\":\"SCMP_ACT_ERRNO\",\"includes\":{\"minKernel\":\"4\"}}]}",
		  "minKernel" },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"],"
		  "\"action\":\"SCMP_ACT_ERRNO\",\"excludes\":{\"distro\":\"x\"}}]}",
		  "distro" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct error err = {};
		char *got = resolve(rows[i][0], &plain, &err);

		assert_null(got);
		if (!strstr(err.msg, rows[i][1]))
			fail_msg("%s: %s", rows[i][0], err.msg);
	}
}

static void the_size_is_bounded(void **state)
{
	AUTO(json_decref)
	json_t *profile = json_pack("{s:s, s:[]}", "defaultAction", "SCMP_ACT_ALLOW", "syscalls");
	AUTO(json_decref) json_t *result = NULL;
	json_t *rules = json_object_get(profile, "syscalls");
	struct error err = {};

	(void) state;
	for (unsigned int i = 0; i < SECCOMP_USER_MAX_BYTES / 40; i++)
		json_array_append_new(rules, json_pack("{s:[s], s:s}", "names", "mkdir", "action",
						       "SCMP_ACT_ERRNO"));
	assert_int_equal(seccomp_user_resolve(profile, &plain, &result, &err), -E2BIG);
	assert_null(result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_specifications_form_stays_as_it_is),
		cmocka_unit_test(conditions_count),
		cmocka_unit_test(dockers_architectures),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(the_size_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
