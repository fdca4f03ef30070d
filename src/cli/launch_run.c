#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "cli/launch_build.h"
#include "cli/number.h"
#include "model/address.h"
#include "model/member.h"

/* How an instance is run, from options to the request. */

static int add_mounts(char *const *texts, const char *option,
		      int (*parse)(const char *, struct instance_mount *, struct error *),
		      struct run_options *run, struct error *err)
{
	for (; texts && *texts; texts++) {
		if (run->mount_count == INSTANCE_MOUNTS_MAX)
			return error_say(err, -EINVAL, "%s: at most %d mounts are allowed", option,
					 INSTANCE_MOUNTS_MAX);
		run->mounts = mem_realloc(run->mounts, run->mount_count + 1, sizeof(*run->mounts));
		int r = parse(*texts, &run->mounts[run->mount_count], err);
		if (r < 0)
			return error_wrap(err, r, "%s", option);
		run->mount_count++;
	}
	return 0;
}

static int add_devices(char *const *texts, struct run_options *run, struct error *err)
{
	size_t count = strv_count(texts);

	if (count > INSTANCE_DEVICES_MAX)
		return error_say(err, -EINVAL, "--device: at most %d devices are allowed",
				 INSTANCE_DEVICES_MAX);
	run->devices = count > 0 ? mem_new0_array(struct instance_device, count) : NULL;
	for (size_t i = 0; i < count; i++) {
		int r = instance_device_parse(texts[i], &run->devices[i], err);

		if (r < 0)
			return error_wrap(err, r, "--device");
		run->device_count = i + 1;
	}
	return 0;
}

static int add_ulimits(char *const *texts, struct run_options *run, struct error *err)
{
	size_t count = strv_count(texts);

	if (count > ULIMITS_MAX)
		return error_say(err, -EINVAL, "--ulimit: at most %d limits are allowed",
				 ULIMITS_MAX);
	run->ulimits = count > 0 ? mem_new0_array(struct ulimit, count) : NULL;
	for (size_t i = 0; i < count; i++) {
		int r = ulimit_parse(texts[i], &run->ulimits[i], err);

		if (r < 0)
			return error_wrap(err, r, "--ulimit");
		run->ulimit_count = i + 1;
	}
	if (ulimits_twice(run->ulimits, count))
		return error_say(err, -EINVAL, "--ulimit: %s is given twice",
				 ulimits_twice(run->ulimits, count));
	return 0;
}

static int add_capabilities(char *const *texts, const char *option, char ***list, struct error *err)
{
	for (; texts && *texts; texts++) {
		int r = run_options_add_capability(list, *texts, err);

		if (r < 0)
			return error_wrap(err, r, "%s", option);
	}
	return 0;
}

static int add_sysctls(char *const *texts, struct run_options *run, struct error *err)
{
	for (; texts && *texts; texts++) {
		const char *equals = strchr(*texts, '=');
		int r = sysctl_check(*texts, err);

		if (r < 0)
			return error_wrap(err, r, "--sysctl");
		AUTO(free) char *name = mem_strndup(*texts, (size_t) (equals - *texts));
		strv_env_set(&run->sysctls, name, equals + 1);
	}
	return 0;
}

static int add_dns(char *const *texts, struct run_options *run, struct error *err)
{
	struct ip ip;

	for (; texts && *texts; texts++) {
		if (ip_parse(*texts, &ip) < 0)
			return error_say(err, -EINVAL, "--dns \"%.64s\" is not an IP address",
					 *texts);
		strv_append(&run->dns, *texts);
	}
	if (strv_count(run->dns) > RUN_OPTIONS_DNS_MAX)
		return error_say(err, -EINVAL, "--dns: at most %d servers are used by anybody",
				 RUN_OPTIONS_DNS_MAX);
	return 0;
}

enum { SECCOMP_FILE_MAX_BYTES = 1 << 20 }; /* with its spaces and comments */

static int read_seccomp(const char *path, struct run_options *run, struct error *err)
{
	AUTO(json_decref) json_t *profile = NULL;
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, SECCOMP_FILE_MAX_BYTES, &text, &size);

	if (r == -ENOENT)
		return error_say(err, r,
				 "--seccomp \"%.64s\": there are default, unconfined, and files "
				 "with a profile; this is none",
				 path);
	if (r < 0)
		return error_set(err, r, "--seccomp %.200s", path);
	r = json_parse(text, size, SECCOMP_FILE_MAX_BYTES, &profile, err);
	if (r < 0)
		return error_wrap(err, r, "--seccomp %.200s", path);
	run->seccomp_profile = json_text(profile);
	if (!json_is_object(profile))
		return error_say(err, -EINVAL, "--seccomp %.200s: must be an object", path);
	if (strlen(run->seccomp_profile) > RUN_OPTIONS_SECCOMP_MAX_BYTES)
		return error_say(err, -E2BIG, "--seccomp %.200s: more than %d bytes of JSON", path,
				 RUN_OPTIONS_SECCOMP_MAX_BYTES);
	return 0;
}

/* --seccomp PROFILE, or --security-opt seccomp=PROFILE. */
static int build_seccomp(const struct launch_options *options, struct run_options *run,
			 struct error *err)
{
	static const char prefix[] = "seccomp=";
	const char *profile = options->seccomp;

