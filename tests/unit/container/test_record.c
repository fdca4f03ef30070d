#include "container/record.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/pidfd.h"

static char folder[] = "/tmp/brume-record-XXXXXX";

static int set_up(void **state)
{
	(void) state;
	strcpy(folder + sizeof(folder) - 7, "XXXXXX");
	return !mkdtemp(folder);
}

static int tear_down(void **state)
{
	(void) state;
	return file_remove_tree(AT_FDCWD, folder);
}

static void test_ids(void **state)
{
	(void) state;
	assert_true(record_id_good("a-B_c.9+"));
	assert_false(record_id_good(""));
	assert_false(record_id_good("."));
	assert_false(record_id_good(".x"));
	assert_false(record_id_good("a/b"));
	assert_false(record_id_good("a b"));
}

static void test_life(void **state)
{
	AUTO(free) char *root = mem_printf("%s/not/there/yet", folder);
	AUTO(record_free) struct record *record = NULL;
	AUTO(record_free) struct record *again = NULL;
	AUTO(strv_free) char **ids = NULL;
	enum oci_status status;
	struct pidfd_stat stat;
	struct error err = {};

	(void) state;
	assert_int_equal(record_open(root, "x", true, &again, &err), -ENOENT);
	assert_int_equal(record_create(root, "x", &record, &err), 0);
	assert_int_equal(record_create(root, "x", &again, &err), -EEXIST);
	/* The creator died here. */
	assert_int_equal(record_open(root, "x", false, &again, &err), 0);
	assert_int_equal(record_status(again, &status, &err), 0);
	assert_int_equal(status, OCI_STATUS_CREATING);
	record_free(TAKE_PTR(again));

	record->state->version = mem_strdup("1.0.2");
	record->state->bundle = mem_strdup("/b");
	record->state->pid = getpid();
	assert_int_equal(pidfd_read_stat(getpid(), &stat), 0);
	record->state->start_time = stat.start_time;
	assert_int_equal(record_save(record, &err), 0);
	assert_int_equal(record_open(root, "x", false, &again, &err), 0);
	assert_int_equal(record_status(again, &status, &err), 0);
	assert_int_equal(status, OCI_STATUS_RUNNING);
	/* The same pid, but born at another time. */
	again->state->start_time++;
	assert_int_equal(record_status(again, &status, &err), 0);
	assert_int_equal(status, OCI_STATUS_STOPPED);
	assert_int_equal(record_open_init(again), -ESRCH);

	assert_int_equal(record_list(root, &ids, &err), 0);
	assert_int_equal(strv_count(ids), 1);
	assert_int_equal(record_remove(record, &err), 0);
	assert_int_equal(record_open(root, "x", false, &again, &err), -ENOENT);
}

static void test_no_root_is_an_empty_list(void **state)
{
	AUTO(strv_free) char **ids = NULL;

	(void) state;
	assert_int_equal(record_list("/nonexistent/folder", &ids, NULL), 0);
	assert_int_equal(strv_count(ids), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids),
		cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
		cmocka_unit_test(test_no_root_is_an_empty_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
