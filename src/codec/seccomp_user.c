#include "codec/seccomp_user.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/capname.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"
#include "codec/oci_seccomp.h"

#if defined(__x86_64__)
#define OWN_ARCH "amd64"
#define OWN_SCMP_ARCH "SCMP_ARCH_X86_64"
#elif defined(__aarch64__)
#define OWN_ARCH "arm64"
#define OWN_SCMP_ARCH "SCMP_ARCH_AARCH64"
#else
#error "say what docker and libseccomp call this architecture"
#endif

enum { WHERE_SIZE = 64 };

static int fail(struct json_reader *in, const char *name, const char *words)
{
	if (in->result == 0)
		in->result = error_say(in->err, -EINVAL, "%s.%s: %s", in->where, name, words);
	return in->result;
}

/* ---- conditions ---- */

struct condition {
	bool given;
	unsigned int caps, caps_held; /* how many are named, how many of these the instance has */
	bool arches, arch_is_own;
	bool kernel, kernel_is_new; /* at least that one */
};

static void read_caps(struct json_reader *in, const json_t *object,
		      const struct seccomp_user_host *host, struct condition *ret)
{
	AUTO(strv_free) char **names = NULL;

	json_read_strv(in, object, "caps", &names);
	for (size_t i = 0; in->result == 0 && names && names[i]; i++) {
		int number = capname_number(names[i]);

		if (number < 0)
			fail(in, "caps", "names something that is no capability");
		ret->caps++;
		ret->caps_held += number >= 0 && (host->capabilities & UINT64_C(1) << number);
	}
}

static void read_kernel(struct json_reader *in, const json_t *object,
			const struct seccomp_user_host *host, struct condition *ret)
{
	AUTO(free) char *text = NULL;
	unsigned int major, minor;
	char rest;

	json_read_string(in, object, "minKernel", &text);
	if (in->result < 0 || !text || !text[0])
		return;
	if (strlen(text) > 8 || sscanf(text, "%u.%u%c", &major, &minor, &rest) != 2) {
		fail(in, "minKernel", "must look like \"4.8\"");
		return;
	}
	ret->kernel = true;
	ret->kernel_is_new = host->kernel_major > major ||
			     (host->kernel_major == major && host->kernel_minor >= minor);
}

static void read_condition(struct json_reader *in, const json_t *rule, const char *name,
			   const struct seccomp_user_host *host, struct condition *ret)
{
	char where[WHERE_SIZE + 16];
	struct json_reader sub = { .err = in->err, .where = where };
	AUTO(strv_free) char **arches = NULL;
	json_t *object = NULL;

	json_read_object(in, rule, name, &object);
	if (in->result < 0 || !object)
		return;
	snprintf(where, sizeof(where), "%s.%s", in->where, name);
	read_caps(&sub, object, host, ret);
	json_read_strv(&sub, object, "arches", &arches);
	read_kernel(&sub, object, host, ret);
	in->result = json_reader_finish(&sub, object);
	ret->arches = arches && arches[0];
	for (size_t i = 0; arches && arches[i]; i++)
		ret->arch_is_own |= strcmp(arches[i], OWN_ARCH) == 0;
}

/* As docker has it: everything that includes names must hold, nothing that excludes names may. */
static bool applies(const struct condition *includes, const struct condition *excludes)
{
	if (includes->caps_held < includes->caps || (includes->arches && !includes->arch_is_own) ||
	    (includes->kernel && !includes->kernel_is_new))
		return false;
	return excludes->caps_held == 0 && !excludes->arch_is_own &&
	       !(excludes->kernel && excludes->kernel_is_new);
}

/* ---- rules ---- */

/* 1: the rule is not for this host or instance. */
static int resolve_rule(const json_t *item, size_t index, const struct seccomp_user_host *host,
			json_t *rules, struct error *err)
{
	char where[WHERE_SIZE];
	struct json_reader in = { .err = err, .where = where };
	struct condition includes = {}, excludes = {};
	AUTO(json_decref) json_t *rule = json_object();
	json_t *names = NULL, *args = NULL;
	AUTO(free) char *name = NULL;
	AUTO(free) char *action = NULL;
	int64_t errno_ret = -1;

	snprintf(where, sizeof(where), "syscalls[%zu]", index);
	json_read_array(&in, item, "names", &names);
	json_read_string(&in, item, "name", &name);
	json_read_string(&in, item, "action", &action);
	json_read_int(&in, item, "errnoRet", 0, UINT32_MAX, &errno_ret);
	json_read_array(&in, item, "args", &args);
	json_read_any(&in, item, "comment", NULL);
	json_read_any(&in, item, "errno", NULL); /* podman's name for errnoRet */
	read_condition(&in, item, "includes", host, &includes);
	read_condition(&in, item, "excludes", host, &excludes);
	if (json_reader_finish(&in, item) < 0)
		return in.result;
	if ((names != NULL) == (name != NULL))
		return fail(&in, "names", "or name must be given, and not both");
	if (action && strcmp(action, "SCMP_ACT_NOTIFY") == 0)
		return fail(&in, "action", "SCMP_ACT_NOTIFY would ask a process of the host");
	if (!applies(&includes, &excludes))
		return 1;
	json_object_set_new(rule, "names", names ? json_incref(names) : json_pack("[s]", name));
	json_put_string(rule, "action", action);
	if (errno_ret >= 0)
		json_object_set_new(rule, "errnoRet", json_integer(errno_ret));
	if (json_array_size(args) > 0)
		json_object_set(rule, "args", args);
	json_array_append(rules, rule);
	return 0;
}

