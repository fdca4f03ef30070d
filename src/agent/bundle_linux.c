#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "agent/bundle_internal.h"
#include "agent/grant.h"
#include "agent/profile.h"
#include "agent/seccomp_default.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/seccomp_user.h"
#include "image/rootfs.h"

/* Namespaces, control groups, sysctls, and what of the kernel is hidden. */

enum { CPU_PERIOD_US = 100000 };

static json_t *device_rule(const char *type, int major, int minor, const char *access)
{
	json_t *rule = json_pack("{s:b, s:s, s:s}", "allow", 1, "type", type, "access", access);

	if (major >= 0)
		json_object_set_new(rule, "major", json_integer(major));
	if (minor >= 0)
		json_object_set_new(rule, "minor", json_integer(minor));
	return rule;
}

/* Nothing, but nodes may be made, and the harmless ones used. */
static json_t *device_rules(const struct bundle *bundle)
{
	static const int harmless[][2] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 },
					   { 1, 9 }, { 5, 0 }, { 5, 1 }, { 5, 2 } };
	const struct run_options *run = &bundle->spec->run;
	json_t *array = json_pack("[{s:b, s:s}]", "allow", 0, "access", "rwm");

	json_array_append_new(array, device_rule("c", -1, -1, "m"));
	json_array_append_new(array, device_rule("b", -1, -1, "m"));
	for (size_t i = 0; i < ARRAY_COUNT(harmless); i++)
		json_array_append_new(array,
				      device_rule("c", harmless[i][0], harmless[i][1], "rwm"));
	json_array_append_new(array, device_rule("c", 136, -1, "rwm"));
	for (size_t i = 0; i < run->device_count; i++) {
		const struct grant *grant = &bundle->grants->devices[i];

		json_array_append_new(array,
				      device_rule(grant->block ? "b" : "c", (int) grant->major,
						  (int) grant->minor, run->devices[i].access));
	}
	return array;
}

static json_t *resources(const struct bundle *bundle)
{
	const struct instance_spec *spec = bundle->spec;
	json_t *object = json_pack("{s:o}", "devices", device_rules(bundle));

	if (spec->memory_bytes > 0)
		/* Swap beyond the limit would make it a limit in name only. */
		json_object_set_new(object, "memory",
				    json_pack("{s:I, s:I}", "limit",
					      (json_int_t) spec->memory_bytes, "swap",
					      (json_int_t) spec->memory_bytes));
	if (spec->cpus > 0)
		json_object_set_new(object, "cpu",
				    json_pack("{s:I, s:I}", "quota",
					      (json_int_t) llround(spec->cpus * CPU_PERIOD_US),
					      "period", (json_int_t) CPU_PERIOD_US));
	if (spec->pids > 0)
		json_object_set_new(object, "pids",
				    json_pack("{s:I}", "limit", (json_int_t) spec->pids));
	return object;
}

static json_t *sysctls(const struct run_options *run)
{
	/* Root of a user namespace could not bind them otherwise when it gives its powers up. */
	json_t *object = json_pack("{s:s}", "net.ipv4.ip_unprivileged_port_start", "0");

	for (char *const *entry = run->sysctls; entry && *entry; entry++) {
		const char *equals = strchr(*entry, '=');
		AUTO(free) char *name = mem_strndup(*entry, (size_t) (equals - *entry));

		json_object_set_new(object, name, json_string(equals + 1));
	}
	return object;
}

/* NULL: everything is allowed. */
static int seccomp(const struct run_options *run, json_t **ret, struct error *err)
{
	struct seccomp_user_host host = { .capabilities = bundle_capabilities(run) };
	AUTO(json_decref) json_t *profile = NULL;
	struct utsname name;

	if (run->privileged || run->seccomp == SECCOMP_UNCONFINED)
		return 0;
	if (!run->seccomp_profile) {
		*ret = seccomp_default(host.capabilities);
		return 0;
	}
	profile = json_loads(run->seccomp_profile, 0, NULL);
	uname(&name);
	(void) sscanf(name.release, "%u.%u", &host.kernel_major, &host.kernel_minor);
	int r = seccomp_user_resolve(profile, &host, ret, err);
	return r < 0 ? error_wrap(err, r, "seccomp_profile") : 0;
}

int bundle_linux(const struct bundle *bundle, json_t **ret, struct error *err)
{
	static const char *const namespaces[] = { "user", "pid",   "network", "ipc",
						  "uts",  "mount", "cgroup",  "time" };
	const struct run_options *run = &bundle->spec->run;
	AUTO(free) char *cgroup = mem_printf("/%s/%s", bundle->prefix, bundle->uid);
	json_t *list = json_array(), *filter = NULL;
	int r = seccomp(run, &filter, err);

	if (r < 0) {
		json_decref(list);
		return r;
	}
	for (size_t i = 0; i < ARRAY_COUNT(namespaces); i++)
		json_array_append_new(list, json_pack("{s:s}", "type", namespaces[i]));
	json_t *map =
		json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
			  (json_int_t) rootfs_slot_uid(bundle->slot), "size", LAYER_UID_COUNT);
	json_t *object = json_pack("{s:o, s:O, s:o, s:s, s:o, s:o}", "namespaces", list,
				   "uidMappings", map, "gidMappings", map, "cgroupsPath", cgroup,
				   "resources", resources(bundle), "sysctl", sysctls(run));

	if (filter)
		json_object_set_new(object, "seccomp", filter);
	if (!run->privileged) {
		json_object_set_new(object, "maskedPaths", profile_masked_paths());
		json_object_set_new(object, "readonlyPaths", profile_readonly_paths());
	}
	*ret = object;
	return 0;
}
