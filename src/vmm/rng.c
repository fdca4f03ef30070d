#include "vmm/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/ratelimit.h"
#include "vmm/virtio.h"

enum {
	QUEUE_SIZE = 64,
	CHUNK_BYTES = 4096, /* a chain gets at most this much; drivers ask again */
	BATCH = 64,
};

struct rng_device {
	struct virtio_device device;
	struct ratelimit limit;
	struct loop_source *timer;
};

static uint32_t fill(const struct queue_chain *chain)
{
	struct iovec part[QUEUE_CHAIN_MAX];
	unsigned int count = queue_iov_slice(chain->iov + chain->out_count, chain->in_count, 0,
					     CHUNK_BYTES, part);
	uint32_t done = 0;

	for (unsigned int i = 0; i < count; i++) {
		ssize_t n = getrandom(part[i].iov_base, part[i].iov_len, 0);

		if (n > 0)
			done += (uint32_t) n;
		if (n < 0 || (size_t) n < part[i].iov_len)
			break;
	}
	return done;
}

/* One batch, then the other devices of this loop are next. */
static void serve(struct rng_device *rng)
{
	struct virtio_device *device = &rng->device;
	struct queue *queue = &device->queues[0];
	struct queue_chain chain;
	uint64_t due;
	uint32_t n;
	int r;

	for (unsigned int i = 0; i < BATCH; i++) {
		r = virtio_pop(device, 0, &chain);
		if (r < 0 || (r == 0 && !queue_enable_doorbell(queue)))
			return;
		if (r == 0)
			continue;
		if (!ratelimit_take(&rng->limit, ratelimit_now_ns(),
				    chain.in_size < CHUNK_BYTES ? chain.in_size : CHUNK_BYTES,
				    &due)) {
			queue_undo_pop(queue);
			queue_disable_doorbell(queue);
			virtio_count(&device->counters.throttled, 1);
			loop_source_set_timer(rng->timer, due);
			return;
		}
		n = fill(&chain);
		virtio_count(&device->counters.read_bytes, n);
		virtio_push(device, 0, chain.head, n);
	}
	loop_source_set_timer(rng->timer, 1);
}

static void on_timer(struct loop_source *source, void *data)
{
	struct rng_device *rng = data;

	(void) source;
	serve(rng);
	virtio_interrupt(&rng->device, 0);
}

static void rng_config_read(struct virtio_device *device, uint32_t offset, void *data, size_t size)
{
	(void) device;
	virtio_config_copy(NULL, 0, offset, data, size);
}

static int rng_activate(struct virtio_device *device, uint64_t features)
{
	(void) device, (void) features;
	return 0;
}

static void rng_notify(struct virtio_device *device, unsigned int queue)
{
	struct rng_device *rng = (struct rng_device *) device;

	(void) queue;
	on_timer(NULL, rng);
}

static void rng_reset(struct virtio_device *device)
{
	struct rng_device *rng = (struct rng_device *) device;

	loop_source_set_timer(rng->timer, 0);
}

static void rng_free(struct virtio_device *device)
{
	struct rng_device *rng = (struct rng_device *) device;

	if (!rng)
		return;
	loop_source_free(rng->timer);
	free(rng);
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.type = VIRTIO_ID_RNG,
	.config_read = rng_config_read,
	.activate = rng_activate,
	.notify = rng_notify,
	.reset = rng_reset,
	.free = rng_free,
};

int rng_new(const struct rng_options *options, struct loop *loop, struct virtio_device **ret,
	    struct error *err)
{
	struct rng_device *rng = mem_new0(struct rng_device);
	struct ratelimit_options limit = {
		.bytes_per_second = options->bytes_per_second,
		.bytes_burst = options->bytes_per_second,
	};
	int r;

	virtio_init(&rng->device, &rng_ops, options->id ? options->id : "rng0", loop);
	virtio_init_queues(&rng->device, 1, QUEUE_SIZE);
	ratelimit_init(&rng->limit, &limit);
	r = virtio_add_timer(&rng->device, on_timer, rng, &rng->timer, err);
	if (r < 0) {
		rng_free(&rng->device);
		return r;
	}
	*ret = &rng->device;
	return 0;
}
