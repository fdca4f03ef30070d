#include "agent/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/profile.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { CPU_PERIOD_US = 100000, CPU_QUOTA_MIN_US = 1000, NOFILE_LIMIT = 16384, ID_COUNT = 65536 };

/* Docker's rule: an entrypoint of the user's own drops the image's command, too. */
static int command_line(const struct bundle_config *config, char ***ret, struct error *err)
{
	const struct instance_spec *spec = config->spec;
	char *const *entrypoint = spec->entrypoint ? spec->entrypoint : config->image->entrypoint;
	char *const *command = spec->command;
	AUTO(strv_free) char **args = NULL;

	if (!command && !spec->entrypoint)
		command = config->image->command;
	for (size_t i = 0; i < strv_count(entrypoint); i++)
		strv_append(&args, entrypoint[i]);
	for (size_t i = 0; i < strv_count(command); i++)
		strv_append(&args, command[i]);
	if (!args)
		return error_say(err, -EINVAL,
				 "the image '%s' has no command of its own: give one at launch",
				 spec->image ? spec->image : "");
	*ret = TAKE_PTR(args);
	return 0;
}

static void env_add(char ***env, char *const *more)
{
	for (size_t i = 0; i < strv_count(more); i++) {
		AUTO(free) char *name = mem_strdup(more[i]);
		char *equals = strchr(name, '=');

		if (!equals)
			continue;
		*equals = '\0';
		strv_env_set(env, name, equals + 1);
	}
}

static const char *host_name(const struct bundle_config *config)
{
	return config->spec->hostname ? config->spec->hostname : config->name;
}

static char **environment(const struct bundle_config *config, char *const *more,
			  const struct user *user, bool tty)
{
	char **env = NULL;

	strv_env_set(&env, "PATH", DEFAULT_PATH);
	strv_env_set(&env, "HOSTNAME", host_name(config));
	if (tty)
		strv_env_set(&env, "TERM", "xterm");
	env_add(&env, config->image->env);
	env_add(&env, config->spec->env);
	env_add(&env, more);
	if (!strv_env_get(env, "HOME"))
		strv_env_set(&env, "HOME", user->home);
	return env;
}

static json_t *user_json(const struct user *user)
{
	json_t *object = json_pack("{s:i, s:i}", "uid", (int) user->uid, "gid", (int) user->gid);
	json_t *groups = json_array();

	for (size_t i = 0; i < user->group_count; i++)
		json_array_append_new(groups, json_integer(user->groups[i]));
	json_object_set_new(object, "additionalGids", groups);
	return object;
}

/* Everything of "process" but the command line. */
static json_t *process_json(const struct bundle_config *config, char *const *args,
			    char *const *more_env, const struct user *user, const char *cwd,
			    bool tty)
{
	AUTO(strv_free) char **env = environment(config, more_env, user, tty);
	json_t *process =
		json_pack("{s:b, s:o, s:s, s:b, s:o}", "terminal", tty, "user", user_json(user),
			  "cwd", cwd, "noNewPrivileges", 1, "capabilities", profile_capabilities());

	/* Capabilities are root's; other users keep the bounding set only. */
	if (user->uid != 0) {
		json_t *capabilities = json_object_get(process, "capabilities");

		json_object_del(capabilities, "effective");
		json_object_del(capabilities, "permitted");
	}
	json_put_strv(process, "args", args);
	json_put_strv(process, "env", env);
	json_object_set_new(process, "rlimits",
			    json_pack("[{s:s, s:i, s:i}]", "type", "RLIMIT_NOFILE", "hard",
				      NOFILE_LIMIT, "soft", NOFILE_LIMIT));
	return process;
}

static const char *first_set(const char *a, const char *b, const char *c)
{
	if (a && a[0])
		return a;
	return b && b[0] ? b : c;
}

static json_t *mount_json(const char *target, const char *type, const char *source,
			  const char *options)
{
	AUTO(free) char *copy = mem_strdup(options);
	json_t *list = json_array();
	char *save = NULL;

	for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save))
		json_array_append_new(list, json_string(o));
	return json_pack("{s:s, s:s, s:s, s:o}", "destination", target, "type", type, "source",
			 source, "options", list);
}

static json_t *mounts_json(const struct bundle_config *config)
{
	static const struct {
		const char *target, *type, *source, *options;
	} mounts[] = {
		{ "/proc", "proc", "proc", "nosuid,noexec,nodev" },
		{ "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k" },
		{ "/dev/pts", "devpts", "devpts",
		  "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5" },
		{ "/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k" },
		{ "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev" },
		{ "/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro" },
		{ "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro" },
	};
	static const char *const files[] = { "hosts", "hostname", "resolv.conf" };
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_COUNT(mounts); i++)
		json_array_append_new(list, mount_json(mounts[i].target, mounts[i].type,
						       mounts[i].source, mounts[i].options));
	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		AUTO(free) char *source = mem_printf("%s/%s", config->dir, files[i]);
		AUTO(free) char *target = mem_printf("/etc/%s", files[i]);

		json_array_append_new(
			list, mount_json(target, "bind", source, "bind,ro,nosuid,nodev,noexec"));
	}
	return list;
}

