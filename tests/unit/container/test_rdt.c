#include "container/rdt.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

/* A folder stands for resctrl; where the kernel would make files, the test has made them. */
static char root[64];

static void put(const char *name, const char *text)
{
	AUTO(free) char *path = mem_printf("%s/%s", root, name);
	AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, text, strlen(text)), 0);
}

static char *get(const char *name)
{
	AUTO(free) char *path = mem_printf("%s/%s", root, name);
	char *text = NULL;

	assert_int_equal(file_read(AT_FDCWD, path, 4096, &text, NULL), 0);
	return text;
}

static int set_up(void **state)
{
	AUTO(free) char *path = NULL;

	(void) state;
	strcpy(root, "/tmp/brume-rdt-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	path = mem_printf("%s/gold", root);
	if (mkdir(path, 0700) < 0)
		return -1;
	put("schemata", "");
	put("gold/schemata", "    MB:0=100\n    L3:0=7ff\n");
	put("gold/tasks", "");
	return 0;
}

static int tear_down(void **state)
{
	(void) state;
	return file_remove_tree(AT_FDCWD, root);
}

static void test_existing_class(void **state)
{
	struct oci_rdt rdt = { .wanted = true, .clos = "gold", .l3_cache = "L3:0=7ff" };
	AUTO(free) char *tasks = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(rdt_check(root, &rdt, NULL), 0);
	assert_int_equal(rdt_join(root, &rdt, "c1", 123, NULL), 0);
	tasks = get("gold/tasks");
	assert_string_equal(tasks, "123");
	rdt.memory_bandwidth = "MB:0=50";
	assert_true(rdt_join(root, &rdt, "c1", 123, &err) < 0);
	assert_non_null(strstr(err.msg, "MB:0=50"));
	/* What it has to say of the bandwidth counts no more. */
	rdt.l3_cache = "L3:0=7ff\nMB:0=10";
	rdt.memory_bandwidth = "MB:0=100";
	assert_int_equal(rdt_join(root, &rdt, "c1", 123, NULL), 0);
	rdt_remove(root, &rdt, "c1");
	free(get("gold/tasks"));
}

static void test_missing_class(void **state)
{
	struct oci_rdt rdt = { .wanted = true, .clos = "silver" };
	struct error err = {};

	(void) state;
	assert_true(rdt_join(root, &rdt, "c1", 123, &err) < 0);
	assert_non_null(strstr(err.msg, "closID"));
}

/* The kernel would fill the new folder; without it the folder must be gone again. */
static void test_new_class_is_taken_back(void **state)
{
	const char *const schemata[] = { "L3:0=f", NULL };
	struct oci_rdt rdt = { .wanted = true, .schemata = schemata };
	AUTO(free) char *path = mem_printf("%s/c1", root);

	(void) state;
	assert_true(rdt_join(root, &rdt, "c1", 123, NULL) < 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_own_class_is_removed(void **state)
{
	struct oci_rdt rdt = { .wanted = true };
	AUTO(free) char *path = mem_printf("%s/c2", root);

	(void) state;
	assert_int_equal(mkdir(path, 0700), 0);
	rdt_remove(root, &(struct oci_rdt){}, "c2");
	assert_int_equal(access(path, F_OK), 0);
	rdt_remove(root, &rdt, "c2");
	assert_int_equal(access(path, F_OK), -1);
}

static void test_no_resctrl(void **state)
{
	struct oci_rdt rdt = { .wanted = true };
	struct error err = {};

	(void) state;
	assert_true(rdt_check("/nonexistent", &rdt, &err) < 0);
	assert_non_null(strstr(err.msg, "resctrl"));
	assert_int_equal(rdt_check("/nonexistent", &(struct oci_rdt){}, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_existing_class, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_missing_class, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_new_class_is_taken_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_own_class_is_removed, set_up, tear_down),
		cmocka_unit_test(test_no_resctrl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
