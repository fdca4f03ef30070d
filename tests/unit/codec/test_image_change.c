#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "codec/image_change.h"

/* Applies up to four changes to a configuration and compares the outcome. */
static void check(const char *before, const char *const *changes, const char *after)
{
	AUTO(json_decref) json_t *config = json_loads(before, 0, NULL);
	AUTO(json_decref) json_t *wanted = json_loads(after, 0, NULL);
	struct error err = {};
	char *list[8] = {};

	assert_non_null(config);
	assert_non_null(wanted);
	for (size_t i = 0; changes[i]; i++)
		list[i] = (char *) changes[i];
	if (image_changes_apply(config, list, &err) < 0)
		fail_msg("%s", err.msg);
	AUTO(free) char *text = json_text(config);
	AUTO(free) char *wanted_text = json_text(wanted);
	assert_string_equal(text, wanted_text);
}

#define CHECK(before, after, ...) check(before, (const char *const[]){ __VA_ARGS__, NULL }, after)

static void test_commands(void **state)
{
	(void) state;
	CHECK("{}", "{\"Cmd\":[\"a\",\"b c\"]}", "CMD [\"a\", \"b c\"]");
	CHECK("{}", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"echo a b\"]}", "cmd   echo a b");
	CHECK("{}", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"/bin/bash\"]}", "CMD=/bin/bash");
	CHECK("{}", "{\"Cmd\":[]}", "CMD []");
	/* A new entrypoint has nothing to do with the old command. */
	CHECK("{\"Cmd\":[\"x\"]}", "{\"Entrypoint\":[\"a\"]}", "ENTRYPOINT [\"a\"]");
	CHECK("{\"Cmd\":[\"x\"]}", "{\"Cmd\":[\"y\"],\"Entrypoint\":[\"a\"]}", "CMD [\"y\"]",
	      "ENTRYPOINT [\"a\"]");
}

static void test_environment(void **state)
{
	(void) state;
	CHECK("{\"Env\":[\"A=1\",\"B=2\"]}", "{\"Env\":[\"A=3\",\"B=2\",\"C=d e\",\"F=g h\"]}",
	      "ENV A=3 C=\"d e\" F=g\\ h");
	CHECK("{\"Env\":null}", "{\"Env\":[\"A=b with blanks\"]}", "ENV A b with blanks");
	CHECK("{}", "{\"Env\":[\"A=b=c\",\"D=\"]}", "ENV=A=b=c D=");
	CHECK("{}", "{\"Env\":[\"A=b \\\"c\"]}", "ENV [\"A=b \\\"c\"]");
	CHECK("{\"Labels\":null}", "{\"Labels\":{\"a\":\"b\",\"c d\":\"e\"}}", "LABEL a=b 'c d'=e");
}

static void test_the_rest(void **state)
{
	(void) state;
	CHECK("{\"ExposedPorts\":{\"1/tcp\":{}}}",
	      "{\"ExposedPorts\":{\"1/tcp\":{},\"53/udp\":{},\"80/tcp\":{}}}", "EXPOSE 80 53/udp");
	CHECK("{\"WorkingDir\":\"/srv\"}", "{\"WorkingDir\":\"/srv/www\"}", "WORKDIR www");
	CHECK("{}", "{\"WorkingDir\":\"/www\"}", "WORKDIR www");
	CHECK("{}", "{\"User\":\"web:staff\",\"StopSignal\":\"SIGINT\",\"Volumes\":{\"/d\":{}}}",
	      "USER web:staff", "STOPSIGNAL SIGINT", "VOLUME /d");
	CHECK("{\"OnBuild\":[\"RUN a\"]}", "{\"OnBuild\":[\"RUN a\",\"RUN b c\"]}",
	      "ONBUILD RUN b c");
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"RUN x",
		"",
		"CMD",
		"CMD   ",
		"CMDx y",
		"CMD [\"a\"",
		"CMD [1]",
		"ENV",
		"ENV A",
		"ENV =b",
		"ENV A=\"b",
		"ENV A=b c",
		"LABEL a",
		"EXPOSE x",
		"EXPOSE 0",
		"EXPOSE 65536",
		"EXPOSE 80/icmp",
		"EXPOSE -1",
		"VOLUME data",
		"USER a b",
		"STOPSIGNAL a b",
		"CMD a\nRUN b",
		"HEALTHCHECK NONE",
		"CMD \xff",
		"USER \xff",
		"ENV A=\xff",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *list[] = { (char *) bad[i], NULL };
		struct error err = {};

		if (image_changes_check(list, &err) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		assert_true(err.msg[0]);
	}
}

static void test_bounds(void **state)
{
	char *list[IMAGE_CHANGES_MAX + 2] = {};
	struct error err = {};

	(void) state;
	for (size_t i = 0; i < IMAGE_CHANGES_MAX; i++)
		list[i] = (char *) "ENV A=b";
	assert_int_equal(image_changes_check(list, &err), 0);
	list[IMAGE_CHANGES_MAX] = (char *) "ENV A=b";
	assert_int_equal(image_changes_check(list, &err), -E2BIG);
	assert_int_equal(image_changes_check(NULL, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands), cmocka_unit_test(test_environment),
		cmocka_unit_test(test_the_rest), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
