#include "agent/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/seccomp_default.h"
#include "agent/users.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "codec/oci_spec.h"
#include "image/rootfs.h"

enum { CPU_PERIOD_US = 100000, NOFILE_SOFT = 1024, NOFILE_HARD = 524288 };

static const char default_path[] =
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static json_t *strings(const char *const *list)
{
	json_t *array = json_array();

	for (size_t i = 0; list[i]; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

/* Strings of people and images; -EINVAL names what is not UTF-8 and so cannot be said in JSON. */
static int texts(char *const *list, const char *what, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *array = json_array();

	for (size_t i = 0; list && list[i]; i++)
		if (json_array_append_new(array, json_string(list[i])) < 0)
			return error_say(err, -EINVAL, "%s: entry %zu is not valid UTF-8", what,
					 i + 1);
	*ret = TAKE_PTR(array);
	return 0;
}

int bundle_args(const struct instance_spec *spec, const struct oci_image_config *image, char ***ret,
		struct error *err)
{
	char *const *entrypoint = spec->entrypoint ? spec->entrypoint : image->entrypoint;
	char *const *command = spec->command;
	char **args = NULL;

	/* An entrypoint of one's own makes the image's command meaningless. */
	if (!command && !spec->entrypoint)
		command = image->cmd;
	for (size_t i = 0; entrypoint && entrypoint[i]; i++)
		strv_append(&args, entrypoint[i]);
	for (size_t i = 0; command && command[i]; i++)
		strv_append(&args, command[i]);
	if (!args)
		return error_say(
			err, -EINVAL,
			"nothing to run: neither the image nor the launch names a command");
	*ret = args;
	return 0;
}

static char **make_env(const struct bundle *bundle, const char *hostname, const struct users *users)
{
	char **env = strv_copy(bundle->image->env);

	for (size_t i = 0; bundle->spec->env && bundle->spec->env[i]; i++) {
		const char *entry = bundle->spec->env[i];
		const char *equals = strchr(entry, '=');
		AUTO(free)
		char *name = mem_strndup(entry, equals ? (size_t) (equals - entry) : strlen(entry));

		strv_env_set(&env, name, equals ? equals + 1 : "");
	}
	if (!strv_env_get(env, "PATH"))
		strv_append(&env, default_path);
	if (!strv_env_get(env, "HOSTNAME"))
		strv_env_set(&env, "HOSTNAME", hostname);
	if (!strv_env_get(env, "HOME"))
		strv_env_set(&env, "HOME", users->home);
	return env;
}

static json_t *user_object(const struct users *users)
{
	json_t *groups = json_array();

	for (size_t i = 0; i < users->group_count; i++)
		json_array_append_new(groups, json_integer(users->groups[i]));
	return json_pack("{s:I, s:I, s:o}", "uid", (json_int_t) users->uid, "gid",
			 (json_int_t) users->gid, "additionalGids", groups);
}

static json_t *capabilities(uint32_t uid)
{
	static const char *const names[] = { "CAP_AUDIT_WRITE",
					     "CAP_CHOWN",
					     "CAP_DAC_OVERRIDE",
					     "CAP_FOWNER",
					     "CAP_FSETID",
					     "CAP_KILL",
					     "CAP_MKNOD",
					     "CAP_NET_BIND_SERVICE",
					     "CAP_NET_RAW",
					     "CAP_SETFCAP",
					     "CAP_SETGID",
					     "CAP_SETPCAP",
					     "CAP_SETUID",
					     "CAP_SYS_CHROOT",
					     NULL };
	static const char *const none[] = { NULL };

	/* A user that is not root has none; the bounding set is what a setuid program may gain. */
	return json_pack("{s:o, s:o, s:o}", "bounding", strings(names), "effective",
			 strings(uid == 0 ? names : none), "permitted",
			 strings(uid == 0 ? names : none));
}

static json_t *rlimits(void)
{
	struct rlimit limit = {};
	rlim_t hard = NOFILE_HARD;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < hard)
		hard = limit.rlim_max;
	return json_pack("[{s:s, s:I, s:I}]", "type", "RLIMIT_NOFILE", "soft",
			 (json_int_t) (hard < NOFILE_SOFT ? hard : NOFILE_SOFT), "hard",
			 (json_int_t) hard);
}

static int add_process(const struct bundle *bundle, const char *hostname, uint32_t *ret_owner,
		       json_t *config, struct error *err)
{
	const struct instance_spec *spec = bundle->spec;
	const char *workdir =
		spec->workdir && spec->workdir[0] ? spec->workdir : bundle->image->workdir;
	const char *user = spec->user && spec->user[0] ? spec->user : bundle->image->user;
	AUTO(strv_free) char **args = NULL;
	AUTO(json_decref) json_t *args_json = NULL;
	AUTO(json_decref) json_t *env_json = NULL;
	struct users users;
	int r;

	r = bundle_args(spec, bundle->image, &args, err);
	if (r == 0)
		r = users_resolve(bundle->root_fd, user, &users, err);
	if (r < 0)
		return r;
	AUTO(strv_free) char **env = make_env(bundle, hostname, &users);
	r = texts(args, "command", &args_json, err);
	if (r == 0)
		r = texts(env, "env", &env_json, err);
	if (r < 0)
		return r;
	json_t *cwd = json_string(workdir && workdir[0] == '/' ? workdir : "/");
	if (!cwd)
		return error_say(err, -EINVAL, "workdir: is not valid UTF-8");
	*ret_owner = rootfs_slot_uid(bundle->slot) + users.uid;
	json_object_set_new(config, "process",
			    json_pack("{s:b, s:o, s:O, s:O, s:o, s:o, s:o, s:b}", "terminal", 0,
				      "user", user_object(&users), "args", args_json, "env",
				      env_json, "cwd", cwd, "capabilities", capabilities(users.uid),
				      "rlimits", rlimits(), "noNewPrivileges", 1));
	return 0;
}

static json_t *mount(const char *destination, const char *type, const char *source,
		     const char *options)
{
	AUTO(free) char *copy = mem_strdup(options);
	json_t *array = json_array();
	char *rest = copy, *option;

	while ((option = strsep(&rest, ",")))
		json_array_append_new(array, json_string(option));
	return json_pack("{s:s, s:s, s:s, s:o}", "destination", destination, "type", type, "source",
			 source, "options", array);
}

static json_t *mounts(const struct bundle *bundle)
{
	static const char *const files[] = { "resolv.conf", "hostname", "hosts" };
	json_t *array = json_array();

	json_array_append_new(array, mount("/proc", "proc", "proc", "nosuid,noexec,nodev"));
	json_array_append_new(
		array, mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"));
	json_array_append_new(array,
			      mount("/dev/pts", "devpts", "devpts",
				    "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"));
	json_array_append_new(array, mount("/dev/shm", "tmpfs", "shm",
					   "nosuid,noexec,nodev,mode=1777,size=65536k"));
	json_array_append_new(array,
			      mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"));
	json_array_append_new(array, mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"));
	json_array_append_new(array, mount("/sys/fs/cgroup", "cgroup", "cgroup",
					   "nosuid,noexec,nodev,relatime,ro"));
	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		AUTO(free) char *destination = mem_printf("/etc/%s", files[i]);
		AUTO(free) char *source = mem_printf("%s/%s", bundle->dir, files[i]);

		json_array_append_new(array, mount(destination, "bind", source, "bind,rprivate"));
	}
	return array;
}

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
static json_t *device_rules(void)
{
	static const int harmless[][2] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 },
					   { 1, 9 }, { 5, 0 }, { 5, 1 }, { 5, 2 } };
	json_t *array = json_pack("[{s:b, s:s}]", "allow", 0, "access", "rwm");

	json_array_append_new(array, device_rule("c", -1, -1, "m"));
	json_array_append_new(array, device_rule("b", -1, -1, "m"));
	for (size_t i = 0; i < ARRAY_COUNT(harmless); i++)
		json_array_append_new(array,
				      device_rule("c", harmless[i][0], harmless[i][1], "rwm"));
	json_array_append_new(array, device_rule("c", 136, -1, "rwm"));
	return array;
}

static json_t *resources(const struct instance_spec *spec)
{
	json_t *object = json_pack("{s:o}", "devices", device_rules());

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

static json_t *linux_object(const struct bundle *bundle)
{
	static const char *const masked[] = { "/proc/acpi",
					      "/proc/asound",
					      "/proc/interrupts",
					      "/proc/kcore",
					      "/proc/keys",
					      "/proc/latency_stats",
					      "/proc/sched_debug",
					      "/proc/scsi",
					      "/proc/timer_list",
					      "/proc/timer_stats",
					      "/sys/devices/virtual/powercap",
					      "/sys/firmware",
					      NULL };
	static const char *const read_only[] = { "/proc/bus",           "/proc/fs",
						 "/proc/irq",           "/proc/sys",
						 "/proc/sysrq-trigger", NULL };
	static const char *const namespaces[] = { "user", "pid",   "network", "ipc",
						  "uts",  "mount", "cgroup",  "time" };
	AUTO(free) char *cgroup = mem_printf("/%s/%s", bundle->prefix, bundle->uid);
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_COUNT(namespaces); i++)
		json_array_append_new(list, json_pack("{s:s}", "type", namespaces[i]));
	json_t *map =
		json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
			  (json_int_t) rootfs_slot_uid(bundle->slot), "size", LAYER_UID_COUNT);
	return json_pack("{s:o, s:O, s:o, s:s, s:o, s:{s:s}, s:o, s:o, s:o}", "namespaces", list,
			 "uidMappings", map, "gidMappings", map, "cgroupsPath", cgroup, "resources",
			 resources(bundle->spec), "sysctl", "net.ipv4.ip_unprivileged_port_start",
			 "0", "seccomp", seccomp_default(), "maskedPaths", strings(masked),
			 "readonlyPaths", strings(read_only));
}

