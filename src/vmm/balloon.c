#include "vmm/balloon.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/ratelimit.h"
#include "vmm/virtio.h"

enum {
	INFLATE = 0,
	DEFLATE = 1,
	QUEUE_SIZE = 128,
	QUEUES_MAX = 4,
	PAGE = 1 << VIRTIO_BALLOON_PFN_SHIFT,
	PAGES_AT_ONCE = 256,
	PAGES_MAX = 64 << 10, /* in one message */
	STATISTICS_MAX = 32,
	BATCH = 64,
};

struct balloon {
	struct virtio_device device;
	const struct guest_memory *memory;
	struct virtio_balloon_config config;
	/* Queues are numbered by what was agreed upon; 0: there is none. */
	unsigned int statistics_queue, reporting_queue;
	bool has_buffer, wants_statistics; /* the driver's buffer is here; to be sent back */
	uint16_t buffer_head;
	struct balloon_statistics statistics;
	uint64_t interval_ns;
	_Atomic uint64_t discarded;
	uint32_t more; /* queues with a batch behind them: bits */
	struct loop_source *work_timer, *statistics_timer;
};

static void discard(struct balloon *balloon, gpa_t address, uint64_t size)
{
	if (size > 0 && guest_memory_discard(balloon->memory, address, size) == 0)
		balloon->discarded += size;
}

/* ---- inflating ---- */

/* Neighbours are given back in one go. */
static void discard_pages(struct balloon *balloon, const uint32_t *pages, unsigned int count)
{
	gpa_t start = 0;
	uint64_t size = 0;

	for (unsigned int i = 0; i < count; i++) {
		gpa_t page = (gpa_t) pages[i] << VIRTIO_BALLOON_PFN_SHIFT;

		if (size && page == start + size) {
			size += PAGE;
		} else if (size && page + PAGE == start) {
			start = page;
			size += PAGE;
		} else {
			discard(balloon, start, size);
			start = page;
			size = PAGE;
		}
	}
	discard(balloon, start, size);
}

static void inflate(struct balloon *balloon, const struct queue_chain *chain)
{
	uint32_t pages[PAGES_AT_ONCE];
	uint64_t offset = 0;
	size_t n;

	do {
		n = queue_iov_read(chain->iov, chain->out_count, offset, pages, sizeof(pages));
		discard_pages(balloon, pages, (unsigned int) (n / sizeof(pages[0])));
		offset += n;
	} while (n == sizeof(pages) && offset < PAGES_MAX * sizeof(pages[0]));
}

/* ---- reports of free pages ---- */

static void discard_host(struct balloon *balloon, const struct iovec *iov)
{
	unsigned int count;
	const struct guest_memory_range *ranges = guest_memory_ranges(balloon->memory, &count);

	for (unsigned int i = 0; i < count; i++) {
		uint64_t offset = (uint64_t) ((char *) iov->iov_base - (char *) ranges[i].host);

		if (offset < ranges[i].size_bytes)
			discard(balloon, ranges[i].start + offset, iov->iov_len);
	}
}

/* ---- statistics ---- */

static uint64_t *statistic(struct balloon_statistics *s, uint16_t tag)
{
	switch (tag) {
	case VIRTIO_BALLOON_S_SWAP_IN:
		return &s->swap_in_bytes;
	case VIRTIO_BALLOON_S_SWAP_OUT:
		return &s->swap_out_bytes;
	case VIRTIO_BALLOON_S_MAJFLT:
		return &s->major_faults;
	case VIRTIO_BALLOON_S_MINFLT:
		return &s->minor_faults;
	case VIRTIO_BALLOON_S_MEMFREE:
		return &s->free_bytes;
	case VIRTIO_BALLOON_S_MEMTOT:
		return &s->total_bytes;
	case VIRTIO_BALLOON_S_AVAIL:
		return &s->available_bytes;
	case VIRTIO_BALLOON_S_CACHES:
		return &s->cache_bytes;
	default:
		return NULL;
	}
}

