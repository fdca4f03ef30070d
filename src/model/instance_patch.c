#include "model/instance_patch.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/instance.h"
#include "model/member.h"

enum { SIGNAL_MAX_BYTES = 64, STOP_TIMEOUT_MAX_S = 24 * 3600 };

static bool is_null(const json_t *object, const char *name)
{
	return json_is_null(json_object_get(object, name));
}

/* {"A": "new value", "B": null}, or null for all. */
static void patch_map(struct json_reader *in, const json_t *patch, const char *name, char ***map)
{
	const char *key;
	json_t *object = NULL, *value;

	if (is_null(patch, name)) {
		strv_free(*map);
		*map = NULL;
	}
	json_read_object(in, patch, name, &object);
	json_object_foreach(object, key, value)
	{
		if (!key[0] || strchr(key, '='))
			member_fail(in, name, "\"%.64s\" is not a name", key);
		else if (json_is_string(value))
			strv_env_set(map, key, json_string_value(value));
		else if (json_is_null(value))
			strv_env_unset(map, key);
		else
			member_fail(in, name, "\"%.64s\" must be a string, or null to remove it",
				    key);
	}
}

static void patch_limits(struct json_reader *in, const json_t *patch, struct instance_spec *spec)
{
	bool all = is_null(patch, "limits");
	const json_t *limits = json_object_get(patch, "limits");

	if (all || is_null(limits, "cpus"))
		spec->cpus = 0;
	if (all || is_null(limits, "memory_bytes"))
		spec->memory_bytes = 0;
	if (all || is_null(limits, "pids"))
		spec->pids = 0;
	instance_limits_read(in, patch, spec);
}

static void patch_restart(struct json_reader *in, const json_t *patch, struct instance_spec *spec)
{
	if (json_object_get(patch, "restart")) {
		spec->restart_policy = RESTART_NO;
		spec->restart_max_retries = 0;
	}
	instance_restart_read(in, patch, spec);
}

static void patch_stop(struct json_reader *in, const json_t *patch, struct instance_spec *spec)
{
	if (is_null(patch, "stop_signal"))
		mem_replace(&spec->stop_signal, NULL);
	member_read_text(in, patch, "stop_signal", SIGNAL_MAX_BYTES, &spec->stop_signal);
	if (is_null(patch, "stop_timeout_s"))
		spec->stop_timeout_s = INSTANCE_STOP_TIMEOUT_S;
	json_read_uint32(in, patch, "stop_timeout_s", STOP_TIMEOUT_MAX_S, &spec->stop_timeout_s);
}

static void set_groups(struct port *port, char *const *groups)
{
	strv_free(port->groups);
	port->groups = strv_copy(groups);
}

/* The member `groups` of `object`: absent, null for the default one, or names. */
static bool read_groups(struct json_reader *in, const json_t *object, char ***ret)
{
	char path[MEMBER_PATH_MAX];

	json_read_strv(in, object, "groups", ret);
	if (in->result == 0)
		in->result =
			port_groups_check(*ret, member_path(path, in->where, "groups"), in->err);
	return in->result == 0 && (*ret || is_null(object, "groups"));
}

/* {"groups": [..]} for all ports, {"ports": {NETWORK: {"limits": {..}, "groups": [..]}}} for one.
 */
static void patch_ports(struct json_reader *in, const json_t *patch, struct instance_spec *spec)
{
	AUTO(strv_free) char **all = NULL;
	json_t *ports = NULL, *value;
	const char *network;

	if (read_groups(in, patch, &all))
		for (size_t i = 0; i < spec->port_count; i++)
			set_groups(&spec->ports[i], all);
	json_read_object(in, patch, "ports", &ports);
	json_object_foreach(ports, network, value)
	{
		struct port *port = ports_find(spec->ports, spec->port_count, network);
		struct json_reader inner = { .err = in->err, .where = "ports" };
		AUTO(strv_free) char **groups = NULL;

		if (!port || port->leaving) {
			member_fail(in, "ports", "it is not attached to network \"%.64s\"",
				    network);
			return;
		}
		if (!json_is_object(value)) {
			member_fail(in, "ports", "\"%.64s\" must be an object", network);
			return;
		}
		port_limits_read(&inner, value, &port->limits);
		if (read_groups(&inner, value, &groups))
			set_groups(port, groups);
		if (json_reader_finish(&inner, value) < 0) {
			in->result = inner.result;
			return;
		}
	}
}

