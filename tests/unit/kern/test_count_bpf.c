#include "kern/count_bpf.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

static const struct count_bpf_inside both = {
	.ipv4 = true,
	.ipv6 = true,
	.net4 = { 10, 90, 0, 0 },
	.mask4 = { 255, 255, 255, 0 },
	.net6 = { 0xfd, 0x12 },
	.mask6 = { 255, 255, 255, 255, 255, 255, 255, 255 },
};

/*
 * An interpreter of just what the program has: the packet is `frame`, the map has one entry for
 * the interface 7.  A helper that reads beyond the frame fails, as the kernel's does.
 */
struct machine {
	const uint8_t *frame;
	uint32_t size, protocol, link_index;
	struct count_bpf_entry entry;
	uint64_t r[11];
	uint8_t stack[64];
};

static uint64_t load(const struct machine *m, const struct bpf_insn *i)
{
	uint64_t value = 0;
	size_t size = BPF_SIZE(i->code) == BPF_B ? 1 : BPF_SIZE(i->code) == BPF_W ? 4 : 8;

	if (i->src_reg == BPF_REG_6) {
		switch ((size_t) i->off) {
		case offsetof(struct __sk_buff, ifindex):
			return m->link_index;
		case offsetof(struct __sk_buff, len):
			return m->size;
		case offsetof(struct __sk_buff, protocol):
			return m->protocol;
		default:
			fail_msg("the program reads the packet at %d", i->off);
		}
	}
	assert_int_equal(i->src_reg, BPF_REG_10);
	memcpy(&value, m->stack + sizeof(m->stack) + i->off, size);
	return value;
}

static void call(struct machine *m, int function)
{
	uint32_t key;

	if (function == BPF_FUNC_map_lookup_elem) {
		memcpy(&key, m->stack + sizeof(m->stack) + (int64_t) m->r[2], sizeof(key));
		m->r[0] = key == 7 ? (uint64_t) (uintptr_t) &m->entry : 0;
	} else {
		assert_int_equal(function, BPF_FUNC_skb_load_bytes);
		m->r[0] = (uint64_t) -14;
		if (m->r[2] + m->r[4] <= m->size) {
			memcpy(m->stack + sizeof(m->stack) + (int64_t) m->r[3], m->frame + m->r[2],
			       m->r[4]);
			m->r[0] = 0;
		}
	}
}

static bool jumps(const struct machine *m, const struct bpf_insn *i)
{
	uint64_t a = m->r[i->dst_reg];
	uint64_t b = BPF_SRC(i->code) == BPF_X ? m->r[i->src_reg] : (uint64_t) (int64_t) i->imm;

	if (BPF_CLASS(i->code) == BPF_JMP32) {
		a = (uint32_t) a;
		b = (uint32_t) b;
	}
	switch (BPF_OP(i->code)) {
	case BPF_JA:
		return true;
	case BPF_JEQ:
		return a == b;
	case BPF_JNE:
		return a != b;
	case BPF_JSLT:
		return (int64_t) a < (int64_t) b;
	default:
		fail_msg("jump %#x", i->code);
		return false;
	}
}

static void calculate(struct machine *m, const struct bpf_insn *i)
{
	uint64_t b = BPF_SRC(i->code) == BPF_X ? m->r[i->src_reg] : (uint64_t) (int64_t) i->imm;
	uint64_t *a = &m->r[i->dst_reg];

	switch (BPF_OP(i->code)) {
	case BPF_MOV:
		*a = b;
		break;
	case BPF_ADD:
		*a += b;
		break;
	case BPF_AND:
		*a &= b;
		break;
	case BPF_OR:
		*a |= b;
		break;
	default:
		fail_msg("operation %#x", i->code);
	}
	if (BPF_CLASS(i->code) == BPF_ALU)
		*a = (uint32_t) *a;
}

static void run(struct machine *m, const struct bpf_insn *code, int count)
{
	int at = 0;

	/* Where the stack ends: addresses on it are offsets. */
	m->r[10] = 0;
	for (int steps = 0; steps < 200; steps++) {
		const struct bpf_insn *i = &code[at++];

		assert_true(at <= count);
		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			m->r[i->dst_reg] = (uint32_t) i->imm | (uint64_t) (uint32_t) code[at].imm
								       << 32;
			at++;
			break;
		case BPF_LDX:
			m->r[i->dst_reg] = load(m, i);
			break;
		case BPF_STX:
			if (BPF_MODE(i->code) == BPF_ATOMIC)
				*(uint64_t *) (uintptr_t) (m->r[i->dst_reg] + (uint64_t) i->off) +=
					m->r[i->src_reg];
			else
				memcpy(m->stack + sizeof(m->stack) + i->off, &m->r[i->src_reg], 4);
			break;
		case BPF_ALU:
		case BPF_ALU64:
			calculate(m, i);
			break;
		default:
			if (BPF_OP(i->code) == BPF_EXIT) {
				assert_int_equal((int) m->r[0], -1);
				return;
			}
			if (BPF_OP(i->code) == BPF_CALL)
				call(m, i->imm);
			else if (jumps(m, i))
				at += i->off;
		}
	}
	fail_msg("it does not end");
}

