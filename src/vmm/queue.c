#include "vmm/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

enum {
	DESCRIPTOR_SIZE = 16,
	RING_HEADER_SIZE = 4, /* flags, idx */
	USED_ELEMENT_SIZE = 8,
};

static int queue_break(struct queue *queue, const char *why)
{
	queue->broken = true;
	queue->why_broken = why;
	return -EIO;
}

/* A 16-bit field of a ring.  NULL only if the queue was never started. */
static uint16_t *ring_field(const struct queue *queue, gpa_t address)
{
	return guest_memory_range(queue->memory, address, sizeof(uint16_t));
}

static uint16_t ring_load(const struct queue *queue, gpa_t address)
{
	const uint16_t *field = ring_field(queue, address);

	return field ? __atomic_load_n(field, __ATOMIC_ACQUIRE) : 0;
}

static void ring_store(const struct queue *queue, gpa_t address, uint16_t value)
{
	uint16_t *field = ring_field(queue, address);

	if (field)
		__atomic_store_n(field, value, __ATOMIC_RELEASE);
}

static gpa_t used_event_address(const struct queue *queue)
{
	return queue->available + RING_HEADER_SIZE + 2ull * queue->size;
}

static gpa_t available_event_address(const struct queue *queue)
{
	return queue->used + RING_HEADER_SIZE + (uint64_t) USED_ELEMENT_SIZE * queue->size;
}

int queue_start(struct queue *queue)
{
	uint64_t n = queue->size;

	if (n == 0 || n > QUEUE_SIZE_MAX || (n & (n - 1)) != 0)
		return -EINVAL;
	if (queue->descriptors % VRING_DESC_ALIGN_SIZE ||
	    queue->available % VRING_AVAIL_ALIGN_SIZE || queue->used % VRING_USED_ALIGN_SIZE)
		return -EINVAL;
	/* The event index behind each ring is there whether it was agreed upon or not. */
	if (!guest_memory_range(queue->memory, queue->descriptors, DESCRIPTOR_SIZE * n) ||
	    !guest_memory_range(queue->memory, queue->available, RING_HEADER_SIZE + 2 * n + 2) ||
	    !guest_memory_range(queue->memory, queue->used,
				RING_HEADER_SIZE + USED_ELEMENT_SIZE * n + 2))
		return -EINVAL;
	queue->ready = true;
	return 0;
}

/* Where the walk through a chain stands: in the queue's table, or in an indirect one. */
struct walk {
	gpa_t table;
	uint32_t count;
	uint32_t next;
	bool indirect;
};

static int walk_add(struct queue *queue, const struct vring_desc *d, struct queue_chain *chain)
{
	unsigned int count = chain->out_count + chain->in_count;
	void *host;

	if (count == QUEUE_CHAIN_MAX)
		return queue_break(queue, "a chain has too many descriptors");
	if (d->len == 0)
		return queue_break(queue, "a descriptor is empty");
	host = guest_memory_range(queue->memory, d->addr, d->len);
	if (!host)
		return queue_break(queue, "a descriptor points outside of memory");
	chain->iov[count] = (struct iovec){ .iov_base = host, .iov_len = d->len };
	if (d->flags & VRING_DESC_F_WRITE) {
		chain->in_count++;
		chain->in_size += d->len;
	} else {
		if (chain->in_count)
			return queue_break(queue, "a readable descriptor follows a writable one");
		chain->out_count++;
		chain->out_size += d->len;
	}
	return 0;
}

static int walk_enter(struct queue *queue, const struct vring_desc *d, struct walk *walk)
{
	if (!queue->indirect)
		return queue_break(queue, "an indirect descriptor without VIRTIO_F_INDIRECT_DESC");
	if (walk->indirect)
		return queue_break(queue, "an indirect descriptor in an indirect table");
	if (d->flags & VRING_DESC_F_NEXT)
		return queue_break(queue, "an indirect descriptor with a next one");
	if (d->len == 0 || d->len % DESCRIPTOR_SIZE)
		return queue_break(queue, "an indirect table of a wrong size");
	if (!guest_memory_range(queue->memory, d->addr, d->len))
		return queue_break(queue, "an indirect table outside of memory");
	*walk = (struct walk){ .table = d->addr,
			       .count = d->len / DESCRIPTOR_SIZE,
			       .indirect = true };
	return 0;
}

/*
 * Loops end because a chain is bounded: each step adds an iovec, of which there are
 * QUEUE_CHAIN_MAX, or enters the one indirect table.
 */
