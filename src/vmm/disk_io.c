#include "vmm/disk_io.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/loop.h"
#include "vmm/ratelimit.h"

#define RETRY_NS 1000000ull

struct disk_io {
	int fd;
	struct disk_io_callbacks callbacks;
	void *data;
	bool async;
	struct io_uring ring;
	unsigned int entries, in_flight;
	struct loop_source *source, *retry;
};

/* Cuts the first `n` bytes off. */
static void advance(struct disk_io_request *request, uint64_t n)
{
	request->done += n;
	while (request->iov_count && n >= request->iov->iov_len) {
		n -= request->iov->iov_len;
		request->iov++;
		request->iov_count--;
	}
	if (request->iov_count) {
		request->iov->iov_base = (char *) request->iov->iov_base + n;
		request->iov->iov_len -= n;
	}
}

/* What is left of it, here and now. */
static int finish_sync(struct disk_io *io, struct disk_io_request *request)
{
	ssize_t n;

	if (request->kind == DISK_IO_FLUSH)
		return fdatasync(io->fd) < 0 ? -errno : 0;
	while (request->done < request->size) {
		off_t at = (off_t) (request->offset + request->done);

		if (request->kind == DISK_IO_READ)
			n = preadv(io->fd, request->iov, (int) request->iov_count, at);
		else
			n = pwritev2(io->fd, request->iov, (int) request->iov_count, at,
				     request->durable ? RWF_DSYNC : 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		advance(request, (uint64_t) n);
	}
	return 0;
}

static void complete(struct disk_io *io, struct disk_io_request *request, int result)
{
	if (request->kind != DISK_IO_FLUSH && result > 0) {
		advance(request, (uint64_t) result);
		result = request->done < request->size ? finish_sync(io, request) : 0;
	} else if (result == -EAGAIN || result == -EINTR) {
		result = finish_sync(io, request);
	} else if (request->kind != DISK_IO_FLUSH && result == 0 && request->size > 0) {
		result = -EIO;
	}
	io->callbacks.done(request, result, io->data);
}

static unsigned int reap(struct disk_io *io)
{
	struct io_uring_cqe *cqe;
	unsigned int count = 0;

	while (io->in_flight > 0 && io_uring_peek_cqe(&io->ring, &cqe) == 0) {
		struct disk_io_request *request = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&io->ring, cqe);
		io->in_flight--;
		complete(io, request, result);
		count++;
	}
	return count;
}

static void on_completions(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct disk_io *io = data;

	(void) source, (void) fd, (void) events;
	if (reap(io) > 0)
		io->callbacks.round(io->data);
}

static void on_retry(struct loop_source *source, void *data)
{
	(void) source;
	disk_io_submit(data);
}

static int ring_new(struct disk_io *io, struct loop *loop)
{
	int r = io_uring_queue_init(io->entries, &io->ring, 0);

	if (r < 0)
		return r;
	io->async = true;
	r = io_uring_register_files(&io->ring, &io->fd, 1);
	if (r >= 0)
		r = loop_add_fd(loop, io->ring.ring_fd, EPOLLIN, on_completions, io, &io->source);
	if (r >= 0)
		r = loop_add_timer(loop, 0, on_retry, io, &io->retry);
	if (r < 0) {
		loop_source_free(io->source);
		io->source = NULL;
		io_uring_queue_exit(&io->ring);
		io->async = false;
	}
	return r;
}

int disk_io_new(int fd, enum disk_io_engine engine, unsigned int entries, struct loop *loop,
		const struct disk_io_callbacks *callbacks, void *data, struct disk_io **ret,
		struct error *err)
{
	AUTO(disk_io_free) struct disk_io *io = mem_new0(struct disk_io);
	int r = 0;

	io->fd = fd;
	io->entries = entries;
	io->callbacks = *callbacks;
	io->data = data;
	if (engine != DISK_IO_SYNC)
		r = ring_new(io, loop);
	if (r < 0 && engine == DISK_IO_URING)
		return error_set(err, r, "making an io_uring");
	*ret = TAKE_PTR(io);
	return 0;
}

void disk_io_free(struct disk_io *io)
{
	if (!io)
		return;
	loop_source_free(io->source);
	loop_source_free(io->retry);
	if (io->async)
		io_uring_queue_exit(&io->ring);
	free(io);
}

void disk_io_start(struct disk_io *io, struct disk_io_request *request)
{
	struct io_uring_sqe *sqe = NULL;

	request->done = 0;
	if (io->async && io->in_flight < io->entries)
		sqe = io_uring_get_sqe(&io->ring);
	if (!sqe) {
		io->callbacks.done(request, finish_sync(io, request), io->data);
		return;
	}
	switch (request->kind) {
	case DISK_IO_READ:
		io_uring_prep_readv(sqe, 0, request->iov, request->iov_count, request->offset);
		break;
	case DISK_IO_WRITE:
		io_uring_prep_writev2(sqe, 0, request->iov, request->iov_count, request->offset,
				      request->durable ? RWF_DSYNC : 0);
		break;
	case DISK_IO_FLUSH:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		break;
	}
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, request);
	io->in_flight++;
}

void disk_io_submit(struct disk_io *io)
{
	if (!io->async || io_uring_sq_ready(&io->ring) == 0)
		return;
	/* The kernel is short of something: what is left stays in the ring. */
	if (io_uring_submit(&io->ring) < 0 || io_uring_sq_ready(&io->ring) > 0)
		loop_source_set_timer(io->retry, ratelimit_now_ns() + RETRY_NS);
}

void disk_io_drain(struct disk_io *io)
{
	while (io->async && io->in_flight > 0) {
		struct io_uring_cqe *cqe;

		disk_io_submit(io);
		if (io_uring_wait_cqe(&io->ring, &cqe) == 0)
			reap(io);
	}
}
