#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"

static json_t *parse(const char *text)
{
	json_t *value = NULL;

	assert_int_equal(json_parse(text, strlen(text), 10000, &value, NULL), 0);
	return value;
}

static void refuses_bad_documents(void **state)
{
	static const char *const bad[] = {
		"", "{", "{\"a\":1,\"a\":2}", "[1,]", "\"\xff\"", "nul"
	};
	struct error err = {};
	json_t *value = NULL;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(json_parse(bad[i], strlen(bad[i]), 100, &value, &err), -EINVAL);
	assert_int_equal(json_parse("[1,2,3]", 7, 6, &value, &err), -EFBIG);
	assert_non_null(strstr(err.msg, "7 bytes, at most 6"));
	assert_null(value);
}

static void reads_every_type(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse("{\"s\":\"x\",\"b\":true,\"i\":-3,\"u\":7,\"l\":18446744073709549568.0,"
			    "\"n\":1.5,\"v\":[\"a\",\"b\"],\"o\":{},\"a\":[],\"t\":"
			    "\"2026-01-31T12:00:00Z\",\"any\":3,\"null\":null}");
	struct error err = {};
	struct json_reader in = { .err = &err };
	AUTO(free) char *s = NULL;
	AUTO(free) char *null = NULL;
	AUTO(strv_free) char **v = NULL;
	bool b = false;
	int64_t i = 0, t = 0;
	uint32_t u = 0;
	uint64_t l = 0;
	double n = 0;
	json_t *o = NULL, *a = NULL, *any = NULL;

	(void) state;
	json_read_string(&in, doc, "s", &s);
	json_read_string(&in, doc, "null", &null);
	json_read_bool(&in, doc, "b", &b);
	json_read_int(&in, doc, "i", -5, 5, &i);
	json_read_uint32(&in, doc, "u", 7, &u);
	json_read_uint64(&in, doc, "l", &l);
	json_read_number(&in, doc, "n", &n);
	json_read_strv(&in, doc, "v", &v);
	json_read_object(&in, doc, "o", &o);
	json_read_array(&in, doc, "a", &a);
	json_read_time(&in, doc, "t", &t);
	json_read_any(&in, doc, "any", &any);
	json_read_string(&in, doc, "absent", &null);
	assert_int_equal(json_reader_finish(&in, doc), 0);
	assert_string_equal(s, "x");
	assert_null(null);
	assert_true(b);
	assert_int_equal(i, -3);
	assert_int_equal(u, 7);
	assert_true(l == 18446744073709549568ULL);
	assert_true(n == 1.5);
	assert_string_equal(v[1], "b");
	assert_true(json_is_object(o) && json_is_array(a) && json_is_integer(any));
	assert_true(t == 1769860800000);
}

/* Each reads member "m" as another type; the wrong type must be refused with the place. */
static void wrong_types_name_the_place(void **state)
{
	AUTO(json_decref) json_t *string = parse("{\"m\":\"x\"}");
	AUTO(json_decref) json_t *number = parse("{\"m\":-1}");
	struct error err = {};
	char *s = NULL, **v = NULL;
	bool b;
	int64_t i;
	uint32_t u = 0;
	uint64_t l;
	double n;
	json_t *o;

	(void) state;
#define REFUSED(read)                                                                              \
	do {                                                                                       \
		struct json_reader in = { .err = &err, .where = "spec" };                          \
		assert_int_equal(read, -EINVAL);                                                   \
		assert_int_equal(in.result, -EINVAL);                                              \
		assert_memory_equal(err.msg, "spec.m: must be", 15);                               \
	} while (0)
	REFUSED(json_read_string(&in, number, "m", &s));
	REFUSED(json_read_bool(&in, number, "m", &b));
	REFUSED(json_read_int(&in, string, "m", 0, 9, &i));
	REFUSED(json_read_int(&in, number, "m", 0, 9, &i));
	REFUSED(json_read_uint32(&in, number, "m", 9, &u));
	REFUSED(json_read_uint64(&in, number, "m", &l));
	REFUSED(json_read_number(&in, string, "m", &n));
	REFUSED(json_read_strv(&in, string, "m", &v));
	REFUSED(json_read_object(&in, string, "m", &o));
	REFUSED(json_read_array(&in, string, "m", &o));
	REFUSED(json_read_time(&in, string, "m", &i));
#undef REFUSED
	assert_null(s);
	assert_null(v);
}

static void remembers_the_first_error(void **state)
{
	AUTO(json_decref) json_t *doc = parse("{\"a\":1,\"b\":2,\"c\":[1]}");
	struct error err = {};
	struct json_reader in = { .err = &err };
	bool flag = false;
	char **strv = NULL;

	(void) state;
	json_read_bool(&in, doc, "a", &flag);
	json_read_strv(&in, doc, "c", &strv);
	assert_int_equal(json_reader_finish(&in, doc), -EINVAL);
	assert_string_equal(err.msg, "a: must be true or false");
	assert_null(strv);
}

static void refuses_unknown_members(void **state)
{
	AUTO(json_decref) json_t *doc = parse("{\"a\":1,\"surprise\":2}");
	AUTO(json_decref) json_t *array = parse("[]");
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "body" };
	struct json_reader other = { .err = &err, .where = "" };
	int64_t a = 0;

	(void) state;
	json_read_int(&in, doc, "a", 0, 1, &a);
	assert_int_equal(json_reader_finish(&in, doc), -EINVAL);
	assert_string_equal(err.msg, "body.surprise: is not known");
	assert_int_equal(json_read_int(&other, array, "a", 0, 1, &a), -EINVAL);
	assert_string_equal(err.msg, "document: must be an object");
}

static void hidden_nul_is_refused(void **state)
{
	AUTO(json_decref) json_t *doc = json_pack("{s:s#, s:[s#]}", "m", "a\0b", 3, "v", "a\0b", 3);
	struct json_reader in = {};
	struct json_reader list = {};
	char *s = NULL, **v = NULL;

	(void) state;
	assert_int_equal(json_read_string(&in, doc, "m", &s), -EINVAL);
	assert_int_equal(json_read_strv(&list, doc, "v", &v), -EINVAL);
}

static void writes_only_what_there_is(void **state)
{
	AUTO(json_decref) json_t *doc = json_object();
	char *words[] = { (char *) "b", (char *) "a", NULL };

	(void) state;
	json_put_string(doc, "z", "1");
	json_put_string(doc, "empty", "");
	json_put_string(doc, "none", NULL);
	json_put_time(doc, "never", 0);
	json_put_time(doc, "t", 1000);
	json_put_strv(doc, "v", words);
	json_put_strv(doc, "no", NULL);
	AUTO(free) char *text = json_text(doc);
	assert_string_equal(text,
			    "{\"t\":\"1970-01-01T00:00:01.000Z\",\"v\":[\"b\",\"a\"],\"z\":\"1\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_bad_documents),
		cmocka_unit_test(reads_every_type),
		cmocka_unit_test(wrong_types_name_the_place),
		cmocka_unit_test(remembers_the_first_error),
		cmocka_unit_test(refuses_unknown_members),
		cmocka_unit_test(hidden_nul_is_refused),
		cmocka_unit_test(writes_only_what_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
