#include "agent/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/capname.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/caps.h"
#include "model/member.h"
#include "model/run_options.h"

enum { POLICY_MAX_BYTES = 256 * 1024, ENTRIES_MAX = 1000 };

/* ---- decoding ---- */

static bool path_is_plain(const char *path)
{
	if (!path || path[0] != '/' || (path[1] && path[strlen(path) - 1] == '/'))
		return false;
	return !strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../") &&
	       (strlen(path) < 2 || strcmp(path + strlen(path) - 2, "/.") != 0) &&
	       (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0);
}

static void read_path(struct json_reader *in, const json_t *object, char **ret)
{
	json_read_string(in, object, "path", ret);
	if (in->result == 0 && !path_is_plain(*ret))
		member_fail(in, "path",
			    "must be an absolute path without \"..\", \".\", double slashes and "
			    "a slash at its end");
}

static void read_idmap(struct json_reader *in, const json_t *object, struct policy_mount *mount)
{
	AUTO(free) char *text = NULL;
	unsigned int uid, gid;
	int end = 0;

	json_read_string(in, object, "idmap", &text);
	if (in->result < 0 || !text || strcmp(text, "none") == 0)
		return;
	if (strcmp(text, "same") == 0) {
		mount->idmap = POLICY_IDMAP_SAME;
	} else if (strspn(text, "0123456789:") == strlen(text) &&
		   sscanf(text, "%9u:%9u%n", &uid, &gid, &end) == 2 && !text[end]) {
		mount->idmap = POLICY_IDMAP_USER;
		mount->uid = uid;
		mount->gid = gid;
	} else {
		member_fail(in, "idmap", "must be \"none\", \"same\" or \"UID:GID\"");
	}
}

static int read_mount(const json_t *item, const char *where, void *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	struct policy_mount *mount = ret;

	read_path(&in, item, &mount->path);
	json_read_bool(&in, item, "read_only", &mount->read_only);
	read_idmap(&in, item, mount);
	json_read_strv(&in, item, "projects", &mount->projects);
	return json_reader_finish(&in, item);
}

static int read_device(const json_t *item, const char *where, void *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	struct policy_device *device = ret;
	AUTO(free) char *access = NULL;

	read_path(&in, item, &device->path);
	json_read_string(&in, item, "access", &access);
	json_read_strv(&in, item, "projects", &device->projects);
	if (in.result == 0 && access && instance_device_access_check(access) < 0)
		member_fail(&in, "access", "must be letters of \"rwm\"");
	if (in.result == 0)
		snprintf(device->access, sizeof(device->access), "%s", access ? access : "rwm");
	return json_reader_finish(&in, item);
}

static int read_uplink(const json_t *item, const char *where, void *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	struct policy_uplink *uplink = ret;

	json_read_string(&in, item, "name", &uplink->name);
	json_read_strv(&in, item, "projects", &uplink->projects);
	if (in.result == 0 && (!uplink->name || !uplink->name[0]))
		member_fail(&in, "name", "must be that of an interface of the node");
	return json_reader_finish(&in, item);
}

static int read_prefix(const json_t *item, const char *where, void *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	struct policy_prefix *prefix = ret;
	AUTO(free) char *text = NULL;
	char path[MEMBER_PATH_MAX];

	json_read_string(&in, item, "prefix", &text);
	json_read_strv(&in, item, "projects", &prefix->projects);
	if (in.result == 0)
		in.result = subnet_parse(text ? text : "", 0, member_path(path, where, "prefix"),
					 &prefix->prefix, err);
	return json_reader_finish(&in, item);
}

/* `list` has room for all, `size` bytes each; what is counted is to be freed, also after an error.
 */
static int read_list(const json_t *array, const char *name, void *list, size_t size, size_t *count,
		     int (*read)(const json_t *item, const char *where, void *ret,
				 struct error *err),
		     struct error *err)
{
	const json_t *item;
	char where[32];
	size_t i;

