#include "model/health.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/member.h"

enum { COMMAND_MAX = 256, HTTP_PORT = 80, PORT_DIGITS_MAX = 5 };

const char *const health_type_names[] = { "none", "exec", "http", "tcp", NULL };
const char *const health_on_failure_names[] = { "none", "restart", "stop", "kill", NULL };
const char *const health_state_names[] = { "none", "starting", "healthy", "unhealthy", NULL };

/* ---- the check ---- */

bool health_path_is_good(const char *path)
{
	if (path[0] != '/' || strlen(path) > HEALTH_PATH_MAX_BYTES)
		return false;
	for (; *path; path++)
		if ((unsigned char) *path <= ' ' || (unsigned char) *path >= 0x7f)
			return false;
	return true;
}

int health_parse_http(const char *text, struct health_check *check, struct error *err)
{
	size_t size = strspn(text, "0123456789");
	unsigned long port = size ? strtoul(text, NULL, 10) : HTTP_PORT;

	if (size > PORT_DIGITS_MAX || port < 1 || port > 65535 || !health_path_is_good(text + size))
		return error_say(err, -EINVAL,
				 "\"%.80s\" must look like 8080/healthz: [PORT]/PATH, without "
				 "spaces",
				 text);
	check->type = HEALTH_TYPE_HTTP;
	check->port = (uint16_t) port;
	mem_replace(&check->path, text + size);
	return 0;
}

bool health_check_is_empty(const struct health_check *check)
{
	return check->type == HEALTH_TYPE_IMAGE && !check->interval_ms && !check->timeout_ms &&
	       !check->start_period_ms && !check->start_interval_ms && !check->retries &&
	       !check->on_failure;
}

int health_check_valid(const struct health_check *check, struct error *err)
{
	bool exec = check->type == HEALTH_TYPE_EXEC;
	bool net = check->type == HEALTH_TYPE_HTTP || check->type == HEALTH_TYPE_TCP;

	if (exec && (!check->command || !check->command[0] || !check->command[0][0]))
		return error_say(err, -EINVAL, "command: must name a program");
	if (!exec && check->command)
		return error_say(err, -EINVAL, "command: only goes with type \"exec\"");
	if (strv_count(check->command) > COMMAND_MAX)
		return error_say(err, -EINVAL, "command: at most %d arguments are allowed",
				 COMMAND_MAX);
	if (net && !check->port)
		return error_say(err, -EINVAL, "port: must be given");
	if (!net && check->port)
		return error_say(err, -EINVAL,
				 "port: only goes with the types \"http\" and \"tcp\"");
	if (check->path && check->type != HEALTH_TYPE_HTTP)
		return error_say(err, -EINVAL, "path: only goes with type \"http\"");
	if (check->path && !health_path_is_good(check->path))
		return error_say(err, -EINVAL,
				 "path: must begin with '/' and have no spaces or control "
				 "characters");
	return 0;
}

static uint32_t first_of(uint32_t a, uint32_t b, uint32_t otherwise)
{
	return a ? a : b ? b : otherwise;
}

void health_check_merge(const struct health_check *spec, const struct health_check *image,
			struct health_check *ret)
{
	static const struct health_check none = { .type = HEALTH_TYPE_NONE };
	const struct health_check *base = image ? image : &none;
	const struct health_check *test = spec->type == HEALTH_TYPE_IMAGE ? base : spec;

	health_check_copy(ret, test);
	if (ret->type == HEALTH_TYPE_IMAGE)
		ret->type = HEALTH_TYPE_NONE;
	if (ret->type == HEALTH_TYPE_HTTP && !ret->path)
		ret->path = mem_strdup("/");
	ret->interval_ms = first_of(spec->interval_ms, base->interval_ms, HEALTH_INTERVAL_MS);
	ret->timeout_ms = first_of(spec->timeout_ms, base->timeout_ms, HEALTH_TIMEOUT_MS);
	ret->retries = first_of(spec->retries, base->retries, HEALTH_RETRIES);
	ret->start_period_ms = first_of(spec->start_period_ms, base->start_period_ms, 0);
	ret->start_interval_ms = first_of(spec->start_interval_ms, base->start_interval_ms, 0);
	ret->on_failure = spec->on_failure;
}

static void read_time(struct json_reader *in, const json_t *object, const char *name, int64_t min,
		      uint32_t *ret)
{
	int64_t value = *ret;

	json_read_int(in, object, name, 0, HEALTH_TIME_MAX_MS, &value);
	if (value != 0 && value < min)
		member_fail(in, name, "must be at least %lld", (long long) min);
	*ret = (uint32_t) value;
}

void health_check_read(struct json_reader *in, const json_t *object, const char *name,
		       struct health_check *check)
{
	char path[MEMBER_PATH_MAX];
	struct json_reader sub = { .err = in->err, .where = member_path(path, in->where, name) };
	unsigned int type = 0, on_failure = check->on_failure;
	int64_t port = check->port;
	json_t *value = NULL;

