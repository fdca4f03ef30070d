#include "model/vm.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
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
		if (!isalnum((unsigned char) name[i]) && !strchr("._+-", name[i]))
			return false;
	return true;
}

bool vm_ssh_key_is_valid(const char *line)
{
	size_t size = strlen(line);

	/* [OPTIONS] TYPE KEY [COMMENT]; every key begins with the length of its type's name. */
	if (size > VM_SSH_KEY_BYTES_MAX || !strstr(line, " AAAA"))
		return false;
	for (size_t i = 0; i < size; i++)
		if ((unsigned char) line[i] < ' ' || line[i] == 0x7f)
			return false;
	return isgraph((unsigned char) line[0]) && line[0] != '#';
}

static void read_ssh_keys(struct json_reader *in, const json_t *object, struct vm_options *options)
{
	size_t count = 0;

	json_read_strv(in, object, "ssh_keys", &options->ssh_keys);
	if (in->result < 0)
		return;
	for (char **key = options->ssh_keys; key && *key; key++, count++)
		if (!vm_ssh_key_is_valid(*key)) {
			member_fail(in, "ssh_keys",
				    "must be lines like \"ssh-ed25519 AAAA... you@host\"");
			return;
		}
	if (count > VM_SSH_KEYS_MAX)
		member_fail(in, "ssh_keys", "at most %d are allowed", VM_SSH_KEYS_MAX);
}

void vm_options_read(struct json_reader *in, const json_t *object, struct vm_options *options)
{
	const json_t *disk = json_object_get(object, "disk_bytes");

	member_read_text(in, object, "kernel", TEXT_MAX_BYTES, &options->kernel);
	json_read_uint64(in, object, "disk_bytes", &options->disk_bytes);
	json_read_bool(in, object, "emulate", &options->emulate);
	member_read_text(in, object, "user_data", VM_USER_DATA_MAX, &options->user_data);
	read_ssh_keys(in, object, options);
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
	json_put_string(object, "user_data", options->user_data);
	json_put_strv(object, "ssh_keys", options->ssh_keys);
}

void vm_options_copy(struct vm_options *to, const struct vm_options *from)
{
	*to = *from;
	to->kernel = mem_strdup(from->kernel);
	to->user_data = mem_strdup(from->user_data);
	to->ssh_keys = strv_copy(from->ssh_keys);
}

void vm_options_done(struct vm_options *options)
{
	free(options->kernel);
	free(options->user_data);
	strv_free(options->ssh_keys);
	*options = (struct vm_options){};
}

static bool has_text(const char *text)
{
	return text && text[0];
}

static bool has_any(char *const *list)
{
	return list && list[0];
}

