#include "agent/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/signame.h"
#include "base/strv.h"
#include "codec/oci_image.h"
#include "model/instance.h"

enum { SETTINGS_MAX_BYTES = 256 * 1024, SIGNAL_MAX = 64 };

/* What an image says that nobody understands does not keep it from being stopped. */
static int stop_signal(const struct instance_spec *spec, const struct oci_image_config *image)
{
	const char *name =
		spec->stop_signal && spec->stop_signal[0] ? spec->stop_signal : image->stop_signal;
	int number = name && name[0] ? signame_number(name) : SIGTERM;

	return number > 0 ? number : SIGTERM;
}

void settings_check_of_image(const struct oci_healthcheck *from, struct health_check *ret)
{
	ret->type = from->kind == OCI_HEALTHCHECK_COMMAND ? HEALTH_TYPE_EXEC : HEALTH_TYPE_NONE;
	ret->command = strv_copy(from->command);
	ret->interval_ms = from->interval_ms;
	ret->timeout_ms = from->timeout_ms;
	ret->start_period_ms = from->start_period_ms;
	ret->start_interval_ms = from->start_interval_ms;
	ret->retries = from->retries;
	if (ret->interval_ms && ret->interval_ms < HEALTH_TIME_MIN_MS)
		ret->interval_ms = HEALTH_TIME_MIN_MS;
	if (ret->timeout_ms && ret->timeout_ms < HEALTH_TIME_MIN_MS)
		ret->timeout_ms = HEALTH_TIME_MIN_MS;
	if (ret->start_interval_ms && ret->start_interval_ms < HEALTH_TIME_MIN_MS)
		ret->start_interval_ms = HEALTH_TIME_MIN_MS;
}

int settings_write(const char *path, const struct instance_spec *spec,
		   const struct oci_image_config *image, struct error *err)
{
	AUTO(health_check_done) struct health_check own = {};
	AUTO(health_check_done) struct health_check merged = {};
	AUTO(json_decref) json_t *object = json_object();
	int r;

	settings_check_of_image(&image->healthcheck, &own);
	health_check_merge(&spec->health, &own, &merged);
	/* Whoever asks for it relies on it. */
	if (merged.type == HEALTH_TYPE_NONE && spec->health.type != HEALTH_TYPE_NONE &&
	    merged.on_failure != HEALTH_ON_FAILURE_NONE)
		return error_say(
			err, -EINVAL,
			"health.on_failure: there is no check that could fail, neither the "
			"image's nor one of its own");
	json_object_set_new(object, "stop_signal", json_integer(stop_signal(spec, image)));
	json_object_set_new(object, "health", health_check_encode(&merged));
	AUTO(free) char *text = json_text(object);
	r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);
	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}

static int decode(const char *text, size_t size, struct settings *ret, struct error *err)
{
	AUTO(json_decref) json_t *object = NULL;
	struct json_reader in = { .err = err, .where = "" };
	AUTO(settings_done) struct settings settings = {};
	int64_t number = SIGTERM;
	int r = json_parse(text, size, SETTINGS_MAX_BYTES, &object, err);

	if (r < 0)
		return r;
	json_read_int(&in, object, "stop_signal", 1, SIGNAL_MAX, &number);
	health_check_read(&in, object, "health", &settings.health);
	r = json_reader_finish(&in, object);
	if (r < 0)
		return r;
	settings.stop_signal = (int) number;
	*ret = settings;
	settings.health = (struct health_check){};
	return 0;
}

int settings_read(const char *path, struct settings *ret, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, SETTINGS_MAX_BYTES, &text, &size);

	*ret = (struct settings){ .stop_signal = SIGTERM, .health = { .type = HEALTH_TYPE_NONE } };
	if (r < 0)
		return error_set(err, r, "read %s", path);
	r = decode(text, size, ret, err);
	return r < 0 ? error_wrap(err, r, "%s", path) : 0;
}

void settings_done(struct settings *settings)
{
	health_check_done(&settings->health);
}
