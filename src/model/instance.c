#include "model/instance.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/signame.h"
#include "base/strv.h"
#include "model/member.h"

enum {
	IMAGE_REF_MAX_BYTES = 512,
	PATH_MAX_BYTES = 4095,
	USER_MAX_BYTES = 128,
	HOSTNAME_MAX_BYTES = 63,
	ERROR_MAX_BYTES = 1024,
	TEXT_MAX_BYTES = 256,
	ARGUMENTS_MAX = 4096,
	STOP_TIMEOUT_MAX_S = 24 * 3600,
	RETRIES_MAX = 1000000,
};
#define MEMORY_MIN_BYTES (UINT64_C(1) << 20)
#define CPUS_MAX 4096.0
#define PIDS_MAX (UINT64_C(1) << 22)

static const char *const target_names[] = { "running", "stopped", "paused", NULL };
static const char *const state_names[] = { "pending", "pulling",  "creating", "running",
					   "paused",  "stopping", "stopped",  "failed",
					   "gone",    "unknown",  NULL };

const char *instance_state_name(enum instance_state state)
{
	return state_names[state];
}

void instance_restart_read(struct json_reader *in, const json_t *object, struct instance_spec *spec)
{
	char path[MEMBER_PATH_MAX];
	struct json_reader sub = { .err = in->err,
				   .where = member_path(path, in->where, "restart") };
	unsigned int policy = spec->restart_policy;
	json_t *value = NULL;

	json_read_object(in, object, "restart", &value);
	if (in->result < 0 || !value)
		return;
	member_read_enum(&sub, value, "policy", restart_policy_names, &policy);
	json_read_uint32(&sub, value, "max_retries", RETRIES_MAX, &spec->restart_max_retries);
	if (sub.result == 0 && spec->restart_max_retries > 0 && policy != RESTART_ON_FAILURE)
		member_fail(&sub, "max_retries", "only goes with the policy \"on-failure\"");
	in->result = json_reader_finish(&sub, value);
	spec->restart_policy = policy;
}

static bool is_given(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return value && !json_is_null(value);
}

void instance_limits_read(struct json_reader *in, const json_t *object, struct instance_spec *spec)
{
	char path[MEMBER_PATH_MAX];
	struct json_reader sub = { .err = in->err,
				   .where = member_path(path, in->where, "limits") };
	json_t *value = NULL;

	json_read_object(in, object, "limits", &value);
	if (in->result < 0 || !value)
		return;
	json_read_number(&sub, value, "cpus", &spec->cpus);
	json_read_uint64(&sub, value, "memory_bytes", &spec->memory_bytes);
	json_read_uint64(&sub, value, "pids", &spec->pids);
	/* No limit is said by leaving it out: a limit of nothing is a mistake. */
	if (is_given(value, "cpus") && !(spec->cpus >= 0.01 && spec->cpus <= CPUS_MAX))
		member_fail(&sub, "cpus", "must be a number from 0.01 to %.0f", CPUS_MAX);
	if (is_given(value, "memory_bytes") &&
	    (spec->memory_bytes < MEMORY_MIN_BYTES || spec->memory_bytes > INT64_MAX))
		member_fail(&sub, "memory_bytes", "must be at least %llu (1 MiB)",
			    (unsigned long long) MEMORY_MIN_BYTES);
	if (is_given(value, "pids") && (spec->pids < 1 || spec->pids > PIDS_MAX))
		member_fail(&sub, "pids", "must be from 1 to %llu", (unsigned long long) PIDS_MAX);
	in->result = json_reader_finish(&sub, value);
}

static void check_arguments(struct json_reader *in, const char *name, char *const *strv)
{
	if (strv_count(strv) > ARGUMENTS_MAX)
		member_fail(in, name, "at most %d arguments are allowed", ARGUMENTS_MAX);
	else if (strv && strv[0] && !strv[0][0])
		member_fail(in, name, "must not start with an empty string");
}

