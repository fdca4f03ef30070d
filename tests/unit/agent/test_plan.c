#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent/plan.h"

static struct plan_want running(void)
{
	return (struct plan_want){
		.wanted = true, .graceful = true, .target = INSTANCE_TARGET_RUNNING, .start_seq = 1
	};
}

static struct plan_seen nothing(void)
{
	return (struct plan_seen){ .keeper = true,
				   .limited = true,
				   .image = PLAN_NEED_READY,
				   .network = PLAN_NEED_READY,
				   .exit_code = -1 };
}

static struct plan_seen with_run(enum plan_run run)
{
	struct plan_seen seen = nothing();

	seen.run = run;
	seen.start_seq = 1;
	seen.leftovers = true;
	seen.attached = run == PLAN_RUN_RUNNING || run == PLAN_RUN_PAUSED;
	return seen;
}

static void starts_step_by_step(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = nothing();

	(void) state;
	assert_int_equal(plan_next(&want, &seen), PLAN_PREPARE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_CREATING);
	seen = with_run(PLAN_RUN_PREPARED);
	assert_int_equal(plan_next(&want, &seen), PLAN_SPAWN);
	seen.run = PLAN_RUN_STARTING;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_false(plan_settled(&want, &seen));
	/* A runtime that hangs is ended, and its failure then tells so. */
	seen.stop_expired = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_KILL);
	seen.stop_expired = false;
	seen.run = PLAN_RUN_CREATED;
	assert_int_equal(plan_next(&want, &seen), PLAN_ATTACH);
	seen.attached = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_START);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_CREATING);
	seen.run = PLAN_RUN_RUNNING;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_RUNNING);
	assert_true(plan_settled(&want, &seen));
}

static void waits_for_what_it_needs(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = nothing();

	(void) state;
	seen.image = PLAN_NEED_WORKING;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_PULLING);
	assert_false(plan_settled(&want, &seen));
	seen.image = PLAN_NEED_WAIT;
	assert_int_equal(plan_state(&want, &seen), INSTANCE_PENDING);
	seen.image = PLAN_NEED_READY;
	seen.network = PLAN_NEED_WAIT;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_PENDING);
	seen.network = PLAN_NEED_FAILED;
	assert_int_equal(plan_next(&want, &seen), PLAN_GIVE_UP);
	seen.network = PLAN_NEED_WAIT;
	seen.image = PLAN_NEED_FAILED;
	assert_int_equal(plan_next(&want, &seen), PLAN_GIVE_UP);
	seen.failed = true;
	seen.start_seq = 1;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_FAILED);
	assert_true(plan_settled(&want, &seen));
}

static void does_nothing_without_the_keeper(void **state)
{
	static const enum plan_run runs[] = { PLAN_RUN_NONE,     PLAN_RUN_PREPARED,
					      PLAN_RUN_STARTING, PLAN_RUN_CREATED,
					      PLAN_RUN_RUNNING,  PLAN_RUN_PAUSED,
					      PLAN_RUN_ENDED };

	(void) state;
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		struct plan_want want = running();
		struct plan_seen seen = with_run(runs[i]);

		seen.keeper = false;
		want.start_seq = 2;
		assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
		want.wanted = false;
		assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	}
}

static void stops_with_grace_and_then_without(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_RUNNING);

	(void) state;
	want.target = INSTANCE_TARGET_STOPPED;
	assert_int_equal(plan_next(&want, &seen), PLAN_SIGNAL);
	seen.stop_sent = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPING);
	seen.stop_expired = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_KILL);
	seen.run = PLAN_RUN_ENDED;
	assert_int_equal(plan_next(&want, &seen), PLAN_CLEAN);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPING);
	seen.run = PLAN_RUN_NONE;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPED);
	assert_true(plan_settled(&want, &seen));
}

static void a_stop_cancels_a_start_at_every_point(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = nothing();

	(void) state;
	want.target = INSTANCE_TARGET_STOPPED;
	assert_int_equal(plan_next(&want, &seen), PLAN_SETTLE);
	seen = with_run(PLAN_RUN_PREPARED);
	assert_int_equal(plan_next(&want, &seen), PLAN_CLEAN);
	seen.run = PLAN_RUN_STARTING;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	seen.run = PLAN_RUN_CREATED;
	assert_int_equal(plan_next(&want, &seen), PLAN_KILL);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPING);
}

