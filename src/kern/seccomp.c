#include "kern/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "kern/seccomp_compact.h"

enum { PROGRAM_MAX = BPF_MAXINSNS * sizeof(struct sock_filter) };

struct seccomp_builder {
	scmp_filter_ctx ctx;
	uint32_t default_action;
	bool notify;
};

static const struct {
	const char *name;
	uint32_t action;
	bool has_data;
} actions[] = {
	{ "SCMP_ACT_KILL", SCMP_ACT_KILL, false },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS, false },
	{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD, false },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP, false },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0), true },
	{ "SCMP_ACT_TRACE", SCMP_ACT_TRACE(0), true },
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW, false },
	{ "SCMP_ACT_LOG", SCMP_ACT_LOG, false },
	{ "SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY, false },
};

static int find_action(const char *name, uint32_t data, uint32_t *ret, struct error *err)
{
	for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
		if (strcmp(actions[i].name, name) != 0)
			continue;
		if (data > 0xffff)
			return error_say(err, -EINVAL, "errnoRet %u is above 65535", data);
		*ret = actions[i].action | (actions[i].has_data ? data : 0);
		return 0;
	}
	return error_say(err, -EINVAL, "\"%.40s\" is not an action like SCMP_ACT_ERRNO", name);
}

int seccomp_builder_new(const char *action, uint32_t data, struct seccomp_builder **ret,
			struct error *err)
{
	AUTO(seccomp_builder_free) struct seccomp_builder *builder = NULL;
	uint32_t value = 0;
	int r = find_action(action, data, &value, err);

