#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <stdint.h>
#include <stdlib.h>

#include "cli/logline.h"

static void prints_lines_that_have_ended(void **state)
{
	AUTO(free) char *text = NULL;
	struct logline_printer printer = {};
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	(void) state;
	assert_int_equal(logline_print(&printer, out, false, "T1 on", 5), 0);
	assert_int_equal(logline_print(&printer, out, true, "T2 a \"b\"\nT3 \n", 13), 0);
	assert_int_equal(logline_print(&printer, out, false, "e\nT4 \xff\n", 7), 0);
	assert_int_equal(logline_print(&printer, out, false, "nothing", 7), 0);
	fclose(out);
	logline_printer_done(&printer);
	assert_string_equal(text,
			    "{\"line\":\"a \\\"b\\\"\",\"stream\":\"stderr\",\"time\":\"T2\"}\n"
			    "{\"line\":\"\",\"stream\":\"stderr\",\"time\":\"T3\"}\n"
			    "{\"line\":\"one\",\"stream\":\"stdout\",\"time\":\"T1\"}\n"
			    "{\"line\":\"?\",\"stream\":\"stdout\",\"time\":\"T4\"}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prints_lines_that_have_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
