#include "kern/cgroup_bpf.h"

#include <errno.h>
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

enum { M = CGROUP_DEVICE_MKNOD, R = CGROUP_DEVICE_READ, W = CGROUP_DEVICE_WRITE };

/* Runs the few instructions that the programs are made of. */
static bool run(const struct cgroup_device_policy *policy, char type, unsigned int access,
		uint32_t major, uint32_t minor)
{
	AUTO(free) struct bpf_insn *code = NULL;
	uint32_t context[3] = { access << 16 | (type == 'b' ? 1 : 2), major, minor };
	uint64_t reg[11] = {};
	int count = cgroup_bpf_devices_build(policy, &code);

	assert_true(count > 0);
	for (int pc = 0; pc < count; pc++) {
		const struct bpf_insn *i = &code[pc];
		uint64_t *to = &reg[i->dst_reg], value = (uint64_t) (int64_t) i->imm;

		if (i->code == (BPF_JMP | BPF_EXIT))
			return reg[0];
		if (i->code == (BPF_LDX | BPF_MEM | BPF_W))
			*to = context[i->off / 4];
		else if (i->code == (BPF_ALU | BPF_MOV | BPF_X))
			*to = (uint32_t) reg[i->src_reg];
		else if (i->code == (BPF_ALU64 | BPF_MOV | BPF_K))
			*to = value;
		else if (i->code == (BPF_ALU | BPF_AND | BPF_K))
			*to = (uint32_t) (*to & value);
		else if (i->code == (BPF_ALU | BPF_RSH | BPF_K))
			*to = (uint32_t) *to >> i->imm;
		else if (i->code == (BPF_JMP | BPF_JNE | BPF_K))
			pc += *to != value ? i->off : 0;
		else if (i->code == (BPF_JMP | BPF_JEQ | BPF_K))
			pc += *to == value ? i->off : 0;
		else
			fail_msg("instruction %d has code %#x", pc, i->code);
	}
	fail_msg("the program has no end");
	return false;
}

static void test_nothing_except(void **state)
{
	const struct cgroup_device list[] = {
		{ 'c', false, false, 1, 3, R | W | M },
		{ 'c', true, true, 0, 0, M },
		{ 'b', false, true, 8, 0, R },
	};
	const struct cgroup_device_policy policy = { false, list, ARRAY_COUNT(list) };

	(void) state;
	assert_true(run(&policy, 'c', R | W, 1, 3));
	assert_true(run(&policy, 'c', M, 77, 1));
	assert_false(run(&policy, 'c', M | R, 77, 1));
	assert_false(run(&policy, 'c', R, 1, 4));
	assert_true(run(&policy, 'b', R, 8, 200));
	assert_false(run(&policy, 'b', R | W, 8, 200));
	assert_false(run(&policy, 'b', R, 9, 0));
	assert_false(run(&policy, 'b', R, 1, 3));
}

static void test_everything_except(void **state)
{
	const struct cgroup_device list[] = { { 'c', false, false, 10, 200, W },
					      { 'b', true, true, 0, 0, R | W | M } };
	const struct cgroup_device_policy policy = { true, list, ARRAY_COUNT(list) };

	(void) state;
	assert_true(run(&policy, 'c', R | W | M, 1, 1));
	assert_true(run(&policy, 'c', R, 10, 200));
	assert_false(run(&policy, 'c', R | W, 10, 200));
	assert_false(run(&policy, 'b', R, 1, 1));
}

static void test_too_many(void **state)
{
	const struct cgroup_device_policy policy = { true, NULL, 100000 };
	struct bpf_insn *code = NULL;

	(void) state;
	assert_int_equal(cgroup_bpf_devices_build(&policy, &code), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_except),
		cmocka_unit_test(test_everything_except),
		cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