static const char *host_name(const struct bundle *bundle)
{
	const char *hostname = bundle->spec->hostname;

	return hostname && hostname[0] ? hostname : bundle->name;
}

int bundle_config(const struct bundle *bundle, uint32_t *ret_owner, json_t **ret, struct error *err)
{
	AUTO(json_decref)
	json_t *config = json_pack("{s:s, s:{s:s}, s:s, s:o, s:o}", "ociVersion", "1.0.2", "root",
				   "path", "rootfs", "hostname", host_name(bundle), "mounts",
				   mounts(bundle), "linux", linux_object(bundle));
	int r;

	if (!config)
		return error_say(err, -EINVAL, "hostname: is not valid UTF-8");
	r = add_process(bundle, host_name(bundle), ret_owner, config, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(config);
	return 0;
}

/* A file that root inside the instance may change, as everywhere in this field. */
static int write_owned(int dir_fd, const char *name, const char *text, uint32_t owner)
{
	AUTO(fd_close)
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	int r;

	if (fd < 0)
		return -errno;
	r = file_write_all(fd, text, strlen(text));
	if (r == 0 && (fchown(fd, owner, owner) < 0 || fchmod(fd, 0644) < 0))
		r = -errno;
	return r;
}

static int write_names(const struct bundle *bundle, int dir_fd)
{
	uint32_t owner = rootfs_slot_uid(bundle->slot);
	AUTO(strbuf_done) struct strbuf hosts = {}, resolv = {};
	AUTO(free) char *hostname = mem_printf("%s\n", host_name(bundle));
	int r;

	strbuf_puts(&hosts, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	if (bundle->spec->ipv4[0])
		strbuf_printf(&hosts, "%s\t%s\n", bundle->spec->ipv4, host_name(bundle));
	if (bundle->spec->ipv6[0])
		strbuf_printf(&hosts, "%s\t%s\n", bundle->spec->ipv6, host_name(bundle));
	if (bundle->dns_domain[0])
		strbuf_printf(&resolv, "search %s\n", bundle->dns_domain);
	if (bundle->nameserver4[0])
		strbuf_printf(&resolv, "nameserver %s\n", bundle->nameserver4);
	if (bundle->nameserver6[0])
		strbuf_printf(&resolv, "nameserver %s\n", bundle->nameserver6);
	r = write_owned(dir_fd, "hosts", strbuf_str(&hosts), owner);
	if (r == 0)
		r = write_owned(dir_fd, "resolv.conf", strbuf_str(&resolv), owner);
	if (r == 0)
		r = write_owned(dir_fd, "hostname", hostname, owner);
	return r;
}

int bundle_write(const struct bundle *bundle, uint32_t *ret_owner, struct error *err)
{
	AUTO(json_decref) json_t *config = NULL;
	AUTO(fd_close) int dir_fd = open(bundle->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (dir_fd < 0)
		return error_set(err, -errno, "open %s", bundle->dir);
	r = bundle_config(bundle, ret_owner, &config, err);
	if (r < 0)
		return r;
	r = write_names(bundle, dir_fd);
	if (r < 0)
		return error_set(err, r, "write the names' files in %s", bundle->dir);
	AUTO(free) char *text = json_text(config);
	r = file_write_atomic(dir_fd, "config.json", text, strlen(text), 0600, 0);
	if (r < 0)
		return error_set(err, r, "write %s/config.json", bundle->dir);
	return 0;
}

static int merge_env(json_t *process, char *const *extra, struct error *err)
{
	AUTO(strv_free) char **env = NULL;
	AUTO(json_decref) json_t *merged = NULL;
	json_t *entry;
	size_t i;
	int r;

	json_array_foreach(json_object_get(process, "env"), i, entry)
		strv_append(&env, json_string_value(entry));
	for (i = 0; extra && extra[i]; i++) {
		const char *equals = strchr(extra[i], '=');
		AUTO(free)
		char *name = mem_strndup(extra[i],
					 equals ? (size_t) (equals - extra[i]) : strlen(extra[i]));

		strv_env_set(&env, name, equals ? equals + 1 : "");
	}
	r = texts(env, "env", &merged, err);
	if (r == 0)
		json_object_set(process, "env", merged);
	return r;
}

static int read_process(const char *dir, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *config = NULL;
	AUTO(free) char *path = mem_printf("%s/config.json", dir);
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, OCI_CONFIG_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "read %s", path);
	r = json_parse(text, size, OCI_CONFIG_MAX, &config, err);
	if (r < 0)
		return error_wrap(err, r, "%s", path);
	json_t *process = json_object_get(config, "process");
	if (!json_is_object(process))
		return error_say(err, -EBADMSG, "%s: has no process", path);
	*ret = json_incref(process);
	return 0;
}

int bundle_exec_process(const char *dir, int root_fd, const struct bundle_exec *exec, json_t **ret,
			struct error *err)
{
	AUTO(json_decref) json_t *process = NULL;
	AUTO(json_decref) json_t *args = NULL;
	struct users users;
	int r = read_process(dir, &process, err);

	if (r == 0)
		r = texts(exec->command, "command", &args, err);
	if (r == 0)
		r = merge_env(process, exec->env, err);
	if (r < 0)
		return r;
	json_object_set(process, "args", args);
	if (exec->workdir && exec->workdir[0] &&
	    json_object_set_new(process, "cwd", json_string(exec->workdir)) < 0)
		return error_say(err, -EINVAL, "workdir: is not valid UTF-8");
	if (exec->user && exec->user[0]) {
		r = users_resolve(root_fd, exec->user, &users, err);
		if (r < 0)
			return r;
		json_object_set_new(process, "user", user_object(&users));
		json_object_set_new(process, "capabilities", capabilities(users.uid));
	}
	json_object_set_new(process, "terminal", json_boolean(exec->tty));
	if (exec->tty && exec->width > 0 && exec->height > 0)
		json_object_set_new(process, "consoleSize",
				    json_pack("{s:I, s:I}", "width", (json_int_t) exec->width,
					      "height", (json_int_t) exec->height));
	*ret = TAKE_PTR(process);
	return 0;
}