static json_t *resources_json(const struct bundle_config *config)
{
	static const struct {
		int major, minor;
	} devices[] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 }, { 5, 0 }, { 5, 2 } };
	const struct instance_spec *spec = config->spec;
	json_t *rules = json_pack("[{s:b, s:s}, {s:b, s:s, s:s}, {s:b, s:s, s:s}]", "allow", 0,
				  "access", "rwm", "allow", 1, "type", "c", "access", "m", "allow",
				  1, "type", "b", "access", "m");
	json_t *resources = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(devices); i++)
		json_array_append_new(rules, json_pack("{s:b, s:s, s:i, s:i, s:s}", "allow", 1,
						       "type", "c", "major", devices[i].major,
						       "minor", devices[i].minor, "access", "rwm"));
	json_array_append_new(rules, json_pack("{s:b, s:s, s:i, s:s}", "allow", 1, "type", "c",
					       "major", 136, "access", "rwm")); /* pts */
	json_object_set_new(resources, "devices", rules);
	if (spec->cpus > 0) {
		double quota = fmax(round(spec->cpus * CPU_PERIOD_US), CPU_QUOTA_MIN_US);

		json_object_set_new(resources, "cpu",
				    json_pack("{s:I, s:i}", "quota", (json_int_t) quota, "period",
					      CPU_PERIOD_US));
	}
	if (spec->memory_bytes) {
		json_t *memory = json_pack("{s:I}", "limit", (json_int_t) spec->memory_bytes);

		if (config->limit_swap)
			json_object_set_new(memory, "swap",
					    json_integer((json_int_t) spec->memory_bytes));
		json_object_set_new(resources, "memory", memory);
	}
	if (spec->pids)
		json_object_set_new(resources, "pids",
				    json_pack("{s:I}", "limit", (json_int_t) spec->pids));
	return resources;
}

static json_t *linux_json(const struct bundle_config *config)
{
	json_t *ids = json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
				(json_int_t) config->slot_uid, "size", ID_COUNT);
	json_t *namespaces = json_array();
	static const char *const types[] = { "user", "pid", "mount",  "network",
					     "ipc",  "uts", "cgroup", "time" };

	for (size_t i = 0; i < ARRAY_COUNT(types); i++)
		json_array_append_new(namespaces, json_pack("{s:s}", "type", types[i]));
	return json_pack("{s:o, s:O, s:o, s:s, s:o, s:o, s:o, s:o, s:{s:s}}", "namespaces",
			 namespaces, "uidMappings", ids, "gidMappings", ids, "cgroupsPath",
			 config->cgroups_path, "resources", resources_json(config), "seccomp",
			 profile_seccomp(), "maskedPaths", profile_masked_paths(), "readonlyPaths",
			 profile_readonly_paths(), "sysctl", "net.ipv4.ping_group_range",
			 "0 65535");
}

static int write_file(const struct bundle_config *config, const char *name, const char *text,
		      mode_t mode, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/%s", config->dir, name);
	int r = file_write_atomic(AT_FDCWD, path, text, strlen(text), mode, 0);

	if (r == 0 && chmod(path, mode) < 0)
		r = -errno;
	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}

/* The files under /etc that tell the instance who it is; world-readable: it is another user. */
static int write_identity(const struct bundle_config *config, struct error *err)
{
	AUTO(strbuf_done) struct strbuf hosts = {};
	AUTO(free) char *hostname = mem_printf("%s\n", host_name(config));
	int r;

	strbuf_puts(&hosts, "127.0.0.1\tlocalhost\n"
			    "::1\tlocalhost ip6-localhost ip6-loopback\n");
	if (config->spec->ipv4[0])
		strbuf_printf(&hosts, "%s\t%s\n", config->spec->ipv4, host_name(config));
	if (config->spec->ipv6[0])
		strbuf_printf(&hosts, "%s\t%s\n", config->spec->ipv6, host_name(config));
	r = write_file(config, "hosts", strbuf_str(&hosts), 0644, err);
	if (r == 0)
		r = write_file(config, "hostname", hostname, 0644, err);
	if (r == 0)
		r = write_file(config, "resolv.conf", config->resolvers ? config->resolvers : "",
			       0644, err);
	return r;
}

int bundle_write(const struct bundle_config *config, struct error *err)
{
	AUTO(json_decref) json_t *document = NULL;
	AUTO(user_done) struct user user = {};
	AUTO(strv_free) char **args = NULL;
	int r;

	r = command_line(config, &args, err);
	if (r < 0)
		return r;
	r = user_resolve(config->rootfs_fd, first_set(config->spec->user, config->image->user, "0"),
			 &user, err);
	if (r < 0)
		return r;

	const char *cwd = first_set(config->spec->workdir, config->image->workdir, "/");
	json_t *process = process_json(config, args, NULL, &user, cwd, false);
	document = json_pack("{s:s, s:{s:s, s:b}, s:o, s:s, s:o, s:o}", "ociVersion", "1.0.2",
			     "root", "path", "rootfs", "readonly", 0, "process", process,
			     "hostname", host_name(config), "mounts", mounts_json(config), "linux",
			     linux_json(config));
	AUTO(free) char *text = json_text(document);
	r = write_identity(config, err);
	if (r < 0)
		return r;
	return write_file(config, "config.json", text, 0600, err);
}

int bundle_exec_process(const struct bundle_config *config, const struct bundle_exec *exec,
			json_t **ret, struct error *err)
{
	AUTO(user_done) struct user user = {};
	const char *name = first_set(exec->user, config->spec->user,
				     first_set(config->image->user, NULL, "0"));
	int r;

	if (strv_count(exec->command) == 0)
		return error_say(err, -EINVAL, "exec: no command given");
	r = user_resolve(config->rootfs_fd, name, &user, err);
	if (r < 0)
		return r;

	const char *cwd = first_set(exec->workdir, config->spec->workdir,
				    first_set(config->image->workdir, NULL, "/"));
	*ret = process_json(config, exec->command, exec->env, &user, cwd, exec->tty);
	if (exec->tty && exec->width && exec->height)
		json_object_set_new(*ret, "consoleSize",
				    json_pack("{s:i, s:i}", "height", (int) exec->height, "width",
					      (int) exec->width));
	return 0;
}
