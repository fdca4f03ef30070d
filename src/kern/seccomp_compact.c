#include "kern/seccomp_compact.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"

enum {
	ARCH = offsetof(struct seccomp_data, arch),
	NUMBER = offsetof(struct seccomp_data, nr),
	LOAD = BPF_LD | BPF_W | BPF_ABS,
	RETURN = BPF_RET | BPF_K,
	FAR = UINT8_MAX, /* the longest conditional jump */
	HOLDS_ARCH = 1,
	HOLDS_NUMBER = 2,
};

/* Where a decision ends: at a verdict, or at the instruction that first looks at an argument. */
struct fate {
	bool checks; /* the arguments, from instruction `value` on; else `value` is the verdict */
	uint32_t value;
};

struct constants {
	uint32_t *list;
	size_t count;
};

/* From `first` up to where the next one begins. */
struct range {
	uint32_t first;
	struct fate fate;
};

/* What has been written so far, last instruction first: every jump goes to what is known. */
struct output {
	struct sock_filter *reversed;
	size_t count;
	size_t capacity;
	bool full;
};

struct work {
	const struct sock_filter *in;
	size_t count;
	struct constants arches;
	struct constants numbers; /* where the fate of a system call number may change */
	size_t *blocks; /* by instruction of `in`: where its copy begins, 0 = nowhere yet */
	struct output out;
};

static void work_done_autop(struct work *work)
{
	free(work->arches.list);
	free(work->numbers.list);
	free(work->blocks);
	free(work->out.reversed);
}

/* ---- what the program compares with ---- */

static void constants_add(struct constants *constants, uint32_t value)
{
	constants->list = mem_realloc(constants->list, constants->count + 1, sizeof(uint32_t));
	constants->list[constants->count++] = value;
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

	return x < y ? -1 : x > y;
}

static void constants_sort(struct constants *constants)
{
	size_t kept = 0;

	qsort(constants->list, constants->count, sizeof(uint32_t), compare_numbers);
	for (size_t i = 0; i < constants->count; i++)
		if (kept == 0 || constants->list[kept - 1] != constants->list[i])
			constants->list[kept++] = constants->list[i];
	constants->count = kept;
}

static bool jumps_inside(const struct work *work, size_t at)
{
	const struct sock_filter *it = &work->in[at];
	uint64_t room = work->count - at - 1;

	if (it->code == (BPF_JMP | BPF_JA))
		return it->k < room;
	return it->jt < room && it->jf < room;
}

static bool understood(const struct work *work, size_t at)
{
	const struct sock_filter *it = &work->in[at];

	switch (it->code) {
	case RETURN:
		return true;
	case LOAD:
	case BPF_ALU | BPF_AND | BPF_K:
		return at + 1 < work->count;
	case BPF_JMP | BPF_JA:
	case BPF_JMP | BPF_JEQ | BPF_K:
	case BPF_JMP | BPF_JGT | BPF_K:
	case BPF_JMP | BPF_JGE | BPF_K:
	case BPF_JMP | BPF_JSET | BPF_K:
		return jumps_inside(work, at);
	default:
		return false;
	}
}

/* Tells the instructions that can follow on `at` what the accumulator may hold there. */
static void pass_on(const struct work *work, size_t at, uint8_t *holds, uint8_t what)
{
	const struct sock_filter *it = &work->in[at];

	if (it->code == (BPF_JMP | BPF_JA)) {
		holds[at + 1 + it->k] |= what;
	} else if (BPF_CLASS(it->code) == BPF_JMP) {
		holds[at + 1 + it->jt] |= what;
		holds[at + 1 + it->jf] |= what;
	} else if (it->code != RETURN) {
		holds[at + 1] |= what;
	}
}

static void collect_compared(struct work *work, const struct sock_filter *it, uint8_t held)
{
	if (held & HOLDS_ARCH)
		constants_add(&work->arches, it->k);
	if (held & HOLDS_NUMBER) {
		constants_add(&work->numbers, it->k);
		if (it->k < UINT32_MAX)
			constants_add(&work->numbers, it->k + 1);
	}
}

