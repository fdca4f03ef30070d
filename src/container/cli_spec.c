#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/oci_spec.h"
#include "container/cli_internal.h"

/* A configuration to begin with: a shell with few rights, which one then changes. */

static json_t *strings(const char *const *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

static json_t *process_part(void)
{
	static const char *const caps[] = { "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE" };
	static const char *const sets[] = { "bounding", "effective", "permitted" };
	json_t *capabilities = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(sets); i++)
		json_object_set_new(capabilities, sets[i], strings(caps, ARRAY_COUNT(caps)));
	return json_pack("{s:b,s:{s:i,s:i},s:[s],s:[s,s],s:s,s:o,s:[{s:s,s:i,s:i}],s:b}",
			 "terminal", 1, "user", "uid", 0, "gid", 0, "args", "sh", "env",
			 "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			 "TERM=xterm", "cwd", "/", "capabilities", capabilities, "rlimits", "type",
			 "RLIMIT_NOFILE", "hard", 1024, "soft", 1024, "noNewPrivileges", 1);
}

struct mount {
	const char *destination, *type, *source;
	const char *options[8];
};

static json_t *mounts_part(bool rootless)
{
	static const struct mount mounts[] = {
		{ "/proc", "proc", "proc", { "nosuid", "noexec", "nodev" } },
		{ "/dev",
		  "tmpfs",
		  "tmpfs",
		  { "nosuid", "strictatime", "mode=755", "size=65536k" } },
		{ "/dev/pts",
		  "devpts",
		  "devpts",
		  { "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5" } },
		{ "/dev/shm",
		  "tmpfs",
		  "shm",
		  { "nosuid", "noexec", "nodev", "mode=1777", "size=65536k" } },
		{ "/dev/mqueue", "mqueue", "mqueue", { "nosuid", "noexec", "nodev" } },
		{ "/sys", "sysfs", "sysfs", { "nosuid", "noexec", "nodev", "ro" } },
		{ "/sys/fs/cgroup",
		  "cgroup",
		  "cgroup",
		  { "nosuid", "noexec", "nodev", "relatime", "ro" } },
	};
	/* The kernel gives sysfs only to who owns the network namespace, which is the host's. */
	static const struct mount host_sys = {
		"/sys", "none", "/sys", { "rbind", "nosuid", "noexec", "nodev", "ro" }
	};
	json_t *array = json_array();

	for (size_t i = 0; i < ARRAY_COUNT(mounts); i++) {
		const struct mount *mount = &mounts[i];
		json_t *options = json_array();

		if (rootless && strcmp(mount->destination, "/sys/fs/cgroup") == 0) {
			json_decref(options);
			continue;
		}
		if (rootless && strcmp(mount->destination, "/sys") == 0)
			mount = &host_sys;
		for (size_t j = 0; j < ARRAY_COUNT(mount->options) && mount->options[j]; j++)
			/* One id is mapped, and it is not the terminals' group. */
			if (!rootless || strncmp(mount->options[j], "gid=", 4) != 0)
				json_array_append_new(options, json_string(mount->options[j]));
		json_array_append_new(array,
				      json_pack("{s:s,s:s,s:s,s:o}", "destination",
						mount->destination, "type", mount->type, "source",
						mount->source, "options", options));
	}
	return array;
}

static json_t *linux_part(bool rootless)
{
	static const char *const masked[] = { "/proc/acpi",
					      "/proc/asound",
					      "/proc/kcore",
					      "/proc/keys",
					      "/proc/latency_stats",
					      "/proc/timer_list",
					      "/proc/timer_stats",
					      "/proc/sched_debug",
					      "/proc/scsi",
					      "/sys/firmware",
					      "/sys/devices/virtual/powercap" };
	static const char *const readonly[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
						"/proc/sysrq-trigger" };
	static const char *const namespaces[] = {
		"pid", "ipc", "uts", "mount", "cgroup", "network"
	};
	size_t count = ARRAY_COUNT(namespaces) - (rootless ? 1 : 0);
	json_t *object = json_object(), *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_pack("{s:s}", "type", namespaces[i]));
	if (rootless) {
		json_array_append_new(list, json_pack("{s:s}", "type", "user"));
		json_object_set_new(object, "uidMappings",
				    json_pack("[{s:i,s:I,s:i}]", "containerID", 0, "hostID",
					      (json_int_t) geteuid(), "size", 1));
		json_object_set_new(object, "gidMappings",
				    json_pack("[{s:i,s:I,s:i}]", "containerID", 0, "hostID",
					      (json_int_t) getegid(), "size", 1));
	} else {
		json_object_set_new(
			object, "resources",
			json_pack("{s:[{s:b,s:s}]}", "devices", "allow", 0, "access", "rwm"));
	}
	json_object_set_new(object, "namespaces", list);
	json_object_set_new(object, "maskedPaths", strings(masked, ARRAY_COUNT(masked)));
	json_object_set_new(object, "readonlyPaths", strings(readonly, ARRAY_COUNT(readonly)));
	return object;
}

static int write_spec(const char *bundle, bool rootless, struct error *err)
{
	AUTO(json_decref)
	json_t *document = json_pack("{s:s,s:o,s:{s:s,s:b},s:s,s:o,s:o}", "ociVersion",
				     OCI_SPEC_VERSION, "process", process_part(), "root", "path",
				     "rootfs", "readonly", 1, "hostname", "brume-oci", "mounts",
				     mounts_part(rootless), "linux", linux_part(rootless));
	AUTO(free) char *text = json_dumps(document, JSON_INDENT(4));
	AUTO(free) char *path = mem_printf("%s/config.json", bundle);
	AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int r;

	if (fd < 0 && errno == EEXIST)
		return error_say(err, -EEXIST, "%s exists; remove it first", path);
	if (fd < 0)
		return error_set(err, -errno, "%s", path);
	r = file_write_all(fd, text, strlen(text));
	if (r == 0)
		r = file_write_all(fd, "\n", 1);
	if (r < 0) {
		unlink(path);
		return error_set(err, r, "%s", path);
	}
	return 0;
}

static int spec(const struct runtime_options *options, int argc, char **argv)
{
	static const struct option longs[] = { { "bundle", required_argument, NULL, 'b' },
					       { "rootless", no_argument, NULL, 'r' },
					       {} };
	const char *bundle = ".";
	struct error err = {};
	bool rootless = false;
	int c;

	while ((c = cli_option(options, argc, argv, "+b:", longs)) != -1) {
		if (c == 'b')
			bundle = optarg;
		else if (c == 'r')
			rootless = true;
		else
			return CLI_USAGE;
	}
	if (optind != argc)
		return cli_usage(options, "spec: takes no words");
	return write_spec(bundle, rootless, &err) < 0 ? cli_fail(options, &err) : CLI_OK;
}

const struct cli_verb cli_spec = {
	.name = "spec",
	.usage = "[-b BUNDLE] [--rootless]",
	.help = "write a config.json to begin with (--rootless: for who is not root)",
	.examples = "brume-oci spec -b /srv/box\n"
		    "brume-oci spec --rootless",
	.run = spec,
};
