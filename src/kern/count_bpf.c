#include "kern/count_bpf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"

/*
 * Registers: R6 the packet, R9 the counts of this way, R8 the size.  On the stack: the address of
 * the other side, below it the key.
 */
enum {
	ADDRESS_AT = -16,
	KEY_AT = -24,
	IPV4_SOURCE_AT = ETH_HLEN + 12,
	IPV6_SOURCE_AT = ETH_HLEN + 8,
	PATCHES_MAX = 24,
	BATCH = 256,
};

enum label { LABEL_INSIDE, LABEL_OUTSIDE, LABEL_IPV6, LABEL_DONE, LABEL_NOT_LOCAL, LABEL_COUNT };

/* A program that is being written; jumps go forward only and get their distance in the end. */
struct writer {
	struct bpf_insn *out;
	int count;
	int labels[LABEL_COUNT];
	struct {
		int at;
		enum label to;
	} patches[PATCHES_MAX];
	int patch_count;
};

static void put(struct writer *w, int code, int to, int from, int offset, int32_t value)
{
	w->out[w->count++] = (struct bpf_insn){ .code = (uint8_t) code,
						.dst_reg = (uint8_t) (to & 15),
						.src_reg = (uint8_t) (from & 15),
						.off = (int16_t) offset,
						.imm = value };
}

static void put_jump(struct writer *w, int code, int reg, int32_t value, enum label to)
{
	w->patches[w->patch_count].at = w->count;
	w->patches[w->patch_count++].to = to;
	put(w, code, reg, 0, 0, value);
}

/* Registers that are not alike lead to `to`. */
static void put_jump_unlike(struct writer *w, int a, int b, enum label to)
{
	put_jump(w, BPF_JMP | BPF_JNE | BPF_X, a, 0, to);
	w->out[w->count - 1].src_reg = (uint8_t) (b & 15);
}

static void put_label(struct writer *w, enum label label)
{
	w->labels[label] = w->count;
}

static void put_wide(struct writer *w, int to, int from, uint64_t value)
{
	put(w, BPF_LD | BPF_DW | BPF_IMM, to, from, 0, (int32_t) (uint32_t) value);
	put(w, 0, 0, 0, 0, (int32_t) (uint32_t) (value >> 32));
}

