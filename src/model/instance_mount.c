#include "model/instance_mount.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/member.h"
#include "model/quantity.h"

enum { PATH_MAX_BYTES = 1024, MODE_MAX = 07777, TMPFS_MIN_BYTES = 4096 };

const char *const instance_mount_type_names[] = { "bind", "tmpfs", NULL };

/* ---- checks ---- */

static const char *path_problem(const char *path)
{
	const char *p = path;

	if (!path || path[0] != '/')
		return "must be an absolute path";
	if (strlen(path) > PATH_MAX_BYTES)
		return "is longer than 1024 bytes";
	while (*p == '/') {
		size_t size = strcspn(++p, "/");

		if (size == 2 && p[0] == '.' && p[1] == '.')
			return "must not contain \"..\"";
		if ((size == 1 && p[0] == '.') || (size == 0 && path[1]))
			return "must be written without \".\", double slashes and a slash at its "
			       "end";
		p += size;
	}
	for (p = path; *p; p++)
		if ((unsigned char) *p < ' ')
			return "must not contain control characters";
	return NULL;
}

static bool is_below(const char *path, const char *folder)
{
	size_t size = strlen(folder);

	return strncmp(path, folder, size) == 0 && (path[size] == '/' || !path[size]);
}

const char *instance_path_problem(const char *path)
{
	const char *problem = path_problem(path);

	if (problem)
		return problem;
	if (strcmp(path, "/") == 0)
		return "must not be the root folder";
	if (is_below(path, "/proc") || is_below(path, "/sys"))
		return "must not lie in /proc or /sys";
	if (strcmp(path, "/dev") == 0 || is_below(path, "/dev/pts") ||
	    is_below(path, "/dev/mqueue"))
		return "is made by brume itself";
	return NULL;
}

/* A reason in words, or NULL. */
static const char *mount_problem(const struct instance_mount *mount, const char **ret_member)
{
	*ret_member = "target";
	if (!mount->target)
		return "is missing";
	if (instance_path_problem(mount->target))
		return instance_path_problem(mount->target);
	*ret_member = "source";
	if (mount->type == MOUNT_TYPE_TMPFS)
		return mount->source ? "does not go with type tmpfs" : NULL;
	if (!mount->source)
		return "is missing: a bind mount names a path of the node";
	if (path_problem(mount->source))
		return path_problem(mount->source);
	*ret_member = "size_bytes and mode";
	return mount->size_bytes || mount->mode ? "only go with type tmpfs" : NULL;
}

static int check_one(const struct instance_mount *mount, const char *what, struct error *err)
{
	const char *member;
	const char *problem = mount_problem(mount, &member);

	if (!problem)
		return 0;
	return error_say(err, -EINVAL, "\"%.200s\": the %s %s", what, member, problem);
}

int instance_mounts_check(const struct instance_mount *list, size_t count, struct error *err)
{
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < i; k++)
			if (strcmp(list[i].target, list[k].target) == 0)
				return error_say(err, -EINVAL, "\"%.200s\" is mounted on twice",
						 list[i].target);
	return 0;
}

/* ---- texts ---- */

static int parse_mode(const char *text, uint32_t *ret, struct error *err)
{
	char *end;
	unsigned long value = strtoul(text, &end, 8);

	if (*end || end == text || value == 0 || value > MODE_MAX)
		return error_say(err, -EINVAL, "mode=%.20s is not an octal mode like 1777", text);
	*ret = (uint32_t) value;
	return 0;
}

static int parse_size(const char *text, uint64_t *ret, struct error *err)
{
	int r = memory_parse(text, "size", ret, err);

	if (r == 0 && *ret < TMPFS_MIN_BYTES)
		return error_say(err, -EINVAL, "size=%.20s is too small, at least 4096 bytes",
				 text);
	return r;
}

/* The options that every spelling knows.  -ENOENT: it is none of them. */
static int parse_common(const char *key, const char *value, struct instance_mount *mount,
			struct error *err)
{
	bool yes = !value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0;

