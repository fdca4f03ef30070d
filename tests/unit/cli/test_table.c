#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "cli/human.h"
#include "cli/progress.h"
#include "cli/resource.h"
#include "cli/table.h"

static const struct column columns[] = {
	{ .title = "NAME" },
	{ .title = "IMAGE", .elastic = true },
	{ .title = "COUNT", .right = true },
	{ .title = "STATE", .state = true },
	{ .title = "NODE", .wide = true },
	{},
};

static void check(const struct table_style *style, const char *expected)
{
	AUTO(table_free) struct table *table = table_new(columns);
	AUTO(free) char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	table_cell(table, "web");
	table_cell(table, "registry.example.org/team/web:2");
	table_cell(table, "7");
	table_cell(table, "running");
	table_cell(table, "here");
	table_cell(table, "b\033[31m,\"x");
	table_cell(table, "");
	table_cell(table, "12345");
	table_cell(table, NULL);
	table_cell(table, "n");
	table_print(table, out, style);
	fclose(out);
	assert_string_equal(text, expected);
}

static void test_formats(void **state)
{
	(void) state;
	check(&(struct table_style){ .format = FORMAT_TABLE },
	      "NAME       IMAGE                            COUNT  STATE\n"
	      "web        registry.example.org/team/web:2      7  running\n"
	      "b?[31m,\"x  -                                12345  -\n");
	check(&(struct table_style){ .format = FORMAT_TABLE, .width = 40 },
	      "NAME       IMAGE          COUNT  STATE\n"
	      "web        registry.exa…      7  running\n"
	      "b?[31m,\"x  -              12345  -\n");
}

static void test_other_formats(void **state)
{
	(void) state;
	check(&(struct table_style){ .format = FORMAT_TABLE, .colour = true, .wide = true },
	      "NAME       IMAGE                            COUNT  STATE    NODE\n"
	      "web        registry.example.org/team/web:2      7  \033[32mrunning\033[0m  here\n"
	      "b?[31m,\"x  -                                12345  -        n\n");
	check(&(struct table_style){ .format = FORMAT_CSV, .wide = true, .untitled = true },
	      "web,registry.example.org/team/web:2,7,running,here\r\n"
	      "\"b?[31m,\"\"x\",,12345,,n\r\n");
	check(&(struct table_style){ .format = FORMAT_CSV, .wide = true },
	      "NAME,IMAGE,COUNT,STATE,NODE\r\n"
	      "web,registry.example.org/team/web:2,7,running,here\r\n"
	      "\"b?[31m,\"\"x\",,12345,,n\r\n");
	check(&(struct table_style){ .format = FORMAT_PLAIN, .wide = true },
	      "web\tregistry.example.org/team/web:2\t7\trunning\there\n"
	      "b?[31m,\"x\t-\t12345\t-\tn\n");
}

/* Whatever the width, no line of an elastic table is longer while there is something to cut. */
static void test_fits(void **state)
{
	(void) state;
	for (size_t width = 45; width < 90; width++) {
		AUTO(table_free) struct table *table = table_new(columns);
		AUTO(free) char *text = NULL;
		size_t size;
		FILE *out = open_memstream(&text, &size);
		char *rest, *line;

		table_cell(table, "name-of-it");
		table_cell(table, "registry.example.org/some/where/döt/web:2");
		table_cell(table, "7");
		table_cell(table, "running");
		table_cell(table, "here");
		table_print(table, out, &(struct table_style){ .width = width });
		fclose(out);
		for (rest = text; (line = strsep(&rest, "\n"));)
			assert_true(human_width(line) <= width);
	}
}

