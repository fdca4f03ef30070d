#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/capname.h"
#include "base/error.h"
#include "base/limitname.h"
#include "base/log.h"
#include "base/mem.h"
#include "container/lsm.h"
#include "container/process.h"

static int plan_limits(struct process_plan *plan, struct error *err)
{
	const struct oci_process *process = plan->spec;

	plan->limits = mem_new0_array(struct process_limit, process->rlimit_count + 1);
	for (size_t i = 0; i < process->rlimit_count; i++) {
		const struct oci_rlimit *limit = &process->rlimits[i];
		int number = limitname_number(limit->type);

		if (number < 0)
			return error_say(err, -EINVAL,
					 "process.rlimits[%zu].type: \"%.40s\" is not a limit like "
					 "RLIMIT_NOFILE",
					 i, limit->type);
		plan->limits[i].resource = number;
		plan->limits[i].limit.rlim_cur = limit->soft;
		plan->limits[i].limit.rlim_max = limit->hard;
		plan->limit_count++;
	}
	return 0;
}

/* The specification wants a warning, not a failure, for what cannot be granted. */
static uint64_t plan_cap_set(oci_strings names, const char *set, uint64_t known)
{
	uint64_t caps = 0;

	for (; names && *names; names++) {
		int number = capname_number(*names);

		if (number < 0)
			log_warning("process.capabilities.%s: left out \"%.40s\", which is not a "
				    "capability like CAP_NET_BIND_SERVICE",
				    set, *names);
		else if (!(known & 1ULL << number))
			log_warning("process.capabilities.%s: left out %s, which this kernel does "
				    "not have",
				    set, *names);
		else
			caps |= 1ULL << number;
	}
	return caps;
}

static void leave_out(uint64_t *caps, uint64_t possible, const char *set, const char *why)
{
	uint64_t out = *caps & ~possible;

	*caps &= possible;
	for (unsigned int i = 0; out; i++, out >>= 1)
		if (out & 1)
			log_warning("process.capabilities.%s: left out %s, which %s", set,
				    capname(i) ? capname(i) : "a new one", why);
}

static void plan_caps(struct process_plan *plan, bool new_user_ns)
{
	const struct oci_process *process = plan->spec;
	struct caps *caps = &plan->caps;
	struct {
		enum oci_cap_set set;
		const char *name;
		uint64_t *to;
	} sets[] = {
		{ OCI_CAPS_BOUNDING, "bounding", &caps->bounding },
		{ OCI_CAPS_EFFECTIVE, "effective", &caps->effective },
		{ OCI_CAPS_INHERITABLE, "inheritable", &caps->inheritable },
		{ OCI_CAPS_PERMITTED, "permitted", &caps->permitted },
		{ OCI_CAPS_AMBIENT, "ambient", &caps->ambient },
	};
	uint64_t known = process->has_capabilities ? caps_all() : 0;
	struct caps own = {};

	plan->drop_caps = process->has_capabilities;
	for (size_t i = 0; i < ARRAY_COUNT(sets); i++)
		*sets[i].to = plan_cap_set(process->capabilities[sets[i].set], sets[i].name, known);
	/* In a user namespace everything can be had. */
	if (plan->drop_caps && !new_user_ns && caps_get_basic(&own) == 0)
		leave_out(&caps->permitted, own.permitted, "permitted",
			  "this runtime does not have itself");
	leave_out(&caps->effective, caps->permitted, "effective", "is not in permitted");
	leave_out(&caps->inheritable, caps->bounding, "inheritable", "is not in bounding");
	leave_out(&caps->ambient, caps->permitted & caps->inheritable, "ambient",
		  "is not in permitted and inheritable");
}

static int plan_scheduler(struct process_plan *plan, struct error *err)
{
	static const struct {
		const char *name;
		int policy;
	} policies[] = { { "SCHED_OTHER", SCHED_OTHER },
			 { "SCHED_FIFO", SCHED_FIFO },
			 { "SCHED_RR", SCHED_RR },
			 { "SCHED_BATCH", SCHED_BATCH },
			 { "SCHED_ISO", 4 },
			 { "SCHED_IDLE", SCHED_IDLE },
			 { "SCHED_DEADLINE", 6 } };
	static const char *const flags[] = {
		"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM",     "SCHED_FLAG_DL_OVERRUN",
		"SCHED_FLAG_KEEP_POLICY",   "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN",
		"SCHED_FLAG_UTIL_CLAMP_MAX"
	};
	const struct oci_scheduler *wanted = &plan->spec->scheduler;
	size_t i = 0;

	plan->scheduler = -1;
	if (!wanted->policy)
		return 0;
	while (i < ARRAY_COUNT(policies) && strcmp(policies[i].name, wanted->policy) != 0)
		i++;
	if (i == ARRAY_COUNT(policies))
		return error_say(err, -EINVAL,
				 "process.scheduler.policy: \"%.40s\" is not a policy like "
				 "SCHED_OTHER",
				 wanted->policy);
	plan->scheduler = policies[i].policy;
	for (oci_strings flag = wanted->flags; flag && *flag; flag++) {
		for (i = 0; i < ARRAY_COUNT(flags) && strcmp(flags[i], *flag) != 0; i++)
			;
		if (i == ARRAY_COUNT(flags))
			return error_say(err, -EINVAL,
					 "process.scheduler.flags: \"%.40s\" is not known", *flag);
		plan->scheduler_flags |= 1ULL << i;
	}
	return 0;
}