static int check_container(const struct instance_spec *spec, struct error *err)
{
	const struct vm_options *vm = &spec->vm;
	const char *member = has_text(vm->kernel)      ? "kernel"
			     : vm->disk_bytes          ? "disk_bytes"
			     : vm->emulate             ? "emulate"
			     : has_text(vm->user_data) ? "user_data"
			     : has_any(vm->ssh_keys)   ? "ssh_keys"
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

/* What only brume-init in the guest would do. */
static const char *needs_init(const struct instance_spec *spec)
{
	const struct run_options *run = &spec->run;
	const struct {
		const char *member;
		bool given;
	} members[] = {
		{ "entrypoint", spec->entrypoint },
		{ "command", spec->command },
		{ "env", has_any(spec->env) },
		{ "workdir", has_text(spec->workdir) },
		{ "user", has_text(spec->user) },
		{ "limits.pids", spec->pids > 0 },
		{ "tty", spec->stdio.tty },
		{ "stdin", spec->stdio.stdin_mode != STDIN_NONE },
		{ "stop_signal", has_text(spec->stop_signal) },
		{ "kernel", has_text(spec->vm.kernel) },
		{ "init", run->init },
		{ "read_only", run->read_only },
		{ "cap_add", has_any(run->cap_add) },
		{ "cap_drop", has_any(run->cap_drop) },
		{ "sysctls", has_any(run->sysctls) },
		{ "shm_size_bytes", run->shm_size_bytes > 0 },
		{ "ulimits", run->ulimit_count > 0 },
		{ "mounts", run->mount_count > 0 },
		{ "health", spec->health.type == HEALTH_TYPE_EXEC },
	};

	for (size_t i = 0; i < ARRAY_COUNT(members); i++)
		if (members[i].given)
			return members[i].member;
	return NULL;
}

int instance_image_check(const struct instance_spec *spec, bool disk, struct error *err)
{
	const char *member = NULL;

	if (!disk) {
		member = has_text(spec->vm.user_data) ? "user_data"
			 : has_any(spec->vm.ssh_keys) ? "ssh_keys"
						      : NULL;
		return member ? error_say(err, -EINVAL,
					  "%s: only goes with the image of a disk, in which "
					  "cloud-init reads it; %s is none",
					  member, spec->image)
			      : 0;
	}
	if (spec->type != INSTANCE_VM)
		return error_say(err, -EINVAL,
				 "image %s is a disk, which only a virtual machine boots: add --vm",
				 spec->image);
	member = needs_init(spec);
	return member ? error_say(err, -EINVAL,
				  "%s: image %s is a disk with a system of its own, which does not "
				  "hear of it; cloud-init in there reads --user-data",
				  member, spec->image)
		      : 0;
}

uint32_t vm_cpus(const struct instance_spec *spec)
{
	return spec->cpus > 1 ? (uint32_t) ceil(spec->cpus) : 1;
}

uint64_t vm_memory_of_limit(uint64_t limit_bytes)
{
	uint64_t bytes = limit_bytes ? limit_bytes : VM_MEMORY_DEFAULT_BYTES;

	return bytes / MEBIBYTE * MEBIBYTE;
}

uint64_t vm_memory_bytes(const struct instance_spec *spec)
{
	return vm_memory_of_limit(spec->memory_bytes);
}

uint64_t vm_disk_bytes(const struct instance_spec *spec)
{
	return spec->vm.disk_bytes ? spec->vm.disk_bytes : VM_DISK_DEFAULT_BYTES;
}

static void put_pending(struct strbuf *out, uint64_t wanted, uint64_t has, const char *what)
{
	strbuf_printf(out, "%s%llu %s (", out->size > 0 ? ", " : "", (unsigned long long) wanted,
		      what);
	if (has > 0)
		strbuf_printf(out, "%llu now)", (unsigned long long) has);
	else
		strbuf_puts(out, "no limit now)");
}

char *vm_pending(const struct instance_spec *spec, const struct vm_status *machine)
{
	AUTO(strbuf_done) struct strbuf out = {};

	/* Less of these is in force at once. */
	if (vm_memory_bytes(spec) > machine->memory_bytes)
		put_pending(&out, vm_memory_bytes(spec) / MEBIBYTE,
			    machine->memory_bytes / MEBIBYTE, "MiB of memory");
	if (vm_cpus(spec) > machine->cpus)
		put_pending(&out, vm_cpus(spec), machine->cpus, "processors");
	if (spec->pids > 0 && spec->pids != machine->pids)
		put_pending(&out, spec->pids, machine->pids, "processes");
	else if (spec->pids != machine->pids)
		strbuf_printf(&out, "%sno limit of processes (%llu now)", out.size > 0 ? ", " : "",
			      (unsigned long long) machine->pids);
	return out.size > 0 ? strbuf_take(&out) : NULL;
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
	member_read_text(&sub, value, "architecture", TEXT_MAX_BYTES, &status->architecture);
	member_read_text(&sub, value, "kernel", TEXT_MAX_BYTES, &status->kernel);
	member_read_text(&sub, value, "firmware", TEXT_MAX_BYTES, &status->firmware);
	json_read_uint32(&sub, value, "cpus", VM_CPUS_MAX, &status->cpus);
	json_read_uint64(&sub, value, "memory_bytes", &status->memory_bytes);
	json_read_uint64(&sub, value, "pids", &status->pids);
	member_read_text(&sub, value, "pending", TEXT_MAX_BYTES, &status->pending);
	member_read_text(&sub, value, "guest_error", TEXT_MAX_BYTES, &status->guest_error);
	in->result = json_reader_finish(&sub, value);
}

json_t *vm_status_encode(const struct vm_status *status)
{
	json_t *object = json_object();

	json_put_string(object, "backend", status->backend);
	json_put_string(object, "why", status->why);
	json_put_string(object, "architecture", status->architecture);
	json_put_string(object, "kernel", status->kernel);
	json_put_string(object, "firmware", status->firmware);
	member_put_uint(object, "cpus", status->cpus);
	member_put_uint(object, "memory_bytes", status->memory_bytes);
	member_put_uint(object, "pids", status->pids);
	json_put_string(object, "pending", status->pending);
	json_put_string(object, "guest_error", status->guest_error);
	return object;
}

void vm_status_copy(struct vm_status *to, const struct vm_status *from)
{
	*to = *from;
	to->backend = mem_strdup(from->backend);
	to->why = mem_strdup(from->why);
	to->architecture = mem_strdup(from->architecture);
	to->kernel = mem_strdup(from->kernel);
	to->firmware = mem_strdup(from->firmware);
	to->pending = mem_strdup(from->pending);
	to->guest_error = mem_strdup(from->guest_error);
}

void vm_status_done(struct vm_status *status)
{
	free(status->backend);
	free(status->why);
	free(status->architecture);
	free(status->kernel);
	free(status->firmware);
	free(status->pending);
	free(status->guest_error);
	*status = (struct vm_status){};
}