static void restarts_when_asked(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_RUNNING);

	(void) state;
	want.start_seq = 2;
	assert_int_equal(plan_next(&want, &seen), PLAN_SIGNAL);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPING);
	assert_false(plan_settled(&want, &seen));
	seen.run = PLAN_RUN_ENDED;
	assert_int_equal(plan_next(&want, &seen), PLAN_CLEAN);
	seen.run = PLAN_RUN_NONE;
	assert_int_equal(plan_next(&want, &seen), PLAN_PREPARE);
	/* Also when it had ended or failed before. */
	seen.failed = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_PREPARE);
}

static void pauses_and_resumes(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_RUNNING);

	(void) state;
	want.target = INSTANCE_TARGET_PAUSED;
	assert_int_equal(plan_next(&want, &seen), PLAN_PAUSE);
	assert_false(plan_settled(&want, &seen));
	seen.run = PLAN_RUN_PAUSED;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_true(plan_settled(&want, &seen));
	/* Renamed while it is frozen. */
	seen.attached = false;
	assert_int_equal(plan_next(&want, &seen), PLAN_ATTACH);
	seen.network = PLAN_NEED_WAIT;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	seen.network = PLAN_NEED_READY;
	seen.attached = true;
	want.target = INSTANCE_TARGET_RUNNING;
	assert_int_equal(plan_next(&want, &seen), PLAN_RESUME);
	want.target = INSTANCE_TARGET_STOPPED;
	assert_int_equal(plan_next(&want, &seen), PLAN_RESUME);
	want.wanted = want.graceful = false;
	assert_int_equal(plan_next(&want, &seen), PLAN_RESUME);
}

static void limits_follow_what_is_wanted(void **state)
{
	static const enum plan_run runs[] = { PLAN_RUN_RUNNING, PLAN_RUN_PAUSED };

	(void) state;
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		struct plan_want want = running();
		struct plan_seen seen = with_run(runs[i]);

		if (runs[i] == PLAN_RUN_PAUSED)
			want.target = INSTANCE_TARGET_PAUSED;
		seen.limited = false;
		assert_int_equal(plan_next(&want, &seen), PLAN_LIMIT);
		assert_false(plan_settled(&want, &seen));
		/* Also of one whose network has failed. */
		seen.attached = false;
		seen.network = PLAN_NEED_FAILED;
		assert_int_equal(plan_next(&want, &seen), PLAN_LIMIT);
		seen.attached = true;
		/* Refused is carried out, too: the status says why. */
		seen.limits_refused = true;
		assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
		assert_true(plan_settled(&want, &seen));
		/* An end comes before everything else. */
		seen.limits_refused = false;
		want.target = INSTANCE_TARGET_STOPPED;
		assert_int_equal(plan_next(&want, &seen),
				 runs[i] == PLAN_RUN_PAUSED ? PLAN_RESUME : PLAN_SIGNAL);
	}
}

static void takes_everything_away(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_RUNNING);

	(void) state;
	want.wanted = false;
	assert_int_equal(plan_next(&want, &seen), PLAN_SIGNAL);
	want.graceful = false;
	assert_int_equal(plan_next(&want, &seen), PLAN_KILL);
	seen.run = PLAN_RUN_ENDED;
	assert_int_equal(plan_next(&want, &seen), PLAN_CLEAN);
	seen.run = PLAN_RUN_NONE;
	assert_int_equal(plan_next(&want, &seen), PLAN_REMOVE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPING);
	seen.leftovers = false;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_GONE);
	assert_true(plan_settled(&want, &seen));
}

static void a_doomed_run_ends(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_CREATED);

	(void) state;
	seen.doomed = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_KILL);
	seen.run = PLAN_RUN_ENDED;
	seen.failed = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_CLEAN);
	seen.run = PLAN_RUN_NONE;
	seen.doomed = false;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_FAILED);
}

/* The agent died between create and attach: the network is not known yet, or has failed. */
static void attaches_only_to_what_is_there(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_CREATED);

	(void) state;
	seen.network = PLAN_NEED_WAIT;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_false(plan_settled(&want, &seen));
	seen.network = PLAN_NEED_FAILED;
	assert_int_equal(plan_next(&want, &seen), PLAN_GIVE_UP);
	seen.network = PLAN_NEED_READY;
	assert_int_equal(plan_next(&want, &seen), PLAN_ATTACH);
}

static void repairs_the_network_of_what_runs(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_RUNNING);

	(void) state;
	seen.attached = false;
	assert_int_equal(plan_next(&want, &seen), PLAN_ATTACH);
	seen.network = PLAN_NEED_WAIT;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_RUNNING);
	/* Nobody is told that it is joined, or free to be joined by others, before it is. */
	assert_false(plan_settled(&want, &seen));
	seen.attached = true;
	assert_true(plan_settled(&want, &seen));
}