	json_array_foreach(array, i, item)
	{
		snprintf(where, sizeof(where), "%s[%zu]", name, i);
		*count = i + 1;
		int r = read(item, where, (char *) list + i * size, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_lists(struct policy *policy, const json_t *mounts, const json_t *devices,
		      const json_t *uplinks, const json_t *prefixes, struct error *err)
{
	int r;

	policy->mounts = mem_new0_array(struct policy_mount, json_array_size(mounts) + 1);
	policy->devices = mem_new0_array(struct policy_device, json_array_size(devices) + 1);
	policy->uplinks = mem_new0_array(struct policy_uplink, json_array_size(uplinks) + 1);
	policy->prefixes = mem_new0_array(struct policy_prefix, json_array_size(prefixes) + 1);
	r = read_list(mounts, "mounts", policy->mounts, sizeof(policy->mounts[0]),
		      &policy->mount_count, read_mount, err);
	if (r == 0)
		r = read_list(devices, "devices", policy->devices, sizeof(policy->devices[0]),
			      &policy->device_count, read_device, err);
	if (r == 0)
		r = read_list(uplinks, "uplinks", policy->uplinks, sizeof(policy->uplinks[0]),
			      &policy->uplink_count, read_uplink, err);
	if (r == 0)
		r = read_list(prefixes, "advertise", policy->prefixes, sizeof(policy->prefixes[0]),
			      &policy->prefix_count, read_prefix, err);
	return r;
}

static int read_capabilities(struct policy *policy, char *const *names, struct error *err)
{
	AUTO(strv_free) char **list = NULL;

	for (; names && *names; names++) {
		int r = run_options_add_capability(&list, *names, err);

		if (r < 0)
			return error_wrap(err, r, "deny_capabilities");
	}
	for (size_t i = 0; list && list[i]; i++)
		policy->denied_capabilities |= strcmp(list[i], "ALL") == 0
						       ? caps_all()
						       : UINT64_C(1) << capname_number(list[i]);
	return 0;
}

static int read_seccomp(struct policy *policy, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "seccomp_profiles" };

	if (!object)
		return 0;
	policy->seccomp_profiles = true;
	json_read_strv(&in, object, "projects", &policy->seccomp_projects);
	return json_reader_finish(&in, object);
}

int policy_decode(const json_t *document, struct policy **ret, struct error *err)
{
	AUTO(policy_free) struct policy *policy = mem_new0(struct policy);
	struct json_reader in = { .err = err, .where = "" };
	AUTO(strv_free) char **denied = NULL;
	json_t *mounts = NULL, *devices = NULL, *uplinks = NULL, *seccomp = NULL;
	json_t *prefixes = NULL;
	int r;

	json_read_array(&in, document, "mounts", &mounts);
	json_read_array(&in, document, "devices", &devices);
	json_read_array(&in, document, "uplinks", &uplinks);
	json_read_array(&in, document, "advertise", &prefixes);
	json_read_strv(&in, document, "deny_capabilities", &denied);
	json_read_object(&in, document, "seccomp_profiles", &seccomp);
	r = json_reader_finish(&in, document);
	if (r == 0 && json_array_size(mounts) + json_array_size(devices) +
				      json_array_size(uplinks) + json_array_size(prefixes) >
			      ENTRIES_MAX)
		r = error_say(err, -EINVAL, "at most %d entries are allowed", ENTRIES_MAX);
	if (r == 0)
		r = read_lists(policy, mounts, devices, uplinks, prefixes, err);
	if (r == 0)
		r = read_capabilities(policy, denied, err);
	if (r == 0)
		r = read_seccomp(policy, seccomp, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(policy);
	return 0;
}

int policy_load(const char *path, struct policy **ret, struct error *err)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *text = NULL;
	struct stat st;
	size_t size;
	int r;

	if (fd < 0 && errno == ENOENT) {
		*ret = mem_new0(struct policy);
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "the node's policy %s", path);
	if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)))
		return error_say(err, -EPERM,
				 "the node's policy %s must be a file of root that nobody else may "
				 "write",
				 path);
	r = file_read_fd(fd, POLICY_MAX_BYTES, &text, &size);
	if (r < 0)
		return error_set(err, r, "the node's policy %s", path);
	r = json_parse(text, size, POLICY_MAX_BYTES, &document, err);
	if (r == 0)
		r = policy_decode(document, ret, err);
	return r < 0 ? error_wrap(err, r, "the node's policy %s", path) : 0;
}

/* ---- searching ---- */

static bool has_project(char *const *projects, const char *project)
{
	return !projects || strv_contains(projects, project);
}

