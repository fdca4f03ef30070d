#include "model/run_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/address.h"
#include "model/capability.h"
#include "model/member.h"

enum { SYSCTL_VALUE_MAX = 256, SYSCTL_NAME_MAX = 128 };
#define SHM_MIN_BYTES UINT64_C(4096)
#define SHM_MAX_BYTES (UINT64_C(1) << 50)

const char *const seccomp_mode_names[] = { "default", "unconfined", NULL };

/* ---- sysctls ---- */

static bool sysctl_is_own(const char *name)
{
	static const char *const own[] = { "kernel.msgmax", "kernel.msgmnb",
					   "kernel.msgmni", "kernel.sem",
					   "kernel.shmall", "kernel.shmmax",
					   "kernel.shmmni", "kernel.shm_rmid_forced" };

	if (strncmp(name, "net.", 4) == 0 || strncmp(name, "fs.mqueue.", 10) == 0)
		return true;
	for (size_t i = 0; i < ARRAY_COUNT(own); i++)
		if (strcmp(name, own[i]) == 0)
			return true;
	return false;
}

int sysctl_check(const char *text, struct error *err)
{
	const char *equals = strchr(text, '=');
	size_t size = equals ? (size_t) (equals - text) : strlen(text);
	AUTO(free) char *name = mem_strndup(text, size);

	if (!equals || size == 0 || size > SYSCTL_NAME_MAX || !equals[1])
		return error_say(err, -EINVAL, "\"%.80s\" must look like net.ipv4.ip_forward=1",
				 text);
	if (strlen(equals + 1) > SYSCTL_VALUE_MAX || strpbrk(equals + 1, "\n\r"))
		return error_say(err, -EINVAL, "%.80s: the value is too long or has more lines",
				 name);
	/* Names of interfaces may have dots, which the kernel's files spell as slashes. */
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") !=
		    size ||
	    strstr(name, "..") || strchr(name, '/') == name || strstr(name, "/."))
		return error_say(err, -EINVAL, "\"%.80s\" is not the name of a sysctl", name);
	if (!sysctl_is_own(name))
		return error_say(err, -EINVAL,
				 "%.80s belongs to the whole node; an instance can set net.*, "
				 "fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm*",
				 name);
	return 0;
}

/* ---- capabilities ---- */

int run_options_add_capability(char ***list, const char *text, struct error *err)
{
	const char *name;
	int r = capability_parse(text, &name, err);

	if (r < 0)
		return r;
	for (size_t i = 0; *list && (*list)[i]; i++)
		if (strcmp((*list)[i], name) == 0)
			return 0;
	strv_append(list, name);
	return 0;
}

static void read_capabilities(struct json_reader *in, const json_t *object, const char *name,
			      char ***ret)
{
	AUTO(strv_free) char **given = NULL;
	AUTO(strv_free) char **list = NULL;
	char path[MEMBER_PATH_MAX];

	json_read_strv(in, object, name, &given);
	for (size_t i = 0; in->result == 0 && given && given[i]; i++) {
		int r = run_options_add_capability(&list, given[i], in->err);

		if (r < 0)
			in->result =
				error_wrap(in->err, r, "%s", member_path(path, in->where, name));
	}
	if (in->result < 0 || !given)
		return;
	strv_free(*ret);
	*ret = TAKE_PTR(list);
}

/* ---- all ---- */

static const char *in_both(char *const *a, char *const *b)
{
	for (size_t i = 0; a && a[i]; i++)
		for (size_t k = 0; b && b[k]; k++)
			if (strcmp(a[i], b[k]) == 0)
				return a[i];
	return NULL;
}

size_t run_options_grants(const struct run_options *options)
{
	size_t count = options->device_count;

	for (size_t i = 0; i < options->mount_count; i++)
		count += options->mounts[i].type == MOUNT_TYPE_BIND;
	return count;
}

int run_options_check(const struct run_options *options, struct error *err)
{
	const char *both = in_both(options->cap_add, options->cap_drop);
	int r;

	if (both)
		return error_say(err, -EINVAL, "cap_add and cap_drop both name %s", both);
	if (run_options_grants(options) > RUN_OPTIONS_GRANTS_MAX)
		return error_say(err, -EINVAL,
				 "at most %d folders and devices of the node can be used together",
				 RUN_OPTIONS_GRANTS_MAX);
	if (options->seccomp_profile &&
	    (options->privileged || options->seccomp != SECCOMP_DEFAULT))
		return error_say(err, -EINVAL,
				 "seccomp_profile: does not go with privileged or unconfined");
	r = instance_mounts_check(options->mounts, options->mount_count, err);
	if (r == 0)
		r = instance_devices_check(options->devices, options->device_count, err);
	for (size_t i = 0; r == 0 && i < options->device_count; i++)
		for (size_t k = 0; r == 0 && k < options->mount_count; k++)
			if (strcmp(options->devices[i].target, options->mounts[k].target) == 0)
				r = error_say(err, -EINVAL, "\"%.200s\" is a mount and a device",
					      options->devices[i].target);
	return r;
}

static void check_dns(struct json_reader *in, char *const *dns)
{
	struct ip ip;

	if (strv_count(dns) > RUN_OPTIONS_DNS_MAX)
		member_fail(in, "dns", "at most %d servers are used by anybody",
			    RUN_OPTIONS_DNS_MAX);
	for (size_t i = 0; dns && dns[i]; i++)
		if (ip_parse(dns[i], &ip) < 0)
			member_fail(in, "dns", "\"%.64s\" is not an IP address", dns[i]);
}

