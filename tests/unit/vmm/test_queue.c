#include "driver.h"

#include "vmm/queue.h"

struct fixture {
	struct guest_memory *memory;
	struct ring ring;
	struct queue queue;
	struct queue_chain chain;
};

enum { SIZE = 8, DATA = 0x10000, MEMORY = 1 << 20 };

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);
	struct guest_memory_options options = { .size_bytes = DRIVER_MEMORY, .fd = -1 };
	struct error err = {};

	assert_int_equal(guest_memory_new(&options, &f->memory, &err), 0);
	ring_init(&f->ring, f->memory, 0x1000, SIZE);
	f->queue = (struct queue){
		.memory = f->memory,
		.descriptors = f->ring.descriptors,
		.available = f->ring.available,
		.used = f->ring.used,
		.size = SIZE,
		.indirect = true,
	};
	assert_int_equal(queue_start(&f->queue), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_memory_free(f->memory);
	free(f);
	return 0;
}

static void test_start(void **state)
{
	struct fixture *f = *state;
	struct queue good = {
		.memory = f->memory,
		.descriptors = 0x1000,
		.available = 0x2000,
		.used = 0x3000,
		.size = 8,
	};
	struct queue bad[12];

	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++)
		bad[i] = good;
	bad[0].size = 0;
	bad[1].size = 7;
	bad[2].size = 2048;
	bad[3].descriptors = 0x1008;
	bad[4].available = 0x2001;
	bad[5].used = 0x3002;
	bad[6].descriptors = DRIVER_MEMORY - 16;
	bad[7].available = DRIVER_MEMORY - 16;
	bad[8].used = DRIVER_MEMORY - 16;
	bad[9].used = UINT64_MAX - 3;
	bad[10].descriptors = UINT64_MAX - 15;
	bad[11].available = DRIVER_MEMORY + 4096ull;
	assert_int_equal(queue_start(&good), 0);
	assert_true(good.ready);
	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(queue_start(&bad[i]), -EINVAL);
		assert_false(bad[i].ready);
		assert_int_equal(queue_pop(&bad[i], &f->chain), 0);
	}
}

static void test_pop_and_push(void **state)
{
	struct fixture *f = *state;
	uint32_t id, written;

	assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
	/* More rounds than the ring is long, so that indices wrap. */
	for (unsigned int round = 0; round < 3 * SIZE; round++) {
		struct buffer buffers[] = {
			{ DATA, 100, false },
			{ DATA + 0x1000, 200, false },
			{ DATA + 0x2000, 300, true },
		};
		uint16_t head = ring_add(&f->ring, buffers, 3);

		assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
		assert_int_equal(f->chain.head, head);
		assert_int_equal(f->chain.out_count, 2);
		assert_int_equal(f->chain.in_count, 1);
		assert_int_equal(f->chain.out_size, 300);
		assert_int_equal(f->chain.in_size, 300);
		assert_ptr_equal(f->chain.iov[0].iov_base, guest_memory_range(f->memory, DATA, 1));
		assert_int_equal(f->chain.iov[2].iov_len, 300);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
		queue_push(&f->queue, head, round);
		assert_true(ring_used(&f->ring, &id, &written));
		assert_int_equal(id, head);
		assert_int_equal(written, round);
		assert_false(ring_used(&f->ring, NULL, NULL));
	}
}

static void test_undo(void **state)
{
	struct fixture *f = *state;
	struct buffer buffer = { DATA, 64, true };
	uint16_t first = ring_add(&f->ring, &buffer, 1), second = ring_add(&f->ring, &buffer, 1);

	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	queue_undo_pop(&f->queue);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, first);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, second);
	queue_undo_pop(&f->queue);
	queue_undo_pop(&f->queue);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, first);
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;
	struct vring_desc table[QUEUE_CHAIN_MAX + 1] = {};

	for (unsigned int i = 0; i < ARRAY_COUNT(table); i++)
		table[i] = (struct vring_desc){
			.addr = DATA + 0x1000 + 16 * i,
			.len = 16,
			.flags = (uint16_t) ((i + 1 < QUEUE_CHAIN_MAX ? VRING_DESC_F_NEXT : 0) |
					     (i >= 100 ? VRING_DESC_F_WRITE : 0)),
			.next = (uint16_t) (i + 1),
		};
	assert_int_equal(guest_memory_write(f->memory, DATA, table, sizeof(table)), 0);
	/* The write-only flag of the descriptor that refers to a table means nothing. */
	ring_descriptor(&f->ring, 3, DATA, sizeof(table),
			VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
	ring_offer(&f->ring, 3);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, 3);
	assert_int_equal(f->chain.out_count, 100);
	assert_int_equal(f->chain.in_count, QUEUE_CHAIN_MAX - 100);

	/* Ordinary ones first, then a table. */
	table[0].flags = VRING_DESC_F_WRITE;
	assert_int_equal(guest_memory_write(f->memory, DATA, table, 16), 0);
	ring_descriptor(&f->ring, 0, DATA + 0x4000, 10, VRING_DESC_F_NEXT, 1);
	ring_descriptor(&f->ring, 1, DATA, 16, VRING_DESC_F_INDIRECT, 0);
	ring_offer(&f->ring, 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.out_count, 1);
	assert_int_equal(f->chain.in_count, 1);

	/* One more than a chain may have. */
	table[0].flags = VRING_DESC_F_NEXT;
	table[QUEUE_CHAIN_MAX - 1].flags |= VRING_DESC_F_NEXT;
	assert_int_equal(guest_memory_write(f->memory, DATA, table, sizeof(table)), 0);
	ring_offer(&f->ring, 3);
	assert_int_equal(queue_pop(&f->queue, &f->chain), -EIO);
	assert_true(f->queue.broken);
	assert_non_null(strstr(f->queue.why_broken, "too many"));
}