	if (strcmp(key, "size") == 0 || strcmp(key, "tmpfs-size") == 0)
		return parse_size(value ? value : "", &mount->size_bytes, err);
	if (strcmp(key, "mode") == 0 || strcmp(key, "tmpfs-mode") == 0)
		return parse_mode(value ? value : "", &mount->mode, err);
	if (strcmp(key, "ro") == 0 || strcmp(key, "readonly") == 0) {
		mount->read_only = yes;
		return 0;
	}
	if (strcmp(key, "rw") == 0 || strcmp(key, "exec") == 0) {
		bool *member = key[0] == 'r' ? &mount->read_only : &mount->no_exec;

		*member = !yes;
		return 0;
	}
	if (strcmp(key, "noexec") == 0) {
		mount->no_exec = yes;
		return 0;
	}
	/* Every mount is so. */
	if (!value && (strcmp(key, "nosuid") == 0 || strcmp(key, "nodev") == 0))
		return 0;
	return -ENOENT;
}

static int parse_named(const char *key, const char *value, struct instance_mount *mount,
		       bool *ret_typed, struct error *err)
{
	if (strcmp(key, "type") == 0) {
		int type = member_enum_index(instance_mount_type_names, value ? value : "");

		if (type < 0)
			return error_say(err, -EINVAL, "type=%.20s: there are bind and tmpfs",
					 value ? value : "");
		mount->type = (enum instance_mount_type) type;
		*ret_typed = true;
		return 0;
	}
	if (strcmp(key, "source") == 0 || strcmp(key, "src") == 0) {
		mem_replace(&mount->source, value);
		return 0;
	}
	if (strcmp(key, "target") == 0 || strcmp(key, "destination") == 0 ||
	    strcmp(key, "dst") == 0) {
		mem_replace(&mount->target, value);
		return 0;
	}
	return parse_common(key, value, mount, err);
}

static int finish(struct instance_mount *mount, const char *text, int r, struct instance_mount *ret,
		  struct error *err)
{
	if (r == 0)
		r = check_one(mount, text, err);
	if (r < 0) {
		instance_mount_done(mount);
		return r;
	}
	*ret = *mount;
	return 0;
}

int instance_mount_parse(const char *text, struct instance_mount *ret, struct error *err)
{
	struct instance_mount mount = {};
	AUTO(free) char *copy = mem_strdup(text);
	char *rest = copy, *key;
	bool typed = false;
	int r = 0;

	while (r == 0 && (key = strsep(&rest, ","))) {
		char *value = strchr(key, '=');

		if (value)
			*value++ = '\0';
		r = parse_named(key, value, &mount, &typed, err);
		if (r == -ENOENT)
			r = error_say(err, -EINVAL,
				      "\"%.40s\" is not known; there are type, source, target, "
				      "readonly, noexec, size and mode",
				      key);
	}
	if (r == 0 && !typed)
		r = error_say(err, -EINVAL, "type= is missing: type=bind or type=tmpfs");
	return finish(&mount, text, r, ret, err);
}

int instance_mount_parse_volume(const char *text, struct instance_mount *ret, struct error *err)
{
	struct instance_mount mount = { .type = MOUNT_TYPE_BIND };
	AUTO(free) char *copy = mem_strdup(text);
	char *rest = copy;
	char *source = strsep(&rest, ":");
	char *target = strsep(&rest, ":");
	char *option;
	int r = 0;

	if (source[0] != '/')
		return error_say(err, -EINVAL,
				 "\"%.200s\" must look like /HOST/FOLDER:/TARGET[:ro]; named "
				 "volumes do not exist yet",
				 text);
	mount.source = mem_strdup(source);
	mount.target = mem_strdup(target);
	while (r == 0 && (option = strsep(&rest, ","))) {
		r = strchr(option, '=') ? -ENOENT : parse_common(option, NULL, &mount, err);
		if (r == -ENOENT)
			r = error_say(err, -EINVAL,
				      "\"%.200s\": the options are ro, rw, noexec and exec, not "
				      "\"%.20s\"",
				      text, option);
	}
	return finish(&mount, text, r, ret, err);
}

int instance_mount_parse_tmpfs(const char *text, struct instance_mount *ret, struct error *err)
{
	struct instance_mount mount = { .type = MOUNT_TYPE_TMPFS };
	AUTO(free) char *copy = mem_strdup(text);
	char *rest = copy, *key;
	int r = 0;

	mount.target = mem_strdup(strsep(&rest, ":"));
	while (r == 0 && (key = strsep(&rest, ","))) {
		char *value = strchr(key, '=');

		if (value)
			*value++ = '\0';
		r = parse_common(key, value, &mount, err);
		if (r == -ENOENT)
			r = error_say(err, -EINVAL,
				      "\"%.40s\" is not known; there are size, mode, ro and noexec",
				      key);
	}
	return finish(&mount, text, r, ret, err);
}

