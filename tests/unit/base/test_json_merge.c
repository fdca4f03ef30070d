#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/json_merge.h"

/* Applies, compares, takes back, compares. */
static void check(const char *before, const char *patch, const char *after)
{
	AUTO(json_decref) json_t *object = json_loads(before, 0, NULL);
	AUTO(json_decref) json_t *first = json_deep_copy(object);
	AUTO(json_decref) json_t *change = json_loads(patch, 0, NULL);
	AUTO(json_decref) json_t *wanted = json_loads(after, 0, NULL);
	AUTO(json_decref) json_t *undo = json_merge_undo(object, change);

	json_merge(object, change);
	assert_true(json_equal(object, wanted));
	json_merge(object, undo);
	assert_true(json_equal(object, first));
}

/* From RFC 7396, appendix A, as far as objects go. */
static void merges_as_the_standard_says(void **state)
{
	(void) state;
	check("{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}");
	check("{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}");
	check("{\"a\":\"b\"}", "{\"a\":null}", "{}");
	check("{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}");
	check("{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}");
	check("{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}");
	check("{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}");
	check("{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}");
	check("{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}");
	check("{\"a\":{\"b\":{\"x\":1}}}", "{\"a\":{\"b\":{\"y\":2}}}",
	      "{\"a\":{\"b\":{\"x\":1,\"y\":2}}}");
}

static void leaves_the_patch_as_it_is(void **state)
{
	AUTO(json_decref) json_t *object = json_object();
	AUTO(json_decref) json_t *patch = json_loads("{\"a\":{\"b\":null,\"c\":1}}", 0, NULL);
	AUTO(json_decref) json_t *copy = json_deep_copy(patch);

	(void) state;
	json_merge(object, patch);
	json_merge(object, patch);
	assert_true(json_equal(patch, copy));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merges_as_the_standard_says),
		cmocka_unit_test(leaves_the_patch_as_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