static void put_move(struct writer *w, int to, int from)
{
	put(w, BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}

static void put_add(struct writer *w, int to, int32_t value)
{
	put(w, BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value);
}

static void put_load(struct writer *w, int size, int to, int from, int offset)
{
	put(w, BPF_LDX | BPF_MEM | size, to, from, offset, 0);
}

/* Copies a part of the packet to the stack; one that is too short is nobody's but the segment's. */
static void put_copy(struct writer *w, int offset, int size)
{
	put_move(w, BPF_REG_1, BPF_REG_6);
	put(w, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, offset);
	put_move(w, BPF_REG_3, BPF_REG_10);
	put_add(w, BPF_REG_3, ADDRESS_AT);
	put(w, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, size);
	put(w, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_skb_load_bytes);
	put_jump(w, BPF_JMP | BPF_JSLT | BPF_K, BPF_REG_0, 0, LABEL_INSIDE);
}

static int32_t word(const uint8_t bytes[4])
{
	int32_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static uint64_t half(const uint8_t bytes[8])
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static void put_ipv4(struct writer *w, const struct count_bpf_inside *inside, bool source)
{
	put_jump(w, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_7, htons(ETH_P_IP), LABEL_IPV6);
	put_copy(w, source ? IPV4_SOURCE_AT : IPV4_SOURCE_AT + 4, 4);
	put_load(w, BPF_W, BPF_REG_1, BPF_REG_10, ADDRESS_AT);
	put_jump(w, BPF_JMP32 | BPF_JEQ | BPF_K, BPF_REG_1, 0, LABEL_INSIDE);
	put_jump(w, BPF_JMP32 | BPF_JEQ | BPF_K, BPF_REG_1, -1, LABEL_INSIDE);
	put_load(w, BPF_B, BPF_REG_2, BPF_REG_10, ADDRESS_AT);
	put(w, BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xf0);
	put_jump(w, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_2, 0xe0, LABEL_INSIDE);
	if (inside->ipv4) {
		put(w, BPF_ALU | BPF_AND | BPF_K, BPF_REG_1, 0, 0, word(inside->mask4));
		put_jump(w, BPF_JMP32 | BPF_JEQ | BPF_K, BPF_REG_1, word(inside->net4),
			 LABEL_INSIDE);
	}
	put_jump(w, BPF_JMP | BPF_JA, 0, 0, LABEL_OUTSIDE);
}

static void put_ipv6(struct writer *w, const struct count_bpf_inside *inside, bool source)
{
	put_label(w, LABEL_IPV6);
	put_jump(w, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_7, htons(ETH_P_IPV6), LABEL_INSIDE);
	put_copy(w, source ? IPV6_SOURCE_AT : IPV6_SOURCE_AT + 16, 16);
	put_load(w, BPF_B, BPF_REG_2, BPF_REG_10, ADDRESS_AT);
	put_jump(w, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_2, 0xff, LABEL_INSIDE);
	put_jump(w, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0xfe, LABEL_NOT_LOCAL);
	put_load(w, BPF_B, BPF_REG_2, BPF_REG_10, ADDRESS_AT + 1);
	put(w, BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xc0);
	put_jump(w, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_2, 0x80, LABEL_INSIDE);
	put_label(w, LABEL_NOT_LOCAL);
	put_load(w, BPF_DW, BPF_REG_1, BPF_REG_10, ADDRESS_AT);
	put_load(w, BPF_DW, BPF_REG_3, BPF_REG_10, ADDRESS_AT + 8);
	put_move(w, BPF_REG_4, BPF_REG_1);
	put(w, BPF_ALU64 | BPF_OR | BPF_X, BPF_REG_4, BPF_REG_3, 0, 0);
	put_jump(w, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_4, 0, LABEL_INSIDE);
	if (inside->ipv6) {
		put_wide(w, BPF_REG_2, 0, half(inside->mask6));
		put(w, BPF_ALU64 | BPF_AND | BPF_X, BPF_REG_1, BPF_REG_2, 0, 0);
		put_wide(w, BPF_REG_2, 0, half(inside->net6));
		put_jump_unlike(w, BPF_REG_1, BPF_REG_2, LABEL_OUTSIDE);
		put_wide(w, BPF_REG_2, 0, half(inside->mask6 + 8));
		put(w, BPF_ALU64 | BPF_AND | BPF_X, BPF_REG_3, BPF_REG_2, 0, 0);
		put_wide(w, BPF_REG_2, 0, half(inside->net6 + 8));
		put_jump_unlike(w, BPF_REG_3, BPF_REG_2, LABEL_OUTSIDE);
		put_jump(w, BPF_JMP | BPF_JA, 0, 0, LABEL_INSIDE);
	}
}

int count_bpf_build(const struct count_bpf_inside *inside, enum filter_way way, int map_fd,
		    struct bpf_insn *ret)
{
	struct writer writer = { .out = ret }, *w = &writer;
	bool leaving = way == FILTER_LEAVING;

	put_move(w, BPF_REG_6, BPF_REG_1);
	put_load(w, BPF_W, BPF_REG_1, BPF_REG_6, offsetof(struct __sk_buff, ifindex));
	put(w, BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, BPF_REG_1, KEY_AT, 0);
	put_wide(w, BPF_REG_1, BPF_PSEUDO_MAP_FD, (uint32_t) map_fd);
	put_move(w, BPF_REG_2, BPF_REG_10);
	put_add(w, BPF_REG_2, KEY_AT);
	put(w, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
	put_jump(w, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, LABEL_DONE);
	put_move(w, BPF_REG_9, BPF_REG_0);
	put_add(w, BPF_REG_9,
		leaving ? (int32_t) offsetof(struct count_bpf_entry, leaving)
			: (int32_t) offsetof(struct count_bpf_entry, arriving));
	put_load(w, BPF_W, BPF_REG_8, BPF_REG_6, offsetof(struct __sk_buff, len));
	put_load(w, BPF_W, BPF_REG_7, BPF_REG_6, offsetof(struct __sk_buff, protocol));
	/* The other side: whom the packet comes from when it goes to the instance. */
	put_ipv4(w, inside, leaving);
	put_ipv6(w, inside, leaving);
	put_label(w, LABEL_OUTSIDE);
	put_add(w, BPF_REG_9, (int32_t) offsetof(struct count_bpf_way, outside));
	put_label(w, LABEL_INSIDE);
	put(w, BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_9, BPF_REG_8,
	    offsetof(struct count_bpf_sum, bytes), BPF_ADD);
	put(w, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_1, 0, 0, 1);
	put(w, BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_9, BPF_REG_1,
	    offsetof(struct count_bpf_sum, packets), BPF_ADD);
	put_label(w, LABEL_DONE);
	put(w, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, TC_ACT_UNSPEC);
	put(w, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (int i = 0; i < w->patch_count; i++)
		ret[w->patches[i].at].off =
			(int16_t) (w->labels[w->patches[i].to] - w->patches[i].at - 1);
	return w->count;
}

static int bpf(int command, union bpf_attr *attr)
{
	int r = (int) syscall(SYS_bpf, command, attr, sizeof(*attr));

	return r < 0 ? -errno : r;
}

static int take_fd(int r, int *ret_fd)
{
	if (r < 0)
		return r;
	*ret_fd = r;
	return 0;
}

int count_bpf_map_new(int *ret_fd)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_HASH,
				.key_size = sizeof(uint32_t),
				.value_size = sizeof(struct count_bpf_entry),
				.max_entries = COUNT_BPF_ENTRIES_MAX,
				.map_flags = BPF_F_NO_PREALLOC,
				.map_name = "brume_count" };

	return take_fd(bpf(BPF_MAP_CREATE, &attr), ret_fd);
}

int count_bpf_load(const struct count_bpf_inside *inside, enum filter_way way, int map_fd,
		   int *ret_fd)
{
	struct bpf_insn instructions[COUNT_BPF_INSNS_MAX];
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SCHED_CLS, .prog_name = "brume_count" };

	attr.insn_cnt = (uint32_t) count_bpf_build(inside, way, map_fd, instructions);
	attr.insns = (uint64_t) (uintptr_t) instructions;
	attr.license = (uint64_t) (uintptr_t) "Apache-2.0";
	return take_fd(bpf(BPF_PROG_LOAD, &attr), ret_fd);
}

int count_bpf_open(uint32_t program_id, int *ret_fd)
{
	union bpf_attr attr = { .prog_id = program_id };

	return take_fd(bpf(BPF_PROG_GET_FD_BY_ID, &attr), ret_fd);
}

int count_bpf_map_of(int program_fd, int *ret_fd)
{
	struct bpf_prog_info info = {};
	struct bpf_map_info map_info = {};
	union bpf_attr attr = {};
	AUTO(fd_close) int fd = -1;
	uint32_t id = 0;
	int r;

	info.nr_map_ids = 1;
	info.map_ids = (uint64_t) (uintptr_t) &id;
	attr.info.bpf_fd = (uint32_t) program_fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uint64_t) (uintptr_t) &info;
	r = bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
	if (r < 0)
		return r;
	attr = (union bpf_attr){ .map_id = id };
	r = take_fd(bpf(BPF_MAP_GET_FD_BY_ID, &attr), &fd);
	if (r < 0)
		return r;
	attr = (union bpf_attr){};
	attr.info.bpf_fd = (uint32_t) fd;
	attr.info.info_len = sizeof(map_info);
	attr.info.info = (uint64_t) (uintptr_t) &map_info;
	r = bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
	if (r < 0)
		return r;
	/* Another version's. */
	if (map_info.value_size != sizeof(struct count_bpf_entry) ||
	    map_info.key_size != sizeof(uint32_t))
		return -EPROTO;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int element(int command, int map_fd, int link_index, void *value, uint64_t flags)
{
	uint32_t key = (uint32_t) link_index;
	union bpf_attr attr = {};

	attr.map_fd = (uint32_t) map_fd;
	attr.key = (uint64_t) (uintptr_t) &key;
	attr.value = (uint64_t) (uintptr_t) value;
	attr.flags = flags;
	return bpf(command, &attr);
}

int count_bpf_get(int map_fd, int link_index, struct count_bpf_entry *ret)
{
	return element(BPF_MAP_LOOKUP_ELEM, map_fd, link_index, ret, 0);
}

int count_bpf_add(int map_fd, int link_index, const struct count_bpf_entry *entry)
{
	return element(BPF_MAP_UPDATE_ELEM, map_fd, link_index, (void *) entry, BPF_NOEXIST);
}

int count_bpf_delete(int map_fd, int link_index)
{
	int r = element(BPF_MAP_DELETE_ELEM, map_fd, link_index, NULL, 0);

	return r == -ENOENT ? 0 : r;
}

int count_bpf_list(int map_fd,
		   void (*fn)(int link_index, const struct count_bpf_entry *entry, void *data),
		   void *data)
{
	AUTO(free) struct count_bpf_entry *entries = mem_new0_array(struct count_bpf_entry, BATCH);
	uint32_t keys[BATCH], cursor = 0;
	bool first = true;

	for (;;) {
		union bpf_attr attr = {};
		int r;

		attr.batch.in_batch = first ? 0 : (uint64_t) (uintptr_t) &cursor;
		attr.batch.out_batch = (uint64_t) (uintptr_t) &cursor;
		attr.batch.keys = (uint64_t) (uintptr_t) keys;
		attr.batch.values = (uint64_t) (uintptr_t) entries;
		attr.batch.count = BATCH;
		attr.batch.map_fd = (uint32_t) map_fd;
		r = bpf(BPF_MAP_LOOKUP_BATCH, &attr);
		/* The second is the end of the list, with what is left of it. */
		if (r < 0 && r != -ENOENT)
			return r;
		for (uint32_t i = 0; i < attr.batch.count && i < BATCH; i++)
			fn((int) keys[i], &entries[i], data);
		if (r == -ENOENT)
			return 0;
		first = false;
	}
}
