#include "codec/oci_seccomp.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "codec/oci_spec_internal.h"

static void decode_arg(struct oci_spec *spec, struct json_reader *in, const json_t *object,
		       void *ret)
{
	struct oci_seccomp_arg *arg = ret;

	(void) spec;
	oci_require(in, object, "index");
	oci_require(in, object, "value");
	json_read_uint32(in, object, "index", 5, &arg->index);
	oci_read_u64(in, object, "value", &arg->value);
	oci_read_u64(in, object, "valueTwo", &arg->value_two);
	oci_read_text(in, object, "op", &arg->op);
	if (in->result == 0 && !arg->op)
		oci_fail(in, "op", "is missing; like \"SCMP_CMP_EQ\"");
}

/* The specification wants an error where the number would mean nothing. */
static void check_errno(struct json_reader *in, const char *name, const struct oci_opt *number,
			const char *action)
{
	if (in->result == 0 && number->set && strcmp(action, "SCMP_ACT_ERRNO") != 0 &&
	    strcmp(action, "SCMP_ACT_TRACE") != 0)
		oci_fail(in, name, "%.40s has none, only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have",
			 action);
}

static void decode_rule(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			void *ret)
{
	struct oci_seccomp_rule *rule = ret;

	oci_read_texts(spec, in, object, "names", &rule->names);
	oci_read_text(in, object, "action", &rule->action);
	oci_read_opt(in, object, "errnoRet", 0, UINT32_MAX, &rule->errno_ret);
	rule->args = oci_read_list(spec, in, object, "args", sizeof(*rule->args), decode_arg,
				   &rule->arg_count);
	if (in->result == 0 && (!rule->names || !rule->names[0]))
		oci_fail(in, "names", "must have at least one system call");
	if (in->result == 0 && !rule->action)
		oci_fail(in, "action", "is missing; like \"SCMP_ACT_ALLOW\"");
	if (in->result == 0)
		check_errno(in, "errnoRet", &rule->errno_ret, rule->action);
}

static int decode(struct oci_seccomp *seccomp, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.seccomp" };

	oci_read_text(&in, object, "defaultAction", &seccomp->default_action);
	oci_read_opt(&in, object, "defaultErrnoRet", 0, UINT32_MAX, &seccomp->default_errno_ret);
	oci_read_texts(seccomp->arena, &in, object, "architectures", &seccomp->architectures);
	oci_read_texts(seccomp->arena, &in, object, "flags", &seccomp->flags);
	oci_read_text(&in, object, "listenerPath", &seccomp->listener_path);
	oci_read_text(&in, object, "listenerMetadata", &seccomp->listener_metadata);
	seccomp->rules = oci_read_list(seccomp->arena, &in, object, "syscalls",
				       sizeof(*seccomp->rules), decode_rule, &seccomp->rule_count);
	if (in.result == 0 && !seccomp->default_action)
		oci_fail(&in, "defaultAction", "is missing; like \"SCMP_ACT_ERRNO\"");
	if (in.result == 0)
		check_errno(&in, "defaultErrnoRet", &seccomp->default_errno_ret,
			    seccomp->default_action);
	if (in.result == 0 && seccomp->listener_metadata && seccomp->listener_metadata[0] &&
	    !(seccomp->listener_path && seccomp->listener_path[0]))
		oci_fail(&in, "listenerMetadata", "needs a listenerPath");
	return in.result;
}

int oci_seccomp_decode(const char *text, size_t size, struct oci_seccomp **ret, struct error *err)
{
	AUTO(oci_seccomp_free) struct oci_seccomp *seccomp = mem_new0(struct oci_seccomp);
	int r;

	seccomp->arena = mem_new0(struct oci_spec);
	r = oci_parse(text, size, &seccomp->arena->document, err);
	if (r < 0)
		return error_wrap(err, r, "linux.seccomp");
	r = decode(seccomp, seccomp->arena->document, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(seccomp);
	return 0;
}

void oci_seccomp_free(struct oci_seccomp *seccomp)
{
	if (!seccomp)
		return;
	oci_spec_free(seccomp->arena);
	free(seccomp);
}
