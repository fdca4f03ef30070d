#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "cli/launch_build.h"

enum { SSH_KEYS_FILE_MAX = 256 * 1024 };

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
		{ "user_data", "--user-data" },
		{ "ssh_keys", "--ssh-key" },
	};
	size_t size = strcspn(message, ":");

	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		if (strlen(names[i][0]) == size && strncmp(names[i][0], message, size) == 0)
			return names[i][1];
	return NULL;
}

static int read_user_data(const char *path, char **ret, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t size = 0;
	int r = strcmp(path, "-") == 0 ? file_read_fd(STDIN_FILENO, VM_USER_DATA_MAX, &text, &size)
				       : file_read(AT_FDCWD, path, VM_USER_DATA_MAX, &text, &size);

	if (r == -EFBIG || r == -E2BIG)
		return error_say(err, -EINVAL, "--user-data %s: at most %d KiB", path,
				 VM_USER_DATA_MAX / 1024);
	if (r < 0)
		return error_set(err, r, "cannot read --user-data %s", path);
	if (size == 0)
		return error_say(err, -EINVAL, "--user-data %s: is empty", path);
	AUTO(json_decref) json_t *string = json_stringn(text, size);
	if (!string || strlen(text) != size)
		return error_say(err, -EINVAL,
				 "--user-data %s: is not text; give it as it is, not compressed",
				 path);
	*ret = TAKE_PTR(text);
	return 0;
}

/* Lines of authorized_keys, comments and empty ones left out. */
static int read_ssh_keys(const char *path, char ***keys, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t before = strv_count(*keys);
	int r = file_read(AT_FDCWD, path, SSH_KEYS_FILE_MAX, &text, NULL);

	if (r < 0)
		return error_set(err, r, "cannot read --ssh-key %s", path);
	if (strstr(text, "PRIVATE KEY"))
		return error_say(err, -EINVAL,
				 "--ssh-key %s: is the private key, which is nobody else's "
				 "business; give the one that ends in .pub",
				 path);
	for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
		line[strcspn(line, "\r")] = '\0';
		line += strspn(line, " \t");
		if (!*line || *line == '#')
			continue;
		if (!vm_ssh_key_is_valid(line))
			return error_say(err, -EINVAL,
					 "--ssh-key %s: has a line that is no public key, like "
					 "\"ssh-ed25519 AAAA... you@host\"",
					 path);
		strv_append(keys, line);
	}
	if (strv_count(*keys) == before)
		return error_say(err, -EINVAL, "--ssh-key %s: there is no key in it", path);
	return strv_count(*keys) > VM_SSH_KEYS_MAX
		       ? error_say(err, -EINVAL, "--ssh-key: at most %d keys", VM_SSH_KEYS_MAX)
		       : 0;
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
	if (r == 0 && options->user_data)
		r = read_user_data(options->user_data, &spec->vm.user_data, err);
	for (char **path = options->ssh_keys; r == 0 && path && *path; path++)
		r = read_ssh_keys(*path, &spec->vm.ssh_keys, err);
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