static void check_strings(struct json_reader *in, const struct instance_spec *spec)
{
	const char *host = spec->hostname;

	check_arguments(in, "entrypoint", spec->entrypoint);
	check_arguments(in, "command", spec->command);
	if (strv_count(spec->env) > ARGUMENTS_MAX)
		member_fail(in, "env", "at most %d variables are allowed", ARGUMENTS_MAX);
	if (spec->workdir && spec->workdir[0] && spec->workdir[0] != '/')
		member_fail(in, "workdir", "\"%.64s\" must be an absolute path", spec->workdir);
	if (spec->user && strpbrk(spec->user, " \t\n"))
		member_fail(in, "user", "\"%.64s\" must be USER[:GROUP]", spec->user);
	for (size_t i = 0; host && host[i]; i++)
		if (!isalnum((unsigned char) host[i]) && (i == 0 || !strchr(".-", host[i])))
			member_fail(in, "hostname",
				    "\"%.64s\" must be letters, digits, '.' and '-'", host);
	if (spec->stop_signal && spec->stop_signal[0] && signame_number(spec->stop_signal) < 0)
		member_fail(in, "stop_signal", "\"%.64s\" is not a signal, for example \"TERM\"",
			    spec->stop_signal);
	if (spec->remove_on_exit && spec->restart_policy != RESTART_NO)
		member_fail(in, "remove_on_exit", "does not go with a restart policy");
	if (spec->remove_on_exit && spec->health.on_failure == HEALTH_ON_FAILURE_RESTART)
		member_fail(in, "remove_on_exit", "does not go with health.on_failure \"restart\"");
}

int instance_spec_read_user(struct json_reader *in, const json_t *object,
			    struct instance_spec *spec)
{
	unsigned int type = spec->type;

	member_read_enum(in, object, "type", instance_type_names, &type);
	spec->type = type;
	vm_options_read(in, object, &spec->vm);
	member_read_text(in, object, "image", IMAGE_REF_MAX_BYTES, &spec->image);
	json_read_strv(in, object, "entrypoint", &spec->entrypoint);
	json_read_strv(in, object, "command", &spec->command);
	member_read_map(in, object, "env", &spec->env);
	member_read_text(in, object, "workdir", PATH_MAX_BYTES, &spec->workdir);
	member_read_text(in, object, "user", USER_MAX_BYTES, &spec->user);
	member_read_text(in, object, "hostname", HOSTNAME_MAX_BYTES, &spec->hostname);
	instance_restart_read(in, object, spec);
	instance_limits_read(in, object, spec);
	publish_read_list(in, object, "publish", &spec->publish, &spec->publish_count);
	json_read_bool(in, object, "remove_on_exit", &spec->remove_on_exit);
	member_read_text(in, object, "stop_signal", TEXT_MAX_BYTES, &spec->stop_signal);
	json_read_uint32(in, object, "stop_timeout_s", STOP_TIMEOUT_MAX_S, &spec->stop_timeout_s);
	run_options_read(in, object, &spec->run);
	stdio_options_read(in, object, &spec->stdio);
	health_check_read(in, object, "health", &spec->health);
	if (in->result == 0 && (!spec->image || !spec->image[0]))
		member_fail(in, "image", "must name the image to start from");
	check_strings(in, spec);
	if (in->result == 0)
		in->result = instance_type_check(spec, in->err);
	return in->result;
}

/* Before there were lists an instance had one network, or "none". */
int instance_ports_read(struct json_reader *in, const json_t *object, bool user,
			struct instance_spec *spec)
{
	if (json_object_get(object, "network"))
		return member_fail(in, "network",
				   "has become a list: \"ports\": [{\"network\": NAME}], or [] for "
				   "no network");
	return ports_read(in, object, "ports", user, &spec->ports, &spec->port_count);
}

int instance_spec_decode(const json_t *object, const char *where, struct instance_spec *spec,
			 struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	unsigned int target = spec->target;

	instance_spec_read_user(&in, object, spec);
	instance_ports_read(&in, object, false, spec);
	member_read_text(&in, object, "image_name", IMAGE_REF_MAX_BYTES, &spec->image_name);
	member_read_text(&in, object, "node", TEXT_MAX_BYTES, &spec->node);
	member_read_enum(&in, object, "target", target_names, &target);
	json_read_uint64(&in, object, "start_seq", &spec->start_seq);
	json_read_int(&in, object, "stop_override_s", -1, STOP_TIMEOUT_MAX_S,
		      &spec->stop_override_s);
	spec->target = target;
	return json_reader_finish(&in, object);
}

static void put_limits(json_t *object, const struct instance_spec *spec)
{
	json_t *limits = json_object();

	if (spec->cpus > 0)
		json_object_set_new(limits, "cpus", json_real(spec->cpus));
	member_put_uint(limits, "memory_bytes", spec->memory_bytes);
	member_put_uint(limits, "pids", spec->pids);
	if (json_object_size(limits) > 0)
		json_object_set_new(object, "limits", limits);
	else
		json_decref(limits);
}

