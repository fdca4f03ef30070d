#include "model/instance_patch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/instance.h"

static struct instance *make(void)
{
	struct instance *instance = mem_new0(struct instance);

	instance_spec_init(&instance->spec);
	instance->spec.image = mem_strdup("web");
	instance->spec.cpus = 2;
	instance->spec.memory_bytes = 64 << 20;
	instance->spec.restart_policy = RESTART_ON_FAILURE;
	instance->spec.restart_max_retries = 3;
	instance->spec.stop_signal = mem_strdup("INT");
	strv_env_set(&instance->spec.env, "A", "1");
	strv_env_set(&instance->spec.env, "B", "2");
	strv_env_set(&instance->meta.labels, "tier", "back");
	return instance;
}

static json_t *patch_of(const char *text)
{
	json_t *patch = json_loads(text, 0, NULL);

	assert_non_null(patch);
	return patch;
}

static void changes_what_is_named(void **state)
{
	AUTO(instance_free) struct instance *instance = make();
	AUTO(json_decref)
	json_t *patch = patch_of("{\"limits\":{\"cpus\":null,\"pids\":5},\"restart\":{\"policy\":"
				 "\"always\"},\"env\":{\"A\":null,\"C\":\"3\"},\"labels\":{\"x\":"
				 "\"y\"},\"stop_signal\":null,\"stop_timeout_s\":3}");
	const struct instance_spec *spec = &instance->spec;

	(void) state;
	assert_int_equal(instance_patch(instance, patch, NULL), 0);
	assert_true(spec->cpus == 0);
	assert_int_equal(spec->memory_bytes, 64 << 20);
	assert_int_equal(spec->pids, 5);
	assert_int_equal(spec->restart_policy, RESTART_ALWAYS);
	assert_int_equal(spec->restart_max_retries, 0);
	assert_null(strv_env_get(spec->env, "A"));
	assert_string_equal(strv_env_get(spec->env, "B"), "2");
	assert_string_equal(strv_env_get(spec->env, "C"), "3");
	assert_string_equal(strv_env_get(instance->meta.labels, "tier"), "back");
	assert_null(spec->stop_signal);
	assert_int_equal(spec->stop_timeout_s, 3);
}

static void null_takes_all_away(void **state)
{
	AUTO(instance_free) struct instance *instance = make();
	AUTO(json_decref)
	json_t *patch = patch_of("{\"limits\":null,\"restart\":null,\"env\":null,\"labels\":null,"
				 "\"stop_timeout_s\":null}");

	(void) state;
	assert_int_equal(instance_patch(instance, patch, NULL), 0);
	assert_true(instance->spec.cpus == 0 && instance->spec.memory_bytes == 0);
	assert_int_equal(instance->spec.restart_policy, RESTART_NO);
	assert_null(instance->spec.env);
	assert_null(instance->meta.labels);
	assert_int_equal(instance->spec.stop_timeout_s, INSTANCE_STOP_TIMEOUT_S);
}

static void undo_gives_it_back(void **state)
{
	static const char *const patches[] = {
		"{\"limits\":{\"cpus\":null,\"pids\":5,\"memory_bytes\":99999999}}",
		"{\"limits\":null,\"labels\":null,\"env\":null,\"restart\":null}",
		"{\"restart\":{\"policy\":\"always\"},\"stop_signal\":\"TERM\",\"stop_timeout_s\":"
		"1}",
		"{\"env\":{\"A\":null,\"B\":\"x\",\"C\":\"3\"},\"labels\":{\"tier\":null,\"n\":"
		"\"\"}}",
		"{\"stop_signal\":null,\"stop_timeout_s\":null}",
		"{}",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(patches); i++) {
		AUTO(instance_free) struct instance *instance = make();
		AUTO(json_decref) json_t *patch = patch_of(patches[i]);
		AUTO(json_decref) json_t *before = instance_encode(instance, ENCODE_STORE);
		AUTO(json_decref) json_t *undo = instance_patch_undo(instance, patch);
		AUTO(json_decref) json_t *after = NULL;

		assert_int_equal(instance_patch(instance, patch, NULL), 0);
		assert_int_equal(instance_patch(instance, undo, NULL), 0);
		after = instance_encode(instance, ENCODE_STORE);
		if (!json_equal(before, after))
			fail_msg("%s: %s", patches[i], json_dumps(after, 0));
	}
}

static void refuses_what_is_not_right(void **state)
{
	static const char *const patches[][2] = {
		{ "{\"image\":\"x\"}", "image: cannot be changed after the launch" },
		{ "{\"ports\":[]}", "ports: are added and removed one by one" },
		{ "{\"limits\":{\"cpus\":0}}", "limits.cpus: must be a number" },
		{ "{\"limits\":{\"memory_bytes\":5}}", "limits.memory_bytes: must be at least" },
		{ "{\"limits\":{\"disk\":5}}", "limits.disk" },
		{ "{\"limits\":\"all\"}", "limits" },
		{ "{\"restart\":{\"policy\":\"often\"}}", "restart.policy" },
		{ "{\"env\":{\"\":\"x\"}}", "env: \"\" is not a name" },
		{ "{\"env\":{\"A\":1}}", "env: \"A\" must be a string, or null" },
		{ "{\"labels\":{\"bad key\":\"x\"}}", "label" },
		{ "{\"stop_timeout_s\":-1}", "stop_timeout_s" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(patches); i++) {
		AUTO(instance_free) struct instance *instance = make();
		AUTO(json_decref) json_t *patch = patch_of(patches[i][0]);
		struct error err = {};

		assert_int_equal(instance_patch(instance, patch, &err), -EINVAL);
		if (!strstr(err.msg, patches[i][1]))
			fail_msg("%s: %s", patches[i][0], err.msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_what_is_named),
		cmocka_unit_test(null_takes_all_away),
		cmocka_unit_test(undo_gives_it_back),
		cmocka_unit_test(refuses_what_is_not_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