	json_read_object(in, object, name, &value);
	if (in->result < 0 || !value)
		return;
	member_read_enum(&sub, value, "type", health_type_names, &type);
	if (json_is_string(json_object_get(value, "type")))
		check->type = (enum health_type)(type + 1);
	json_read_strv(&sub, value, "command", &check->command);
	json_read_int(&sub, value, "port", 1, 65535, &port);
	json_read_string(&sub, value, "path", &check->path);
	read_time(&sub, value, "interval_ms", HEALTH_TIME_MIN_MS, &check->interval_ms);
	read_time(&sub, value, "timeout_ms", HEALTH_TIME_MIN_MS, &check->timeout_ms);
	read_time(&sub, value, "start_period_ms", 0, &check->start_period_ms);
	read_time(&sub, value, "start_interval_ms", HEALTH_TIME_MIN_MS, &check->start_interval_ms);
	json_read_uint32(&sub, value, "retries", HEALTH_RETRIES_MAX, &check->retries);
	member_read_enum(&sub, value, "on_failure", health_on_failure_names, &on_failure);
	check->port = (uint16_t) port;
	check->on_failure = on_failure;
	in->result = json_reader_finish(&sub, value);
	if (in->result == 0) {
		in->result = health_check_valid(check, in->err);
		if (in->result < 0)
			error_wrap(in->err, in->result, "%s", path);
	}
}

json_t *health_check_encode(const struct health_check *check)
{
	json_t *object = json_object();

	if (check->type != HEALTH_TYPE_IMAGE)
		json_put_string(object, "type", health_type_names[check->type - 1]);
	json_put_strv(object, "command", check->command);
	member_put_uint(object, "port", check->port);
	json_put_string(object, "path", check->path);
	member_put_uint(object, "interval_ms", check->interval_ms);
	member_put_uint(object, "timeout_ms", check->timeout_ms);
	member_put_uint(object, "start_period_ms", check->start_period_ms);
	member_put_uint(object, "start_interval_ms", check->start_interval_ms);
	member_put_uint(object, "retries", check->retries);
	if (check->on_failure != HEALTH_ON_FAILURE_NONE)
		json_put_string(object, "on_failure", health_on_failure_names[check->on_failure]);
	return object;
}

void health_check_copy(struct health_check *to, const struct health_check *from)
{
	*to = *from;
	to->command = strv_copy(from->command);
	to->path = mem_strdup(from->path);
}

void health_check_done(struct health_check *check)
{
	strv_free(check->command);
	free(check->path);
	*check = (struct health_check){};
}

/* ---- what was found ---- */

void health_status_add(struct health_status *status, int64_t started_ms, uint32_t duration_ms,
		       int32_t exit_code, char *output)
{
	if (status->log_count == HEALTH_LOG_MAX) {
		free(status->log[0].output);
		memmove(&status->log[0], &status->log[1],
			(HEALTH_LOG_MAX - 1) * sizeof(status->log[0]));
		status->log_count--;
	}
	status->log[status->log_count++] = (struct health_result){ .started_ms = started_ms,
								   .duration_ms = duration_ms,
								   .exit_code = exit_code,
								   .output = output };
}

static int read_result(const json_t *object, const char *where, struct health_status *status,
		       struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	int64_t started_ms = 0, exit_code = -1;
	AUTO(free) char *output = NULL;
	uint32_t duration_ms = 0;

	json_read_time(&in, object, "started", &started_ms);
	json_read_uint32(&in, object, "duration_ms", UINT32_MAX, &duration_ms);
	json_read_int(&in, object, "exit_code", -1, 255, &exit_code);
	member_read_text(&in, object, "output", HEALTH_OUTPUT_MAX_BYTES * 4, &output);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	health_status_add(status, started_ms, duration_ms, (int32_t) exit_code, TAKE_PTR(output));
	return 0;
}

void health_status_read(struct json_reader *in, const json_t *object, const char *name,
			struct health_status *status)
{
	char path[MEMBER_PATH_MAX];
	struct json_reader sub = { .err = in->err, .where = member_path(path, in->where, name) };
	unsigned int state = HEALTH_STARTING;
	json_t *value = NULL, *log = NULL, *item;
	size_t i;

	json_read_object(in, object, name, &value);
	if (in->result < 0 || !value)
		return;
	/* A status is told anew as a whole. */
	health_status_done(status);
	member_read_enum(&sub, value, "state", health_state_names, &state);
	json_read_uint32(&sub, value, "failing_streak", UINT32_MAX, &status->failing_streak);
	json_read_array(&sub, value, "log", &log);
	json_array_foreach(log, i, item)
	{
		if (sub.result == 0)
			sub.result = read_result(item, path, status, in->err);
	}
	in->result = json_reader_finish(&sub, value);
	status->state = state;
}

json_t *health_status_encode(const struct health_status *status)
{
	json_t *object = json_object();
	json_t *log = json_array();

	json_put_string(object, "state", health_state_names[status->state]);
	json_object_set_new(object, "failing_streak", json_integer(status->failing_streak));
	for (size_t i = 0; i < status->log_count; i++) {
		const struct health_result *result = &status->log[i];
		json_t *item = json_object();

		json_put_time(item, "started", result->started_ms);
		json_object_set_new(item, "duration_ms", json_integer(result->duration_ms));
		json_object_set_new(item, "exit_code", json_integer(result->exit_code));
		json_put_string(item, "output", result->output);
		json_array_append_new(log, item);
	}
	json_object_set_new(object, "log", log);
	return object;
}

void health_status_copy(struct health_status *to, const struct health_status *from)
{
	*to = *from;
	for (size_t i = 0; i < from->log_count; i++)
		to->log[i].output = mem_strdup(from->log[i].output);
}

void health_status_done(struct health_status *status)
{
	for (size_t i = 0; i < status->log_count; i++)
		free(status->log[i].output);
	*status = (struct health_status){};
}