/* One pass is enough: jumps only go forward. */
static int collect(struct work *work)
{
	AUTO(free) uint8_t *holds = mem_new0_array(uint8_t, work->count);

	constants_add(&work->numbers, 0);
	for (size_t i = 0; i < work->count; i++) {
		const struct sock_filter *it = &work->in[i];
		uint8_t what = holds[i];

		if (!understood(work, i))
			return -ENOTSUP;
		if (it->code == LOAD)
			what = it->k == ARCH ? HOLDS_ARCH : it->k == NUMBER ? HOLDS_NUMBER : 0;
		else if (BPF_CLASS(it->code) == BPF_ALU && what)
			return -ENOTSUP; /* arithmetic on what must stay comparable in ranges */
		else if (it->code == (BPF_JMP | BPF_JSET | BPF_K) && what)
			return -ENOTSUP;
		else if (BPF_CLASS(it->code) == BPF_JMP && it->code != (BPF_JMP | BPF_JA))
			collect_compared(work, it, what);
		pass_on(work, i, holds, what);
	}
	constants_sort(&work->arches);
	constants_sort(&work->numbers);
	return 0;
}

/* ---- what it decides ---- */

static bool is_true(const struct sock_filter *jump, uint32_t value)
{
	switch (BPF_OP(jump->code)) {
	case BPF_JEQ:
		return value == jump->k;
	case BPF_JGT:
		return value > jump->k;
	default:
		return value >= jump->k;
	}
}

static int decide(const struct work *work, uint32_t arch, uint32_t number, struct fate *ret)
{
	uint32_t value = 0;

	for (size_t at = 0;;) {
		const struct sock_filter *it = &work->in[at];

		if (it->code == RETURN) {
			*ret = (struct fate){ .value = it->k };
			return 0;
		}
		if (it->code == LOAD && it->k != ARCH && it->k != NUMBER) {
			*ret = (struct fate){ .checks = true, .value = (uint32_t) at };
			return 0;
		}
		if (it->code == LOAD)
			value = it->k == ARCH ? arch : number;
		else if (it->code == (BPF_JMP | BPF_JA))
			at += it->k;
		else if (BPF_CLASS(it->code) == BPF_JMP && BPF_OP(it->code) != BPF_JSET)
			at += is_true(it, value) ? it->jt : it->jf;
		else
			return -ENOTSUP; /* before anything was loaded */
		at++;
	}
}

static bool same(const struct fate *a, const struct fate *b)
{
	return a->checks == b->checks && a->value == b->value;
}

static int find_ranges(const struct work *work, uint32_t arch, struct range *ret, size_t *ret_count)
{
	size_t count = 0;

	for (size_t i = 0; i < work->numbers.count; i++) {
		struct range next = { .first = work->numbers.list[i] };
		int r = decide(work, arch, next.first, &next.fate);

		if (r < 0)
			return r;
		if (count == 0 || !same(&ret[count - 1].fate, &next.fate))
			ret[count++] = next;
	}
	*ret_count = count;
	return 0;
}

/* ---- the new program, backwards; a place is the number of instructions from it to the end ---- */

static size_t put(struct work *work, struct sock_filter it)
{
	if (work->out.count == work->out.capacity)
		work->out.full = true;
	else
		work->out.reversed[work->out.count++] = it;
	return work->out.count;
}

/* How far the instruction that is written next must jump to get to `place`. */
static size_t distance(const struct work *work, size_t place)
{
	return work->out.count - place;
}

static size_t put_near(struct work *work, size_t place)
{
	if (distance(work, place) <= FAR - 1)
		return place;
	return put(work, (struct sock_filter) BPF_STMT(BPF_JMP | BPF_JA,
						       (uint32_t) distance(work, place)));
}

static size_t put_jump(struct work *work, uint16_t code, uint32_t k, size_t yes, size_t no)
{
	yes = put_near(work, yes);
	no = put_near(work, no);
	return put(work, (struct sock_filter) BPF_JUMP(code, k, (uint8_t) distance(work, yes),
						       (uint8_t) distance(work, no)));
}

static size_t put_verdict(struct work *work, uint32_t value)
{
	/* One that is near will do. */
	for (size_t place = work->out.count; place > 0 && distance(work, place) < FAR - 2;
	     place--) {
		const struct sock_filter *it = &work->out.reversed[place - 1];

		if (it->code == RETURN && it->k == value)
			return place;
	}
	return put(work, (struct sock_filter) BPF_STMT(RETURN, value));
}

/* Marks in `reached` what can follow on the instruction `from`. */
static void reach(const struct work *work, size_t from, bool *reached)
{
	reached[from] = true;
	for (size_t at = from; at < work->count; at++) {
		const struct sock_filter *it = &work->in[at];

		if (!reached[at] || it->code == RETURN)
			continue;
		if (it->code == (BPF_JMP | BPF_JA)) {
			reached[at + 1 + it->k] = true;
		} else if (BPF_CLASS(it->code) == BPF_JMP) {
			reached[at + 1 + it->jt] = true;
			reached[at + 1 + it->jf] = true;
		} else {
			reached[at + 1] = true;
		}
	}
}