static void clear_statistics(struct balloon_statistics *s, uint64_t updates)
{
	memset(s, 0xff, sizeof(*s));
	s->updates = updates;
}

static void send_statistics_back(struct balloon *balloon)
{
	unsigned int queue = balloon->statistics_queue;

	if (!queue || !balloon->has_buffer)
		return;
	balloon->has_buffer = balloon->wants_statistics = false;
	virtio_push(&balloon->device, queue, balloon->buffer_head, 0);
	virtio_interrupt(&balloon->device, queue);
}

/* The driver's buffer stays here until new numbers are wanted. */
static void take_statistics(struct balloon *balloon, const struct queue_chain *chain)
{
	struct virtio_balloon_stat stats[STATISTICS_MAX];
	size_t n = queue_iov_read(chain->iov, chain->out_count, 0, stats, sizeof(stats));
	bool first = balloon->statistics.updates == 0;

	clear_statistics(&balloon->statistics, balloon->statistics.updates + 1);
	for (size_t i = 0; i < n / sizeof(stats[0]); i++) {
		uint64_t *value = statistic(&balloon->statistics, stats[i].tag);

		if (value)
			*value = stats[i].val;
	}
	balloon->has_buffer = true;
	balloon->buffer_head = chain->head;
	/* The first buffer may be empty: Linux sends it before it has counted. */
	if (balloon->wants_statistics || (first && n == 0))
		send_statistics_back(balloon);
}

static void on_interval(struct loop_source *source, void *data)
{
	struct balloon *balloon = data;

	(void) source;
	balloon_request_statistics(&balloon->device);
	loop_source_set_timer(balloon->statistics_timer, ratelimit_now_ns() + balloon->interval_ns);
}

/* ---- the device ---- */

static void take(struct balloon *balloon, unsigned int queue, const struct queue_chain *chain)
{
	if (queue == INFLATE)
		inflate(balloon, chain);
	if (queue == balloon->reporting_queue && queue)
		for (unsigned int i = 0; i < chain->in_count; i++)
			discard_host(balloon, &chain->iov[chain->out_count + i]);
	virtio_push(&balloon->device, queue, chain->head, 0);
}

static void serve(struct balloon *balloon, unsigned int queue)
{
	struct virtio_device *device = &balloon->device;
	struct queue_chain chain;
	unsigned int i;
	int r;

	for (i = 0; i < BATCH; i++) {
		r = virtio_pop(device, queue, &chain);
		if (r == 0 && queue_enable_doorbell(&device->queues[queue]))
			continue;
		if (r <= 0)
			break;
		if (queue != balloon->statistics_queue || queue == INFLATE) {
			take(balloon, queue, &chain);
		} else if (balloon->has_buffer) {
			virtio_break(device, queue, "two buffers for statistics");
			return;
		} else {
			take_statistics(balloon, &chain);
		}
	}
	if (i == BATCH) {
		balloon->more |= 1u << queue;
		loop_source_set_timer(balloon->work_timer, 1);
	}
	virtio_interrupt(device, queue);
}

static void on_work(struct loop_source *source, void *data)
{
	struct balloon *balloon = data;
	uint32_t more = balloon->more;

	(void) source;
	balloon->more = 0;
	for (; more; more &= more - 1)
		serve(balloon, (unsigned int) __builtin_ctz(more));
}

static void balloon_config_read(struct virtio_device *device, uint32_t offset, void *data,
				size_t size)
{
	struct balloon *balloon = (struct balloon *) device;

	virtio_config_copy(&balloon->config, sizeof(balloon->config), offset, data, size);
}

static void balloon_config_write(struct virtio_device *device, uint32_t offset, const void *data,
				 size_t size)
{
	struct balloon *balloon = (struct balloon *) device;

	if (offset == offsetof(struct virtio_balloon_config, actual) &&
	    size == sizeof(balloon->config.actual))
		memcpy(&balloon->config.actual, data, size);
}

