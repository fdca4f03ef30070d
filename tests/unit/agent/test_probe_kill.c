#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/probe_kill.h"

enum { LEADER = 50 };

static int is_chosen(const struct probe_kill_process *list, size_t count, pid_t pid)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].pid == pid)
			return 1;
	return 0;
}

static void test_the_session_and_all_descendants_are_chosen(void **state)
{
	/* In an order that makes each find its parent later. */
	struct probe_kill_process list[] = {
		{ 70, 61, 70 },         /* a daemon's child: grandchild of the session */
		{ 1, 0, 1 },            /* the instance's init */
		{ 61, 60, 61 },         /* left the session, its parent is of it */
		{ 60, LEADER, LEADER }, /* an ordinary child */
		{ 20, 1, 20 },          /* the instance's own */
		{ 80, 1, LEADER },      /* orphaned, still of the session */
		{ LEADER, 1, LEADER },
		{ 90, 20, 20 },
	};
	size_t count = sizeof(list) / sizeof(list[0]);
	size_t chosen = probe_kill_choose(list, count, LEADER);

	(void) state;
	assert_int_equal(chosen, 5);
	assert_true(is_chosen(list, chosen, LEADER));
	assert_true(is_chosen(list, chosen, 60));
	assert_true(is_chosen(list, chosen, 61));
	assert_true(is_chosen(list, chosen, 70));
	assert_true(is_chosen(list, chosen, 80));
	for (size_t i = chosen; i < count; i++)
		assert_true(list[i].pid == 1 || list[i].pid == 20 || list[i].pid == 90);
}

static void test_nothing_is_chosen_when_the_check_is_gone(void **state)
{
	struct probe_kill_process list[] = { { 1, 0, 1 }, { 20, 1, 20 } };

	(void) state;
	assert_int_equal(probe_kill_choose(list, 2, LEADER), 0);
	assert_int_equal(probe_kill_choose(list, 0, LEADER), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_session_and_all_descendants_are_chosen),
		cmocka_unit_test(test_nothing_is_chosen_when_the_check_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