static int resolve_rules(const json_t *syscalls, const struct seccomp_user_host *host, json_t **ret,
			 struct error *err)
{
	AUTO(json_decref) json_t *rules = json_array();
	const json_t *item;
	size_t i;

	json_array_foreach(syscalls, i, item)
	{
		int r = resolve_rule(item, i, host, rules, err);

		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(rules);
	return 0;
}

/* ---- architectures ---- */

/* This host's entry of docker's table. */
static int resolve_arch_map(const json_t *map, json_t **ret, struct error *err)
{
	const json_t *item;
	size_t i;

	json_array_foreach(map, i, item)
	{
		char where[WHERE_SIZE];
		struct json_reader in = { .err = err, .where = where };
		AUTO(free) char *architecture = NULL;
		json_t *below = NULL;

		snprintf(where, sizeof(where), "archMap[%zu]", i);
		json_read_string(&in, item, "architecture", &architecture);
		json_read_array(&in, item, "subArchitectures", &below);
		if (json_reader_finish(&in, item) < 0)
			return in.result;
		if (*ret || !architecture || strcmp(architecture, OWN_SCMP_ARCH) != 0)
			continue;
		*ret = json_pack("[s]", architecture);
		if (below)
			json_array_extend(*ret, below);
	}
	return 0;
}

/* ---- the whole ---- */

static int check_size(const json_t *profile, struct error *err)
{
	size_t size = json_is_object(profile) ? json_dumpb(profile, NULL, 0, JSON_COMPACT) : 0;

	if (size == 0)
		return error_say(err, -EINVAL, "must be an object");
	if (size > SECCOMP_USER_MAX_BYTES)
		return error_say(err, -E2BIG, "is larger than %d bytes", SECCOMP_USER_MAX_BYTES);
	return 0;
}

static int check_result(const json_t *result, struct error *err)
{
	AUTO(oci_seccomp_free) struct oci_seccomp *seccomp = NULL;
	AUTO(free) char *text = json_text(result);

	return oci_seccomp_decode(text, strlen(text), &seccomp, err);
}

int seccomp_user_resolve(const json_t *profile, const struct seccomp_user_host *host, json_t **ret,
			 struct error *err)
{
	static const char *const same[] = { "defaultAction", "defaultErrnoRet", "flags",
					    "architectures" };
	struct json_reader in = { .err = err, .where = "" };
	AUTO(json_decref) json_t *result = json_object();
	AUTO(json_decref) json_t *architectures = NULL;
	json_t *rules = NULL, *arch_map = NULL, *syscalls = NULL;
	int r = check_size(profile, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_COUNT(same); i++) {
		json_t *value = NULL;

		json_read_any(&in, profile, same[i], &value);
		if (value && !json_is_null(value))
			json_object_set(result, same[i], value);
	}
	json_read_any(&in, profile, "defaultErrno", NULL); /* podman's name for defaultErrnoRet */
	json_read_array(&in, profile, "archMap", &arch_map);
	json_read_array(&in, profile, "syscalls", &syscalls);
	r = json_reader_finish(&in, profile);
	if (r == 0 && json_object_get(result, "architectures") && arch_map)
		r = error_say(err, -EINVAL, "archMap: does not go with architectures");
	const char *action = json_string_value(json_object_get(result, "defaultAction"));
	if (r == 0 && action && strcmp(action, "SCMP_ACT_NOTIFY") == 0)
		r = error_say(err, -EINVAL,
			      "defaultAction: SCMP_ACT_NOTIFY would ask a process of the host");
	if (r == 0)
		r = resolve_arch_map(arch_map, &architectures, err);
	if (r == 0)
		r = resolve_rules(syscalls, host, &rules, err);
	if (r < 0)
		return r;
	if (architectures)
		json_object_set(result, "architectures", architectures);
	json_object_set_new(result, "syscalls", rules);
	r = check_result(result, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(result);
	return 0;
}
