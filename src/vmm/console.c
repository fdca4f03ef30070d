#include "vmm/console.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/virtio.h"

enum {
	QUEUE_SIZE = 128,
	CONTROL_IN = 2, /* queues: what the device says, what the driver says */
	CONTROL_OUT = 3,
	BATCH = 64,

	/* Messages that wait for a buffer of the driver, in the order in which they are sent. */
	SAY_ADD = 1 << 0,
	SAY_CONSOLE = 1 << 1,
	SAY_NAME = 1 << 2,
	SAY_OPEN = 1 << 3,
	SAY_CLOSED = 1 << 4,
};

/* What a snapshot needs. */
struct port_state {
	bool guest_ready, guest_open;
	uint8_t say;
	uint32_t out_done; /* bytes of the first chain that are written already */
	bool in_ended, out_dead;
};

struct port {
	struct console *console;
	unsigned int id;
	char name[CONSOLE_NAME_MAX];
	int in_fd, out_fd;
	int own_fd; /* out_fd when that is ours, because epoll takes each once; or -1 */
	int in_flags, out_flags;           /* to restore; -1: never changed */
	bool in_always;                    /* cannot be waited for: a file, /dev/null */
	uint64_t out_max_bytes, out_bytes; /* over resets, too */
	struct loop_source *in_source, *out_source;
	struct port_state state;
};

/* Also the layout of the file: what a reader finds after a crash (machine/ring.h). */
struct console_ring {
	char magic[8];
	uint64_t written; /* since the start; the last ones are in `text` */
	char text[CONSOLE_RING_BYTES];
};

struct console {
	struct virtio_device device;
	struct port ports[CONSOLE_PORTS_MAX];
	unsigned int port_count;
	bool multiport;
	struct loop_source *timer; /* goes on after a batch */
	struct console_ring *ring; /* a file's pages, or ours */
	bool ring_is_mapped;
};

static unsigned int in_queue(const struct port *port)
{
	return port->id == 0 ? 0 : 2 + 2 * port->id;
}

static unsigned int out_queue(const struct port *port)
{
	return in_queue(port) + 1;
}

static void ring_add(struct console *console, const struct iovec *iov, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		const char *data = iov[i].iov_base;
		size_t size = iov[i].iov_len;

		if (size > CONSOLE_RING_BYTES) {
			data += size - CONSOLE_RING_BYTES;
			size = CONSOLE_RING_BYTES;
		}
		while (size > 0) {
			size_t at = console->ring->written % CONSOLE_RING_BYTES;
			size_t n = CONSOLE_RING_BYTES - at;

			if (n > size)
				n = size;
			memcpy(console->ring->text + at, data, n);
			console->ring->written += n;
			data += n;
			size -= n;
		}
	}
}

size_t console_last_words(const struct virtio_device *device, char *data, size_t size)
{
	const struct console *console = (const struct console *) device;

	if (size > CONSOLE_RING_BYTES)
		size = CONSOLE_RING_BYTES;
	if (size > console->ring->written)
		size = console->ring->written;
	for (size_t i = 0; i < size; i++)
		data[i] = console->ring
				  ->text[(console->ring->written - size + i) % CONSOLE_RING_BYTES];
	return size;
}

/* ---- what the guest gets ---- */

static void port_read(struct port *port);

static void on_readable(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct port *port = data;

	(void) source, (void) fd, (void) events;
	port_read(port);
	virtio_interrupt(&port->console->device, in_queue(port));
}

/* Waits for input only while there is room for it: a closed pipe would wake us for ever. */
static void port_watch_in(struct port *port, bool watch)
{
	if (!watch) {
		loop_source_free(port->in_source);
		port->in_source = NULL;
	} else if (!port->in_source && !port->in_always &&
		   loop_add_fd(port->console->device.loop, port->in_fd, EPOLLIN, on_readable, port,
			       &port->in_source) < 0) {
		port->in_always = true;
		loop_source_set_timer(port->console->timer, 1);
	}
}

static void control_flush(struct console *console);

static void port_in_end(struct port *port)
{
	port->state.in_ended = true;
	port_watch_in(port, false);
	if (port->out_fd < 0) {
		port->state.say = (uint8_t) ((port->state.say & ~SAY_OPEN) | SAY_CLOSED);
		control_flush(port->console);
	}
}

