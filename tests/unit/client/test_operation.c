#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "client/operation.h"
#include "client/websocket.h"

static int judge(const char *text, struct error *err)
{
	AUTO(json_decref) json_t *operation = json_loads(text, 0, NULL);

	assert_non_null(operation);
	return operation_result(operation, err);
}

static void test_result(void **state)
{
	struct error err = {};

	(void) state;
	assert_int_equal(judge("{\"status\":{\"state\":\"done\"}}", &err), 0);
	assert_int_equal(judge("{\"status\":{\"state\":\"failed\",\"error\":\"no disk\"}}", &err),
			 -EIO);
	assert_string_equal(err.msg, "no disk");
	assert_int_equal(judge("{\"status\":{\"state\":\"cancelled\"}}", &err), -ECANCELED);
	assert_int_equal(judge("{\"status\":{\"state\":\"odd\"}}", &err), -EPROTO);
	assert_int_equal(judge("{}", &err), -EPROTO);
	assert_int_equal(judge("[]", &err), -EPROTO);
}

static void test_id(void **state)
{
	AUTO(json_decref) json_t *named = json_loads("{\"meta\":{\"name\":\"ab\"}}", 0, NULL);
	AUTO(json_decref) json_t *odd = json_loads("{\"meta\":{\"name\":3}}", 0, NULL);

	(void) state;
	assert_string_equal(operation_id(named), "ab");
	assert_string_equal(operation_id(odd), "");
}

/* The example of RFC 6455, section 1.3. */
static void test_accept_key(void **state)
{
	char accept[WEBSOCKET_ACCEPT_SIZE];

	(void) state;
	websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ==", accept);
	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_result),
		cmocka_unit_test(test_id),
		cmocka_unit_test(test_accept_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
