#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/oci_spec_internal.h"

static const char *const cap_set_names[OCI_CAPS_COUNT] = {
	"bounding", "effective", "inheritable", "permitted", "ambient",
};

static int decode_user(struct oci_spec *spec, struct oci_process *process, const json_t *object,
		       struct error *err)
{
	struct json_reader in = { .err = err, .where = "process.user" };
	json_t *groups = NULL, *item;
	size_t i;

	json_read_uint32(&in, object, "uid", UINT32_MAX - 1, &process->uid);
	json_read_uint32(&in, object, "gid", UINT32_MAX - 1, &process->gid);
	oci_read_opt(&in, object, "umask", 0, 0777, &process->umask);
	oci_refuse(&in, object, "username", "is for Windows; use process.user.uid");
	json_read_array(&in, object, "additionalGids", &groups);
	if (in.result < 0 || !groups)
		return in.result;
	process->groups = oci_alloc(spec, json_array_size(groups), sizeof(uint32_t));
	json_array_foreach(groups, i, item)
	{
		if (!json_is_integer(item) || json_integer_value(item) < 0 ||
		    json_integer_value(item) >= UINT32_MAX)
			return oci_fail(&in, "additionalGids", "must be a list of group ids");
		process->groups[i] = (uint32_t) json_integer_value(item);
	}
	process->group_count = json_array_size(groups);
	return 0;
}

static int decode_capabilities(struct oci_spec *spec, struct oci_process *process,
			       const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "process.capabilities" };

	process->has_capabilities = true;
	for (size_t i = 0; i < OCI_CAPS_COUNT; i++)
		oci_read_texts(spec, &in, object, cap_set_names[i], &process->capabilities[i]);
	return in.result;
}

static void decode_rlimit(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			  void *ret)
{
	struct oci_rlimit *limit = ret;

	(void) spec;
	oci_read_text(in, object, "type", &limit->type);
	if (in->result == 0 && !limit->type)
		oci_fail(in, "type", "is missing; like \"RLIMIT_NOFILE\"");
	oci_require(in, object, "soft");
	oci_require(in, object, "hard");
	oci_read_u64(in, object, "soft", &limit->soft);
	oci_read_u64(in, object, "hard", &limit->hard);
	if (in->result == 0 && limit->soft > limit->hard)
		oci_fail(in, "soft", "is above the hard limit");
}

static void read_rlimits(struct oci_spec *spec, struct json_reader *in, struct oci_process *process,
			 const json_t *object)
{
	process->rlimits = oci_read_list(spec, in, object, "rlimits", sizeof(*process->rlimits),
					 decode_rlimit, &process->rlimit_count);
	for (size_t i = 0; i < process->rlimit_count; i++)
		for (size_t k = 0; k < i; k++)
			if (strcmp(process->rlimits[k].type, process->rlimits[i].type) == 0)
				oci_fail(in, "rlimits", "%.32s is set twice",
					 process->rlimits[i].type);
}

static int decode_scheduler(struct oci_spec *spec, struct oci_process *process,
			    const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "process.scheduler" };
	struct oci_scheduler *scheduler = &process->scheduler;

	oci_read_text(&in, object, "policy", &scheduler->policy);
	json_read_int(&in, object, "nice", -20, 19, &scheduler->nice);
	json_read_int(&in, object, "priority", 0, 99, &scheduler->priority);
	oci_read_texts(spec, &in, object, "flags", &scheduler->flags);
	oci_read_u64(&in, object, "runtime", &scheduler->runtime);
	oci_read_u64(&in, object, "deadline", &scheduler->deadline);
	oci_read_u64(&in, object, "period", &scheduler->period);
	if (in.result == 0 && !scheduler->policy)
		oci_fail(&in, "policy", "is missing; like \"SCHED_OTHER\"");
	return in.result;
}

static int decode_io_priority(struct oci_process *process, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "process.ioPriority" };

	oci_read_text(&in, object, "class", &process->io_class);
	oci_require(&in, object, "priority");
	json_read_int(&in, object, "priority", 0, 7, &process->io_priority);
	if (in.result == 0 && !process->io_class)
		oci_fail(&in, "class", "is missing; like \"IOPRIO_CLASS_BE\"");
	return in.result;
}

static int decode_affinity(struct oci_process *process, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "process.execCPUAffinity" };

	oci_read_text(&in, object, "initial", &process->affinity_initial);
	oci_read_text(&in, object, "final", &process->affinity_final);
	return in.result;
}

static int decode_parts(struct oci_spec *spec, struct oci_process *process, const json_t *object,
			struct json_reader *in)
{
	json_t *console = NULL, *user = NULL, *caps = NULL, *sched = NULL, *io = NULL;
	json_t *affinity = NULL;
	int r;

	json_read_object(in, object, "consoleSize", &console);
	json_read_object(in, object, "user", &user);
	json_read_object(in, object, "capabilities", &caps);
	read_rlimits(spec, in, process, object);
	json_read_object(in, object, "scheduler", &sched);
	json_read_object(in, object, "ioPriority", &io);
	json_read_object(in, object, "execCPUAffinity", &affinity);
	r = in->result;
	/* Without a terminal the specification has it ignored. */
	if (r == 0 && console && process->terminal) {
		struct json_reader size = { .err = in->err, .where = "process.consoleSize" };

		oci_require(&size, console, "height");
		oci_require(&size, console, "width");
		json_read_uint32(&size, console, "height", UINT16_MAX, &process->console_height);
		json_read_uint32(&size, console, "width", UINT16_MAX, &process->console_width);
		r = size.result;
	}
	if (r == 0 && user)
		r = decode_user(spec, process, user, in->err);
	if (r == 0 && caps)
		r = decode_capabilities(spec, process, caps, in->err);
	if (r == 0 && sched)
		r = decode_scheduler(spec, process, sched, in->err);
	if (r == 0 && io)
		r = decode_io_priority(process, io, in->err);
	if (r == 0 && affinity)
		r = decode_affinity(process, affinity, in->err);
	return r;
}

int oci_decode_process(struct oci_spec *spec, const json_t *object, const char *where,
		       struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	struct oci_process *process = oci_alloc(spec, 1, sizeof(*process));
	int r;

	json_read_bool(&in, object, "terminal", &process->terminal);
	oci_read_texts(spec, &in, object, "args", &process->args);
	oci_read_texts(spec, &in, object, "env", &process->env);
	oci_read_text(&in, object, "cwd", &process->cwd);
	json_read_bool(&in, object, "noNewPrivileges", &process->no_new_privileges);
	oci_read_text(&in, object, "apparmorProfile", &process->apparmor_profile);
	oci_read_text(&in, object, "selinuxLabel", &process->selinux_label);
	oci_read_opt(&in, object, "oomScoreAdj", -1000, 1000, &process->oom_score_adj);
	oci_refuse(&in, object, "commandLine", "is for Windows; use process.args");
	if (in.result < 0)
		return in.result;
	r = decode_parts(spec, process, object, &in);
	if (r < 0)
		return r;
	if (!process->cwd || process->cwd[0] != '/')
		return oci_fail(&in, "cwd", "must be an absolute path");
	if (!process->args || !process->args[0])
		return oci_fail(&in, "args", "must name at least the program to run");
	spec->process = process;
	return 0;
}
