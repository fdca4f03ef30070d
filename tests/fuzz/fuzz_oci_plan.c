/* config.json and exec's --process file: what is accepted can be validated and planned. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/error.h"
#include "base/log.h"
#include "codec/oci_spec.h"
#include "container/device_rules.h"
#include "container/mount_options.h"
#include "container/process.h"
#include "container/seccomp_profile.h"
#include "container/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Who refuses says why, in one line. */
static void check(int r, const struct error *err)
{
	if (r < 0 && (!err->msg[0] || strchr(err->msg, '\n')))
		abort();
}

static void plan_process(const struct oci_process *process, const struct oci_linux *linux_,
			 const struct seccomp_profile *seccomp)
{
	struct process_plan plan;
	struct error err = {};
	int r = process_plan_make(process, linux_, seccomp, &plan, &err);

	check(r, &err);
	if (r < 0)
		return;
	/* A set that is more than another would give powers that nobody asked for. */
	if (plan.caps.effective & ~plan.caps.permitted || plan.caps.ambient & ~plan.caps.permitted)
		abort();
	process_plan_done(&plan);
}

static void plan_mounts(const struct oci_spec *spec)
{
	for (size_t i = 0; i < spec->mount_count; i++) {
		struct mount_options options = {};

		mount_options_parse(spec->mounts[i].options, &options);
		/* The access times are a field of several bits, cleared before it is set. */
		if (options.set & options.clear & ~(uint64_t) MOUNT_ATTR__ATIME)
			abort();
		mount_options_done(&options);
	}
}

static void plan_devices(const struct oci_spec *spec)
{
	struct device_policy policy;

	device_policy_make(&spec->linux_.resources, spec->linux_.devices, spec->linux_.device_count,
			   &policy);
	for (size_t i = 0; i < policy.count; i++)
		if (!policy.list[i].access)
			abort();
	device_policy_done(&policy);
}

static void plan(const struct oci_spec *spec)
{
	struct seccomp_profile seccomp = {};
	struct error err = {};
	int r = validate_spec(spec, &err);

	check(r, &err);
	plan_mounts(spec);
	plan_devices(spec);
	if (r < 0)
		return;
	/* No folder to keep the filter in. */
	r = seccomp_profile_get("/dev/null/nothing", spec, &seccomp, &err);
	check(r, &err);
	if (r == 0)
		plan_process(spec->process, &spec->linux_, &seccomp);
	seccomp_profile_done(&seccomp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct seccomp_profile none;
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	AUTO(oci_spec_free) struct oci_spec *process = NULL;
	struct error err = {};

	(void) log_set_levels("error");
	if (oci_spec_decode((const char *) data, size, &spec, &err) == 0)
		plan(spec);
	if (oci_spec_decode_process((const char *) data, size, &process, &err) == 0)
		plan_process(process->process, &process->linux_, &none);
	return 0;
}