/* The instructions from `from` on that look at arguments, copied with what they lead to. */
static size_t put_checks(struct work *work, size_t from)
{
	AUTO(free) bool *reached = mem_new0_array(bool, work->count);
	AUTO(free) size_t *places = mem_new0_array(size_t, work->count);

	if (work->blocks[from])
		return work->blocks[from];
	reach(work, from, reached);
	for (size_t at = work->count; at-- > from;) {
		const struct sock_filter *it = &work->in[at];

		if (!reached[at])
			continue;
		if (it->code == (BPF_JMP | BPF_JA)) {
			places[at] = places[at + 1 + it->k];
		} else if (it->code == RETURN) {
			places[at] = put_verdict(work, it->k);
		} else if (BPF_CLASS(it->code) == BPF_JMP) {
			places[at] = put_jump(work, it->code, it->k, places[at + 1 + it->jt],
					      places[at + 1 + it->jf]);
		} else {
			/* What follows must stand right behind. */
			if (places[at + 1] != work->out.count)
				put(work, (struct sock_filter) BPF_STMT(
						  BPF_JMP | BPF_JA,
						  (uint32_t) distance(work, places[at + 1])));
			places[at] = put(work, *it);
		}
	}
	work->blocks[from] = places[from];
	return places[from];
}

static size_t put_fate(struct work *work, const struct fate *fate)
{
	return fate->checks ? put_checks(work, fate->value) : put_verdict(work, fate->value);
}

static size_t put_search(struct work *work, const struct range *ranges, size_t count)
{
	size_t middle = count / 2, yes, no;

	if (count == 1)
		return put_fate(work, &ranges[0].fate);
	yes = put_search(work, ranges + middle, count - middle);
	no = put_search(work, ranges, middle);
	return put_jump(work, BPF_JMP | BPF_JGE | BPF_K, ranges[middle].first, yes, no);
}

static size_t put_section(struct work *work, const struct range *ranges, size_t count)
{
	size_t place = put_search(work, ranges, count);

	if (count == 1)
		return place;
	return put(work, (struct sock_filter) BPF_STMT(LOAD, NUMBER));
}

/* Sections of all architectures that are treated in a way of their own, then the choice among them.
 */
static int put_all(struct work *work)
{
	AUTO(free)
	struct range *ranges = mem_new0_array(struct range, work->numbers.count);
	AUTO(free) struct range *other = mem_new0_array(struct range, work->numbers.count);
	size_t other_count, count, place;
	uint32_t stranger = 0;
	int r;

	for (size_t i = 0; i < work->arches.count && work->arches.list[i] == stranger; i++)
		stranger++;
	r = find_ranges(work, stranger, other, &other_count);
	if (r < 0)
		return r;
	place = put_section(work, other, other_count);
	for (size_t i = 0; i < work->arches.count; i++) {
		bool alike;
		size_t section;

		r = find_ranges(work, work->arches.list[i], ranges, &count);
		if (r < 0)
			return r;
		alike = count == other_count;
		for (size_t j = 0; alike && j < count; j++)
			alike = ranges[j].first == other[j].first &&
				same(&ranges[j].fate, &other[j].fate);
		if (alike)
			continue;
		section = put_section(work, ranges, count);
		place = put_jump(work, BPF_JMP | BPF_JEQ | BPF_K, work->arches.list[i], section,
				 place);
	}
	if (place != work->out.count)
		put(work, (struct sock_filter) BPF_STMT(BPF_JMP | BPF_JA,
							(uint32_t) distance(work, place)));
	put(work, (struct sock_filter) BPF_STMT(LOAD, ARCH));
	return work->out.full ? -ENOTSUP : 0;
}

int seccomp_compact(const struct sock_filter *program, size_t count, struct sock_filter **ret,
		    size_t *ret_count)
{
	AUTO(work_done) struct work work = { .in = program, .count = count };
	int r;

	if (count == 0 || count > BPF_MAXINSNS)
		return -ENOTSUP;
	r = collect(&work);
	if (r < 0)
		return r;
	work.blocks = mem_new0_array(size_t, count);
	/* Larger than before is of no use. */
	work.out.capacity = count;
	work.out.reversed = mem_new0_array(struct sock_filter, count);
	r = put_all(&work);
	if (r < 0)
		return r;
	for (size_t i = 0; i < work.out.count / 2; i++) {
		struct sock_filter *a = &work.out.reversed[i];
		struct sock_filter *b = &work.out.reversed[work.out.count - 1 - i];
		struct sock_filter kept = *a;

		*a = *b;
		*b = kept;
	}
	*ret_count = work.out.count;
	*ret = TAKE_PTR(work.out.reversed);
	return 0;
}
