#include "agent/bundle_vm.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>

#include "agent/bundle_internal.h"
#include "agent/profile.h"
#include "agent/seccomp_default.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "image/rootfs.h"

#define KVM_PATH "/dev/kvm"

enum { CPU_PERIOD_US = 100000, MONITOR_PIDS = 512, MONITOR_NOFILE = 4096 };
enum { KVM_MAJOR = 10, KVM_MINOR = 232 }; /* the same on every host */

static json_t *mounts(const struct bundle_vm *vm)
{
	json_t *array = json_array();

	json_array_append_new(array, bundle_mount("/proc", "proc", "proc", "nosuid,noexec,nodev"));
	for (char *const *path = vm->paths; path && *path; path++)
		json_array_append_new(array, bundle_mount(*path, "bind", *path,
							  "rbind,rprivate,ro,nosuid,nodev"));
	json_array_append_new(array, bundle_mount(BUNDLE_VM_RUN_DIR, "bind", vm->run_dir,
						  "bind,rprivate,nosuid,nodev,noexec"));
	if (vm->kvm)
		json_array_append_new(
			array, bundle_mount(KVM_PATH, "bind", vm->kvm, "bind,nosuid,noexec"));
	return array;
}

/* The monitor uses devices by descriptors, which were opened outside, but for QEMU's /dev/kvm. */
static json_t *resources(const struct bundle_vm *vm)
{
	const struct instance_spec *spec = vm->bundle->spec;
	json_int_t memory = (json_int_t) (vm_memory_bytes(spec) + vm->overhead_bytes);
	json_t *object = json_pack("{s:[{s:b, s:s}], s:{s:I, s:I}, s:{s:i}}", "devices", "allow", 0,
				   "access", "rwm", "memory", "limit", memory, "swap", memory,
				   "pids", "limit", MONITOR_PIDS);

	if (vm->kvm)
		json_array_append_new(json_object_get(object, "devices"),
				      json_pack("{s:b, s:s, s:i, s:i, s:s}", "allow", 1, "type",
						"c", "major", KVM_MAJOR, "minor", KVM_MINOR,
						"access", "rw"));
	if (spec->cpus > 0)
		json_object_set_new(object, "cpu",
				    json_pack("{s:I, s:I}", "quota",
					      (json_int_t) llround(spec->cpus * CPU_PERIOD_US),
					      "period", (json_int_t) CPU_PERIOD_US));
	return object;
}

static json_t *linux_part(const struct bundle_vm *vm)
{
	static const char *const namespaces[] = { "user", "pid",   "network", "ipc",
						  "uts",  "mount", "cgroup" };
	const struct bundle *bundle = vm->bundle;
	AUTO(free) char *cgroup = mem_printf("/%s/%s", bundle->prefix, bundle->uid);
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_COUNT(namespaces); i++)
		json_array_append_new(list, json_pack("{s:s}", "type", namespaces[i]));
	json_t *map =
		json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
			  (json_int_t) rootfs_slot_uid(bundle->slot), "size", LAYER_UID_COUNT);
	return json_pack("{s:o, s:O, s:o, s:s, s:o, s:o, s:o, s:o}", "namespaces", list,
			 "uidMappings", map, "gidMappings", map, "cgroupsPath", cgroup, "resources",
			 resources(vm), "seccomp", seccomp_default(0), "maskedPaths",
			 profile_masked_paths(), "readonlyPaths", profile_readonly_paths());
}

json_t *bundle_vm_config(const struct bundle_vm *vm)
{
	json_t *args = json_array();

	for (char *const *word = vm->argv; word && *word; word++)
		json_array_append_new(args, json_string(*word));
	json_t *process = json_pack("{s:b, s:{s:i, s:i}, s:o, s:[s], s:s, s:{}, s:[{s:s, s:i, "
				    "s:i}], s:b}",
				    "terminal", 0, "user", "uid", 0, "gid", 0, "args", args, "env",
				    "PATH=/usr/bin:/bin", "cwd", "/", "capabilities", "rlimits",
				    "type", "RLIMIT_NOFILE", "soft", MONITOR_NOFILE, "hard",
				    MONITOR_NOFILE, "noNewPrivileges", 1);
	return json_pack("{s:s, s:{s:s, s:b}, s:s, s:o, s:o, s:o}", "ociVersion", "1.0.2", "root",
			 "path", "rootfs", "readonly", 1, "hostname", "machine", "process", process,
			 "mounts", mounts(vm), "linux", linux_part(vm));
}

int bundle_vm_write(const struct bundle_vm *vm, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/config.json", vm->bundle->dir);
	AUTO(json_decref) json_t *config = bundle_vm_config(vm);
	AUTO(free) char *text = json_text(config);
	int r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);

	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}
