#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "control/control_internal.h"

/* One row: what was asked for, what is there, what follows. */
struct row {
	enum operation_action action;
	enum instance_target target;
	uint64_t meta_generation, generation; /* of the spec, carried out */
	uint64_t seq, start_seq;              /* wanted by the operation, carried out */
	enum instance_state state;
	enum operation_state verdict;
	bool undo;
};

#define RUN INSTANCE_TARGET_RUNNING
#define STOP INSTANCE_TARGET_STOPPED
#define PAUSE INSTANCE_TARGET_PAUSED
#define BUSY OPERATION_RUNNING
#define DONE OPERATION_DONE
#define FAIL OPERATION_FAILED

static const struct row rows[] = {
	/* The operation waits for generation 2. */
	{ OPERATION_START, RUN, 2, 1, 1, 1, INSTANCE_RUNNING, BUSY, false },
	{ OPERATION_START, RUN, 2, 2, 2, 1, INSTANCE_RUNNING, BUSY, false },
	{ OPERATION_START, RUN, 2, 2, 2, 2, INSTANCE_CREATING, BUSY, false },
	{ OPERATION_START, RUN, 2, 2, 2, 2, INSTANCE_RUNNING, DONE, false },
	{ OPERATION_START, RUN, 2, 2, 2, 2, INSTANCE_STOPPED, DONE, false },
	{ OPERATION_START, RUN, 3, 3, 2, 3, INSTANCE_RUNNING, DONE, false },
	{ OPERATION_START, RUN, 2, 2, 2, 2, INSTANCE_FAILED, FAIL, false },
	{ OPERATION_START, RUN, 2, 2, 2, 1, INSTANCE_STOPPED, BUSY, false },
	{ OPERATION_START, STOP, 3, 3, 2, 1, INSTANCE_STOPPED, FAIL, false },
	{ OPERATION_LAUNCH, RUN, 2, 2, 1, 1, INSTANCE_FAILED, FAIL, true },
	{ OPERATION_LAUNCH, STOP, 2, 2, 0, 0, INSTANCE_STOPPED, DONE, false },
	{ OPERATION_RESTART, RUN, 2, 2, 2, 2, INSTANCE_STOPPING, BUSY, false },
	{ OPERATION_STOP, STOP, 2, 1, 0, 1, INSTANCE_STOPPED, BUSY, false },
	{ OPERATION_STOP, STOP, 2, 2, 0, 1, INSTANCE_RUNNING, BUSY, false },
	{ OPERATION_STOP, STOP, 2, 2, 0, 1, INSTANCE_STOPPED, DONE, false },
	{ OPERATION_STOP, STOP, 2, 2, 0, 1, INSTANCE_FAILED, DONE, false },
	{ OPERATION_STOP, RUN, 3, 3, 0, 2, INSTANCE_RUNNING, FAIL, false },
	{ OPERATION_PAUSE, PAUSE, 2, 2, 0, 1, INSTANCE_PAUSED, DONE, false },
	{ OPERATION_PAUSE, PAUSE, 2, 2, 0, 1, INSTANCE_STOPPED, FAIL, false },
	{ OPERATION_PAUSE, RUN, 3, 3, 0, 1, INSTANCE_RUNNING, FAIL, false },
	{ OPERATION_RESUME, RUN, 2, 2, 0, 1, INSTANCE_RUNNING, DONE, false },
	{ OPERATION_RESUME, RUN, 2, 2, 0, 1, INSTANCE_FAILED, FAIL, false },
	{ OPERATION_RESUME, PAUSE, 3, 3, 0, 1, INSTANCE_PAUSED, FAIL, false },
	{ OPERATION_DELETE, RUN, 2, 2, 0, 1, INSTANCE_STOPPED, BUSY, false },
};

static void test_instances(void **state)
{
	struct image image = { .status.state = IMAGE_READY };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		const struct row *row = &rows[i];
		struct operation operation = { .action = row->action,
					       .generation = 2,
					       .seq = row->seq };
		struct instance instance = { .meta.generation = row->meta_generation,
					     .spec.target = row->target,
					     .status = { .generation = row->generation,
							 .start_seq = row->start_seq,
							 .state = row->state,
							 .exit_code = 3 } };
		struct verdict verdict;

		judge_instance(&operation, &instance, &image, &verdict);
		if (verdict.state != row->verdict || verdict.undo != row->undo)
			fail_msg("row %zu: %s", i, operation_state_name(verdict.state));
		if (verdict.state == OPERATION_FAILED)
			assert_true(strlen(verdict.error) > 0);
	}
}

