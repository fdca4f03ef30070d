#include "model/vm.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/instance.h"
#include "model/member.h"

enum { TEXT_MAX_BYTES = 256, MEBIBYTE = 1 << 20 };

const char *const instance_type_names[] = { "container", "vm", NULL };

bool vm_kernel_is_valid(const char *name)
{
	size_t size = strlen(name);

	if (size == 0 || size > VM_KERNEL_MAX || !isalnum((unsigned char) name[0]))
		return false;
	for (size_t i = 1; i < size; i++)
		if (!isalnum((unsigned char) name[i]) && !strchr("._-", name[i]))
			return false;
	return true;
}

void vm_options_read(struct json_reader *in, const json_t *object, struct vm_options *options)
{
	const json_t *disk = json_object_get(object, "disk_bytes");

	member_read_text(in, object, "kernel", TEXT_MAX_BYTES, &options->kernel);
	json_read_uint64(in, object, "disk_bytes", &options->disk_bytes);
	json_read_bool(in, object, "emulate", &options->emulate);
	if (options->kernel && options->kernel[0] && !vm_kernel_is_valid(options->kernel))
		member_fail(in, "kernel", "\"%.64s\" is not the name of a kernel", options->kernel);
	if (disk && !json_is_null(disk) &&
	    (options->disk_bytes < VM_DISK_MIN_BYTES || options->disk_bytes > VM_DISK_MAX_BYTES))
		member_fail(in, "disk_bytes", "must be from %llu (64 MiB) to %llu (64 TiB)",
			    (unsigned long long) VM_DISK_MIN_BYTES,
			    (unsigned long long) VM_DISK_MAX_BYTES);
}

void vm_options_put(json_t *object, const struct vm_options *options)
{
	json_put_string(object, "kernel", options->kernel);
	member_put_uint(object, "disk_bytes", options->disk_bytes);
	if (options->emulate)
		json_object_set_new(object, "emulate", json_true());
}

void vm_options_copy(struct vm_options *to, const struct vm_options *from)
{
	*to = *from;
	to->kernel = mem_strdup(from->kernel);
}

void vm_options_done(struct vm_options *options)
{
	free(options->kernel);
	*options = (struct vm_options){};
}

static int check_container(const struct instance_spec *spec, struct error *err)
{
	const struct vm_options *vm = &spec->vm;
	const char *member = vm->kernel && vm->kernel[0] ? "kernel"
			     : vm->disk_bytes            ? "disk_bytes"
			     : vm->emulate               ? "emulate"
							 : NULL;

	if (!member)
		return 0;
	return error_say(err, -EINVAL, "%s: only goes with type \"vm\" (launch --vm)", member);
}

/* What needs the node's own kernel. */
static const char *containers_only(const struct instance_spec *spec)
{
	const struct run_options *run = &spec->run;

	if (run->privileged)
		return "privileged";
	if (run->seccomp != SECCOMP_DEFAULT || run->seccomp_profile)
		return "seccomp";
	return run->device_count > 0 ? "devices" : NULL;
}

static int check_vm(const struct instance_spec *spec, struct error *err)
{
	const char *member = containers_only(spec);

	if (member)
		return error_say(err, -EINVAL,
				 "%s: only goes with containers: a virtual machine has a kernel of "
				 "its own",
				 member);
	for (size_t i = 0; i < spec->run.mount_count; i++)
		if (spec->run.mounts[i].type == MOUNT_TYPE_BIND)
			return error_say(
				err, -EINVAL,
				"mounts: a virtual machine cannot see a folder of the node; "
				"copy with `brume cp`, or use type \"tmpfs\"");
	if (spec->memory_bytes > 0 && spec->memory_bytes < VM_MEMORY_MIN_BYTES)
		return error_say(err, -EINVAL,
				 "limits.memory_bytes: a virtual machine needs %llu (64 MiB) at "
				 "least",
				 (unsigned long long) VM_MEMORY_MIN_BYTES);
	if (spec->cpus > VM_CPUS_MAX)
		return error_say(err, -EINVAL,
				 "limits.cpus: a virtual machine can have %d processors at most",
				 VM_CPUS_MAX);
	return 0;
}

int instance_type_check(const struct instance_spec *spec, struct error *err)
{
	return spec->type == INSTANCE_VM ? check_vm(spec, err) : check_container(spec, err);
}

uint32_t vm_cpus(const struct instance_spec *spec)
{
	return spec->cpus > 1 ? (uint32_t) ceil(spec->cpus) : 1;
}

uint64_t vm_memory_bytes(const struct instance_spec *spec)
{
	uint64_t bytes = spec->memory_bytes ? spec->memory_bytes : VM_MEMORY_DEFAULT_BYTES;

	return bytes / MEBIBYTE * MEBIBYTE;
}

uint64_t vm_disk_bytes(const struct instance_spec *spec)
{
	return spec->vm.disk_bytes ? spec->vm.disk_bytes : VM_DISK_DEFAULT_BYTES;
}

void vm_status_read(struct json_reader *in, const json_t *object, const char *name,
		    struct vm_status *status)
{
	char path[MEMBER_PATH_MAX];
	struct json_reader sub = { .err = in->err, .where = member_path(path, in->where, name) };
	json_t *value = NULL;

	json_read_object(in, object, name, &value);
	if (in->result < 0 || !value)
		return;
	member_read_text(&sub, value, "backend", TEXT_MAX_BYTES, &status->backend);
	member_read_text(&sub, value, "why", TEXT_MAX_BYTES, &status->why);
	member_read_text(&sub, value, "kernel", TEXT_MAX_BYTES, &status->kernel);
	json_read_uint32(&sub, value, "cpus", VM_CPUS_MAX, &status->cpus);
	json_read_uint64(&sub, value, "memory_bytes", &status->memory_bytes);
	in->result = json_reader_finish(&sub, value);
}

json_t *vm_status_encode(const struct vm_status *status)
{
	json_t *object = json_object();

	json_put_string(object, "backend", status->backend);
	json_put_string(object, "why", status->why);
	json_put_string(object, "kernel", status->kernel);
	member_put_uint(object, "cpus", status->cpus);
	member_put_uint(object, "memory_bytes", status->memory_bytes);
	return object;
}

void vm_status_copy(struct vm_status *to, const struct vm_status *from)
{
	*to = *from;
	to->backend = mem_strdup(from->backend);
	to->why = mem_strdup(from->why);
	to->kernel = mem_strdup(from->kernel);
}

void vm_status_done(struct vm_status *status)
{
	free(status->backend);
	free(status->why);
	free(status->kernel);
	*status = (struct vm_status){};
}