static void test_attacks(void **state)
{
	struct fixture *f = *state;
	struct queue fresh = f->queue;

	for (unsigned int attack = 0; attack < ATTACKS; attack++) {
		f->queue = fresh;
		ring_init(&f->ring, f->memory, 0x1000, SIZE);
		ring_put16(&f->ring, f->ring.available + 2, 0);
		ring_attack(&f->ring, attack, DATA);
		assert_int_equal(queue_pop(&f->queue, &f->chain), -EIO);
		assert_true(f->queue.broken);
		assert_non_null(f->queue.why_broken);
		/* Broken stays broken, and nothing is said to the driver any more. */
		assert_int_equal(queue_pop(&f->queue, &f->chain), -EIO);
		queue_push(&f->queue, 0, 0);
		assert_false(ring_used(&f->ring, NULL, NULL));
		assert_false(queue_enable_doorbell(&f->queue));
	}
	/* An indirect table that was not agreed upon. */
	f->queue = fresh;
	f->queue.indirect = false;
	ring_init(&f->ring, f->memory, 0x1000, SIZE);
	ring_put16(&f->ring, f->ring.available + 2, 0);
	ring_descriptor(&f->ring, 0, DATA, 16, VRING_DESC_F_INDIRECT, 0);
	ring_offer(&f->ring, 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), -EIO);
}

static void test_interrupts(void **state)
{
	struct fixture *f = *state;

	queue_push(&f->queue, 0, 0);
	assert_true(queue_should_interrupt(&f->queue));
	assert_false(queue_should_interrupt(&f->queue));
	ring_put16(&f->ring, f->ring.available, VRING_AVAIL_F_NO_INTERRUPT);
	queue_push(&f->queue, 0, 0);
	assert_false(queue_should_interrupt(&f->queue));

	f->queue.event_index = true;
	/* The driver wants to hear when the fifth is used. */
	ring_put16(&f->ring, f->ring.available + 4 + 2 * SIZE, 4);
	queue_push(&f->queue, 0, 0);
	assert_false(queue_should_interrupt(&f->queue));
	queue_push(&f->queue, 0, 0);
	assert_false(queue_should_interrupt(&f->queue));
	queue_push(&f->queue, 0, 0);
	queue_push(&f->queue, 0, 0);
	assert_true(queue_should_interrupt(&f->queue));
	queue_push(&f->queue, 0, 0);
	assert_false(queue_should_interrupt(&f->queue));
}

static void test_doorbells(void **state)
{
	struct fixture *f = *state;
	struct buffer buffer = { DATA, 64, true };
	uint16_t before;

	queue_disable_doorbell(&f->queue);
	assert_false(ring_wants_bell(&f->ring, 0));
	assert_false(queue_enable_doorbell(&f->queue));
	assert_true(ring_wants_bell(&f->ring, 0));
	ring_add(&f->ring, &buffer, 1);
	assert_true(queue_enable_doorbell(&f->queue));

	f->queue.event_index = f->ring.event_index = true;
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_false(queue_enable_doorbell(&f->queue));
	before = f->ring.next_available;
	ring_add(&f->ring, &buffer, 1);
	assert_true(ring_wants_bell(&f->ring, before));
	/* Not armed again: later ones need no bell. */
	queue_disable_doorbell(&f->queue);
	before = f->ring.next_available;
	ring_add(&f->ring, &buffer, 1);
	assert_false(ring_wants_bell(&f->ring, before));
}

static void test_iov(void **state)
{
	char a[3] = "abc", b[4] = "defg", out[16] = "";
	struct iovec iov[] = { { a, 3 }, { b, 4 } }, part[2];

	(void) state;
	assert_int_equal(queue_iov_read(iov, 2, 2, out, 3), 3);
	assert_memory_equal(out, "cde", 3);
	assert_int_equal(queue_iov_read(iov, 2, 0, out, 16), 7);
	assert_int_equal(queue_iov_read(iov, 2, 7, out, 16), 0);
	assert_int_equal(queue_iov_write(iov, 2, 1, "XYZ", 3), 3);
	assert_memory_equal(a, "aXY", 3);
	assert_memory_equal(b, "Zefg", 4);
	assert_int_equal(queue_iov_slice(iov, 2, 1, 3, part), 2);
	assert_ptr_equal(part[0].iov_base, a + 1);
	assert_int_equal(part[0].iov_len, 2);
	assert_ptr_equal(part[1].iov_base, b);
	assert_int_equal(part[1].iov_len, 1);
	assert_int_equal(queue_iov_slice(iov, 2, 7, 3, part), 0);
	assert_int_equal(queue_iov_slice(iov, 2, 0, 0, part), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pop_and_push, setup, teardown),
		cmocka_unit_test_setup_teardown(test_undo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_indirect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attacks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_doorbells, setup, teardown),
		cmocka_unit_test(test_iov),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