struct policy_case {
	enum restart_policy policy;
	uint32_t max_retries, restarts;
	int64_t exit_code;
	bool rebooted, failed;
	bool restarts_again;
};

static void follows_restart_policies(void **state)
{
	static const struct policy_case cases[] = {
		{ RESTART_NO, 0, 0, 1, false, false, false },
		{ RESTART_NO, 0, 0, -1, true, false, false },
		{ RESTART_ON_FAILURE, 0, 7, 1, false, false, true },
		{ RESTART_ON_FAILURE, 0, 0, 0, false, false, false },
		{ RESTART_ON_FAILURE, 3, 2, 1, false, false, true },
		{ RESTART_ON_FAILURE, 3, 3, 1, false, false, false },
		{ RESTART_ON_FAILURE, 3, 0, -1, false, false, true },
		{ RESTART_ON_FAILURE, 0, 0, -1, true, false, false },
		{ RESTART_ALWAYS, 0, 9, 0, false, false, true },
		{ RESTART_ALWAYS, 0, 0, -1, true, false, true },
		{ RESTART_ALWAYS, 0, 0, 1, false, true, false },
		{ RESTART_UNLESS_STOPPED, 0, 0, 0, false, false, true },
		{ RESTART_UNLESS_STOPPED, 0, 0, -1, true, false, true },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct plan_want want = running();
		struct plan_seen seen = with_run(PLAN_RUN_NONE);

		want.policy = cases[i].policy;
		want.max_retries = cases[i].max_retries;
		seen.exited = !cases[i].rebooted;
		seen.rebooted = cases[i].rebooted;
		seen.failed = cases[i].failed;
		seen.restarts = cases[i].restarts;
		seen.exit_code = cases[i].exit_code;
		assert_int_equal(plan_restarts(&want, &seen), cases[i].restarts_again);
		assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
		assert_int_equal(plan_settled(&want, &seen), !cases[i].restarts_again);
		seen.delay_over = true;
		assert_int_equal(plan_next(&want, &seen),
				 cases[i].restarts_again ? PLAN_PREPARE : PLAN_NONE);
		want.target = INSTANCE_TARGET_STOPPED;
		assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
		want.wanted = false;
		assert_int_equal(plan_next(&want, &seen), PLAN_REMOVE);
	}
}

/* A run that ended because a stop was asked for is not one that the policy looks at. */
static void a_stop_is_not_a_failure(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_NONE);

	(void) state;
	want.policy = RESTART_ALWAYS;
	seen.exited = false;
	seen.delay_over = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPED);
}

static void waits_longer_and_longer(void **state)
{
	(void) state;
	assert_int_equal(plan_restart_delay_ms(0), 100);
	assert_int_equal(plan_restart_delay_ms(1), 200);
	assert_int_equal(plan_restart_delay_ms(9), 51200);
	assert_int_equal(plan_restart_delay_ms(10), 60000);
	assert_int_equal(plan_restart_delay_ms(UINT32_MAX), 60000);
}

/*
 * From every situation that can be written down, carrying out the steps ends at rest, in what was
 * asked for, and never takes more than a few steps: no two steps undo each other.
 */
static void carry_out(struct plan_want *want, struct plan_seen *seen, enum plan_step step)
{
	switch (step) {
	case PLAN_PREPARE:
		seen->start_seq = want->start_seq;
		seen->run = PLAN_RUN_PREPARED;
		seen->failed = seen->exited = seen->rebooted = seen->doomed = seen->attached =
			false;
		seen->stop_sent = seen->stop_expired = false;
		seen->sick = PLAN_SICK_NO;
		seen->leftovers = true;
		break;
	case PLAN_SPAWN:
		seen->run = PLAN_RUN_CREATED; /* by way of STARTING, which needs no step */
		break;
	case PLAN_ATTACH:
		seen->attached = true;
		break;
	case PLAN_LIMIT:
		seen->limited = true;
		break;
	case PLAN_START:
	case PLAN_RESUME:
		seen->run = PLAN_RUN_RUNNING;
		break;
	case PLAN_PAUSE:
		seen->run = PLAN_RUN_PAUSED;
		break;
	case PLAN_SIGNAL:
		seen->stop_sent = seen->stop_expired = true;
		break;
	case PLAN_KILL:
		seen->run = PLAN_RUN_ENDED;
		seen->exited = false;
		break;
	case PLAN_CLEAN:
		seen->run = PLAN_RUN_NONE;
		seen->doomed = false;
		break;
	case PLAN_GIVE_UP:
		seen->failed = true;
		seen->start_seq = want->start_seq;
		break;
	case PLAN_SETTLE:
		seen->start_seq = want->start_seq;
		seen->exited = false;
		seen->sick = PLAN_SICK_NO;
		break;
	case PLAN_REMOVE:
		seen->leftovers = false;
		break;
	case PLAN_NONE:
		break;
	}
}

