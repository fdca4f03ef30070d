#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"
#include "cli/launch_build.h"
#include "cli/number.h"
#include "cli/stream.h"
#include "cli/verb.h"

/* What `brume launch ARGS...` would send, or the error. */
static int build(char **argv, json_t **ret, struct error *err)
{
	AUTO(launch_request_free) struct launch_request *request = NULL;
	AUTO(arguments_done) struct arguments arguments = {};
	struct launch_options options = {};
	const struct option_set sets[] = { { verb_launch.options, &options }, {} };
	int r = option_parse(sets, argv, verb_launch.words_max, true, &arguments, err);

	if (r == 0)
		r = launch_build(&options, &arguments, &request, err);
	option_release(verb_launch.options, &options);
	if (r < 0)
		return r;
	*ret = launch_request_encode(request);
	return 0;
}

#define BUILD(ret, err, ...) build((char *[]){ __VA_ARGS__, NULL }, ret, err)

static void test_everything(void **state)
{
	AUTO(json_decref) json_t *body = NULL;
	struct error err = {};
	struct launch_request *back = NULL;

	(void) state;
	setenv("BRUME_TEST_INHERITED", "yes", 1);
	unsetenv("BRUME_TEST_ABSENT");
	assert_int_equal(BUILD(&body, &err, "web:2", "front", "-p", "8080:80",
			       "-p127.0.0.1:53:53/udp", "-e", "A=1=2", "-e", "BRUME_TEST_INHERITED",
			       "-e", "BRUME_TEST_ABSENT", "-m", "512M", "--cpus", "0.5", "--pids",
			       "100", "--restart", "on-failure:3", "-l", "tier=web", "--entrypoint",
			       "/run.sh", "--pull", "always", "--no-start", "--stop-signal", "INT",
			       "--stop-timeout", "3", "-w", "/srv", "-u", "1:2", "serve", "-p",
			       "1"),
			 0);
	assert_int_equal(launch_request_decode(body, &back, &err), 0);
	assert_string_equal(back->name, "front");
	assert_string_equal(back->spec.image, "web:2");
	assert_int_equal(back->spec.publish_count, 2);
	assert_int_equal(back->spec.publish[1].protocol, PROTOCOL_UDP);
	assert_string_equal(strv_env_get(back->spec.env, "A"), "1=2");
	assert_string_equal(strv_env_get(back->spec.env, "BRUME_TEST_INHERITED"), "yes");
	assert_null(strv_env_get(back->spec.env, "BRUME_TEST_ABSENT"));
	assert_int_equal(back->spec.memory_bytes, 512 << 20);
	assert_int_equal(back->spec.pids, 100);
	assert_int_equal(back->spec.restart_policy, RESTART_ON_FAILURE);
	assert_int_equal(back->spec.restart_max_retries, 3);
	assert_false(back->start);
	assert_int_equal(back->pull, PULL_ALWAYS);
	assert_string_equal(back->spec.entrypoint[0], "/run.sh");
	assert_string_equal(back->spec.command[0], "serve");
	assert_int_equal(strv_count(back->spec.command), 3);
	assert_int_equal(back->spec.stop_timeout_s, 3);
	launch_request_free(back);
}

static void test_small(void **state)
{
	AUTO(json_decref) json_t *body = NULL;
	struct launch_request *back = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(
		BUILD(&body, &err, "debian", "--rm", "--entrypoint", "", "--", "sleep", "60"), 0);
	assert_int_equal(launch_request_decode(body, &back, &err), 0);
	assert_null(back->name);
	assert_true(back->start && back->spec.remove_on_exit);
	assert_non_null(back->spec.entrypoint);
	assert_null(back->spec.entrypoint[0]);
	assert_string_equal(back->spec.command[1], "60");
	launch_request_free(back);
}

static void check_refused(const char *option, const char *value)
{
	json_t *body = NULL;
	struct error err = {};

	if (BUILD(&body, &err, "web", "name", (char *) option, (char *) value) >= 0)
		fail_msg("accepted: %s %s", option, value);
	assert_true(err.msg[0] != '\0');
}