void instance_spec_put_user(json_t *object, const struct instance_spec *spec)
{
	json_object_set_new(object, "type", json_string(instance_type_names[spec->type]));
	vm_options_put(object, &spec->vm);
	json_put_string(object, "image", spec->image);
	json_put_strv(object, "entrypoint", spec->entrypoint);
	json_put_strv(object, "command", spec->command);
	member_put_map(object, "env", spec->env);
	json_put_string(object, "workdir", spec->workdir);
	json_put_string(object, "user", spec->user);
	json_put_string(object, "hostname", spec->hostname);
	json_t *restart = json_object();
	json_put_string(restart, "policy", restart_policy_names[spec->restart_policy]);
	member_put_uint(restart, "max_retries", spec->restart_max_retries);
	json_object_set_new(object, "restart", restart);
	put_limits(object, spec);
	if (spec->ports)
		json_object_set_new(object, "ports", ports_encode(spec->ports, spec->port_count));
	if (spec->publish_count > 0)
		json_object_set_new(object, "publish",
				    publish_encode_list(spec->publish, spec->publish_count));
	if (spec->remove_on_exit)
		json_object_set_new(object, "remove_on_exit", json_true());
	json_put_string(object, "stop_signal", spec->stop_signal);
	stdio_options_put(object, &spec->stdio);
	json_object_set_new(object, "stop_timeout_s", json_integer(spec->stop_timeout_s));
	run_options_put(object, &spec->run);
	if (!health_check_is_empty(&spec->health))
		json_object_set_new(object, "health", health_check_encode(&spec->health));
}

json_t *instance_spec_encode(const struct instance_spec *spec)
{
	json_t *object = json_object();

	instance_spec_put_user(object, spec);
	json_put_string(object, "image_name", spec->image_name);
	json_put_string(object, "node", spec->node);
	json_put_string(object, "target", target_names[spec->target]);
	member_put_uint(object, "start_seq", spec->start_seq);
	if (spec->stop_override_s >= 0)
		json_object_set_new(object, "stop_override_s", json_integer(spec->stop_override_s));
	return object;
}

void instance_spec_init(struct instance_spec *spec)
{
	*spec = (struct instance_spec){ .stop_timeout_s = INSTANCE_STOP_TIMEOUT_S,
					.stop_override_s = -1 };
}

void instance_spec_done(struct instance_spec *spec)
{
	free(spec->image);
	free(spec->image_name);
	free(spec->node);
	strv_free(spec->entrypoint);
	strv_free(spec->command);
	strv_free(spec->env);
	free(spec->workdir);
	free(spec->user);
	free(spec->hostname);
	ports_free(spec->ports, spec->port_count);
	free(spec->publish);
	free(spec->stop_signal);
	run_options_done(&spec->run);
	health_check_done(&spec->health);
	vm_options_done(&spec->vm);
	instance_spec_init(spec);
}

uint32_t instance_stop_timeout_s(const struct instance_spec *spec)
{
	return spec->stop_override_s >= 0 ? (uint32_t) spec->stop_override_s : spec->stop_timeout_s;
}

void instance_status_init(struct instance_status *status)
{
	*status = (struct instance_status){ .exit_code = -1 };
}

int instance_status_decode(const json_t *object, struct instance_status *status, struct error *err)
{
	struct json_reader in = { .err = err, .where = "status" };
	unsigned int state = status->state;

	json_read_uint64(&in, object, "generation", &status->generation);
	member_read_enum(&in, object, "state", state_names, &state);
	json_read_uint64(&in, object, "start_seq", &status->start_seq);
	json_read_int(&in, object, "pid", 0, INT32_MAX, &status->pid);
	json_read_time(&in, object, "started", &status->started_ms);
	json_read_time(&in, object, "finished", &status->finished_ms);
	json_read_int(&in, object, "exit_code", -1, 255, &status->exit_code);
	json_read_uint32(&in, object, "restarts", UINT32_MAX, &status->restarts);
	member_read_text(&in, object, "error", ERROR_MAX_BYTES, &status->error);
	member_read_text(&in, object, "update_error", ERROR_MAX_BYTES, &status->update_error);
	member_read_text(&in, object, "ports_error", ERROR_MAX_BYTES, &status->ports_error);
	member_read_text(&in, object, "image_digest", TEXT_MAX_BYTES, &status->image_digest);
	member_read_text(&in, object, "node", TEXT_MAX_BYTES, &status->node);
	health_status_read(&in, object, "health", &status->health);
	vm_status_read(&in, object, "machine", &status->machine);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	status->state = state;
	return 0;
}

