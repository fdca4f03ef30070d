#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/launch_build.h"

/* The options of `brume launch --vm`. */

/* What options call differently than the API does. */
static const char *option_of(const char *message)
{
	static const char *const names[][2] = {
		{ "privileged", "--privileged" },
		{ "seccomp", "--seccomp" },
		{ "devices", "--device" },
		{ "mounts", "--volume, --mount" },
		{ "limits.memory_bytes", "--memory" },
		{ "limits.cpus", "--cpus" },
		{ "kernel", "--kernel" },
		{ "disk_bytes", "--disk" },
		{ "emulate", "--emulate" },
	};
	size_t size = strcspn(message, ":");

	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		if (strlen(names[i][0]) == size && strncmp(names[i][0], message, size) == 0)
			return names[i][1];
	return NULL;
}

int launch_build_vm(const struct launch_options *options, struct instance_spec *spec,
		    struct error *err)
{
	struct error why = {};
	int r = 0;

	spec->type = options->vm ? INSTANCE_VM : INSTANCE_CONTAINER;
	spec->vm.emulate = options->emulate;
	if (options->kernel && !vm_kernel_is_valid(options->kernel))
		return error_say(err, -EINVAL, "--kernel \"%s\": is not the name of a kernel",
				 options->kernel);
	mem_replace(&spec->vm.kernel, options->kernel);
	if (options->disk)
		r = memory_parse(options->disk, "--disk", &spec->vm.disk_bytes, err);
	if (r < 0)
		return r;
	if (options->disk &&
	    (spec->vm.disk_bytes < VM_DISK_MIN_BYTES || spec->vm.disk_bytes > VM_DISK_MAX_BYTES))
		return error_say(err, -EINVAL, "--disk %s: must be from 64M to 64T", options->disk);
	r = instance_type_check(spec, &why);
	if (r < 0) {
		const char *option = option_of(why.msg);

		return error_say(err, r, "%s%s", option ? option : "",
				 option ? strchr(why.msg, ':') : why.msg);
	}
	return 0;
}
