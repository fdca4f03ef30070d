#include "codec/oci_seccomp.h"

#include <errno.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "codec/oci_spec_internal.h"

static int decode_arg(const json_t *object, const char *outer, size_t index,
		      struct oci_seccomp_arg *arg, struct error *err)
{
	char where[80];
	struct json_reader in = { .err = err, .where = where };

	snprintf(where, sizeof(where), "%s.args[%zu]", outer, index);
	json_read_uint32(&in, object, "index", 5, &arg->index);
	oci_read_u64(&in, object, "value", &arg->value);
	oci_read_u64(&in, object, "valueTwo", &arg->value_two);
	oci_read_text(&in, object, "op", &arg->op);
	if (in.result == 0 && !arg->op)
		oci_fail(&in, "op", "is missing; like \"SCMP_CMP_EQ\"");
	return in.result;
}

static int decode_rule(struct oci_seccomp *seccomp, const json_t *object, size_t index,
		       struct oci_seccomp_rule *rule, struct error *err)
{
	char where[48];
	struct json_reader in = { .err = err, .where = where };
	json_t *args = NULL, *item;
	size_t i;

	snprintf(where, sizeof(where), "linux.seccomp.syscalls[%zu]", index);
	oci_read_texts(seccomp->arena, &in, object, "names", &rule->names);
	oci_read_text(&in, object, "action", &rule->action);
	oci_read_opt(&in, object, "errnoRet", 0, UINT32_MAX, &rule->errno_ret);
	json_read_array(&in, object, "args", &args);
	if (in.result < 0)
		return in.result;
	if (!rule->names || !rule->names[0])
		return oci_fail(&in, "names", "must have at least one system call");
	if (!rule->action)
		return oci_fail(&in, "action", "is missing; like \"SCMP_ACT_ALLOW\"");
	if (!args)
		return 0;
	rule->args = oci_alloc(seccomp->arena, json_array_size(args), sizeof(*rule->args));
	json_array_foreach(args, i, item)
	{
		int r = decode_arg(item, where, i, &rule->args[i], err);

		if (r < 0)
			return r;
	}
	rule->arg_count = json_array_size(args);
	return 0;
}

static int decode(struct oci_seccomp *seccomp, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.seccomp" };
	json_t *rules = NULL, *item;
	size_t i;

	oci_read_text(&in, object, "defaultAction", &seccomp->default_action);
	oci_read_opt(&in, object, "defaultErrnoRet", 0, UINT32_MAX, &seccomp->default_errno_ret);
	oci_read_texts(seccomp->arena, &in, object, "architectures", &seccomp->architectures);
	oci_read_texts(seccomp->arena, &in, object, "flags", &seccomp->flags);
	oci_read_text(&in, object, "listenerPath", &seccomp->listener_path);
	oci_read_text(&in, object, "listenerMetadata", &seccomp->listener_metadata);
	json_read_array(&in, object, "syscalls", &rules);
	if (in.result < 0)
		return in.result;
	if (!seccomp->default_action)
		return oci_fail(&in, "defaultAction", "is missing; like \"SCMP_ACT_ERRNO\"");
	if (!rules)
		return 0;
	seccomp->rules = oci_alloc(seccomp->arena, json_array_size(rules), sizeof(*seccomp->rules));
	json_array_foreach(rules, i, item)
	{
		int r = decode_rule(seccomp, item, i, &seccomp->rules[i], err);

		if (r < 0)
			return r;
	}
	seccomp->rule_count = json_array_size(rules);
	return 0;
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