static void check_sysctls(struct json_reader *in, char *const *sysctls)
{
	if (strv_count(sysctls) > RUN_OPTIONS_SYSCTLS_MAX)
		member_fail(in, "sysctls", "at most %d are allowed", RUN_OPTIONS_SYSCTLS_MAX);
	for (size_t i = 0; in->result == 0 && sysctls && sysctls[i]; i++) {
		int r = sysctl_check(sysctls[i], in->err);

		if (r < 0)
			in->result = error_wrap(in->err, r, "sysctls");
	}
}

static void read_seccomp_profile(struct json_reader *in, const json_t *object, char **ret)
{
	json_t *profile = NULL;

	json_read_object(in, object, "seccomp_profile", &profile);
	if (in->result < 0 || !profile)
		return;
	free(*ret);
	*ret = json_text(profile);
	if (strlen(*ret) > RUN_OPTIONS_SECCOMP_MAX_BYTES)
		member_fail(in, "seccomp_profile", "must be at most %d bytes",
			    RUN_OPTIONS_SECCOMP_MAX_BYTES);
}

void run_options_read(struct json_reader *in, const json_t *object, struct run_options *options)
{
	unsigned int seccomp = options->seccomp;

	json_read_bool(in, object, "init", &options->init);
	json_read_bool(in, object, "read_only", &options->read_only);
	json_read_bool(in, object, "privileged", &options->privileged);
	member_read_enum(in, object, "seccomp", seccomp_mode_names, &seccomp);
	read_seccomp_profile(in, object, &options->seccomp_profile);
	read_capabilities(in, object, "cap_add", &options->cap_add);
	read_capabilities(in, object, "cap_drop", &options->cap_drop);
	member_read_map(in, object, "sysctls", &options->sysctls);
	json_read_strv(in, object, "dns", &options->dns);
	json_read_uint64(in, object, "shm_size_bytes", &options->shm_size_bytes);
	ulimits_read(in, object, "ulimits", &options->ulimits, &options->ulimit_count);
	instance_devices_read(in, object, "devices", &options->devices, &options->device_count);
	instance_mounts_read(in, object, "mounts", &options->mounts, &options->mount_count);
	options->seccomp = seccomp;
	check_dns(in, options->dns);
	check_sysctls(in, options->sysctls);
	if (options->shm_size_bytes &&
	    (options->shm_size_bytes < SHM_MIN_BYTES || options->shm_size_bytes > SHM_MAX_BYTES))
		member_fail(in, "shm_size_bytes", "must be at least 4096");
	if (in->result == 0)
		in->result = run_options_check(options, in->err);
}

void run_options_put(json_t *object, const struct run_options *options)
{
	if (options->init)
		json_object_set_new(object, "init", json_true());
	if (options->read_only)
		json_object_set_new(object, "read_only", json_true());
	if (options->privileged)
		json_object_set_new(object, "privileged", json_true());
	if (options->seccomp != SECCOMP_DEFAULT)
		json_put_string(object, "seccomp", seccomp_mode_names[options->seccomp]);
	if (options->seccomp_profile)
		json_object_set_new(object, "seccomp_profile",
				    json_loads(options->seccomp_profile, 0, NULL));
	json_put_strv(object, "cap_add", options->cap_add);
	json_put_strv(object, "cap_drop", options->cap_drop);
	member_put_map(object, "sysctls", options->sysctls);
	json_put_strv(object, "dns", options->dns);
	member_put_uint(object, "shm_size_bytes", options->shm_size_bytes);
	if (options->ulimit_count > 0)
		json_object_set_new(object, "ulimits",
				    ulimits_encode(options->ulimits, options->ulimit_count));
	if (options->device_count > 0)
		json_object_set_new(
			object, "devices",
			instance_devices_encode(options->devices, options->device_count));
	if (options->mount_count > 0)
		json_object_set_new(object, "mounts",
				    instance_mounts_encode(options->mounts, options->mount_count));
}

void run_options_copy(struct run_options *to, const struct run_options *from)
{
	*to = *from;
	to->seccomp_profile = mem_strdup(from->seccomp_profile);
	to->cap_add = strv_copy(from->cap_add);
	to->cap_drop = strv_copy(from->cap_drop);
	to->sysctls = strv_copy(from->sysctls);
	to->dns = strv_copy(from->dns);
	to->ulimits = NULL;
	if (from->ulimit_count > 0) {
		to->ulimits = mem_new0_array(struct ulimit, from->ulimit_count);
		memcpy(to->ulimits, from->ulimits, from->ulimit_count * sizeof(*to->ulimits));
	}
	to->devices = instance_devices_copy(from->devices, from->device_count);
	to->mounts = instance_mounts_copy(from->mounts, from->mount_count);
}

void run_options_done(struct run_options *options)
{
	free(options->seccomp_profile);
	strv_free(options->cap_add);
	strv_free(options->cap_drop);
	strv_free(options->sysctls);
	strv_free(options->dns);
	free(options->ulimits);
	instance_devices_free(options->devices, options->device_count);
	instance_mounts_free(options->mounts, options->mount_count);
	*options = (struct run_options){};
}