static int walk_chain(struct queue *queue, struct queue_chain *chain)
{
	struct walk walk = {
		.table = queue->descriptors,
		.count = queue->size,
		.next = chain->head,
	};
	struct vring_desc d;
	int r;

	for (;;) {
		if (walk.next >= walk.count)
			return queue_break(queue, "a descriptor's number is beyond its table");
		r = guest_memory_read(queue->memory,
				      walk.table + (uint64_t) DESCRIPTOR_SIZE * walk.next, &d,
				      sizeof(d));
		if (r < 0)
			return queue_break(queue, "a table outside of memory");
		if (d.flags & VRING_DESC_F_INDIRECT) {
			r = walk_enter(queue, &d, &walk);
			if (r < 0)
				return r;
			continue;
		}
		r = walk_add(queue, &d, chain);
		if (r < 0)
			return r;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		walk.next = d.next;
	}
}

int queue_pop(struct queue *queue, struct queue_chain *ret)
{
	uint16_t available;
	int r;

	if (queue->broken)
		return -EIO;
	if (!queue->ready)
		return 0;
	available = ring_load(queue, queue->available + 2);
	if (available == queue->next_available)
		return 0;
	if ((uint16_t) (available - queue->next_available) > queue->size)
		return queue_break(queue, "the available index ran away");

	ret->head = ring_load(queue, queue->available + RING_HEADER_SIZE +
					     2ull * (queue->next_available & (queue->size - 1)));
	ret->out_count = ret->in_count = 0;
	ret->out_size = ret->in_size = 0;
	r = walk_chain(queue, ret);
	if (r < 0)
		return r;
	queue->next_available++;
	return 1;
}

void queue_undo_pop(struct queue *queue)
{
	queue->next_available--;
}

void queue_stage(struct queue *queue, uint16_t head, uint32_t written)
{
	struct vring_used_elem element = { .id = head, .len = written };

	if (queue->broken || !queue->ready)
		return;
	(void) guest_memory_write(queue->memory,
				  queue->used + RING_HEADER_SIZE +
					  (uint64_t) USED_ELEMENT_SIZE *
						  (queue->next_used & (queue->size - 1)),
				  &element, sizeof(element));
	queue->next_used++;
}

void queue_publish(struct queue *queue)
{
	if (!queue->broken && queue->ready)
		ring_store(queue, queue->used + 2, queue->next_used);
}

void queue_push(struct queue *queue, uint16_t head, uint32_t written)
{
	queue_stage(queue, head, written);
	queue_publish(queue);
}

bool queue_should_interrupt(struct queue *queue)
{
	uint16_t before = queue->signalled_used;
	bool valid = queue->signalled_valid;

	if (!queue->ready || (valid && before == queue->next_used))
		return false;
	queue->signalled_used = queue->next_used;
	queue->signalled_valid = true;
	/* What was pushed must be visible before the driver's wish is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!queue->event_index)
		return !(ring_load(queue, queue->available) & VRING_AVAIL_F_NO_INTERRUPT);
	return !valid || vring_need_event(ring_load(queue, used_event_address(queue)),
					  queue->next_used, before);
}

bool queue_enable_doorbell(struct queue *queue)
{
	if (!queue->ready || queue->broken)
		return false;
	if (queue->event_index)
		ring_store(queue, available_event_address(queue), queue->next_available);
	else
		ring_store(queue, queue->used, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ring_load(queue, queue->available + 2) != queue->next_available;
}

void queue_disable_doorbell(struct queue *queue)
{
	/* With event indices the one that was passed already says it. */
	if (queue->ready && !queue->broken && !queue->event_index)
		ring_store(queue, queue->used, VRING_USED_F_NO_NOTIFY);
}

unsigned int queue_iov_slice(const struct iovec *iov, unsigned int count, uint64_t offset,
			     uint64_t size, struct iovec *ret)
{
	unsigned int used = 0;

	for (unsigned int i = 0; i < count && size > 0; i++) {
		uint64_t length = iov[i].iov_len;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		length -= offset;
		if (length > size)
			length = size;
		ret[used++] = (struct iovec){
			.iov_base = (char *) iov[i].iov_base + offset,
			.iov_len = length,
		};
		size -= length;
		offset = 0;
	}
	return used;
}

static size_t iov_copy(const struct iovec *iov, unsigned int count, uint64_t offset, char *data,
		       size_t size, bool to_guest)
{
	size_t done = 0;

	for (unsigned int i = 0; i < count && done < size; i++) {
		size_t length = iov[i].iov_len;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		length -= offset;
		if (length > size - done)
			length = size - done;
		if (to_guest)
			memcpy((char *) iov[i].iov_base + offset, data + done, length);
		else
			memcpy(data + done, (const char *) iov[i].iov_base + offset, length);
		done += length;
		offset = 0;
	}
	return done;
}

size_t queue_iov_read(const struct iovec *iov, unsigned int count, uint64_t offset, void *data,
		      size_t size)
{
	return iov_copy(iov, count, offset, data, size, false);
}

size_t queue_iov_write(const struct iovec *iov, unsigned int count, uint64_t offset,
		       const void *data, size_t size)
{
	return iov_copy(iov, count, offset, (char *) data, size, true);
}