/* A frame whose other side has this address; what it is counted as. */
static char counted(const struct count_bpf_inside *inside, enum filter_way way, const char *peer)
{
	struct bpf_insn code[COUNT_BPF_INSNS_MAX];
	int count = count_bpf_build(inside, way, 3, code);
	uint8_t frame[100] = {};
	bool ipv6 = strchr(peer, ':') != NULL, leaving = way == FILTER_LEAVING;
	struct machine m = { .frame = frame,
			     .size = sizeof(frame),
			     .protocol = htons(ipv6 ? ETH_P_IPV6 : ETH_P_IP),
			     .link_index = 7 };
	const struct count_bpf_way *counts = leaving ? &m.entry.leaving : &m.entry.arriving;
	const struct count_bpf_way *others = leaving ? &m.entry.arriving : &m.entry.leaving;
	size_t at = ETH_HLEN + (ipv6 ? 8 : 12) + (leaving ? 0 : ipv6 ? 16 : 4);

	assert_true(count <= COUNT_BPF_INSNS_MAX);
	if (strcmp(peer, "arp") == 0)
		m.protocol = htons(ETH_P_ARP);
	else if (strcmp(peer, "cut") == 0)
		m.size = ETH_HLEN + 4;
	else if (strcmp(peer, "unknown") == 0)
		m.link_index = 8;
	else
		assert_int_equal(inet_pton(ipv6 ? AF_INET6 : AF_INET, peer, frame + at), 1);
	run(&m, code, count);
	assert_int_equal(others->inside.packets + others->outside.packets, 0);
	if (counts->inside.packets + counts->outside.packets == 0)
		return '-';
	assert_int_equal(counts->inside.bytes + counts->outside.bytes, m.size);
	assert_int_equal(counts->inside.packets + counts->outside.packets, 1);
	return counts->inside.packets ? 'i' : 'o';
}

static void tells_inside_from_outside(void **state)
{
	static const struct {
		const char *peer;
		char wanted;
	} cases[] = {
		{ "10.90.0.1", 'i' },
		{ "10.90.0.255", 'i' },
		{ "10.90.1.0", 'o' },
		{ "10.89.255.255", 'o' },
		{ "192.0.2.1", 'o' },
		{ "8.8.8.8", 'o' },
		{ "224.0.0.251", 'i' },
		{ "239.1.2.3", 'i' },
		{ "240.0.0.1", 'o' },
		{ "255.255.255.255", 'i' },
		{ "0.0.0.0", 'i' },
		{ "fd12::1", 'i' },
		{ "fd12::ffff:ffff", 'i' },
		{ "fd12:0:0:1::1", 'o' },
		{ "2001:db8::1", 'o' },
		{ "fe80::1", 'i' },
		{ "febf::1", 'i' },
		{ "fec0::1", 'o' },
		{ "ff02::1", 'i' },
		{ "::", 'i' },
		{ "::1:0:0:0:0", 'o' },
		{ "arp", 'i' },
		{ "cut", 'i' },
		{ "unknown", '-' },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		for (int way = FILTER_ARRIVING; way <= FILTER_LEAVING; way++) {
			char found = counted(&both, (enum filter_way) way, cases[i].peer);

			if (found != cases[i].wanted)
				fail_msg("%s, way %d: %c", cases[i].peer, way, found);
		}
}

static void network_of_one_family(void **state)
{
	struct count_bpf_inside four = both, six = both;

	(void) state;
	four.ipv6 = false;
	six.ipv4 = false;
	assert_int_equal(counted(&four, FILTER_LEAVING, "10.90.0.5"), 'i');
	assert_int_equal(counted(&four, FILTER_LEAVING, "fd12::1"), 'o');
	assert_int_equal(counted(&four, FILTER_LEAVING, "fe80::1"), 'i');
	assert_int_equal(counted(&six, FILTER_ARRIVING, "10.90.0.5"), 'o');
	assert_int_equal(counted(&six, FILTER_ARRIVING, "fd12::1"), 'i');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_inside_from_outside),
		cmocka_unit_test(network_of_one_family),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