static bool covers(const char *folder, const char *path)
{
	size_t size = strlen(folder);

	if (size == 1)
		return path[0] == '/';
	return strncmp(folder, path, size) == 0 && (path[size] == '/' || !path[size]);
}

const struct policy_mount *policy_find_mount(const struct policy *policy, const char *project,
					     const char *source)
{
	const struct policy_mount *best = NULL;

	for (size_t i = 0; i < policy->mount_count; i++) {
		const struct policy_mount *mount = &policy->mounts[i];

		if (covers(mount->path, source) && has_project(mount->projects, project) &&
		    (!best || strlen(mount->path) > strlen(best->path)))
			best = mount;
	}
	return best;
}

const struct policy_device *policy_find_device(const struct policy *policy, const char *project,
					       const char *source)
{
	for (size_t i = 0; i < policy->device_count; i++)
		if (strcmp(policy->devices[i].path, source) == 0 &&
		    has_project(policy->devices[i].projects, project))
			return &policy->devices[i];
	return NULL;
}

int policy_check_capabilities(const struct policy *policy, const struct run_options *run,
			      struct error *err)
{
	uint64_t denied = policy->denied_capabilities;

	if (denied && run->privileged)
		return error_say(err, -EPERM,
				 "privileged: this node's policy denies capabilities, so an "
				 "instance cannot have all");
	for (char *const *name = run->cap_add; denied && name && *name; name++) {
		bool all = strcmp(*name, "ALL") == 0;

		if (all || (denied & UINT64_C(1) << capname_number(*name)))
			return error_say(err, -EPERM, "cap_add: this node's policy denies %s",
					 all ? "some of ALL" : *name);
	}
	return 0;
}

int policy_check_seccomp(const struct policy *policy, const char *project,
			 const struct run_options *run, struct error *err)
{
	if (!run->seccomp_profile ||
	    (policy->seccomp_profiles && has_project(policy->seccomp_projects, project)))
		return 0;
	return error_say(err, -EPERM,
			 "seccomp_profile: this node's policy allows none of one's own; root can "
			 "allow it with seccomp_profiles, see docs/operate/policy.md");
}

int policy_check_uplink(const struct policy *policy, const char *project, const char *name,
			struct error *err)
{
	for (size_t i = 0; i < policy->uplink_count; i++)
		if (strcmp(policy->uplinks[i].name, name) == 0 &&
		    has_project(policy->uplinks[i].projects, project))
			return 0;
	return error_say(err, -EPERM,
			 "uplink %s: this node's policy does not give it to networks; root can, "
			 "with uplinks, see docs/operate/policy.md",
			 name);
}

int policy_check_advertise(const struct policy *policy, const char *project,
			   const struct subnet *subnet, struct error *err)
{
	char text[SUBNET_TEXT_SIZE];

	for (size_t i = 0; i < policy->prefix_count; i++) {
		const struct policy_prefix *entry = &policy->prefixes[i];

		if (entry->prefix.prefix <= subnet->prefix &&
		    subnet_contains(&entry->prefix, &subnet->base) &&
		    has_project(entry->projects, project))
			return 0;
	}
	subnet_format(subnet, text);
	return error_say(err, -EPERM,
			 "advertise: this node's policy does not let project \"%s\" announce %s; "
			 "root can, with advertise, see docs/operate/policy.md",
			 project, text);
}

void policy_free(struct policy *policy)
{
	if (!policy)
		return;
	for (size_t i = 0; i < policy->mount_count; i++) {
		free(policy->mounts[i].path);
		strv_free(policy->mounts[i].projects);
	}
	for (size_t i = 0; i < policy->device_count; i++) {
		free(policy->devices[i].path);
		strv_free(policy->devices[i].projects);
	}
	for (size_t i = 0; i < policy->uplink_count; i++) {
		free(policy->uplinks[i].name);
		strv_free(policy->uplinks[i].projects);
	}
	for (size_t i = 0; i < policy->prefix_count; i++)
		strv_free(policy->prefixes[i].projects);
	strv_free(policy->seccomp_projects);
	free(policy->prefixes);
	free(policy->uplinks);
	free(policy->mounts);
	free(policy->devices);
	free(policy);
}
