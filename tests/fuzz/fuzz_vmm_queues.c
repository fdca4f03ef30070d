/*
 * Rings that hostile drivers make, for every virtio device: whatever stands in guest memory, a
 * device touches nothing outside of it, ends, and keeps answering.
 *
 * The first byte chooses the device, then come steps: raw writes into the rings, chains that are
 * well-formed with contents that are not, rings of the bell, resets, and what the host does.
 */
#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm_devices.h"

enum {
	QUEUE_BYTES = 4096, /* of rings for each queue */
	QUEUE_SIZE = 16,
	DATA = 0x20000,
	STEPS_MAX = 64,
};

static void nothing(struct virtio_device *device, unsigned int queue)
{
	(void) device, (void) queue;
}

static void no_change(struct virtio_device *device)
{
	(void) device;
}

static void no_reset(struct virtio_device *device, const char *why)
{
	(void) device;
	FUZZ_MUST(why != NULL);
}

static const struct virtio_transport_ops transport = { nothing, no_change, no_reset };

struct machine {
	struct guest_memory *memory;
	uint8_t *host;
	struct loop *loop;
	struct virtio_device *device;
	unsigned int kind;
	bool active;
	uint16_t available[VIRTIO_QUEUES_MAX];
};

static void reset(struct machine *m)
{
	if (m->active)
		m->device->ops->reset(m->device);
	m->active = false;
	for (unsigned int i = 0; i < m->device->queue_count; i++)
		m->device->queues[i] = (struct queue){ .memory = m->memory };
}

static void activate(struct machine *m, uint64_t flags)
{
	reset(m);
	memset(m->host, 0, QUEUE_BYTES * m->device->queue_count);
	memset(m->available, 0, sizeof(m->available));
	for (unsigned int i = 0; i < m->device->queue_count; i++) {
		struct queue *queue = &m->device->queues[i];

		queue->size = QUEUE_SIZE;
		queue->descriptors = (gpa_t) QUEUE_BYTES * i;
		queue->available = queue->descriptors + 1024;
		queue->used = queue->descriptors + 2048;
		queue->event_index = flags & 1;
		queue->indirect = flags & 2;
		FUZZ_MUST(queue_start(queue) == 0);
	}
	/* Only what was offered can be agreed upon. */
	m->device->ops->activate(m->device, m->device->features & ~(flags >> 2));
	m->active = true;
}

/* A chain of up to 4 descriptors into the data area. */
static void offer(struct machine *m, struct fuzz_input *in)
{
	unsigned int queue = (unsigned int) fuzz_take(in, 1) % m->device->queue_count;
	unsigned int count = 1 + fuzz_take(in, 1) % 4;
	uint8_t *ring = m->host + (size_t) QUEUE_BYTES * queue;
	uint16_t head = (uint16_t) (m->available[queue] * 4 % QUEUE_SIZE);
	uint16_t *available = (uint16_t *) (ring + 1024);

	for (unsigned int i = 0; i < count; i++) {
		uint64_t address = DATA + fuzz_take(in, 2);
		uint32_t size = (uint32_t) fuzz_take(in, 2);
		uint16_t flags = (uint16_t) ((fuzz_take(in, 1) & 6) | (i + 1 < count ? 1 : 0));
		uint16_t next = (uint16_t) (head + i + 1);

		memcpy(ring + 16 * (head + i), &address, 8);
		memcpy(ring + 16 * (head + i) + 8, &size, 4);
		memcpy(ring + 16 * (head + i) + 12, &flags, 2);
		memcpy(ring + 16 * (head + i) + 14, &next, 2);
	}
	available[2 + m->available[queue] % QUEUE_SIZE] = head;
	available[1] = ++m->available[queue];
}

static void write_memory(struct machine *m, struct fuzz_input *in, size_t base, size_t limit)
{
	size_t at = base + fuzz_take(in, 2) % limit, size = fuzz_take(in, 1);

	for (size_t i = 0; i < size && in->size > 0; i++)
		m->host[at + i] = (uint8_t) fuzz_take(in, 1);
}

static void step(struct machine *m, struct fuzz_input *in)
{
	struct virtio_device *device = m->device;
	uint8_t bytes[8];
	size_t n;

	switch (fuzz_take(in, 1) % 8) {
	case 0:
		write_memory(m, in, 0, (size_t) QUEUE_BYTES * device->queue_count);
		break;
	case 1:
		write_memory(m, in, DATA, 0x10000);
		break;
	case 2:
	case 3:
		offer(m, in);
		break;
	case 4:
		if (m->active)
			device->ops->notify(device,
					    (unsigned int) fuzz_take(in, 1) % device->queue_count);
		break;
	case 5:
		n = 1 + fuzz_take(in, 1) % 8;
		if (n <= device->config_size) {
			uint32_t at = (uint32_t) (fuzz_take(in, 1) % (device->config_size - n + 1));

			device->ops->config_read(device, at, bytes, n);
			if (device->ops->config_write) {
				uint64_t value = htole64(fuzz_take(in, (unsigned int) n));

				device->ops->config_write(device, at, &value, n);
			}
		}
		break;
	case 6:
		n = fuzz_take(in, 1);
		n = n < in->size ? n : in->size;
		fuzz_host_speak(m->kind, in->data, n);
		in->data += n;
		in->size -= n;
		break;
	default:
		activate(m, fuzz_take(in, 8));
	}
	fuzz_step(m->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest_memory_options options = { .size_bytes = FUZZ_MEMORY, .fd = -1 };
	struct fuzz_input in = { data, size };
	struct machine m = {};
	struct error err = {};

	fuzz_host_init();
	FUZZ_MUST(guest_memory_new(&options, &m.memory, &err) == 0);
	FUZZ_MUST(loop_new(&m.loop, &err) == 0);
	m.host = guest_memory_range(m.memory, 0, FUZZ_MEMORY);
	m.kind = (unsigned int) fuzz_take(&in, 1) % FUZZ_KINDS;
	m.device = fuzz_device_new(m.kind, m.memory, m.loop);
	m.device->transport = &transport;
	for (unsigned int i = 0; i < m.device->queue_count; i++)
		m.device->queues[i].memory = m.memory;
	activate(&m, fuzz_take(&in, 8));
	for (unsigned int i = 0; i < STEPS_MAX && in.size > 0; i++)
		step(&m, &in);
	reset(&m);
	m.device->ops->free(m.device);
	loop_free(m.loop);
	guest_memory_free(m.memory);
	fuzz_host_clear();
	return 0;
}