	for (char *const *option = options->security_opt; option && *option; option++) {
		if (strncmp(*option, prefix, strlen(prefix)) != 0)
			return error_say(err, -EINVAL,
					 "--security-opt \"%.64s\": there is seccomp=PROFILE only",
					 *option);
		if (profile)
			return error_say(err, -EINVAL,
					 "--security-opt: a second profile for seccomp");
		profile = *option + strlen(prefix);
	}
	if (!profile)
		return 0;
	int mode = member_enum_index(seccomp_mode_names, profile);
	if (mode < 0)
		return read_seccomp(profile, run, err);
	run->seccomp = (enum seccomp_mode) mode;
	return 0;
}

static int build_words(const struct launch_options *options, struct run_options *run,
		       struct error *err)
{
	int r = 0;

	if (options->shm_size)
		r = memory_parse(options->shm_size, "--shm-size", &run->shm_size_bytes, err);
	if (r == 0 && options->shm_size && run->shm_size_bytes < 4096)
		return error_say(err, -EINVAL, "--shm-size: must be at least 4096 bytes");
	return r < 0 ? r : build_seccomp(options, run, err);
}

int launch_build_run(const struct launch_options *options, struct run_options *run,
		     struct error *err)
{
	int r = build_words(options, run, err);

	run->init = options->init;
	run->read_only = options->read_only;
	run->privileged = options->privileged;
	if (r == 0)
		r = add_mounts(options->volumes, "--volume", instance_mount_parse_volume, run, err);
	if (r == 0)
		r = add_mounts(options->mounts, "--mount", instance_mount_parse, run, err);
	if (r == 0)
		r = add_mounts(options->tmpfs, "--tmpfs", instance_mount_parse_tmpfs, run, err);
	if (r == 0)
		r = add_devices(options->devices, run, err);
	if (r == 0)
		r = add_ulimits(options->ulimits, run, err);
	if (r == 0)
		r = add_capabilities(options->cap_add, "--cap-add", &run->cap_add, err);
	if (r == 0)
		r = add_capabilities(options->cap_drop, "--cap-drop", &run->cap_drop, err);
	if (r == 0)
		r = add_sysctls(options->sysctls, run, err);
	if (r == 0)
		r = add_dns(options->dns, run, err);
	return r < 0 ? r : run_options_check(run, err);
}

/* ---- the health check ---- */

static int read_time(const char *text, const char *option, uint32_t min_ms, uint32_t *ret_ms,
		     struct error *err)
{
	int r = text ? duration_parse(text, option, ret_ms, err) : 0;

	if (r == 0 && text && *ret_ms < min_ms)
		return error_say(err, -EINVAL, "%s: must be at least %u ms", option, min_ms);
	return r;
}

static int build_test(const struct launch_options *options, struct health_check *health,
		      struct error *err)
{
	int tests = !!options->health_cmd + !!options->health_http + !!options->health_tcp +
		    options->no_healthcheck;
	int64_t port;
	int r = 0;

	if (tests > 1)
		return error_say(err, -EINVAL,
				 "only one of --health-cmd, --health-http, --health-tcp and "
				 "--no-healthcheck can be given");
	if (options->no_healthcheck)
		health->type = HEALTH_TYPE_NONE;
	if (options->health_cmd) {
		if (!*options->health_cmd)
			return error_say(err, -EINVAL, "--health-cmd: is empty");
		health->type = HEALTH_TYPE_EXEC;
		strv_append(&health->command, "/bin/sh");
		strv_append(&health->command, "-c");
		strv_append(&health->command, options->health_cmd);
	}
	if (options->health_http) {
		r = health_parse_http(options->health_http, health, err);
		if (r < 0)
			return error_wrap(err, r, "--health-http");
	}
	if (options->health_tcp) {
		r = number_parse(options->health_tcp, "--health-tcp", 1, 65535, &port, err);
		if (r < 0)
			return r;
		health->type = HEALTH_TYPE_TCP;
		health->port = (uint16_t) port;
	}
	return r;
}

int launch_build_health(const struct launch_options *options, struct health_check *health,
			struct error *err)
{
	int64_t retries = 0;
	int action, r = build_test(options, health, err);

	if (r == 0)
		r = read_time(options->health_interval, "--health-interval", HEALTH_TIME_MIN_MS,
			      &health->interval_ms, err);
	if (r == 0)
		r = read_time(options->health_timeout, "--health-timeout", HEALTH_TIME_MIN_MS,
			      &health->timeout_ms, err);
	if (r == 0)
		r = read_time(options->health_start_period, "--health-start-period", 0,
			      &health->start_period_ms, err);
	if (r == 0)
		r = read_time(options->health_start_interval, "--health-start-interval",
			      HEALTH_TIME_MIN_MS, &health->start_interval_ms, err);
	if (r == 0 && options->health_retries)
		r = number_parse(options->health_retries, "--health-retries", 1, HEALTH_RETRIES_MAX,
				 &retries, err);
	if (r < 0)
		return r;
	health->retries = (uint32_t) retries;
	if (options->health_on_failure) {
		action = member_enum_index(health_on_failure_names, options->health_on_failure);
		if (action < 0)
			return error_say(err, -EINVAL,
					 "--health-on-failure \"%.64s\": there are none, restart, "
					 "stop and kill",
					 options->health_on_failure);
		health->on_failure = (enum health_on_failure) action;
	}
	return 0;
}