static void check_one(struct plan_want want, struct plan_seen seen)
{
	enum plan_step step;
	int steps = 0;

	if (seen.run == PLAN_RUN_STARTING)
		seen.run = PLAN_RUN_CREATED;
	while ((step = plan_next(&want, &seen)) != PLAN_NONE) {
		carry_out(&want, &seen, step);
		assert_true(++steps < 12);
	}
	assert_true(plan_settled(&want, &seen));
	if (!want.wanted)
		assert_int_equal(plan_state(&want, &seen), INSTANCE_GONE);
	else if (want.target == INSTANCE_TARGET_STOPPED)
		assert_true(seen.run == PLAN_RUN_NONE);
}

static void every_situation_with(enum plan_sick sick)
{
	for (unsigned int bits = 0; bits < 1U << 13; bits++) {
		for (int run = PLAN_RUN_NONE; run <= PLAN_RUN_ENDED; run++) {
			for (int target = 0; target <= INSTANCE_TARGET_PAUSED; target++) {
				struct plan_want want = running();
				struct plan_seen seen = with_run((enum plan_run) run);

				want.target = (enum instance_target) target;
				want.wanted = bits & 1;
				want.graceful = bits & 2;
				want.start_seq = bits & 4 ? 2 : 1;
				want.policy = bits & 8 ? RESTART_ALWAYS : RESTART_NO;
				seen.attached = bits & 16;
				seen.doomed = bits & 32;
				seen.failed = bits & 64;
				seen.exited = bits & 128;
				seen.rebooted = bits & 256;
				seen.stop_sent = bits & 512;
				seen.leftovers = bits & 1024;
				seen.limited = bits & 2048;
				seen.limits_refused = bits & 4096;
				seen.stop_expired = true;
				seen.delay_over = true;
				seen.sick = sick;
				check_one(want, seen);
			}
		}
	}
}

static void every_situation_comes_to_rest(void **state)
{
	(void) state;
	for (int sick = PLAN_SICK_NO; sick <= PLAN_SICK_STOP; sick++)
		every_situation_with((enum plan_sick) sick);
}

/* The health check ends the run with grace; whether there is another is its word, not the policy's.
 */
static void a_sick_run_ends(void **state)
{
	struct plan_want want = running();
	struct plan_seen seen = with_run(PLAN_RUN_RUNNING);

	(void) state;
	seen.sick = PLAN_SICK_RESTART;
	assert_int_equal(plan_next(&want, &seen), PLAN_SIGNAL);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPING);
	seen.stop_sent = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	seen.stop_expired = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_KILL);
	seen.run = PLAN_RUN_NONE;
	assert_true(plan_restarts(&want, &seen));
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE); /* the delay */
	seen.delay_over = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_PREPARE);

	seen.sick = PLAN_SICK_STOP;
	want.policy = RESTART_ALWAYS;
	seen.exited = true;
	assert_int_equal(plan_next(&want, &seen), PLAN_NONE);
	assert_int_equal(plan_state(&want, &seen), INSTANCE_STOPPED);
	/* A person's word counts more. */
	want.start_seq = 2;
	assert_int_equal(plan_next(&want, &seen), PLAN_PREPARE);
	seen.sick = PLAN_SICK_RESTART;
	want.target = INSTANCE_TARGET_STOPPED;
	assert_false(plan_restarts(&want, &seen));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_step_by_step),
		cmocka_unit_test(waits_for_what_it_needs),
		cmocka_unit_test(does_nothing_without_the_keeper),
		cmocka_unit_test(stops_with_grace_and_then_without),
		cmocka_unit_test(a_stop_cancels_a_start_at_every_point),
		cmocka_unit_test(restarts_when_asked),
		cmocka_unit_test(pauses_and_resumes),
		cmocka_unit_test(limits_follow_what_is_wanted),
		cmocka_unit_test(takes_everything_away),
		cmocka_unit_test(a_doomed_run_ends),
		cmocka_unit_test(a_sick_run_ends),
		cmocka_unit_test(attaches_only_to_what_is_there),
		cmocka_unit_test(repairs_the_network_of_what_runs),
		cmocka_unit_test(follows_restart_policies),
		cmocka_unit_test(a_stop_is_not_a_failure),
		cmocka_unit_test(waits_longer_and_longer),
		cmocka_unit_test(every_situation_comes_to_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