static void test_refused(void **state)
{
	json_t *body = NULL;
	struct error err = {};

	(void) state;
	check_refused("--publish", "80");
	check_refused("--publish", "99999:80");
	check_refused("--env", "=x");
	check_refused("--env-file", "/nonexistent/file");
	check_refused("--memory", "lots");
	check_refused("--cpus", "-1");
	check_refused("--cpus", "0");
	check_refused("--memory", "0");
	check_refused("--pids", "0");
	check_refused("--restart", "sometimes");
	check_refused("--pull", "maybe");
	check_refused("--platform", "arm64");
	check_refused("--stop-signal", "NOSUCH");
	check_refused("--stop-timeout", "1.5");
	check_refused("--label", "=x");
	assert_true(BUILD(&body, &err, "web", "Bad_Name") < 0);
	assert_true(BUILD(&body, &err, "") < 0);
	assert_true(BUILD(&body, &err, "web", "-p", "80:80", "-p", "127.0.0.1:80:81") < 0);
}

static void test_number(void **state)
{
	int64_t n = 0;

	(void) state;
	assert_int_equal(number_parse("42", "x", 0, 100, &n, NULL), 0);
	assert_int_equal(n, 42);
	assert_int_equal(number_parse("-1", "x", -1, 100, &n, NULL), 0);
	assert_int_equal(n, -1);
	assert_int_equal(number_parse("101", "x", 0, 100, &n, NULL), -EINVAL);
	assert_int_equal(number_parse("", "x", 0, 100, &n, NULL), -EINVAL);
	assert_int_equal(number_parse("1e3", "x", 0, 100000, &n, NULL), -EINVAL);
	assert_int_equal(number_parse("99999999999999999999", "x", 0, INT64_MAX, &n, NULL),
			 -EINVAL);
}

static void test_stream_control(void **state)
{
	struct error err = {};
	int code = -1;

	(void) state;
	assert_int_equal(stream_control("{\"exit_code\":137}", 17, &code, &err), 0);
	assert_int_equal(code, 137);
	assert_int_equal(stream_control("{\"error\":\"it stopped\"}", 22, &code, &err), -EIO);
	assert_string_equal(err.msg, "it stopped");
	assert_int_equal(
		stream_control("{\"error\":{\"code\":5,\"message\":\"bad\"}}", 36, &code, &err),
		-EIO);
	assert_int_equal(
		stream_control("{\"error\":{\"code\":2,\"message\":\"gone\"}}", 37, &code, &err),
		-ESRCH);
	assert_string_equal(err.msg, "gone");
	assert_true(stream_control("{", 1, &code, &err) < 0);
}

static void test_how_it_is_run(void **state)
{
	AUTO(json_decref) json_t *body = NULL;
	AUTO(launch_request_free) struct launch_request *back = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(BUILD(&body, &err, "web", "a", "-v", "/a:/b:ro", "--mount",
			       "type=tmpfs,target=/c", "--tmpfs", "/d:size=1M", "--device",
			       "/dev/fuse:r", "--cap-add", "net_admin", "--cap-drop", "ALL",
			       "--sysctl", "net.a=1", "--sysctl", "net.a=2", "--ulimit", "core=0",
			       "--dns", "::1", "--shm-size", "1M", "--init", "--read-only",
			       "--privileged", "--seccomp", "unconfined", "--health-http", "8080/x",
			       "--health-interval", "1m", "--health-on-failure", "kill"),
			 0);
	assert_int_equal(launch_request_decode(body, &back, &err), 0);
	const struct run_options *run = &back->spec.run;
	assert_int_equal(run->mount_count, 3);
	assert_string_equal(run->mounts[0].source, "/a");
	assert_true(run->mounts[0].read_only);
	assert_int_equal(run->mounts[2].size_bytes, 1 << 20);
	assert_string_equal(run->devices[0].access, "r");
	assert_string_equal(run->cap_add[0], "CAP_NET_ADMIN");
	assert_string_equal(strv_env_get(run->sysctls, "net.a"), "2");
	assert_true(run->init && run->read_only && run->privileged);
	assert_int_equal(run->seccomp, SECCOMP_UNCONFINED);
	assert_int_equal(run->shm_size_bytes, 1 << 20);
	assert_int_equal(back->spec.health.type, HEALTH_TYPE_HTTP);
	assert_int_equal(back->spec.health.interval_ms, 60000);
	assert_int_equal(back->spec.health.on_failure, HEALTH_ON_FAILURE_KILL);
}

