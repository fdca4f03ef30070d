#include "vmm/vsock.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/ratelimit.h"
#include "vmm/virtio.h"
#include "vmm/vsock_internal.h"

#define SECOND_NS 1000000000ull

enum {
	RX = 0,
	TX = 1,
	EVENTS = 2,
	QUEUE_SIZE = 256,
	HOST_CID = 2,
	GUEST_CID_MIN = 3,
	HEADER = sizeof(struct virtio_vsock_hdr),
	PACKET_MAX = 64 << 10,
	BATCH = 128,
	END_SECONDS = 5,
	FIRST_PORT = 1 << 30,
	BOTH = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND,
};

/* ---- connections ---- */

struct vsock_connection *vsock_connection_new(struct vsock *vsock, int fd)
{
	struct vsock_connection *c = mem_new0(struct vsock_connection);

	c->vsock = vsock;
	c->fd = fd;
	TAILQ_INSERT_TAIL(&vsock->all, c, all);
	vsock->count++;
	return c;
}

void vsock_drop_buffer(struct vsock_connection *c)
{
	c->vsock->buffered -= c->buffer_capacity;
	free(c->buffer);
	c->buffer = NULL;
	c->buffer_at = c->buffer_size = c->buffer_capacity = 0;
}

static void close_host_side(struct vsock_connection *c)
{
	loop_source_free(c->source);
	c->source = NULL;
	fd_close(c->fd);
	c->fd = -1;
	c->readable = false;
	vsock_drop_buffer(c);
}

void vsock_connection_free(struct vsock_connection *c)
{
	struct vsock *vsock = c->vsock;

	close_host_side(c);
	if (c->is_pending)
		TAILQ_REMOVE(&vsock->pending, c, pending);
	if (c->state != VSOCK_ASKING)
		HASH_DEL(vsock->by_key, c);
	TAILQ_REMOVE(&vsock->all, c, all);
	vsock->count--;
	free(c);
}

struct vsock_connection *vsock_find(struct vsock *vsock, struct vsock_key key)
{
	struct vsock_connection *c;

	HASH_FIND(hh, vsock->by_key, &key, sizeof(key), c);
	return c;
}

void vsock_set_key(struct vsock_connection *c, struct vsock_key key)
{
	c->key = key;
	HASH_ADD(hh, c->vsock->by_key, key, sizeof(key), c);
}

void vsock_say(struct vsock_connection *c, uint8_t what)
{
	c->say |= what;
	if (c->is_pending)
		return;
	c->is_pending = true;
	TAILQ_INSERT_TAIL(&c->vsock->pending, c, pending);
}

void vsock_kill(struct vsock_connection *c)
{
	close_host_side(c);
	c->state = VSOCK_DEAD;
	c->due_ns = 0;
	c->say = 0;
	vsock_say(c, VSOCK_SAY_RESET);
}

void vsock_set_due(struct vsock_connection *c, uint64_t after_ns)
{
	struct vsock *vsock = c->vsock;

	c->due_ns = ratelimit_now_ns() + after_ns;
	if (vsock->next_due_ns == 0 || c->due_ns < vsock->next_due_ns) {
		vsock->next_due_ns = c->due_ns;
		loop_source_set_timer(vsock->due_timer, c->due_ns);
	}
}

uint32_t vsock_credit(const struct vsock_connection *c)
{
	uint32_t on_the_way = c->sent - c->peer_forwarded;

	return on_the_way < c->peer_allocated ? c->peer_allocated - on_the_way : 0;
}

static void on_due(struct loop_source *source, void *data)
{
	struct vsock *vsock = data;
	struct vsock_connection *c, *next;
	uint64_t now = ratelimit_now_ns(), due = 0;

	(void) source;
	for (c = TAILQ_FIRST(&vsock->all); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (c->due_ns && c->due_ns <= now) {
			if (c->state == VSOCK_ASKING)
				vsock_connection_free(c);
			else
				vsock_kill(c);
		} else if (c->due_ns && (due == 0 || c->due_ns < due)) {
			due = c->due_ns;
		}
	}
	vsock->next_due_ns = due;
	loop_source_set_timer(vsock->due_timer, due);
	vsock_serve(vsock);
}

/* ---- to the guest ---- */

static void put_packet(struct vsock *vsock, const struct queue_chain *chain,
		       struct virtio_vsock_hdr *header)
{
	header->src_cid = HOST_CID;
	header->dst_cid = vsock->guest_cid;
	header->type = VIRTIO_VSOCK_TYPE_STREAM;
	queue_iov_write(chain->iov, chain->in_count, 0, header, HEADER);
	virtio_push(&vsock->device, RX, chain->head, HEADER + header->len);
}

