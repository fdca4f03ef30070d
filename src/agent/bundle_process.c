#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "agent/bundle_internal.h"
#include "agent/users.h"
#include "base/capname.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/oci_spec.h"
#include "image/rootfs.h"
#include "kern/caps.h"

/* What is run in an instance, as whom, with which powers: its own process, and those of exec. */

enum { NOFILE_SOFT = 1024, NOFILE_HARD = 524288 };

static const char default_path[] =
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

int bundle_args(const struct instance_spec *spec, const struct oci_image_config *image, char ***ret,
		struct error *err)
{
	char *const *entrypoint = spec->entrypoint ? spec->entrypoint : image->entrypoint;
	char *const *command = spec->command;
	char **args = *ret;
	size_t before = strv_count(args);

	/* An entrypoint of one's own makes the image's command meaningless. */
	if (!command && !spec->entrypoint)
		command = image->cmd;
	for (size_t i = 0; entrypoint && entrypoint[i]; i++)
		strv_append(&args, entrypoint[i]);
	for (size_t i = 0; command && command[i]; i++)
		strv_append(&args, command[i]);
	*ret = args;
	if (strv_count(args) == before)
		return error_say(
			err, -EINVAL,
			"nothing to run: neither the image nor the launch names a command");
	return 0;
}

/* `home` NULL: who knows the user sets it. */
static char **make_env(const struct bundle *bundle, const char *hostname, const char *home)
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
	if (bundle->spec->stdio.tty && !strv_env_get(env, "TERM"))
		strv_env_set(&env, "TERM", "xterm");
	if (!strv_env_get(env, "HOSTNAME"))
		strv_env_set(&env, "HOSTNAME", hostname);
	if (home && !strv_env_get(env, "HOME"))
		strv_env_set(&env, "HOME", home);
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

static const char *const default_capabilities[] = {
	"CAP_AUDIT_WRITE", "CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_FOWNER",    "CAP_FSETID",
	"CAP_KILL",        "CAP_MKNOD",   "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",   "CAP_SETFCAP",
	"CAP_SETGID",      "CAP_SETPCAP", "CAP_SETUID",           "CAP_SYS_CHROOT"
};

/* As bits; all of them are valid in the instance's own user namespace only. */
static uint64_t capability_bits(char *const *list)
{
	uint64_t bits = 0;

	for (; list && *list; list++)
		bits |= strcmp(*list, "ALL") == 0 ? caps_all()
						  : UINT64_C(1) << capname_number(*list);
	return bits & caps_all();
}

static bool strv_has(char *const *list, const char *word)
{
	for (; list && *list; list++)
		if (strcmp(*list, word) == 0)
			return true;
	return false;
}

uint64_t bundle_capabilities(const struct run_options *run)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < ARRAY_COUNT(default_capabilities); i++)
		bits |= UINT64_C(1) << capname_number(default_capabilities[i]);
	if (run->privileged)
		bits = caps_all();
	/* One that is named counts more than ALL, whichever of the two lists has it. */
	if (strv_has(run->cap_add, "ALL"))
		return caps_all() & ~capability_bits(run->cap_drop);
	return (bits & ~capability_bits(run->cap_drop)) | capability_bits(run->cap_add);
}

static json_t *capability_names(uint64_t bits)
{
	json_t *array = json_array();

	for (unsigned int i = 0; i < CAPNAME_COUNT; i++)
		if (bits & UINT64_C(1) << i)
			json_array_append_new(array, json_string(capname(i)));
	return array;
}

/*
 * A user that is not root has only what was asked for by name, and keeps it when it executes
 * programs; the bounding set is what a setuid program may gain.
 */
static json_t *capabilities(const struct run_options *run, uint32_t uid)
{
	uint64_t all = bundle_capabilities(run);
	uint64_t own = uid == 0 ? all : capability_bits(run->cap_add) & all;
	json_t *object =
		json_pack("{s:o, s:o, s:o}", "bounding", capability_names(all), "effective",
			  capability_names(own), "permitted", capability_names(own));

	if (uid != 0 && own) {
		json_object_set_new(object, "inheritable", capability_names(own));
		json_object_set_new(object, "ambient", capability_names(own));
	}
	return object;
}

/* Another user in an instance: what its root may have at most, or nothing. */
static json_t *capabilities_of_user(const json_t *process, uint32_t uid)
{
	json_t *bounding = json_object_get(json_object_get(process, "capabilities"), "bounding");
	AUTO(json_decref) json_t *none = json_array();
	json_t *own = uid == 0 && bounding ? bounding : none;

	return json_pack("{s:O, s:O, s:O}", "bounding", bounding ? bounding : none, "effective",
			 own, "permitted", own);
}

/* Above what the agent itself may have nobody can give it; a guest's kernel does not know that. */
static json_t *default_nofile(bool in_guest)
{
	struct rlimit limit = {};
	rlim_t hard = NOFILE_HARD;

	if (!in_guest && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < hard)
		hard = limit.rlim_max;
	return json_pack("{s:s, s:I, s:I}", "type", "RLIMIT_NOFILE", "soft",
			 (json_int_t) (hard < NOFILE_SOFT ? hard : NOFILE_SOFT), "hard",
			 (json_int_t) hard);
}

/* No limit is 2^64 - 1, which our JSON numbers cannot say; brume-oci takes it as a text. */
static json_t *limit_value(uint64_t value)
{
	return value == ULIMIT_UNLIMITED ? json_string("18446744073709551615")
					 : json_integer((json_int_t) value);
}