static void test_how_it_cannot_be_run(void **state)
{
	static const struct {
		const char *option, *value, *word;
	} bad[] = {
		{ "--network", "Blue", "--network" },
		{ "--network", "blue,ip=x", "--network: ip \"x\"" },
		{ "--volume", "x:/b", "--volume" },
		{ "--mount", "type=bind,target=/b", "--mount" },
		{ "--tmpfs", "b", "--tmpfs" },
		{ "--device", "/x", "--device" },
		{ "--cap-add", "X", "--cap-add" },
		{ "--cap-drop", "X", "--cap-drop" },
		{ "--sysctl", "kernel.x=1", "--sysctl" },
		{ "--ulimit", "x=1", "--ulimit" },
		{ "--dns", "x", "--dns" },
		{ "--shm-size", "x", "--shm-size" },
		{ "--seccomp", "x", "--seccomp" },
		{ "--seccomp", "/dev", "--seccomp /dev" },
		{ "--security-opt", "apparmor=x", "seccomp=PROFILE" },
		{ "--security-opt", "seccomp=/no/such", "--seccomp" },
		{ "--health-http", "x", "--health-http" },
		{ "--health-tcp", "x", "--health-tcp" },
		{ "--health-cmd", "", "--health-cmd" },
		{ "--health-timeout", "0", "--health-timeout" },
		{ "--health-retries", "0", "--health-retries" },
		{ "--health-start-period", "x", "--health-start-period" },
		{ "--health-start-interval", "99ms", "--health-start-interval" },
		{ "--health-on-failure", "x", "--health-on-failure" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(json_decref) json_t *body = NULL;
		struct error err = {};

		if (BUILD(&body, &err, "web", "a", (char *) bad[i].option, (char *) bad[i].value) >=
			    0 ||
		    !strstr(err.msg, bad[i].word))
			fail_msg("%s %s: %s", bad[i].option, bad[i].value, err.msg);
	}
}

static void test_networks(void **state)
{
	AUTO(launch_request_free) struct launch_request *back = NULL;
	AUTO(launch_request_free) struct launch_request *alone = NULL;
	AUTO(json_decref) json_t *body = NULL;
	AUTO(json_decref) json_t *none = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(BUILD(&body, &err, "web", "a", "--network", "front", "--network",
			       "back,ip=10.1.0.5,mac=02:AA:00:00:00:01"),
			 0);
	assert_int_equal(launch_request_decode(body, &back, &err), 0);
	assert_int_equal(back->spec.port_count, 2);
	assert_string_equal(back->spec.ports[0].network, "front");
	assert_string_equal(back->spec.ports[1].ipv4, "10.1.0.5");
	assert_string_equal(back->spec.ports[1].mac, "02:aa:00:00:00:01");
	assert_int_equal(BUILD(&none, &err, "web", "a", "--network", "none"), 0);
	assert_int_equal(launch_request_decode(none, &alone, &err), 0);
	assert_non_null(alone->spec.ports);
	assert_int_equal(alone->spec.port_count, 0);
	assert_int_equal(BUILD(&body, &err, "web", "a", "--network", "a", "--network", "none"),
			 -EINVAL);
	assert_int_equal(BUILD(&body, &err, "web", "a", "--network", "a", "--network", "a"),
			 -EINVAL);
	assert_non_null(strstr(err.msg, "given twice"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_how_it_is_run),  cmocka_unit_test(test_how_it_cannot_be_run),
		cmocka_unit_test(test_everything),     cmocka_unit_test(test_small),
		cmocka_unit_test(test_refused),        cmocka_unit_test(test_number),
		cmocka_unit_test(test_stream_control), cmocka_unit_test(test_networks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
