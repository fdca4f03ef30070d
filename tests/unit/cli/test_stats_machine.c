#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/stats_machine.h"

static char *rows_of(const char *text)
{
	const struct table_style style = { .format = FORMAT_PLAIN };
	AUTO(table_free) struct table *table = table_new(stats_machine_columns);
	AUTO(json_decref) json_t *machine = json_loads(text, 0, NULL);
	char *out = NULL;
	size_t size;
	FILE *file = open_memstream(&out, &size);

	assert_non_null(machine);
	stats_machine_put(table, machine);
	table_print(table, file, &style);
	fclose(file);
	return out;
}

static void names_each_counter(void **state)
{
	AUTO(free)
	char *rows = rows_of("{\"cpus\":[{\"exits\":{\"io\":3,\"mmio\":0},\"runs\":9}],"
			     "\"devices\":[{\"id\":\"disk0\",\"type\":\"blk\",\"requests\":7}],"
			     "\"io\":{\"ranges\":[{\"name\":\"rtc\",\"reads\":2}],\"lost\":0}}");

	(void) state;
	assert_string_equal(rows, "cpus.0.exits.io\t3\ncpus.0.runs\t9\ndevices.disk0.requests\t7\n"
				  "io.ranges.rtc.reads\t2\n");
}

/* It comes from a monitor that a guest may have taken over. */
static void bears_anything(void **state)
{
	AUTO(free) char *none = rows_of("{}");
	AUTO(free)
	char *odd = rows_of("{\"a\":\"text\",\"b\":null,\"c\":[1,[2]],\"\\u001b[2J\":4}");
	char deep[256] = "";

	(void) state;
	assert_string_equal(none, "");
	assert_non_null(strstr(odd, "c.0\t1\nc.1.0\t2\n"));
	assert_null(strchr(odd, '\33'));
	for (int i = 0; i < 40; i++)
		strcat(deep, "{\"a\":");
	strcat(deep, "1");
	for (int i = 0; i < 40; i++)
		strcat(deep, "}");
	AUTO(free) char *cut = rows_of(deep);
	assert_string_equal(cut, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_each_counter),
		cmocka_unit_test(bears_anything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
