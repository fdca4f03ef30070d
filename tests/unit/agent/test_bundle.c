#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/bundle.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"

struct fixture {
	char dir[64];
	struct instance_spec spec;
	struct oci_image_config image;
	struct bundle config;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test-bundle-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	instance_spec_init(&f->spec);
	f->config = (struct bundle){ .dir = f->dir,
				     .uid = "00000000000000000000000000000001",
				     .name = "web",
				     .prefix = "brume",
				     .spec = &f->spec,
				     .image = &f->image,
				     .root_fd = open(f->dir, O_RDONLY | O_CLOEXEC),
				     .slot = 1,
				     .nameserver4 = "",
				     .nameserver6 = "",
				     .dns_domain = "" };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->config.root_fd);
	file_remove_tree(AT_FDCWD, f->dir);
	instance_spec_done(&f->spec);
	oci_image_config_done(&f->image);
	free(f);
	return 0;
}

static json_t *written(struct fixture *f)
{
	AUTO(free) char *path = NULL;
	json_t *document;
	uint32_t owner;

	assert_true(asprintf(&path, "%s/config.json", f->dir) > 0);
	assert_int_equal(bundle_write(&f->config, &owner, NULL), 0);
	document = json_load_file(path, 0, NULL);
	assert_non_null(document);
	return document;
}

static void assert_args(json_t *document, const char *a, const char *b)
{
	json_t *args = json_object_get(json_object_get(document, "process"), "args");

	assert_int_equal(json_array_size(args), b ? 2 : 1);
	assert_string_equal(json_string_value(json_array_get(args, 0)), a);
	if (b)
		assert_string_equal(json_string_value(json_array_get(args, 1)), b);
}

static void test_image_gives_entrypoint_and_command(void **state)
{
	struct fixture *f = *state;

	strv_append(&f->image.entrypoint, "/entry");
	strv_append(&f->image.cmd, "serve");
	AUTO(json_decref) json_t *document = written(f);
	assert_args(document, "/entry", "serve");
}

static void test_own_command_keeps_the_images_entrypoint(void **state)
{
	struct fixture *f = *state;

	strv_append(&f->image.entrypoint, "/entry");
	strv_append(&f->image.cmd, "serve");
	strv_append(&f->spec.command, "check");
	AUTO(json_decref) json_t *document = written(f);
	assert_args(document, "/entry", "check");
}

static void test_own_entrypoint_drops_the_images_command(void **state)
{
	struct fixture *f = *state;

	strv_append(&f->image.entrypoint, "/entry");
	strv_append(&f->image.cmd, "serve");
	strv_append(&f->spec.entrypoint, "/bin/sh");
	AUTO(json_decref) json_t *document = written(f);
	assert_args(document, "/bin/sh", NULL);
}

static void test_no_command_at_all_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = {};
	uint32_t owner;

	f->spec.image = strdup("host/empty:1");
	assert_int_equal(bundle_write(&f->config, &owner, &err), -EINVAL);
	assert_string_equal(err.msg,
			    "nothing to run: neither the image nor the launch names a command");
}

static void test_environment_of_the_user_wins(void **state)
{
	struct fixture *f = *state;

	strv_append(&f->image.cmd, "true");
	strv_append(&f->image.env, "MODE=image");
	strv_append(&f->image.env, "ONLY=image");
	strv_append(&f->spec.env, "MODE=user");
	AUTO(json_decref) json_t *document = written(f);
	AUTO(strv_free) char **env = NULL;
	struct json_reader in = {};

	json_read_strv(&in, json_object_get(document, "process"), "env", &env);
	assert_string_equal(strv_env_get(env, "MODE"), "user");
	assert_string_equal(strv_env_get(env, "ONLY"), "image");
	assert_string_equal(strv_env_get(env, "HOSTNAME"), "web");
	assert_string_equal(strv_env_get(env, "HOME"), "/");
	assert_non_null(strv_env_get(env, "PATH"));
}

static void test_limits_become_resources(void **state)
{
	struct fixture *f = *state;
	json_t *resources;

	strv_append(&f->image.cmd, "true");
	f->spec.cpus = 1.5;
	f->spec.memory_bytes = 64 << 20;
	f->spec.pids = 100;
	AUTO(json_decref) json_t *document = written(f);
	resources = json_object_get(json_object_get(document, "linux"), "resources");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(resources, "cpu"), "quota")),
		150000);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(resources, "memory"), "swap")),
		64 << 20);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(resources, "pids"), "limit")),
		100);
}

static void test_secure_by_default(void **state)
{
	struct fixture *f = *state;
	json_t *process, *linux_part;

	strv_append(&f->image.cmd, "true");
	AUTO(json_decref) json_t *document = written(f);
	process = json_object_get(document, "process");
	linux_part = json_object_get(document, "linux");
	assert_true(json_is_true(json_object_get(process, "noNewPrivileges")));
	assert_int_equal(json_array_size(json_object_get(linux_part, "namespaces")), 8);
	assert_string_equal(json_string_value(json_object_get(
				    json_object_get(linux_part, "seccomp"), "defaultAction")),
			    "SCMP_ACT_ERRNO");
	assert_int_equal(
		json_integer_value(json_object_get(
			json_array_get(json_object_get(linux_part, "uidMappings"), 0), "hostID")),
		0x40010000);
}

static void test_exec_runs_on_top_of_the_instance(void **state)
{
	struct fixture *f = *state;
	char *command[] = { "id", NULL };
	char *env[] = { "MODE=exec", NULL };
	struct bundle_exec exec = {
		.command = command, .env = env, .tty = true, .width = 80, .height = 24
	};
	AUTO(json_decref) json_t *process = NULL;

	strv_append(&f->image.cmd, "true");
	strv_append(&f->spec.env, "MODE=user");
	f->spec.workdir = strdup("/srv");
	AUTO(json_decref) json_t *document = written(f);
	assert_int_equal(bundle_exec_process(f->dir, f->config.root_fd, &exec, &process, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(process, "cwd")), "/srv");
	assert_true(json_is_true(json_object_get(process, "terminal")));
	AUTO(strv_free) char **list = NULL;
	struct json_reader in = {};
	json_read_strv(&in, process, "env", &list);
	assert_string_equal(strv_env_get(list, "MODE"), "exec");
}

static void test_exec_needs_a_running_instance(void **state)
{
	struct fixture *f = *state;
	char *command[] = { "id", NULL };
	struct bundle_exec exec = { .command = command };
	AUTO(free) char *path = mem_printf("%s/x.json", f->dir);
	AUTO(free) char *text = NULL;
	struct error err = {};

	strv_append(&f->image.cmd, "true");
	AUTO(json_decref) json_t *document = written(f);
	/* No process has the highest number that a pid can hold. */
	assert_int_equal(bundle_write_exec_process(f->dir, INT_MAX, &exec, path, &err), -ESRCH);
	assert_int_equal(file_read(AT_FDCWD, path, 1 << 16, &text, NULL), -ENOENT);
	assert_int_equal(bundle_write_exec_process(f->dir, getpid(), &exec, path, &err), 0);
	assert_int_equal(file_read(AT_FDCWD, path, 1 << 16, &text, NULL), 0);
	assert_non_null(strstr(text, "\"args\":[\"id\"]"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_image_gives_entrypoint_and_command, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_own_command_keeps_the_images_entrypoint, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_own_entrypoint_drops_the_images_command, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_no_command_at_all_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_environment_of_the_user_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits_become_resources, setup, teardown),
		cmocka_unit_test_setup_teardown(test_secure_by_default, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exec_runs_on_top_of_the_instance, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_exec_needs_a_running_instance, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
