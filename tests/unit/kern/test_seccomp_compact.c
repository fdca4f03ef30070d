#include "kern/seccomp_compact.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"

struct program {
	struct sock_filter *list;
	size_t count;
};

static const uint32_t arches[] = { AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, 0, 1 };

/* What the kernel does with a filter. */
static uint32_t run(const struct program *program, const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (size_t at = 0;; at++) {
		const struct sock_filter *it = &program->list[at];
		bool yes = false;

		assert_true(at < program->count);
		switch (it->code) {
		case BPF_RET | BPF_K:
			return it->k;
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(it->k <= sizeof(*data) - 4 && it->k % 4 == 0);
			memcpy(&a, (const char *) data + it->k, 4);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= it->k;
			continue;
		case BPF_JMP | BPF_JA:
			at += it->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == it->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = a > it->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= it->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = a & it->k;
			break;
		default:
			fail_msg("instruction 0x%x", it->code);
		}
		at += yes ? it->jt : it->jf;
	}
}

static uint64_t some_argument(unsigned int *seed)
{
	static const uint64_t often[] = { 0,          1,          2,          8,  16, 0x20000,
					  0x7e020000, 0xffffffff, UINT64_MAX, 40, 38, 0x100000000 };
	int n = rand_r(seed);

	return n % 4 ? often[(size_t) n / 4 % ARRAY_COUNT(often)]
		     : (uint64_t) rand_r(seed) << 32 | (uint64_t) rand_r(seed);
}

static void compare_at(const struct program *a, const struct program *b, uint32_t arch,
		       uint32_t number)
{
	unsigned int seed = arch ^ number;

	for (int i = 0; i < 12; i++) {
		struct seccomp_data data = { .nr = (int) number, .arch = arch };

		for (size_t j = 0; j < 6; j++)
			data.args[j] = some_argument(&seed);
		if (run(a, &data) != run(b, &data))
			fail_msg("arch 0x%x, number %u: 0x%x is now 0x%x", arch, number,
				 run(a, &data), run(b, &data));
	}
}

static void compare(const struct program *a, const struct program *b)
{
	static const uint32_t regions[] = { 0, 0x40000000, 0x7fffff00, 0xfffffe00 };

	for (size_t i = 0; i < ARRAY_COUNT(arches); i++)
		for (size_t j = 0; j < ARRAY_COUNT(regions); j++)
			for (uint32_t n = 0; n < 512; n++)
				compare_at(a, b, arches[i], regions[j] + n);
}

static struct program export_program(scmp_filter_ctx ctx)
{
	struct program ret = {};
	AUTO(fd_close) int fd = memfd_create("test", 0);
	size_t size;

	assert_int_equal(seccomp_export_bpf(ctx, fd), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(file_read_fd(fd, 1 << 20, (char **) &ret.list, &size), 0);
	ret.count = size / sizeof(*ret.list);
	seccomp_release(ctx);
	return ret;
}

static void shrinks_to(const struct program *old, size_t divisor)
{
	struct program new = {};

	assert_int_equal(seccomp_compact(old->list, old->count, &new.list, &new.count), 0);
	assert_true(new.count *divisor <= old->count);
	compare(old, &new);
	free(new.list);
}

/* Like the usual profile: most calls allowed, on three architectures, some depending on arguments.
 */
static void usual_profiles(void **state)
{
	(void) state;
	for (int optimize = 1; optimize <= 2; optimize++) {
		scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(1));
		unsigned int seed = 7;
		struct program old;

		seccomp_arch_add(ctx, SCMP_ARCH_X86);
		seccomp_arch_add(ctx, SCMP_ARCH_X32);
		assert_int_equal(
			seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, (uint32_t) optimize), 0);
		for (int number = 0; number < 440; number++)
			if (rand_r(&seed) % 8 && number != 56 && number != 135 && number != 41)
				(void) seccomp_rule_add(ctx, SCMP_ACT_ALLOW, number, 0);
		assert_int_equal(seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
						  SCMP_A0(SCMP_CMP_MASKED_EQ, 0x7e020000, 0)),
				 0);
		for (uint64_t value = 0; value < 3; value++)
			assert_int_equal(seccomp_rule_add(ctx, SCMP_ACT_ALLOW,
							  SCMP_SYS(personality), 1,
							  SCMP_A0(SCMP_CMP_EQ, value * 8)),
					 0);
		assert_int_equal(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(5), SCMP_SYS(socket), 2,
						  SCMP_A0(SCMP_CMP_EQ, 16),
						  SCMP_A2(SCMP_CMP_GT, 0x100000000)),
				 0);
		old = export_program(ctx);
		shrinks_to(&old, 2);
		free(old.list);
	}
}

static void many_verdicts(void **state)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	struct program old, new;
	int r;

	(void) state;
	/* No two neighbours alike: there is little to gain, and jumps are long. */
	for (int number = 0; number < 430; number++)
		(void) seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint32_t) number + 1), number, 0);
	old = export_program(ctx);
	r = seccomp_compact(old.list, old.count, &new.list, &new.count);
	if (r == 0) {
		compare(&old, &new);
		free(new.list);
	} else {
		assert_int_equal(r, -ENOTSUP);
	}
	free(old.list);
}

/* One verdict for all strangers, far away from a large section. */
static void one_verdict(void **state)
{
	struct sock_filter list[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 2, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
	};
	struct program old = { list, ARRAY_COUNT(list) };

	(void) state;
	shrinks_to(&old, 1);
}

static void strange_programs(void **state)
{
	static const struct sock_filter bits[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	static const struct sock_filter arithmetic[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static const struct sock_filter outside[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 9),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static const struct sock_filter no_end[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	static const struct sock_filter unknown[] = {
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static const struct {
		const struct sock_filter *list;
		size_t count;
	} cases[] = {
		{ bits, ARRAY_COUNT(bits) },       { arithmetic, ARRAY_COUNT(arithmetic) },
		{ outside, ARRAY_COUNT(outside) }, { no_end, ARRAY_COUNT(no_end) },
		{ unknown, ARRAY_COUNT(unknown) }, { bits, 0 },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct sock_filter *list = NULL;
		size_t count;

		assert_int_equal(seccomp_compact(cases[i].list, cases[i].count, &list, &count),
				 -ENOTSUP);
		assert_null(list);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(usual_profiles),
		cmocka_unit_test(many_verdicts),
		cmocka_unit_test(one_verdict),
		cmocka_unit_test(strange_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