static int plan_io_priority(struct process_plan *plan, struct error *err)
{
	static const char *const classes[] = { "", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE",
					       "IOPRIO_CLASS_IDLE" };

	plan->io_priority = -1;
	if (!plan->spec->io_class)
		return 0;
	for (size_t i = 1; i < ARRAY_COUNT(classes); i++) {
		if (strcmp(classes[i], plan->spec->io_class) != 0)
			continue;
		plan->io_priority = (int) (i << 13) | (int) plan->spec->io_priority;
		return 0;
	}
	return error_say(err, -EINVAL,
			 "process.ioPriority.class: \"%.40s\" is not a class like IOPRIO_CLASS_BE",
			 plan->spec->io_class);
}

static int plan_memory_policy(struct process_plan *plan, const struct oci_memory_policy *wanted,
			      struct error *err)
{
	static const char *const modes[] = {
		"MPOL_DEFAULT",
		"MPOL_PREFERRED",
		"MPOL_BIND",
		"MPOL_INTERLEAVE",
		"MPOL_LOCAL",
		"MPOL_PREFERRED_MANY",
		"MPOL_WEIGHTED_INTERLEAVE",
	};
	static const struct {
		const char *name;
		int flag;
	} flags[] = { { "MPOL_F_STATIC_NODES", 1 << 15 },
		      { "MPOL_F_RELATIVE_NODES", 1 << 14 },
		      { "MPOL_F_NUMA_BALANCING", 1 << 13 } };
	size_t i = 0;

	plan->memory_mode = -1;
	if (!wanted->mode)
		return 0;
	while (i < ARRAY_COUNT(modes) && strcmp(modes[i], wanted->mode) != 0)
		i++;
	if (i == ARRAY_COUNT(modes))
		return error_say(err, -EINVAL,
				 "linux.memoryPolicy.mode: \"%.40s\" is not a mode like MPOL_BIND",
				 wanted->mode);
	plan->memory_mode = (int) i;
	for (oci_strings flag = wanted->flags; flag && *flag; flag++) {
		for (i = 0; i < ARRAY_COUNT(flags) && strcmp(flags[i].name, *flag) != 0; i++)
			;
		if (i == ARRAY_COUNT(flags))
			return error_say(err, -EINVAL,
					 "linux.memoryPolicy.flags: \"%.40s\" is not known", *flag);
		plan->memory_mode |= flags[i].flag;
	}
	if (wanted->nodes && number_list_parse(wanted->nodes, &plan->memory_nodes) < 0)
		return error_say(err, -EINVAL,
				 "linux.memoryPolicy.nodes: \"%.40s\" is not a list like \"0-3,7\"",
				 wanted->nodes);
	return 0;
}

static int plan_cpus(const char *text, const char *property, struct number_set *ret,
		     struct error *err)
{
	if (!text || number_list_parse(text, ret) == 0)
		return 0;
	return error_say(err, -EINVAL, "%s: \"%.40s\" is not a list like \"0-3,7\"", property,
			 text);
}

static int check_env(const struct oci_process *process, struct error *err)
{
	size_t i = 0;

	for (oci_strings env = process->env; env && *env; env++, i++)
		if (!strchr(*env, '=') || (*env)[0] == '=')
			return error_say(err, -EINVAL,
					 "process.env[%zu]: \"%.64s\" is not NAME=VALUE", i, *env);
	return 0;
}

int process_plan_make(const struct oci_process *process, const struct oci_linux *linux_,
		      const struct seccomp_profile *seccomp, struct process_plan *ret,
		      struct error *err)
{
	struct process_plan plan = {
		.spec = process,
		.seccomp = seccomp,
		.listener_fd = -1,
		.new_keyring = true,
		.personality = linux_->personality,
	};
	int r = check_env(process, err);

	plan_caps(&plan, linux_->ns[OCI_NS_USER].wanted);
	if (r == 0)
		r = plan_limits(&plan, err);
	if (r == 0)
		r = plan_scheduler(&plan, err);
	if (r == 0)
		r = plan_io_priority(&plan, err);
	if (r == 0)
		r = plan_memory_policy(&plan, &linux_->memory_policy, err);
	if (r == 0)
		r = plan_cpus(process->affinity_initial, "process.execCPUAffinity.initial",
			      &plan.cpus_initial, err);
	if (r == 0)
		r = plan_cpus(process->affinity_final, "process.execCPUAffinity.final",
			      &plan.cpus_final, err);
	if (r == 0)
		r = lsm_check_selinux("process.selinuxLabel", process->selinux_label, err);
	if (r == 0)
		r = lsm_check_apparmor(process->apparmor_profile, err);
	if (r < 0) {
		process_plan_done(&plan);
		return r;
	}
	*ret = plan;
	return 0;
}

void process_plan_done(struct process_plan *plan)
{
	free(plan->limits);
	fd_close(plan->listener_fd);
	plan->limits = NULL;
	plan->listener_fd = -1;
}