/* ---- JSON ---- */

static int decode_one(const json_t *object, const char *where, struct instance_mount *mount,
		      struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	unsigned int type = MOUNT_TYPE_BIND;
	int64_t mode = 0;
	const char *member, *problem;

	if (!json_is_string(json_object_get(object, "type")))
		return error_say(err, -EINVAL, "%s.type: must be \"bind\" or \"tmpfs\"", where);
	member_read_enum(&in, object, "type", instance_mount_type_names, &type);
	json_read_string(&in, object, "source", &mount->source);
	json_read_string(&in, object, "target", &mount->target);
	json_read_bool(&in, object, "read_only", &mount->read_only);
	json_read_bool(&in, object, "no_exec", &mount->no_exec);
	json_read_uint64(&in, object, "size_bytes", &mount->size_bytes);
	json_read_int(&in, object, "mode", 0, MODE_MAX, &mode);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	mount->type = type;
	mount->mode = (uint32_t) mode;
	if (mount->size_bytes &&
	    (mount->size_bytes < TMPFS_MIN_BYTES || mount->size_bytes > INT64_MAX))
		return error_say(err, -EINVAL, "%s.size_bytes: must be at least %d", where,
				 TMPFS_MIN_BYTES);
	problem = mount_problem(mount, &member);
	return problem ? error_say(err, -EINVAL, "%s.%s: %s", where, member, problem) : 0;
}

int instance_mounts_read(struct json_reader *in, const json_t *object, const char *name,
			 struct instance_mount **ret, size_t *ret_count)
{
	char path[MEMBER_PATH_MAX], item_path[MEMBER_PATH_MAX + 32];
	struct instance_mount *list;
	json_t *array = NULL, *item;
	size_t i, count = 0;
	int r = 0;

	json_read_array(in, object, name, &array);
	if (in->result < 0 || !array)
		return in->result;
	if (json_array_size(array) > INSTANCE_MOUNTS_MAX)
		return member_fail(in, name, "at most %d mounts are allowed", INSTANCE_MOUNTS_MAX);
	member_path(path, in->where, name);
	list = mem_new0_array(struct instance_mount, json_array_size(array) + 1);
	json_array_foreach(array, i, item)
	{
		snprintf(item_path, sizeof(item_path), "%s[%zu]", path, i);
		count = i + 1;
		r = decode_one(item, item_path, &list[i], in->err);
		if (r < 0)
			break;
	}
	if (r == 0) {
		r = instance_mounts_check(list, count, in->err);
		if (r < 0)
			error_wrap(in->err, r, "%s", path);
	}
	if (r < 0) {
		instance_mounts_free(list, count);
		in->result = r;
		return r;
	}
	instance_mounts_free(*ret, *ret_count);
	*ret = list;
	*ret_count = count;
	return 0;
}

json_t *instance_mounts_encode(const struct instance_mount *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *item = json_object();

		json_put_string(item, "type", instance_mount_type_names[list[i].type]);
		json_put_string(item, "source", list[i].source);
		json_put_string(item, "target", list[i].target);
		if (list[i].read_only)
			json_object_set_new(item, "read_only", json_true());
		if (list[i].no_exec)
			json_object_set_new(item, "no_exec", json_true());
		member_put_uint(item, "size_bytes", list[i].size_bytes);
		member_put_uint(item, "mode", list[i].mode);
		json_array_append_new(array, item);
	}
	return array;
}

struct instance_mount *instance_mounts_copy(const struct instance_mount *list, size_t count)
{
	struct instance_mount *copy;

	if (count == 0)
		return NULL;
	copy = mem_new0_array(struct instance_mount, count);
	for (size_t i = 0; i < count; i++) {
		copy[i] = list[i];
		copy[i].source = mem_strdup(list[i].source);
		copy[i].target = mem_strdup(list[i].target);
	}
	return copy;
}

void instance_mount_done(struct instance_mount *mount)
{
	free(mount->source);
	free(mount->target);
	*mount = (struct instance_mount){};
}

void instance_mounts_free(struct instance_mount *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		instance_mount_done(&list[i]);
	free(list);
}