static void put(struct vsock_connection *c, const struct queue_chain *chain, uint16_t op,
		uint32_t flags, uint32_t size)
{
	struct virtio_vsock_hdr header = {
		.src_port = c->key.host_port,
		.dst_port = c->key.guest_port,
		.len = size,
		.op = op,
		.flags = flags,
		.buf_alloc = VSOCK_BUFFER_BYTES,
		.fwd_cnt = c->forwarded,
	};

	c->told = c->forwarded;
	c->say &= (uint8_t) ~VSOCK_SAY_CREDIT;
	put_packet(c->vsock, chain, &header);
}

/* The host program sends no more; when it is gone altogether nobody needs the descriptor. */
static void host_ended(struct vsock_connection *c)
{
	c->ended = true;
	c->readable = false;
	c->shutdown_said = c->hung_up ? BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND;
	if (!c->hung_up)
		return;
	close_host_side(c);
	c->state = VSOCK_ENDING;
	vsock_set_due(c, END_SECONDS * SECOND_NS);
}

/* Reads from the host program straight into the guest's buffer.  False: no packet. */
static bool put_data(struct vsock_connection *c, const struct queue_chain *chain)
{
	struct iovec iov[QUEUE_CHAIN_MAX];
	uint64_t room = chain->in_size - HEADER;
	unsigned int count;
	ssize_t n;

	if (room > vsock_credit(c))
		room = vsock_credit(c);
	if (room > PACKET_MAX)
		room = PACKET_MAX;
	count = queue_iov_slice(chain->iov, chain->in_count, HEADER, room, iov);
	n = count ? readv(c->fd, iov, (int) count) : -1;
	if (n > 0) {
		c->sent += (uint32_t) n;
		/* A hang-up is seen at the end of the data only. */
		c->readable = (uint64_t) n == room || c->hung_up;
		virtio_count(&c->vsock->device.counters.read_bytes, (uint64_t) n);
		put(c, chain, VIRTIO_VSOCK_OP_RW, 0, (uint32_t) n);
		return true;
	}
	if (n == 0) {
		host_ended(c);
		put(c, chain, VIRTIO_VSOCK_OP_SHUTDOWN, c->shutdown_said, 0);
		return true;
	}
	c->readable = false;
	if (count && errno != EAGAIN && errno != EINTR)
		vsock_kill(c);
	return false;
}

/* One packet of a connection, the most urgent first.  False: it had none; may free it. */
static bool put_next(struct vsock_connection *c, const struct queue_chain *chain)
{
	static const struct {
		uint8_t say;
		uint16_t op;
	} urgent[] = {
		{ VSOCK_SAY_REQUEST, VIRTIO_VSOCK_OP_REQUEST },
		{ VSOCK_SAY_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE },
		{ VSOCK_SAY_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE },
	};

	if (c->say & VSOCK_SAY_RESET) {
		put(c, chain, VIRTIO_VSOCK_OP_RST, 0, 0);
		vsock_connection_free(c);
		return true;
	}
	for (unsigned int i = 0; i < ARRAY_COUNT(urgent); i++)
		if (c->say & urgent[i].say) {
			c->say &= (uint8_t) ~urgent[i].say;
			put(c, chain, urgent[i].op, 0, 0);
			return true;
		}
	return c->state == VSOCK_OPEN && c->readable && vsock_credit(c) > 0 && put_data(c, chain);
}

static bool has_more(const struct vsock_connection *c)
{
	return c->say || (c->state == VSOCK_OPEN && c->readable && vsock_credit(c) > 0);
}

/* Gives one buffer to who is first in line; who has more goes to the end of it. */
static bool serve_one(struct vsock *vsock, const struct queue_chain *chain)
{
	struct vsock_connection *c;
	struct vsock_key key;
	bool done;

	if (vsock->reset_count) {
		struct virtio_vsock_hdr header = { .op = VIRTIO_VSOCK_OP_RST };

		key = vsock->resets[--vsock->reset_count];
		header.src_port = key.host_port;
		header.dst_port = key.guest_port;
		put_packet(vsock, chain, &header);
		return true;
	}
	c = TAILQ_FIRST(&vsock->pending);
	TAILQ_REMOVE(&vsock->pending, c, pending);
	c->is_pending = false;
	key = c->key;
	done = put_next(c, chain);
	c = vsock_find(vsock, key);
	if (c) {
		if (has_more(c))
			vsock_say(c, 0);
		vsock_watch(c);
	}
	return done;
}

static void work_soon(struct vsock *vsock)
{
	loop_source_set_timer(vsock->work_timer, 1);
}