	if (r < 0)
		return r;
	if (value == SCMP_ACT_NOTIFY)
		return error_say(err, -EINVAL,
				 "SCMP_ACT_NOTIFY cannot be the default: the listener could not be "
				 "reached any more");
	builder = mem_new0(struct seccomp_builder);
	builder->default_action = value;
	builder->ctx = seccomp_init(value);
	if (!builder->ctx)
		return error_say(err, -EINVAL, "libseccomp refuses %s as the default action",
				 action);
	r = seccomp_attr_set(builder->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_attr_set(builder->ctx, SCMP_FLTATR_CTL_NNP, 0);
	if (r < 0)
		return error_set(err, r, "libseccomp");
	*ret = TAKE_PTR(builder);
	return 0;
}

int seccomp_builder_add_arch(struct seccomp_builder *builder, const char *arch, struct error *err)
{
	const char *prefix = "SCMP_ARCH_";
	char name[32];
	uint32_t token;
	size_t i;
	int r;

	if (strncmp(arch, prefix, strlen(prefix)) != 0 || strlen(arch) - strlen(prefix) >= 32)
		return error_say(err, -EINVAL,
				 "\"%.40s\" is not an architecture like SCMP_ARCH_X86_64", arch);
	for (i = 0; arch[strlen(prefix) + i]; i++) {
		char c = arch[strlen(prefix) + i];

		name[i] = (char) (c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
	}
	name[i] = '\0';
	token = seccomp_arch_resolve_name(name);
	if (token == 0)
		return error_say(err, -EINVAL, "%.40s is not known to libseccomp", arch);
	r = seccomp_arch_add(builder->ctx, token);
	/* -EDOM: of the other byte order, so no program of it can run here and need a filter. */
	if (r < 0 && r != -EEXIST && r != -EDOM)
		return error_set(err, r, "%.40s cannot be added", arch);
	return 0;
}

static int find_op(const char *name, enum scmp_compare *ret)
{
	static const struct {
		const char *name;
		enum scmp_compare op;
	} ops[] = {
		{ "SCMP_CMP_NE", SCMP_CMP_NE },
		{ "SCMP_CMP_LT", SCMP_CMP_LT },
		{ "SCMP_CMP_LE", SCMP_CMP_LE },
		{ "SCMP_CMP_EQ", SCMP_CMP_EQ },
		{ "SCMP_CMP_GE", SCMP_CMP_GE },
		{ "SCMP_CMP_GT", SCMP_CMP_GT },
		{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
	};

	for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
		if (strcmp(ops[i].name, name) == 0) {
			*ret = ops[i].op;
			return 0;
		}
	}
	return -EINVAL;
}

static bool permits(uint32_t action)
{
	return action == SCMP_ACT_ALLOW || action == SCMP_ACT_LOG;
}

/*
 * libseccomp has one comparison per argument in a rule.  A profile that names an argument twice
 * means alternatives, as the other runtimes read it: one rule for each.
 */
static int add_alternatives(struct seccomp_builder *builder, int number, uint32_t action,
			    const struct seccomp_arg *args, size_t arg_count)
{
	for (size_t i = 0; i < arg_count; i++) {
		enum scmp_compare op = SCMP_CMP_EQ;
		struct scmp_arg_cmp compare;
		int r;

		find_op(args[i].op, &op);
		compare = (struct scmp_arg_cmp){
			args[i].index,
			op,
			args[i].value,
			op == SCMP_CMP_MASKED_EQ ? args[i].value_two : 0,
		};
		r = seccomp_rule_add_array(builder->ctx, action, number, 1, &compare);
		if (r < 0 && r != -EEXIST)
			return r;
	}
	return 0;
}

static int add_compared(struct seccomp_builder *builder, int number, const char *name,
			uint32_t action, const struct seccomp_arg *args, size_t arg_count,
			struct error *err)
{
	struct scmp_arg_cmp compare[6] = {};
	unsigned int seen = 0;
	bool repeated = false;
	int r = 0;

	for (size_t i = 0; i < arg_count; i++) {
		enum scmp_compare op;

		if (find_op(args[i].op, &op) < 0)
			return error_say(err, -EINVAL,
					 "%s: \"%.40s\" is not a comparison like SCMP_CMP_EQ", name,
					 args[i].op);
		repeated = repeated || (seen & 1U << args[i].index);
		seen |= 1U << args[i].index;
		if (i >= ARRAY_COUNT(compare))
			continue;
		compare[i] = (struct scmp_arg_cmp){
			.arg = args[i].index,
			.op = op,
			.datum_a = args[i].value,
			.datum_b = op == SCMP_CMP_MASKED_EQ ? args[i].value_two : 0,
		};
	}
	if (repeated)
		r = add_alternatives(builder, number, action, args, arg_count);
	else
		r = seccomp_rule_add_array(builder->ctx, action, number, (unsigned int) arg_count,
					   compare);
	if (r < 0 && r != -EEXIST)
		return error_set(err, r, "%s: libseccomp refuses the rule", name);
	return 0;
}

int seccomp_builder_add_rule(struct seccomp_builder *builder, const char *name, const char *action,
			     uint32_t data, const struct seccomp_arg *args, size_t arg_count,
			     struct error *err)
{
	uint32_t value = 0;
	int number, r = find_action(action, data, &value, err);

	if (r < 0)
		return r;
	if (value == builder->default_action)
		return 0;
	number = seccomp_syscall_resolve_name(name);
	if (number == __NR_SCMP_ERROR) {
		if (permits(builder->default_action) && !permits(value))
			return error_say(err, -EINVAL,
					 "system call \"%.40s\" is not known to libseccomp, and "
					 "leaving it out would permit it",
					 name);
		return 0;
	}
	if (value == SCMP_ACT_NOTIFY)
		builder->notify = true;
	return add_compared(builder, number, name, value, args, arg_count, err);
}

void seccomp_builder_free(struct seccomp_builder *builder)
{
	if (!builder)
		return;
	if (builder->ctx)
		seccomp_release(builder->ctx);
	free(builder);
}

static int find_flags(const char *const *names, uint32_t *ret, struct error *err)
{
	uint32_t flags = 0;

	for (; names && *names; names++) {
		if (strcmp(*names, "SECCOMP_FILTER_FLAG_TSYNC") == 0)
			continue; /* there is one thread */
		if (strcmp(*names, "SECCOMP_FILTER_FLAG_LOG") == 0)
			flags |= SECCOMP_FILTER_FLAG_LOG;
		else if (strcmp(*names, "SECCOMP_FILTER_FLAG_SPEC_ALLOW") == 0)
			flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
		else if (strcmp(*names, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") == 0)
			flags |= SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
		else
			return error_say(err, -EINVAL, "flag \"%.48s\" is not known", *names);
	}
	*ret = flags;
	return 0;
}

static void compact(struct seccomp_filter *filter)
{
	struct sock_filter *program;
	size_t count;

	if (seccomp_compact(filter->program, filter->size / sizeof(*program), &program, &count) < 0)
		return;
	free(filter->program);
	filter->program = program;
	filter->size = count * sizeof(*program);
}

int seccomp_builder_build(struct seccomp_builder *builder, const char *const *flags,
			  struct seccomp_filter **ret, struct error *err)
{
	AUTO(seccomp_filter_free) struct seccomp_filter *filter = mem_new0(struct seccomp_filter);
	AUTO(fd_close) int fd = -1;
	int r = find_flags(flags, &filter->flags, err);

	if (r < 0)
		return r;
	filter->notify = builder->notify;
	if (builder->notify)
		filter->flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	else
		filter->flags &= ~(uint32_t) SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "memory file");
	r = seccomp_export_bpf(builder->ctx, fd);
	if (r < 0)
		return error_set(err, r, "libseccomp cannot build the filter");
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_set(err, -errno, "memory file");
	r = file_read_fd(fd, PROGRAM_MAX, (char **) &filter->program, &filter->size);
	if (r < 0)
		return error_set(err, r, "the filter has more than %d instructions", BPF_MAXINSNS);
	compact(filter);
	*ret = TAKE_PTR(filter);
	return 0;
}

void seccomp_filter_free(struct seccomp_filter *filter)
{
	if (!filter)
		return;
	free(filter->program);
	free(filter);
}

int seccomp_filter_load(const struct seccomp_filter *filter)
{
	struct sock_fprog program = {
		.len = (unsigned short) (filter->size / sizeof(struct sock_filter)),
		.filter = filter->program,
	};
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter->flags, &program);

	return r < 0 ? -errno : (int) r;
}