static void port_read(struct port *port)
{
	struct virtio_device *device = &port->console->device;
	unsigned int queue = in_queue(port);
	struct queue_chain chain;
	ssize_t n;
	int r;

	if (port->in_fd < 0 || port->state.in_ended || !port->state.guest_open)
		return;
	for (unsigned int i = 0; i < BATCH; i++) {
		r = virtio_pop(device, queue, &chain);
		if (r == 0 && queue_enable_doorbell(&device->queues[queue]))
			continue;
		if (r <= 0) {
			port_watch_in(port, false);
			return;
		}
		n = chain.in_count
			    ? readv(port->in_fd, chain.iov + chain.out_count, (int) chain.in_count)
			    : -ENOBUFS;
		if (chain.in_count == 0) {
			virtio_push(device, queue, chain.head, 0);
			continue;
		}
		if (n > 0) {
			virtio_count(&device->counters.read_bytes, (uint64_t) n);
			virtio_push(device, queue, chain.head, (uint32_t) n);
			continue;
		}
		queue_undo_pop(&device->queues[queue]);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			port_watch_in(port, true);
		else
			port_in_end(port);
		return;
	}
	port_watch_in(port, true);
	if (port->in_always)
		loop_source_set_timer(port->console->timer, 1);
}

/* ---- what the guest sends ---- */

static void port_write(struct port *port);

static void on_writable(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct port *port = data;

	(void) fd, (void) events;
	loop_source_free(source);
	port->out_source = NULL;
	port_write(port);
	virtio_interrupt(&port->console->device, out_queue(port));
}

/* All of it, or 0 when it must wait; what cannot be written is swallowed. */
static bool write_out(struct port *port, const struct queue_chain *chain)
{
	struct iovec rest[QUEUE_CHAIN_MAX];
	unsigned int count;
	ssize_t n;

	if (port->out_max_bytes > 0 &&
	    chain->out_size - port->state.out_done > port->out_max_bytes - port->out_bytes)
		port->state.out_dead = true;
	while (port->out_fd >= 0 && !port->state.out_dead &&
	       (count = queue_iov_slice(chain->iov, chain->out_count, port->state.out_done,
					UINT32_MAX, rest)) > 0) {
		n = writev(port->out_fd, rest, (int) count);
		if (n > 0) {
			port->state.out_done += (uint32_t) n;
			port->out_bytes += (uint64_t) n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (port->id == 0)
				break;
			return false;
		}
		port->state.out_dead = true;
	}
	port->state.out_done = 0;
	return true;
}

static void port_write(struct port *port)
{
	struct virtio_device *device = &port->console->device;
	unsigned int queue = out_queue(port);
	struct queue_chain chain;
	int r;

	if (port->out_source)
		return;
	for (unsigned int i = 0; i < BATCH; i++) {
		r = virtio_pop(device, queue, &chain);
		if (r == 0 && queue_enable_doorbell(&device->queues[queue]))
			continue;
		if (r <= 0)
			return;
		if (port->id == 0)
			ring_add(port->console, chain.iov, chain.out_count);
		if (!write_out(port, &chain)) {
			queue_undo_pop(&device->queues[queue]);
			queue_disable_doorbell(&device->queues[queue]);
			if (loop_add_fd(device->loop, port->out_fd, EPOLLOUT, on_writable, port,
					&port->out_source) < 0)
				port->state.out_dead = true;
			return;
		}
		virtio_count(&device->counters.written_bytes, chain.out_size);
		virtio_push(device, queue, chain.head, 0);
	}
	loop_source_set_timer(port->console->timer, 1);
}

/* ---- control messages ---- */

/* False: the driver has no buffer for it now. */
static bool control_send(struct console *console, uint32_t port, uint16_t event, uint16_t value,
			 const char *text)
{
	struct virtio_device *device = &console->device;
	struct virtio_console_control message = { .id = port, .event = event, .value = value };
	struct queue_chain chain;
	size_t n;

	if (virtio_pop(device, CONTROL_IN, &chain) <= 0) {
		queue_enable_doorbell(&device->queues[CONTROL_IN]);
		if (virtio_pop(device, CONTROL_IN, &chain) <= 0)
			return false;
	}
	n = queue_iov_write(chain.iov + chain.out_count, chain.in_count, 0, &message,
			    sizeof(message));
	if (text)
		n += queue_iov_write(chain.iov + chain.out_count, chain.in_count, n, text,
				     strlen(text));
	virtio_push(device, CONTROL_IN, chain.head, (uint32_t) n);
	return true;
}

