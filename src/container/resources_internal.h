#pragma once
/*
 * container/resources_internal.h - shared by resources.c and its two versions.
 */
#include "container/resources.h"

/*
 * Writes one value; `property` is below linux.resources.  Missing controllers and files are errors
 * that say so.
 */
int resources_put(const struct cgroup *cgroup, const char *controller, const char *file,
		  const char *property, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

int resources_refuse(const char *property, struct error *err);

int resources_apply_v1(const struct oci_resources *resources, const struct cgroup *cgroup,
		       const char *controller, struct error *err);
int resources_apply_v2(const struct oci_resources *resources, const struct cgroup *cgroup,
		       const char *controller, struct error *err);
