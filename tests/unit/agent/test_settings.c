#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/settings.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/oci_image.h"
#include "model/instance.h"

struct fixture {
	char path[64];
	struct instance_spec spec;
	struct oci_image_config image;
};

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);

	strcpy(f->path, "/tmp/test-settings-XXXXXX");
	close(mkstemp(f->path));
	instance_spec_init(&f->spec);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	instance_spec_done(&f->spec);
	oci_image_config_done(&f->image);
	free(f);
	return 0;
}

static void read_back(struct fixture *f, struct settings *ret)
{
	assert_int_equal(settings_write(f->path, &f->spec, &f->image, NULL), 0);
	assert_int_equal(settings_read(f->path, ret, NULL), 0);
}

static void test_without_anything_there_are_defaults(void **state)
{
	struct fixture *f = *state;
	AUTO(settings_done) struct settings settings = {};

	read_back(f, &settings);
	assert_int_equal(settings.stop_signal, SIGTERM);
	assert_int_equal(settings.health.type, HEALTH_TYPE_NONE);
	settings_done(&settings);
	unlink(f->path);
	assert_int_equal(settings_read(f->path, &settings, NULL), -ENOENT);
	assert_int_equal(settings.stop_signal, SIGTERM);
	assert_int_equal(settings.health.type, HEALTH_TYPE_NONE);
}

static void test_the_spec_goes_before_the_image(void **state)
{
	struct fixture *f = *state;
	AUTO(settings_done) struct settings settings = {};

	f->image.stop_signal = mem_strdup("SIGQUIT");
	f->image.healthcheck = (struct oci_healthcheck){ .kind = OCI_HEALTHCHECK_COMMAND,
							 .interval_ms = 5000,
							 .retries = 7 };
	strv_append(&f->image.healthcheck.command, "/check");
	read_back(f, &settings);
	assert_int_equal(settings.stop_signal, SIGQUIT);
	assert_int_equal(settings.health.type, HEALTH_TYPE_EXEC);
	assert_string_equal(settings.health.command[0], "/check");
	assert_int_equal(settings.health.interval_ms, 5000);
	assert_int_equal(settings.health.timeout_ms, HEALTH_TIMEOUT_MS);
	assert_int_equal(settings.health.retries, 7);
	settings_done(&settings);

	f->spec.stop_signal = mem_strdup("INT");
	f->spec.health.retries = 2;
	f->spec.health.on_failure = HEALTH_ON_FAILURE_STOP;
	read_back(f, &settings);
	assert_int_equal(settings.stop_signal, SIGINT);
	assert_string_equal(settings.health.command[0], "/check");
	assert_int_equal(settings.health.retries, 2);
	assert_int_equal(settings.health.on_failure, HEALTH_ON_FAILURE_STOP);
	settings_done(&settings);

	f->spec.health.type = HEALTH_TYPE_NONE;
	read_back(f, &settings);
	assert_int_equal(settings.health.type, HEALTH_TYPE_NONE);
}

static void test_an_action_without_a_check_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = {};

	f->spec.health.on_failure = HEALTH_ON_FAILURE_RESTART;
	assert_int_equal(settings_write(f->path, &f->spec, &f->image, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "health.on_failure"));
}

static void test_an_image_that_says_nonsense_can_be_stopped(void **state)
{
	struct fixture *f = *state;
	AUTO(settings_done) struct settings settings = {};

	f->image.stop_signal = mem_strdup("SIGNONSENSE");
	f->image.healthcheck.interval_ms = 1;
	read_back(f, &settings);
	assert_int_equal(settings.stop_signal, SIGTERM);
	assert_int_equal(settings.health.interval_ms, HEALTH_TIME_MIN_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_without_anything_there_are_defaults, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_the_spec_goes_before_the_image, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_an_action_without_a_check_is_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_an_image_that_says_nonsense_can_be_stopped,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