void vsock_serve(struct vsock *vsock)
{
	struct virtio_device *device = &vsock->device;
	struct queue *queue = &device->queues[RX];
	struct queue_chain chain;
	unsigned int i;
	int r;

	for (i = 0; i < BATCH && vsock->active; i++) {
		if (!vsock->reset_count && TAILQ_EMPTY(&vsock->pending))
			break;
		r = virtio_pop(device, RX, &chain);
		if (r == 0 && queue_enable_doorbell(queue))
			continue;
		if (r <= 0)
			break;
		if (chain.out_count || chain.in_size < HEADER) {
			virtio_break(device, RX, "a receive buffer without room for a header");
			break;
		}
		if (!serve_one(vsock, &chain))
			queue_undo_pop(queue);
	}
	if (i == BATCH)
		work_soon(vsock);
	virtio_interrupt(device, RX);
}

/* ---- from the guest ---- */

static void refuse(struct vsock *vsock, struct vsock_key key)
{
	if (vsock->reset_count < VSOCK_RESETS_MAX)
		vsock->resets[vsock->reset_count++] = key;
}

static void on_shutdown(struct vsock_connection *c, uint32_t flags)
{
	if (c->state != VSOCK_OPEN) {
		vsock_kill(c);
		return;
	}
	c->guest_shutdown |= flags & BOTH;
	if (c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)
		c->readable = false;
	vsock_drained(c);
}

static void on_data(struct vsock_connection *c, const struct virtio_vsock_hdr *header,
		    const struct queue_chain *chain)
{
	struct iovec iov[QUEUE_CHAIN_MAX];
	unsigned int count;

	/* What comes after the host program has gone is for nobody. */
	if (c->state == VSOCK_ENDING)
		return;
	if (c->state != VSOCK_OPEN || header->len > chain->out_size - HEADER ||
	    header->len > VSOCK_BUFFER_BYTES || (c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)) {
		vsock_kill(c);
		return;
	}
	if (header->len == 0)
		return;
	count = queue_iov_slice(chain->iov, chain->out_count, HEADER, header->len, iov);
	virtio_count(&c->vsock->device.counters.written_bytes, header->len);
	vsock_deliver(c, iov, count, header->len);
}

static void on_packet(struct vsock_connection *c, const struct virtio_vsock_hdr *header,
		      const struct queue_chain *chain)
{
	c->peer_allocated = header->buf_alloc;
	c->peer_forwarded = header->fwd_cnt;
	switch (header->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (c->state == VSOCK_REQUESTED)
			vsock_accepted(c);
		else
			vsock_kill(c);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		on_shutdown(c, header->flags);
		break;
	case VIRTIO_VSOCK_OP_RW:
		on_data(c, header, chain);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		vsock_say(c, VSOCK_SAY_CREDIT);
		break;
	default:
		vsock_kill(c);
	}
	if (has_more(c))
		vsock_say(c, 0);
	vsock_watch(c);
}

static void take_packet(struct vsock *vsock, const struct queue_chain *chain)
{
	struct virtio_vsock_hdr header;
	struct vsock_connection *c;
	struct vsock_key key;

	if (queue_iov_read(chain->iov, chain->out_count, 0, &header, HEADER) != HEADER ||
	    header.src_cid != vsock->guest_cid || header.dst_cid != HOST_CID) {
		virtio_count(&vsock->device.counters.errors, 1);
		return;
	}
	key = (struct vsock_key){ .host_port = header.dst_port, .guest_port = header.src_port };
	c = header.type == VIRTIO_VSOCK_TYPE_STREAM ? vsock_find(vsock, key) : NULL;
	if (header.op == VIRTIO_VSOCK_OP_RST) {
		if (c)
			vsock_connection_free(c);
		return;
	}
	if (!c && header.type == VIRTIO_VSOCK_TYPE_STREAM && header.op == VIRTIO_VSOCK_OP_REQUEST &&
	    vsock_connect(vsock, key) == 0) {
		c = vsock_find(vsock, key);
		c->peer_allocated = header.buf_alloc;
		c->peer_forwarded = header.fwd_cnt;
		vsock_watch(c);
		return;
	}
	if (c)
		on_packet(c, &header, chain);
	else
		refuse(vsock, key);
}

static void take_packets(struct vsock *vsock)
{
	struct virtio_device *device = &vsock->device;
	struct queue *queue = &device->queues[TX];
	struct queue_chain chain;
	unsigned int i;
	int r;

	queue_disable_doorbell(queue);
	for (i = 0; i < BATCH; i++) {
		r = virtio_pop(device, TX, &chain);
		if (r == 0 && queue_enable_doorbell(queue))
			continue;
		if (r <= 0)
			break;
		take_packet(vsock, &chain);
		virtio_push(device, TX, chain.head, 0);
	}
	vsock->tx_more = i == BATCH;
	if (vsock->tx_more)
		work_soon(vsock);
	virtio_interrupt(device, TX);
}

/* ---- the device ---- */

