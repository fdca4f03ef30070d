#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/error.h"
#include "base/json.h"
#include "model/node.h"

static const char hello[] =
	"{\"boot_id\":\"b\",\"cgroup\":\"v2\",\"cpus\":2,\"kernel\":\"6.1\",\"memory_bytes\":4096,"
	"\"node\":\"one\",\"version\":\"0.1.0\",\"virtualization\":{\"apicv\":false,\"backend\":"
	"\"qemu\",\"iommu\":true,\"nested_paging\":true,\"ring0_mips\":0.5,\"ring3_mips\":2200.0,"
	"\"usable\":false,\"why\":\"too slow\"}}";

static int decode(const char *text, struct node_facts *facts, struct error *err)
{
	AUTO(json_decref) json_t *object = json_loads(text, 0, NULL);
	AUTO(free) char *name = NULL;

	assert_non_null(object);
	return node_hello_decode(object, &name, facts, err);
}

static void hello_goes_there_and_back(void **state)
{
	struct node_facts facts = {}, copy = {};

	(void) state;
	assert_int_equal(decode(hello, &facts, NULL), 0);
	node_facts_copy(&copy, &facts);
	node_facts_done(&facts);
	assert_string_equal(copy.virtualization.backend, "qemu");
	assert_false(copy.virtualization.usable);
	AUTO(json_decref) json_t *again = node_hello_encode("one", &copy);
	AUTO(free) char *text = json_text(again);
	assert_string_equal(text, hello);
	node_facts_copy(&copy, &copy);
	node_facts_done(&copy);
}

static void an_older_node_says_nothing_of_machines(void **state)
{
	struct node_facts facts = {};

	(void) state;
	assert_int_equal(decode("{\"node\":\"one\",\"cpus\":2}", &facts, NULL), 0);
	assert_null(facts.virtualization.why);
	AUTO(json_decref) json_t *again = node_hello_encode("one", &facts);
	assert_null(json_object_get(again, "virtualization"));
	node_facts_done(&facts);
}

static void refuses_what_is_no_fact(void **state)
{
	static const char *const wrong[] = {
		"{\"node\":\"one\",\"virtualization\":[]}",
		"{\"node\":\"one\",\"virtualization\":{\"usable\":1}}",
		"{\"node\":\"one\",\"virtualization\":{\"ring0_mips\":\"fast\"}}",
		"{\"node\":\"one\",\"virtualization\":{\"speed\":1}}",
		"{\"node\":\"ONE\"}",
		"{\"node\":\"one\",\"cpus\":-1}",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct node_facts facts = {};
		struct error err = {};

		assert_true(decode(wrong[i], &facts, &err) < 0);
		if (i < 4)
			assert_non_null(strstr(err.msg, "hello.virtualization"));
		node_facts_done(&facts);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_goes_there_and_back),
		cmocka_unit_test(an_older_node_says_nothing_of_machines),
		cmocka_unit_test(refuses_what_is_no_fact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
