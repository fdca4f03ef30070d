#include "vmm/virtio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

void virtio_init(struct virtio_device *device, const struct virtio_ops *ops, const char *id,
		 struct loop *loop)
{
	device->ops = ops;
	device->loop = loop;
	snprintf(device->id, sizeof(device->id), "%s", id);
}

void virtio_init_queues(struct virtio_device *device, unsigned int count, unsigned int size)
{
	device->queue_count = count;
	for (unsigned int i = 0; i < count; i++)
		device->queue_size[i] = (uint16_t) size;
}

int virtio_add_timer(struct virtio_device *device, loop_timer_fn call, void *data,
		     struct loop_source **ret, struct error *err)
{
	int r = loop_add_timer(device->loop, 0, call, data, ret);

	return r < 0 ? error_set(err, r, "%s: adding a timer", device->id) : 0;
}

int virtio_pop(struct virtio_device *device, unsigned int queue, struct queue_chain *ret)
{
	int r = queue_pop(&device->queues[queue], ret);

	if (r < 0)
		virtio_needs_reset(device, device->queues[queue].why_broken);
	return r;
}

void virtio_break(struct virtio_device *device, unsigned int queue, const char *why)
{
	device->queues[queue].broken = true;
	device->queues[queue].why_broken = why;
	virtio_needs_reset(device, why);
}

void virtio_push(struct virtio_device *device, unsigned int queue, uint16_t head, uint32_t written)
{
	queue_push(&device->queues[queue], head, written);
	virtio_count(&device->counters.requests, 1);
}

void virtio_interrupt(struct virtio_device *device, unsigned int queue)
{
	if (!queue_should_interrupt(&device->queues[queue]))
		return;
	virtio_count(&device->counters.interrupts, 1);
	device->transport->interrupt(device, queue);
}

void virtio_config_changed(struct virtio_device *device)
{
	device->transport->config_changed(device);
}

void virtio_needs_reset(struct virtio_device *device, const char *why)
{
	virtio_count(&device->counters.errors, 1);
	device->transport->needs_reset(device, why);
}

void virtio_config_copy(const void *config, size_t config_size, uint32_t offset, void *data,
			size_t size)
{
	memset(data, 0, size);
	if (offset >= config_size)
		return;
	if (size > config_size - offset)
		size = config_size - offset;
	memcpy(data, (const char *) config + offset, size);
}
