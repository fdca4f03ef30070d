#include "kern/cgroup_bpf.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"

enum { PER_RULE_MAX = 9, FRAME = 8, RULES_MAX = 4000 };

/* R2: type, R3: access, R4: major, R5: minor, as the frame below loads them. */
static struct bpf_insn load(int to, int offset)
{
	return (struct bpf_insn){ .code = BPF_LDX | BPF_MEM | BPF_W,
				  .dst_reg = (unsigned char) (to & 15),
				  .src_reg = BPF_REG_1,
				  .off = (short) offset };
}

static struct bpf_insn alu(int op, int to, int32_t value)
{
	return (struct bpf_insn){ .code = (unsigned char) (BPF_ALU | op | BPF_K),
				  .dst_reg = (unsigned char) (to & 15),
				  .imm = value };
}

static struct bpf_insn move(int to, int from)
{
	return (struct bpf_insn){ .code = BPF_ALU | BPF_MOV | BPF_X,
				  .dst_reg = (unsigned char) (to & 15),
				  .src_reg = (unsigned char) (from & 15) };
}

static struct bpf_insn jump(int op, int reg, int32_t value, int distance)
{
	return (struct bpf_insn){ .code = (unsigned char) (BPF_JMP | op | BPF_K),
				  .dst_reg = (unsigned char) (reg & 15),
				  .off = (short) distance,
				  .imm = value };
}

/* One exception: every test that fails jumps behind it. */
static size_t add_rule(struct bpf_insn *out, const struct cgroup_device *rule, bool allow)
{
	size_t n = 0, tests[4], test_count = 0;

	if (rule->type != 'a') {
		tests[test_count++] = n;
		out[n++] = jump(BPF_JNE, BPF_REG_2,
				rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR, 0);
	}
	if (!rule->any_major) {
		tests[test_count++] = n;
		out[n++] = jump(BPF_JNE, BPF_REG_4, (int32_t) rule->major, 0);
	}
	if (!rule->any_minor) {
		tests[test_count++] = n;
		out[n++] = jump(BPF_JNE, BPF_REG_5, (int32_t) rule->minor, 0);
	}
	if (rule->access != (CGROUP_DEVICE_MKNOD | CGROUP_DEVICE_READ | CGROUP_DEVICE_WRITE)) {
		out[n++] = move(BPF_REG_1, BPF_REG_3);
		out[n++] = alu(BPF_AND, BPF_REG_1,
			       (int32_t) (allow ? rule->access : ~rule->access & 7U));
		tests[test_count++] = n;
		/* Allowing: nothing wanted is outside.  Denying: something wanted is inside. */
		out[n++] = jump(allow ? BPF_JEQ : BPF_JNE, BPF_REG_1, 0, 0);
	}
	out[n++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K,
				      .dst_reg = BPF_REG_0,
				      .imm = allow ? 0 : 1 };
	out[n++] = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	for (size_t i = 0; i < test_count; i++)
		out[tests[i]].off = (short) (n - tests[i] - 1);
	return n;
}

int cgroup_bpf_devices_build(const struct cgroup_device_policy *policy, struct bpf_insn **ret)
{
	struct bpf_insn *out;
	size_t n = 0;

	if (policy->count > RULES_MAX)
		return -E2BIG;
	out = mem_new0_array(struct bpf_insn, policy->count * PER_RULE_MAX + FRAME);
	/* struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor. */
	out[n++] = load(BPF_REG_2, 0);
	out[n++] = move(BPF_REG_3, BPF_REG_2);
	out[n++] = alu(BPF_AND, BPF_REG_2, 0xffff);
	out[n++] = alu(BPF_RSH, BPF_REG_3, 16);
	out[n++] = load(BPF_REG_4, 4);
	out[n++] = load(BPF_REG_5, 8);
	for (size_t i = 0; i < policy->count; i++)
		n += add_rule(out + n, &policy->list[i], policy->allow);
	out[n++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K,
				      .dst_reg = BPF_REG_0,
				      .imm = policy->allow ? 1 : 0 };
	out[n++] = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	*ret = out;
	return (int) n;
}

int cgroup_bpf_devices_attach(int cgroup_fd, const struct cgroup_device_policy *policy)
{
	AUTO(free) struct bpf_insn *program = NULL;
	AUTO(fd_close) int fd = -1;
	union bpf_attr attr = {};
	int count = cgroup_bpf_devices_build(policy, &program);

	if (count < 0)
		return count;
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uint64_t) (uintptr_t) program;
	attr.insn_cnt = (uint32_t) count;
	attr.license = (uint64_t) (uintptr_t) "Apache-2.0";
	fd = (int) syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	if (fd < 0)
		return -errno;
	attr = (union bpf_attr){};
	attr.target_fd = (uint32_t) cgroup_fd;
	attr.attach_bpf_fd = (uint32_t) fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	return syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}