static void listen_again(struct vsock *vsock)
{
	if (vsock->listen_fd >= 0 && !vsock->listen_source)
		(void) loop_add_fd(vsock->device.loop, vsock->listen_fd, EPOLLIN, vsock_accept,
				   vsock, &vsock->listen_source);
}

static void on_work(struct loop_source *source, void *data)
{
	struct vsock *vsock = data;

	(void) source;
	listen_again(vsock);
	if (vsock->tx_more)
		take_packets(vsock);
	vsock_serve(vsock);
}

static void vsock_config_read(struct virtio_device *device, uint32_t offset, void *data,
			      size_t size)
{
	struct virtio_vsock_config config = { .guest_cid = ((struct vsock *) device)->guest_cid };

	virtio_config_copy(&config, sizeof(config), offset, data, size);
}

static int vsock_activate(struct virtio_device *device, uint64_t features)
{
	(void) features;
	((struct vsock *) device)->active = true;
	return 0;
}

static void vsock_notify(struct virtio_device *device, unsigned int queue)
{
	struct vsock *vsock = (struct vsock *) device;

	if (queue == TX)
		take_packets(vsock);
	vsock_serve(vsock);
}

static void free_connections(struct vsock *vsock)
{
	struct vsock_connection *c;

	while ((c = TAILQ_FIRST(&vsock->all)))
		vsock_connection_free(c);
	vsock->reset_count = 0;
}

static void vsock_reset(struct virtio_device *device)
{
	struct vsock *vsock = (struct vsock *) device;

	vsock->active = vsock->tx_more = false;
	free_connections(vsock);
}

static void vsock_free(struct virtio_device *device)
{
	struct vsock *vsock = (struct vsock *) device;

	if (!vsock)
		return;
	free_connections(vsock);
	loop_source_free(vsock->listen_source);
	loop_source_free(vsock->work_timer);
	loop_source_free(vsock->due_timer);
	free(vsock);
}

static const struct virtio_ops vsock_ops = {
	.name = "vsock",
	.type = VIRTIO_ID_VSOCK,
	.config_read = vsock_config_read,
	.activate = vsock_activate,
	.notify = vsock_notify,
	.reset = vsock_reset,
	.free = vsock_free,
};

int vsock_new(const struct vsock_options *options, struct loop *loop, struct virtio_device **ret,
	      struct error *err)
{
	struct vsock *vsock;
	int r;

	if (options->guest_cid < GUEST_CID_MIN || options->guest_cid >= UINT32_MAX)
		return error_say(err, -EINVAL, "%s: cid %llu, a guest's is %d to 4294967294",
				 options->id, (unsigned long long) options->guest_cid,
				 GUEST_CID_MIN);
	if (options->path && strlen(options->path) + sizeof("_4294967295") > sizeof(vsock->path))
		return error_say(err, -ENAMETOOLONG, "%s: the path %s is too long for a socket",
				 options->id, options->path);
	vsock = mem_new0(struct vsock);
	TAILQ_INIT(&vsock->all);
	TAILQ_INIT(&vsock->pending);
	virtio_init(&vsock->device, &vsock_ops, options->id, loop);
	virtio_init_queues(&vsock->device, EVENTS + 1, QUEUE_SIZE);
	vsock->device.config_size = sizeof(struct virtio_vsock_config);
	vsock->guest_cid = options->guest_cid;
	vsock->listen_fd = options->listen_fd;
	vsock->next_port = FIRST_PORT;
	if (options->path)
		strcpy(vsock->path, options->path);
	r = loop_add_timer(loop, 0, on_work, vsock, &vsock->work_timer);
	if (r >= 0)
		r = loop_add_timer(loop, 0, on_due, vsock, &vsock->due_timer);
	if (r >= 0 && vsock->listen_fd >= 0)
		r = loop_add_fd(loop, vsock->listen_fd, EPOLLIN, vsock_accept, vsock,
				&vsock->listen_source);
	if (r < 0) {
		vsock_free(&vsock->device);
		return error_set(err, r, "%s: joining the loop", options->id);
	}
	*ret = &vsock->device;
	return 0;
}

void vsock_end_connections(struct virtio_device *device)
{
	struct vsock *vsock = (struct vsock *) device;
	struct virtio_vsock_event event = { .id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
	struct queue_chain chain;

	free_connections(vsock);
	if (!vsock->active || virtio_pop(device, EVENTS, &chain) <= 0)
		return;
	virtio_push(device, EVENTS, chain.head,
		    (uint32_t) queue_iov_write(chain.iov + chain.out_count, chain.in_count, 0,
					       &event, sizeof(event)));
	virtio_interrupt(device, EVENTS);
}

unsigned int vsock_connections(const struct virtio_device *device)
{
	return ((const struct vsock *) device)->count;
}
