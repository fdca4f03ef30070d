#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/name.h"
#include "model/meta.h"

struct counting {
	struct rng rng;
	unsigned char next;
};

static void fill(struct rng *rng, void *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((unsigned char *) data)[i] = ((struct counting *) rng)->next++;
}

/* Every made-up name is a name; after a few that were taken they carry a number. */
static void test_names(void **state)
{
	struct counting counting = { .rng.fill = fill };
	char name[NAME_TEXT_SIZE];

	(void) state;
	for (unsigned int attempt = 0; attempt < 600; attempt++) {
		name_make(&counting.rng, attempt % 12, name);
		assert_int_equal(name_check(name, "name", NULL), 0);
		assert_int_equal(strpbrk(name, "0123456789") != NULL, attempt % 12 >= 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_names) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
