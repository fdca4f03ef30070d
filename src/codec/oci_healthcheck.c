#include "codec/oci_healthcheck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"

enum { TEST_MAX = 256, TEXT_MAX_BYTES = 16 * 1024, RETRIES_MAX = 1000 };
#define TIME_MAX_MS (INT64_C(24) * 3600 * 1000)
#define NS_PER_MS 1000000

static uint32_t milliseconds(int64_t ns)
{
	int64_t ms = ns / NS_PER_MS;

	return ms < 1 || ms > TIME_MAX_MS ? 0 : (uint32_t) ms;
}

static int check_size(char *const *test, struct error *err)
{
	size_t size = 0;

	for (size_t i = 0; test && test[i]; i++) {
		size += strlen(test[i]);
		if (i >= TEST_MAX || size > TEXT_MAX_BYTES)
			return error_say(err, -E2BIG, "Healthcheck: Test is longer than %d bytes",
					 TEXT_MAX_BYTES);
	}
	return 0;
}

static int take_test(char *const *test, struct oci_healthcheck *check, struct error *err)
{
	if (!test || !test[0])
		return 0;
	if (strcmp(test[0], "NONE") == 0) {
		check->kind = OCI_HEALTHCHECK_NONE;
		return 0;
	}
	bool shell = strcmp(test[0], "CMD-SHELL") == 0;
	if ((!shell && strcmp(test[0], "CMD") != 0) || !test[1])
		return error_say(err, -EINVAL,
				 "Healthcheck: Test must be NONE, or CMD or CMD-SHELL and a "
				 "command, not \"%.40s\"",
				 test[0]);
	if (shell) {
		strv_append(&check->command, "/bin/sh");
		strv_append(&check->command, "-c");
		strv_append(&check->command, test[1]);
	}
	for (size_t i = 1; !shell && test[i]; i++)
		strv_append(&check->command, test[i]);
	check->kind = OCI_HEALTHCHECK_COMMAND;
	return 0;
}

int oci_healthcheck_decode(const json_t *object, struct oci_healthcheck *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "Healthcheck" };
	int64_t interval = 0, timeout = 0, start = 0, often = 0, retries = 0;
	struct oci_healthcheck check = {};
	AUTO(strv_free) char **test = NULL;
	int r;

	json_read_strv(&in, object, "Test", &test);
	json_read_int(&in, object, "Interval", INT64_MIN, INT64_MAX, &interval);
	json_read_int(&in, object, "Timeout", INT64_MIN, INT64_MAX, &timeout);
	json_read_int(&in, object, "StartPeriod", INT64_MIN, INT64_MAX, &start);
	json_read_int(&in, object, "StartInterval", INT64_MIN, INT64_MAX, &often);
	r = json_read_int(&in, object, "Retries", INT64_MIN, INT64_MAX, &retries);
	if (r == 0)
		r = check_size(test, err);
	if (r == 0)
		r = take_test(test, &check, err);
	if (r < 0)
		return r;
	check.interval_ms = milliseconds(interval);
	check.timeout_ms = milliseconds(timeout);
	check.start_period_ms = milliseconds(start);
	check.start_interval_ms = milliseconds(often);
	check.retries = retries < 1 || retries > RETRIES_MAX ? 0 : (uint32_t) retries;
	*ret = check;
	return 0;
}

static void put(json_t *object, const char *name, uint32_t value)
{
	if (value)
		json_object_set_new(object, name, json_integer(value));
}

json_t *oci_healthcheck_json(const struct oci_healthcheck *check)
{
	json_t *object;

	if (check->kind == OCI_HEALTHCHECK_ABSENT && !check->interval_ms && !check->timeout_ms &&
	    !check->start_period_ms && !check->start_interval_ms && !check->retries)
		return NULL;
	object = json_object();
	if (check->kind == OCI_HEALTHCHECK_NONE)
		json_object_set_new(object, "none", json_true());
	json_put_strv(object, "command", check->command);
	put(object, "interval_ms", check->interval_ms);
	put(object, "timeout_ms", check->timeout_ms);
	put(object, "start_period_ms", check->start_period_ms);
	put(object, "start_interval_ms", check->start_interval_ms);
	put(object, "retries", check->retries);
	return object;
}

int oci_healthcheck_read(const json_t *object, struct oci_healthcheck *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "config.healthcheck" };
	struct oci_healthcheck check = {};
	bool none = false;
	int r;

	json_read_bool(&in, object, "none", &none);
	json_read_strv(&in, object, "command", &check.command);
	json_read_uint32(&in, object, "interval_ms", (uint32_t) TIME_MAX_MS, &check.interval_ms);
	json_read_uint32(&in, object, "timeout_ms", (uint32_t) TIME_MAX_MS, &check.timeout_ms);
	json_read_uint32(&in, object, "start_period_ms", (uint32_t) TIME_MAX_MS,
			 &check.start_period_ms);
	json_read_uint32(&in, object, "start_interval_ms", (uint32_t) TIME_MAX_MS,
			 &check.start_interval_ms);
	json_read_uint32(&in, object, "retries", RETRIES_MAX, &check.retries);
	r = json_reader_finish(&in, object);
	if (r == 0)
		r = check_size(check.command, err);
	if (r < 0) {
		oci_healthcheck_done(&check);
		return r;
	}
	check.kind = none            ? OCI_HEALTHCHECK_NONE
		     : check.command ? OCI_HEALTHCHECK_COMMAND
				     : OCI_HEALTHCHECK_ABSENT;
	*ret = check;
	return 0;
}

void oci_healthcheck_done(struct oci_healthcheck *check)
{
	strv_free(check->command);
	*check = (struct oci_healthcheck){};
}
