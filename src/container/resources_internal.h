#pragma once
/*
 * container/resources_internal.h - shared by resources.c and its two versions.
 */
#include "container/resources.h"

/* Whether a limit is asked for: clients write 0 for those that they leave alone. */
static inline bool resources_asked(const struct oci_opt *value)
{
	return value->set && value->value != 0;
}

/*
 * Writes one value; `property` is below linux.resources.  Missing controllers and files are errors
 * that say so.
 */
int resources_put(const struct cgroup *cgroup, const char *controller, const char *file,
		  const char *property, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

int resources_refuse(const char *property, struct error *err);

/* memory.swap counts memory too. */
int resources_check_swap(const struct oci_resources *resources, struct error *err);

/* What is asked of one controller, written in one version. */
typedef int (*resources_apply_fn)(const struct oci_resources *resources,
				  const struct cgroup *cgroup, struct error *err);

int resources_v1_memory(const struct oci_resources *resources, const struct cgroup *cgroup,
			struct error *err);
int resources_v1_cpu(const struct oci_resources *resources, const struct cgroup *cgroup,
		     struct error *err);
int resources_v1_io(const struct oci_resources *resources, const struct cgroup *cgroup,
		    struct error *err);
int resources_v1_hugetlb(const struct oci_resources *resources, const struct cgroup *cgroup,
			 struct error *err);
int resources_v1_net_cls(const struct oci_resources *resources, const struct cgroup *cgroup,
			 struct error *err);
int resources_v1_net_prio(const struct oci_resources *resources, const struct cgroup *cgroup,
			  struct error *err);

int resources_v2_memory(const struct oci_resources *resources, const struct cgroup *cgroup,
			struct error *err);
int resources_v2_cpu(const struct oci_resources *resources, const struct cgroup *cgroup,
		     struct error *err);
int resources_v2_io(const struct oci_resources *resources, const struct cgroup *cgroup,
		    struct error *err);
int resources_v2_hugetlb(const struct oci_resources *resources, const struct cgroup *cgroup,
			 struct error *err);