/* A launch ends with its image, as long as nothing of the instance was begun. */
static void test_launch_and_image(void **state)
{
	struct operation launch = { .action = OPERATION_LAUNCH, .generation = 1, .seq = 1 };
	struct instance instance = { .meta.generation = 1,
				     .spec.image_name = (char *) "reg/web:1" };
	struct image image = { .spec.pull_seq = 2 };
	struct verdict verdict;

	(void) state;
	judge_instance(&launch, &instance, NULL, &verdict);
	assert_int_equal(verdict.state, OPERATION_FAILED);
	assert_string_equal(verdict.error, "image reg/web:1 was deleted");
	image.status.state = IMAGE_FAILED;
	image.status.pull_seq = 1; /* the failure before this pull */
	judge_instance(&launch, &instance, &image, &verdict);
	assert_int_equal(verdict.state, OPERATION_RUNNING);
	image.status.pull_seq = 2;
	image.status.error = (char *) "no such tag";
	judge_instance(&launch, &instance, &image, &verdict);
	assert_int_equal(verdict.state, OPERATION_FAILED);
	assert_true(verdict.undo);
	assert_string_equal(verdict.error, "no such tag");
	instance.status.state = INSTANCE_CREATING;
	judge_instance(&launch, &instance, &image, &verdict);
	assert_int_equal(verdict.state, OPERATION_RUNNING);
	instance.status.state = INSTANCE_PULLING;
	image.status.state = IMAGE_PULLING;
	judge_instance(&launch, &instance, &image, &verdict);
	assert_string_equal(verdict.text, "pulling the image");
}

static void test_images(void **state)
{
	struct operation pull = { .action = OPERATION_PULL, .generation = 2, .seq = 2 };
	struct image image = { .status = { .generation = 2, .pull_seq = 1, .state = IMAGE_READY } };
	struct verdict verdict;

	(void) state;
	judge_image(&pull, &image, &verdict);
	assert_int_equal(verdict.state, OPERATION_RUNNING); /* the pull before */
	image.status.pull_seq = 2;
	judge_image(&pull, &image, &verdict);
	assert_int_equal(verdict.state, OPERATION_DONE);
	image.status.state = IMAGE_FAILED;
	judge_image(&pull, &image, &verdict);
	assert_int_equal(verdict.state, OPERATION_FAILED);
	assert_true(verdict.undo);
	image.status.digest = (char *) "sha256:1"; /* the old one is still there */
	judge_image(&pull, &image, &verdict);
	assert_false(verdict.undo);
	pull.action = OPERATION_DELETE;
	judge_image(&pull, &image, &verdict);
	assert_int_equal(verdict.state, OPERATION_RUNNING);
}

static void test_networks(void **state)
{
	struct operation create = { .action = OPERATION_CREATE, .generation = 1 };
	struct network network = {};
	struct verdict verdict;

	(void) state;
	judge_network(&create, &network, &verdict);
	assert_int_equal(verdict.state, OPERATION_RUNNING);
	network.status.generation = 1;
	network.status.state = NETWORK_READY;
	judge_network(&create, &network, &verdict);
	assert_int_equal(verdict.state, OPERATION_DONE);
	network.status.state = NETWORK_FAILED;
	judge_network(&create, &network, &verdict);
	assert_int_equal(verdict.state, OPERATION_FAILED);
	assert_true(verdict.undo);
}

static void test_active(void **state)
{
	struct instance instance = { .meta.generation = 2,
				     .spec = { .target = RUN, .start_seq = 2 } };

	(void) state;
	assert_true(instance_is_active(&instance)); /* about to be started */
	instance.status.state = INSTANCE_RUNNING;
	assert_true(instance_is_active(&instance));
	instance.status.state = INSTANCE_STOPPED;
	instance.status.start_seq = 1;
	instance.status.generation = 1;
	assert_true(instance_is_active(&instance)); /* a new start was asked for */
	instance.status.start_seq = 2;
	assert_false(instance_is_active(&instance));
	instance.spec.target = STOP;
	instance.status.state = INSTANCE_STOPPING;
	assert_true(instance_is_active(&instance));
	instance.status.state = INSTANCE_PENDING;
	assert_false(instance_is_active(&instance));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instances), cmocka_unit_test(test_launch_and_image),
		cmocka_unit_test(test_images),    cmocka_unit_test(test_networks),
		cmocka_unit_test(test_active),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