static int refuse_others(const json_t *patch, struct error *err)
{
	static const char *const known[] = { "limits", "restart",     "labels",         "env",
					     "groups", "stop_signal", "stop_timeout_s", "ports" };
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) patch, key, value)
	{
		bool found = false;

		for (size_t i = 0; i < ARRAY_COUNT(known); i++)
			found |= strcmp(known[i], key) == 0;
		if (strcmp(key, "ports") == 0 && !json_is_object(value))
			return error_say(err, -EINVAL,
					 "ports: are added and removed one by one, with POST and "
					 "DELETE of the instance's ports; what can be changed is "
					 "{\"ports\": {NETWORK: {\"limits\": {..}, \"groups\": "
					 "[..]}}}");
		if (!found)
			return error_say(err, -EINVAL,
					 "%.64s: cannot be changed after the launch, only limits, "
					 "restart, labels, env, groups, stop_signal and "
					 "stop_timeout_s can",
					 key);
	}
	return 0;
}

int instance_patch(struct instance *instance, const json_t *patch, struct error *err)
{
	struct json_reader in = { .err = err };
	int r = refuse_others(patch, err);

	if (r < 0)
		return r;
	patch_limits(&in, patch, &instance->spec);
	patch_restart(&in, patch, &instance->spec);
	patch_map(&in, patch, "labels", &instance->meta.labels);
	patch_map(&in, patch, "env", &instance->spec.env);
	patch_stop(&in, patch, &instance->spec);
	patch_ports(&in, patch, &instance->spec);
	r = json_reader_finish(&in, patch);
	if (r == 0)
		r = instance_type_check(&instance->spec, err);
	return r < 0 ? r : labels_check(instance->meta.labels, err);
}

/* Those of every port, whichever the patch is about. */
static json_t *ports_now(const struct instance_spec *spec)
{
	json_t *ports = json_object();

	for (size_t i = 0; i < spec->port_count; i++) {
		const struct port *port = &spec->ports[i];
		json_t *member;

		if (port->leaving)
			continue;
		member = json_object();
		json_object_set_new(member, "limits", port_limits_patch(&port->limits));
		json_object_set_new(member, "groups", json_null());
		json_put_strv(member, "groups", port->groups);
		json_object_set_new(ports, port->network, member);
	}
	return ports;
}

json_t *instance_patch_undo(const struct instance *instance, const json_t *patch)
{
	AUTO(json_decref) json_t *before = json_object();
	json_t *undo = json_object(), *value, *part, *old;
	const char *key, *sub;

	instance_spec_put_user(before, &instance->spec);
	member_put_map(before, "labels", instance->meta.labels);
	json_object_foreach((json_t *) patch, key, value)
	{
		if (strcmp(key, "groups") == 0 || strcmp(key, "ports") == 0) {
			json_object_set_new(undo, "ports", ports_now(&instance->spec));
			continue;
		}
		old = json_object_get(before, key);
		/* A restart policy is replaced as a whole. */
		if (!json_is_object(value) || strcmp(key, "restart") == 0) {
			json_object_set_new(undo, key, old ? json_incref(old) : json_null());
			continue;
		}
		part = json_object();
		const json_t *ignored;
		json_object_foreach(value, sub, ignored)
		{
			json_t *was = json_object_get(old, sub);

			json_object_set_new(part, sub, was ? json_incref(was) : json_null());
		}
		json_object_set_new(undo, key, part);
	}
	return undo;
}