static int balloon_activate(struct virtio_device *device, uint64_t features)
{
	struct balloon *balloon = (struct balloon *) device;
	unsigned int next = DEFLATE + 1;

	balloon->statistics_queue = balloon->reporting_queue = 0;
	if (features & (1ull << VIRTIO_BALLOON_F_STATS_VQ))
		balloon->statistics_queue = next++;
	if (features & (1ull << VIRTIO_BALLOON_F_REPORTING))
		balloon->reporting_queue = next;
	if (balloon->interval_ns && balloon->statistics_queue)
		loop_source_set_timer(balloon->statistics_timer,
				      ratelimit_now_ns() + balloon->interval_ns);
	return 0;
}

static void balloon_notify(struct virtio_device *device, unsigned int queue)
{
	serve((struct balloon *) device, queue);
}

static void balloon_reset(struct virtio_device *device)
{
	struct balloon *balloon = (struct balloon *) device;

	balloon->statistics_queue = balloon->reporting_queue = 0;
	balloon->has_buffer = balloon->wants_statistics = false;
	balloon->more = 0;
	balloon->config.actual = 0;
	loop_source_set_timer(balloon->work_timer, 0);
	loop_source_set_timer(balloon->statistics_timer, 0);
}

static void balloon_free(struct virtio_device *device)
{
	struct balloon *balloon = (struct balloon *) device;

	if (!balloon)
		return;
	loop_source_free(balloon->work_timer);
	loop_source_free(balloon->statistics_timer);
	free(balloon);
}

static const struct virtio_ops balloon_ops = {
	.name = "balloon",
	.type = VIRTIO_ID_BALLOON,
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.activate = balloon_activate,
	.notify = balloon_notify,
	.reset = balloon_reset,
	.free = balloon_free,
};

int balloon_new(const struct balloon_options *options, const struct guest_memory *memory,
		struct loop *loop, struct virtio_device **ret, struct error *err)
{
	struct balloon *balloon = mem_new0(struct balloon);
	struct virtio_device *device = &balloon->device;
	int r;

	virtio_init(device, &balloon_ops, options->id, loop);
	virtio_init_queues(device, options->reporting ? QUEUES_MAX : QUEUES_MAX - 1, QUEUE_SIZE);
	device->features = 1ull << VIRTIO_BALLOON_F_STATS_VQ;
	if (options->deflate_on_oom)
		device->features |= 1ull << VIRTIO_BALLOON_F_DEFLATE_ON_OOM;
	if (options->reporting)
		device->features |= 1ull << VIRTIO_BALLOON_F_REPORTING;
	device->config_size = offsetof(struct virtio_balloon_config, free_page_hint_cmd_id);
	balloon->memory = memory;
	balloon->interval_ns = options->statistics_interval_ms * 1000000ull;
	clear_statistics(&balloon->statistics, 0);
	r = virtio_add_timer(device, on_work, balloon, &balloon->work_timer, err);
	if (r >= 0)
		r = virtio_add_timer(device, on_interval, balloon, &balloon->statistics_timer, err);
	if (r < 0) {
		balloon_free(device);
		return r;
	}
	*ret = device;
	return 0;
}

void balloon_set_target(struct virtio_device *device, uint64_t size_bytes)
{
	struct balloon *balloon = (struct balloon *) device;

	if (size_bytes > guest_memory_size(balloon->memory))
		size_bytes = guest_memory_size(balloon->memory);
	balloon->config.num_pages = (uint32_t) (size_bytes >> VIRTIO_BALLOON_PFN_SHIFT);
	virtio_config_changed(device);
}

uint64_t balloon_actual(const struct virtio_device *device)
{
	return (uint64_t) ((const struct balloon *) device)->config.actual
	       << VIRTIO_BALLOON_PFN_SHIFT;
}

uint64_t balloon_discarded(const struct virtio_device *device)
{
	return ((const struct balloon *) device)->discarded;
}

void balloon_request_statistics(struct virtio_device *device)
{
	struct balloon *balloon = (struct balloon *) device;

	balloon->wants_statistics = true;
	send_statistics_back(balloon);
}

void balloon_statistics(const struct virtio_device *device, struct balloon_statistics *ret)
{
	*ret = ((const struct balloon *) device)->statistics;
}
