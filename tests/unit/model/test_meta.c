#include "model_test.h"

#include "base/strv.h"
#include "model/meta.h"

static void test_names(void **state)
{
	static const char *const good[] = {
		"a", "web", "web-1", "a0",
		"abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc"
	};
	static const char *const bad[] = {
		"",    "-a",
		"a-",  "A",
		"1a",  "a_b",
		"a.b", "a b",
		"a/b", "\xc3\xa9",
		"a\n", "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcd"
	};
	struct error err;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++)
		assert_int_equal(name_check(good[i], "name", NULL), 0);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(name_check(bad[i], "name", &err), -EINVAL);
		assert_memory_equal(err.msg, "name: ", 6);
	}
	assert_int_equal(name_check(NULL, "name", NULL), -EINVAL);
}

static void test_labels(void **state)
{
	static char *const good[] = { (char *) "a=1", (char *) "org.x/y-z_0=", NULL };
	static char *const no_key[] = { (char *) "=1", NULL };
	static char *const bad_key[] = { (char *) "-a=1", NULL };
	static char *const space[] = { (char *) "a b=1", NULL };
	AUTO(strv_free) char **many = NULL;

	(void) state;
	assert_int_equal(labels_check(good, NULL), 0);
	assert_int_equal(labels_check(NULL, NULL), 0);
	assert_int_equal(labels_check(no_key, NULL), -EINVAL);
	assert_int_equal(labels_check(bad_key, NULL), -EINVAL);
	assert_int_equal(labels_check(space, NULL), -EINVAL);
	for (int i = 0; i < 65; i++)
		strv_append(&many, "a=1");
	assert_int_equal(labels_check(many, NULL), -EINVAL);
}

static void test_resource(void **state)
{
	static const struct {
		const char *text, *word;
	} bad[] = {
		{ "[]", "document: must be an object" },
		{ "{}", "kind: must be \"node\"" },
		{ "{'kind':'image','meta':{'name':'a'}}", "kind: must be \"node\"" },
		{ "{'kind':'node'}", "meta: is missing" },
		{ "{'kind':'node','meta':{}}", "meta.name: is missing" },
		{ "{'kind':'node','meta':{'name':'a','uid':'XY'}}", "meta.uid: must be 32" },
		{ "{'kind':'node','meta':{'name':'a','size':1}}", "meta.size: is not known" },
		{ "{'kind':'node','meta':{'name':'a','created':'today'}}", "meta.created" },
		{ "{'kind':'node','meta':{'name':'a','labels':{'a':1}}}", "meta.labels" },
		{ "{'kind':'node','meta':{'name':'a','labels':{'a=b':'1'}}}", "meta.labels" },
		{ "{'kind':'node','meta':{'name':'a'},'more':1}", "more: is not known" },
	};
	json_t *spec, *status;
	struct error err;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(json_decref) json_t *doc = parse(bad[i].text);
		struct meta meta = {};

		assert_int_equal(meta_decode_resource(doc, KIND_NODE, &meta, &spec, &status, &err),
				 -EINVAL);
		if (!strstr(err.msg, bad[i].word))
			fail_msg("%s: %s", bad[i].text, err.msg);
		meta_done(&meta);
	}
}

static void test_round_trip(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse(
		"{'kind':'node','meta':{'name':'a','project':'p','revision':7,'generation':2,"
		"'uid':'0123456789abcdef0123456789abcdef','created':'2026-11-21T01:30:00.123Z',"
		"'deleted':'2026-11-21T01:31:00.000Z','labels':{'k':'v=w','l':''}},'spec':{}}");
	struct meta meta = {}, copy;
	json_t *spec, *status;

	(void) state;
	assert_int_equal(meta_decode_resource(doc, KIND_NODE, &meta, &spec, &status, NULL), 0);
	assert_null(status);
	meta_copy(&copy, &meta);
	AUTO(json_decref)
	json_t *encoded = meta_encode_resource(KIND_NODE, &copy, json_incref(spec), NULL);
	assert_json_equal(doc, encoded);
	meta_done(&meta);
	meta_done(&copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_resource),
		cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