static bool control_say(struct port *port, uint8_t what)
{
	struct console *console = port->console;

	switch (what) {
	case SAY_ADD:
		return control_send(console, port->id, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
	case SAY_CONSOLE:
		return control_send(console, port->id, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL);
	case SAY_NAME:
		return control_send(console, port->id, VIRTIO_CONSOLE_PORT_NAME, 1, port->name);
	case SAY_OPEN:
		return control_send(console, port->id, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
	default:
		return control_send(console, port->id, VIRTIO_CONSOLE_PORT_OPEN, 0, NULL);
	}
}

/* False: the driver has no room for more. */
static bool port_say(struct port *port)
{
	for (uint8_t what = SAY_ADD; what <= SAY_CLOSED; what = (uint8_t) (what << 1)) {
		if (!(port->state.say & what))
			continue;
		if (!control_say(port, what))
			return false;
		port->state.say &= (uint8_t) ~what;
	}
	return true;
}

static void control_flush(struct console *console)
{
	unsigned int i = 0;

	if (!console->multiport)
		return;
	while (i < console->port_count && port_say(&console->ports[i]))
		i++;
	virtio_interrupt(&console->device, CONTROL_IN);
}

static void port_became_ready(struct port *port)
{
	port->state.guest_ready = true;
	port->state.say |= port->id == 0 ? SAY_CONSOLE : SAY_NAME;
	port->state.say |= port->state.in_ended && port->out_fd < 0 ? SAY_CLOSED : SAY_OPEN;
}

static void control_handle(struct console *console, const struct virtio_console_control *message)
{
	struct port *port;

	if (message->event == VIRTIO_CONSOLE_DEVICE_READY) {
		for (unsigned int i = 0; message->value == 1 && i < console->port_count; i++)
			console->ports[i].state.say |= SAY_ADD;
		return;
	}
	if (message->id >= console->port_count)
		return;
	port = &console->ports[message->id];
	if (message->event == VIRTIO_CONSOLE_PORT_READY && message->value == 1)
		port_became_ready(port);
	if (message->event == VIRTIO_CONSOLE_PORT_OPEN) {
		port->state.guest_open = message->value == 1;
		if (port->state.guest_open)
			port_read(port);
		else
			port_watch_in(port, false);
		virtio_interrupt(&console->device, in_queue(port));
	}
}

static void control_receive(struct console *console)
{
	struct virtio_device *device = &console->device;
	struct virtio_console_control message;
	struct queue_chain chain;
	int r;

	for (unsigned int i = 0; i < BATCH; i++) {
		r = virtio_pop(device, CONTROL_OUT, &chain);
		if (r == 0 && queue_enable_doorbell(&device->queues[CONTROL_OUT]))
			continue;
		if (r <= 0)
			return;
		if (queue_iov_read(chain.iov, chain.out_count, 0, &message, sizeof(message)) ==
		    sizeof(message))
			control_handle(console, &message);
		virtio_push(device, CONTROL_OUT, chain.head, 0);
	}
	loop_source_set_timer(console->timer, 1);
}

/* ---- the device ---- */

static void console_serve(struct console *console, unsigned int queue)
{
	if (console->multiport && queue == CONTROL_OUT)
		control_receive(console);
	if (console->multiport && (queue == CONTROL_OUT || queue == CONTROL_IN))
		control_flush(console);
	for (unsigned int i = 0; i < console->port_count; i++) {
		if (queue == in_queue(&console->ports[i]))
			port_read(&console->ports[i]);
		if (queue == out_queue(&console->ports[i]))
			port_write(&console->ports[i]);
	}
	virtio_interrupt(&console->device, queue);
}

static void on_timer(struct loop_source *source, void *data)
{
	struct console *console = data;

	(void) source;
	for (unsigned int i = 0; i < console->device.queue_count; i++)
		if (console->device.queues[i].ready)
			console_serve(console, i);
}

static void console_config_read(struct virtio_device *device, uint32_t offset, void *data,
				size_t size)
{
	struct virtio_console_config config = {
		.max_nr_ports = ((struct console *) device)->port_count,
	};

	virtio_config_copy(&config, sizeof(config), offset, data, size);
}

static void console_config_write(struct virtio_device *device, uint32_t offset, const void *data,
				 size_t size)
{
	struct iovec iov = { .iov_base = (void *) data, .iov_len = 1 };

	/* The emergency write: a character before there are queues. */
	if (offset == offsetof(struct virtio_console_config, emerg_wr) && size >= 1)
		ring_add((struct console *) device, &iov, 1);
}

static int console_activate(struct virtio_device *device, uint64_t features)
{
	struct console *console = (struct console *) device;

	console->multiport = features & (1ull << VIRTIO_CONSOLE_F_MULTIPORT);
	if (!console->multiport) {
		console->ports[0].state.guest_open = true;
		port_read(&console->ports[0]);
	}
	return 0;
}

static void console_notify(struct virtio_device *device, unsigned int queue)
{
	console_serve((struct console *) device, queue);
}

static void console_reset(struct virtio_device *device)
{
	struct console *console = (struct console *) device;

	for (unsigned int i = 0; i < console->port_count; i++) {
		struct port *port = &console->ports[i];

		port_watch_in(port, false);
		loop_source_free(port->out_source);
		port->out_source = NULL;
		port->state.guest_ready = port->state.guest_open = false;
		port->state.say = 0;
		port->state.out_done = 0;
	}
	loop_source_set_timer(console->timer, 0);
}

static int ring_init(struct console *console, int fd)
{
	struct console_ring *ring;

	if (fd <= 0) {
		console->ring = mem_new0(struct console_ring);
		return 0;
	}
	/* Space that is not there would be a SIGBUS later. */
	int r = posix_fallocate(fd, 0, sizeof(*ring));
	if (r != 0)
		return -r;
	ring = mmap(NULL, sizeof(*ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED)
		return -errno;
	memcpy(ring->magic, "brumerng", sizeof(ring->magic));
	console->ring = ring;
	console->ring_is_mapped = true;
	return 0;
}

static void console_free(struct virtio_device *device)
{
	struct console *console = (struct console *) device;

	if (!console)
		return;
	for (unsigned int i = 0; i < console->port_count; i++) {
		struct port *port = &console->ports[i];

		loop_source_free(port->in_source);
		loop_source_free(port->out_source);
		if (port->in_flags >= 0)
			fcntl(port->in_fd, F_SETFL, port->in_flags);
		if (port->out_flags >= 0)
			fcntl(port->out_fd, F_SETFL, port->out_flags);
		fd_close(port->own_fd);
	}
	loop_source_free(console->timer);
	if (console->ring_is_mapped)
		munmap(console->ring, sizeof(*console->ring));
	else
		free(console->ring);
	free(console);
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.type = VIRTIO_ID_CONSOLE,
	.config_read = console_config_read,
	.config_write = console_config_write,
	.activate = console_activate,
	.notify = console_notify,
	.reset = console_reset,
	.free = console_free,
};

/* Makes `fd` non-blocking; its flags before, or -1 when they stay. */
static int unblock(int fd)
{
	struct stat st;
	int flags;

	if (fd < 0 || fstat(fd, &st) < 0 || S_ISREG(st.st_mode))
		return -1;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_NONBLOCK) || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -1;
	return flags;
}

static void port_init(struct console *console, unsigned int id,
		      const struct console_port_options *options)
{
	struct port *port = &console->ports[id];

	port->console = console;
	port->id = id;
	port->in_fd = options->in_fd;
	port->out_fd = options->out_fd;
	port->own_fd = -1;
	port->out_max_bytes = options->out_max_bytes;
	if (port->in_fd >= 0 && port->in_fd == port->out_fd)
		port->out_fd = port->own_fd = fcntl(port->in_fd, F_DUPFD_CLOEXEC, 3);
	port->in_flags = unblock(port->in_fd);
	port->out_flags = unblock(port->out_fd);
	if (options->name)
		snprintf(port->name, sizeof(port->name), "%s", options->name);
}

int console_new(const struct console_options *options, struct loop *loop,
		struct virtio_device **ret, struct error *err)
{
	struct console *console = mem_new0(struct console);
	struct virtio_device *device = &console->device;
	int r;

	assert(options->port_count >= 1 && options->port_count <= CONSOLE_PORTS_MAX);
	virtio_init(device, &console_ops, options->id, loop);
	virtio_init_queues(device, 2 + 2 * options->port_count, QUEUE_SIZE);
	device->features =
		1ull << VIRTIO_CONSOLE_F_MULTIPORT | 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE;
	device->config_size = sizeof(struct virtio_console_config);
	console->port_count = options->port_count;
	for (unsigned int i = 0; i < options->port_count; i++)
		port_init(console, i, &options->ports[i]);
	r = ring_init(console, options->ring_fd);
	r = r < 0 ? error_set(err, r, "%s: the file of its last words", options->id)
		  : virtio_add_timer(device, on_timer, console, &console->timer, err);
	if (r < 0) {
		console_free(device);
		return r;
	}
	*ret = device;
	return 0;
}