static void test_bytes(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 999, "999 B" },
		{ 1000, "1.0 KiB" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ 102400, "100 KiB" },
		{ 1047552, "1.0 MiB" },
		{ 1048576, "1.0 MiB" },
		{ UINT64_C(5) << 30, "5.0 GiB" },
		{ UINT64_MAX, "16.0 EiB" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char text[HUMAN_SIZE];

		human_bytes(cases[i].bytes, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void test_duration(void **state)
{
	static const struct {
		int64_t seconds;
		const char *text;
	} cases[] = {
		{ -5, "0s" },
		{ 0, "0s" },
		{ 59, "59s" },
		{ 60, "1m" },
		{ 75, "1m 15s" },
		{ 900, "15m" },
		{ 3600, "1h" },
		{ 5400, "1h 30m" },
		{ 40000, "11h" },
		{ 86400 * 3, "3d" },
		{ 86400 + 3600, "1d 1h" },
		{ 86400 * 400, "1y 35d" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char text[HUMAN_SIZE];

		human_duration(cases[i].seconds * 1000, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void test_time(void **state)
{
	char text[HUMAN_SIZE];

	(void) state;
	setenv("TZ", "UTC", 1);
	human_time("2026-11-21T01:30:00.123Z", text);
	assert_string_equal(text, "2026-11-21 01:30:00");
	human_time("yesterday", text);
	assert_string_equal(text, "-");
	human_time(NULL, text);
	assert_string_equal(text, "-");
}

static void test_text(void **state)
{
	AUTO(strbuf_done) struct strbuf out = {};

	(void) state;
	human_text(&out, "a\tb\x1b[0m\x7f \xc3\xa9 \xc2\x9b \xff \xe2\x82\xac \xe2\x82");
	assert_string_equal(strbuf_str(&out), "a?b?[0m? \xc3\xa9 ?? ? \xe2\x82\xac ??");
	assert_int_equal(human_width("d\xc3\xb6t"), 3);
}

static void test_resource(void **state)
{
	AUTO(json_decref)
	json_t *instance = json_loads(
		"{\"meta\":{\"name\":\"web\"},\"spec\":{\"publish\":["
		"{\"host_ip\":\"\",\"host_port\":8080,\"port\":80,\"protocol\":\"tcp\"},"
		"{\"host_ip\":\"::1\",\"host_port\":53,\"port\":53,\"protocol\":\"udp\"}],"
		"\"command\":[\"sh\",\"-c\",\"echo 'hi'\",\"\"]}}",
		0, NULL);
	AUTO(strbuf_done) struct strbuf ports = {}, words = {};

	(void) state;
	resource_put_ports(&ports, instance);
	assert_string_equal(strbuf_str(&ports), "8080->80, [::1]:53->53/udp");
	resource_put_words(&words, resource_at(instance, "spec.command"));
	assert_string_equal(strbuf_str(&words), "sh -c 'echo '\\''hi'\\''' ''");
	assert_string_equal(resource_name(instance), "web");
	assert_null(resource_text(instance, "spec.publish.host_ip"));
	assert_int_equal(resource_int(instance, "status.pid", -1), -1);
	assert_string_equal(resource_name(NULL), "?");
}

static void test_progress(void **state)
{
	AUTO(json_decref)
	json_t *operation = json_loads("{\"status\":{\"progress\":{\"text\":\"layer 1 of 5\","
				       "\"done_bytes\":52428800,\"total_bytes\":104857600}}}",
				       0, NULL);
	AUTO(strbuf_done) struct strbuf line = {}, cut = {}, bare = {};

	(void) state;
	progress_put_line(&line, "pulling web", operation, 200);
	assert_string_equal(strbuf_str(&line), "pulling web: layer 1 of 5  "
					       "[###########.............]  50.0 MiB / 100 MiB");
	progress_put_line(&cut, "pulling web", operation, 20);
	assert_string_equal(strbuf_str(&cut), "pulling web: layer 1");
	progress_put_line(&bare, "pulling web", NULL, 200);
	assert_string_equal(strbuf_str(&bare), "pulling web");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),  cmocka_unit_test(test_other_formats),
		cmocka_unit_test(test_fits),     cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_duration), cmocka_unit_test(test_time),
		cmocka_unit_test(test_text),     cmocka_unit_test(test_resource),
		cmocka_unit_test(test_progress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