json_t *instance_status_encode(const struct instance_status *status)
{
	json_t *object = json_object();

	member_put_uint(object, "generation", status->generation);
	json_put_string(object, "state", state_names[status->state]);
	member_put_uint(object, "start_seq", status->start_seq);
	if (status->pid > 0)
		json_object_set_new(object, "pid", json_integer(status->pid));
	json_put_time(object, "started", status->started_ms);
	json_put_time(object, "finished", status->finished_ms);
	if (status->exit_code >= 0)
		json_object_set_new(object, "exit_code", json_integer(status->exit_code));
	member_put_uint(object, "restarts", status->restarts);
	json_put_string(object, "error", status->error);
	json_put_string(object, "update_error", status->update_error);
	json_put_string(object, "ports_error", status->ports_error);
	json_put_string(object, "image_digest", status->image_digest);
	json_put_string(object, "node", status->node);
	if (status->health.state != HEALTH_NONE)
		json_object_set_new(object, "health", health_status_encode(&status->health));
	if (status->machine.backend)
		json_object_set_new(object, "machine", vm_status_encode(&status->machine));
	return object;
}

void instance_status_done(struct instance_status *status)
{
	free(status->error);
	free(status->update_error);
	free(status->ports_error);
	free(status->image_digest);
	free(status->node);
	health_status_done(&status->health);
	vm_status_done(&status->machine);
	instance_status_init(status);
}

int instance_decode(const json_t *doc, struct instance **ret, struct error *err)
{
	AUTO(instance_free) struct instance *instance = mem_new0(struct instance);
	json_t *spec, *status;
	int r;

	instance_spec_init(&instance->spec);
	instance_status_init(&instance->status);
	r = meta_decode_resource(doc, KIND_INSTANCE, &instance->meta, &spec, &status, err);
	if (r == 0)
		r = instance_spec_decode(spec, "spec", &instance->spec, err);
	if (r == 0 && status)
		r = instance_status_decode(status, &instance->status, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(instance);
	return 0;
}

json_t *instance_encode(const struct instance *instance, unsigned int parts)
{
	return meta_encode_resource(
		KIND_INSTANCE, &instance->meta, instance_spec_encode(&instance->spec),
		parts & ENCODE_STATUS ? instance_status_encode(&instance->status) : NULL);
}

static void spec_copy(struct instance_spec *to, const struct instance_spec *from)
{
	*to = *from;
	to->image = mem_strdup(from->image);
	to->image_name = mem_strdup(from->image_name);
	to->node = mem_strdup(from->node);
	to->entrypoint = strv_copy(from->entrypoint);
	to->command = strv_copy(from->command);
	to->env = strv_copy(from->env);
	to->workdir = mem_strdup(from->workdir);
	to->user = mem_strdup(from->user);
	to->hostname = mem_strdup(from->hostname);
	to->ports = ports_copy(from->ports, from->port_count);
	to->publish = NULL;
	if (from->publish_count > 0) {
		to->publish = mem_new0_array(struct publish, from->publish_count);
		memcpy(to->publish, from->publish, from->publish_count * sizeof(*to->publish));
	}
	to->stop_signal = mem_strdup(from->stop_signal);
	run_options_copy(&to->run, &from->run);
	health_check_copy(&to->health, &from->health);
	vm_options_copy(&to->vm, &from->vm);
}

struct instance *instance_copy(const struct instance *instance)
{
	struct instance *copy = mem_new0(struct instance);

	meta_copy(&copy->meta, &instance->meta);
	spec_copy(&copy->spec, &instance->spec);
	copy->status = instance->status;
	copy->status.error = mem_strdup(instance->status.error);
	copy->status.update_error = mem_strdup(instance->status.update_error);
	copy->status.ports_error = mem_strdup(instance->status.ports_error);
	copy->status.image_digest = mem_strdup(instance->status.image_digest);
	copy->status.node = mem_strdup(instance->status.node);
	health_status_copy(&copy->status.health, &instance->status.health);
	vm_status_copy(&copy->status.machine, &instance->status.machine);
	return copy;
}

void instance_free(struct instance *instance)
{
	if (!instance)
		return;
	meta_done(&instance->meta);
	instance_spec_done(&instance->spec);
	instance_status_done(&instance->status);
	free(instance);
}