static json_t *rlimits(const struct run_options *run, bool in_guest)
{
	json_t *array = json_array();
	bool nofile = false;

	for (size_t i = 0; i < run->ulimit_count; i++) {
		const struct ulimit *limit = &run->ulimits[i];
		char type[32];

		snprintf(type, sizeof(type), "RLIMIT_%s", limit->name);
		for (char *p = type; *p; p++)
			*p = (char) toupper((unsigned char) *p);
		nofile = nofile || strcmp(limit->name, "nofile") == 0;
		json_array_append_new(array, json_pack("{s:s, s:o, s:o}", "type", type, "soft",
						       limit_value(limit->soft), "hard",
						       limit_value(limit->hard)));
	}
	if (!nofile)
		json_array_append_new(array, default_nofile(in_guest));
	return array;
}

const char *bundle_user(const struct bundle *bundle)
{
	const char *user = bundle->spec->user;

	return user && user[0] ? user : bundle->image->user;
}

/* What the process is told, whoever runs it. */
static int add_words(const struct bundle *bundle, char **args, const char *hostname,
		     const char *home, json_t *process, struct error *err)
{
	const char *own = bundle->spec->workdir;
	const char *workdir = own && own[0] ? own : bundle->image->workdir;
	AUTO(strv_free) char **env = make_env(bundle, hostname, home);
	AUTO(json_decref) json_t *args_json = NULL, *env_json = NULL;
	int r = bundle_texts(args, "command", &args_json, err);

	if (r == 0)
		r = bundle_texts(env, "env", &env_json, err);
	if (r < 0)
		return r;
	json_t *cwd = json_string(workdir && workdir[0] == '/' ? workdir : "/");
	if (!cwd)
		return error_say(err, -EINVAL, "workdir: is not valid UTF-8");
	json_object_update_new(process, json_pack("{s:b, s:O, s:O, s:o}", "terminal",
						  bundle->spec->stdio.tty, "args", args_json, "env",
						  env_json, "cwd", cwd));
	return 0;
}

int bundle_add_process(const struct bundle *bundle, const char *hostname, uint32_t *ret_owner,
		       json_t *config, struct error *err)
{
	const struct instance_spec *spec = bundle->spec;
	AUTO(json_decref) json_t *process = NULL;
	AUTO(strv_free) char **args = NULL;
	struct users users;
	int r;

	if (spec->run.init) {
		strv_append(&args, BUNDLE_INIT_PATH);
		strv_append(&args, "--");
	}
	r = bundle_args(spec, bundle->image, &args, err);
	if (r == 0)
		r = users_resolve(bundle->root_fd, bundle_user(bundle), &users, err);
	if (r < 0)
		return r;
	process = json_pack("{s:o, s:o, s:o, s:b}", "user", user_object(&users), "capabilities",
			    capabilities(&spec->run, users.uid), "rlimits",
			    rlimits(&spec->run, false), "noNewPrivileges", !spec->run.privileged);
	r = add_words(bundle, args, hostname, users.home, process, err);
	if (r < 0)
		return r;
	*ret_owner = rootfs_slot_uid(bundle->slot) + users.uid;
	json_object_set(config, "process", process);
	return 0;
}

/* Root has all of them, and who is not root those that were asked for by name. */
static json_t *guest_capabilities(const struct run_options *run)
{
	uint64_t all = bundle_capabilities(run), own = capability_bits(run->cap_add) & all;

	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "bounding", capability_names(all),
			 "effective", capability_names(all), "permitted", capability_names(all),
			 "inheritable", capability_names(own), "ambient", capability_names(own));
}

int bundle_guest_process(const struct bundle *bundle, const char *hostname, json_t **ret,
			 struct error *err)
{
	const struct run_options *run = &bundle->spec->run;
	AUTO(json_decref) json_t *process = NULL;
	AUTO(strv_free) char **args = NULL;
	int r = bundle_args(bundle->spec, bundle->image, &args, err);

	if (r < 0)
		return r;
	process = json_pack("{s:{s:i, s:i}, s:o, s:o, s:b}", "user", "uid", 0, "gid", 0,
			    "capabilities", guest_capabilities(run), "rlimits", rlimits(run, true),
			    "noNewPrivileges", 1);
	r = add_words(bundle, args, hostname, NULL, process, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(process);
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
	r = bundle_texts(env, "env", &merged, err);
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
		r = bundle_texts(exec->command, "command", &args, err);
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
		json_object_set_new(process, "capabilities",
				    capabilities_of_user(process, users.uid));
	}
	json_object_set_new(process, "terminal", json_boolean(exec->tty));
	if (exec->tty && exec->width > 0 && exec->height > 0)
		json_object_set_new(process, "consoleSize",
				    json_pack("{s:I, s:I}", "width", (json_int_t) exec->width,
					      "height", (json_int_t) exec->height));
	*ret = TAKE_PTR(process);
	return 0;
}

int bundle_write_exec_process(const char *dir, pid_t pid, const struct bundle_exec *exec,
			      const char *path, struct error *err)
{
	AUTO(json_decref) json_t *process = NULL;
	char root[32];

	snprintf(root, sizeof(root), "/proc/%d/root", pid);
	AUTO(fd_close) int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return error_say(err, -ESRCH, "the instance has just ended");
	int r = bundle_exec_process(dir, root_fd, exec, &process, err);
	if (r < 0)
		return r;
	AUTO(free) char *text = json_text(process);
	r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);
	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}
