#pragma once
/*
 * agent/settings.h - what the loop needs to know about a run that spec and image say together: the
 * signal that stops it and its health check.
 *
 * Written with the bundle (a worker has the image's configuration at hand), read when it is
 * needed, also by the next agent.  RUN/instances/UID/settings.json; gone with the run.
 */
#include "model/health.h"

struct error;
struct instance_spec;
struct oci_healthcheck;
struct oci_image_config;

struct settings {
	int stop_signal;
	struct health_check health; /* complete; type NONE when there is no check */
};

/* Docker's kind of check as ours. */
void settings_check_of_image(const struct oci_healthcheck *from, struct health_check *ret);

int settings_write(const char *path, const struct instance_spec *spec,
		   const struct oci_image_config *image, struct error *err);

/* -ENOENT and others: the defaults are in *ret all the same. */
int settings_read(const char *path, struct settings *ret, struct error *err);

void settings_done(struct settings *settings);
static inline void settings_done_autop(struct settings *settings)
{
	settings_done(settings);
}
