#include "vmm/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/virtio.h"

enum {
	SECTOR = 512,
	QUEUE_SIZE = 256,
	SLOTS = 256, /* requests in flight */
	BATCH = 128,
	REQUEST_BYTES_MAX = 64 << 20,       /* so that nothing takes for ever */
	SEGMENTS_MAX = QUEUE_CHAIN_MAX - 2, /* beside header and status */
	RANGES_MAX = 32,                    /* in one discard or write-zeroes */
	RANGE_SECTORS_MAX = 1 << 22,        /* 2 GiB: one fallocate() */
	ZEROES_SECTORS_MAX = 1 << 15,       /* 16 MiB: may have to be written */
	ZEROES_BYTES = 64 << 10,
};

struct request {
	struct disk_io_request io; /* first */
	unsigned int queue;
	uint16_t head;
	uint32_t type;
	uint64_t sector;
	uint32_t written; /* into the guest's memory when all is well, without the status */
	uint8_t *status;
	struct request *next_free;
	struct iovec iov[QUEUE_CHAIN_MAX];
};

struct blk {
	struct virtio_device device;
	struct virtio_blk_config config;
	int fd;
	bool read_only, unsafe, write_through;
	bool zero_range; /* the file system can zero without a hole */
	char serial[BLK_SERIAL_MAX];
	struct disk_io *io;
	struct ratelimit limit;
	struct loop_source *timer;
	struct request *slots, *free; /* slots from slots_used on were never touched */
	unsigned int slots_used;
	bool draining;
	uint64_t stalled; /* queues that wait for a slot, or for their time: bits */
	uint64_t touched; /* queues with answers that nobody was told of: bits */
};

static void put_slot(struct blk *blk, struct request *request)
{
	request->next_free = blk->free;
	blk->free = request;
}

/* The last one given back first: an idle disk's memory stays small. */
static struct request *get_slot(struct blk *blk)
{
	struct request *request = blk->free;

	if (request)
		blk->free = request->next_free;
	else if (blk->slots_used < SLOTS)
		request = &blk->slots[blk->slots_used++];
	return request;
}

static void answer(struct blk *blk, struct request *request, uint8_t status)
{
	struct virtio_device *device = &blk->device;

	*request->status = status;
	if (status != VIRTIO_BLK_S_OK)
		virtio_count(&device->counters.errors, 1);
	virtio_push(device, request->queue, request->head,
		    1 + (status == VIRTIO_BLK_S_OK ? request->written : 0));
	blk->touched |= 1ull << request->queue;
	put_slot(blk, request);
}

static void on_done(struct disk_io_request *io, int result, void *data)
{
	struct request *request = (struct request *) io;
	struct blk *blk = data;

	if (blk->draining) {
		put_slot(blk, request);
		return;
	}
	if (result >= 0 && io->kind == DISK_IO_READ)
		virtio_count(&blk->device.counters.read_bytes, io->size);
	if (result >= 0 && io->kind == DISK_IO_WRITE)
		virtio_count(&blk->device.counters.written_bytes, io->size);
	answer(blk, request, result < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

static bool in_disk(const struct blk *blk, uint64_t sector, uint64_t sectors)
{
	return sector <= blk->config.capacity && sectors <= blk->config.capacity - sector;
}

/* ---- discard and write-zeroes ---- */

static int write_zeroes(struct blk *blk, uint64_t offset, uint64_t size)
{
	static const char zeroes[ZEROES_BYTES];

	while (size > 0) {
		struct iovec iov = {
			.iov_base = (void *) zeroes,
			.iov_len = size < sizeof(zeroes) ? size : sizeof(zeroes),
		};
		/* Not pwrite(): the filter on system calls (vmm/jail.h) knows this one. */
		ssize_t n = pwritev(blk->fd, &iov, 1, (off_t) offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		offset += (uint64_t) n;
		size -= (uint64_t) n;
	}
	return 0;
}

static int erase(struct blk *blk, const struct virtio_blk_discard_write_zeroes *range, bool discard)
{
	uint64_t offset = range->sector * SECTOR, size = (uint64_t) range->num_sectors * SECTOR;
	bool hole = discard || (range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);

	if (size == 0)
		return 0;
	if (hole && (blk->device.features & (1ull << VIRTIO_BLK_F_DISCARD)))
		return fallocate(blk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t) offset, (off_t) size) < 0
			       ? -errno
			       : 0;
	if (blk->zero_range && fallocate(blk->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					 (off_t) offset, (off_t) size) == 0)
		return 0;
	blk->zero_range = false;
	return write_zeroes(blk, offset, size);
}

static uint8_t erase_ranges(struct blk *blk, const struct request *request)
{
	bool discard = request->type == VIRTIO_BLK_T_DISCARD;
	struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	uint32_t limit = discard ? RANGE_SECTORS_MAX : ZEROES_SECTORS_MAX;
	unsigned int count;
	int r;

	if (request->io.size == 0 || request->io.size % sizeof(ranges[0]) ||
	    request->io.size > sizeof(ranges))
		return VIRTIO_BLK_S_IOERR;
	count = (unsigned int) (request->io.size / sizeof(ranges[0]));
	queue_iov_read(request->io.iov, request->io.iov_count, 0, ranges, request->io.size);
	for (unsigned int i = 0; i < count; i++) {
		if (ranges[i].flags & ~(discard ? 0u : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
			return VIRTIO_BLK_S_UNSUPP;
		if (ranges[i].num_sectors > limit ||
		    !in_disk(blk, ranges[i].sector, ranges[i].num_sectors))
			return VIRTIO_BLK_S_IOERR;
	}
	for (unsigned int i = 0; i < count; i++) {
		r = erase(blk, &ranges[i], discard);
		if (r < 0)
			return r == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
	}
	if (blk->write_through && fdatasync(blk->fd) < 0)
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

/* ---- one request ---- */

static uint8_t give_id(struct blk *blk, struct request *request)
{
	request->written = (uint32_t) queue_iov_write(request->io.iov, request->io.iov_count, 0,
						      blk->serial, sizeof(blk->serial));
	return VIRTIO_BLK_S_OK;
}

static void transfer(struct blk *blk, struct request *request, enum disk_io_kind kind)
{
	uint64_t size = request->io.size;

	if (size == 0 || size > REQUEST_BYTES_MAX || size % SECTOR ||
	    !in_disk(blk, request->sector, size / SECTOR) ||
	    (kind == DISK_IO_WRITE && blk->read_only)) {
		answer(blk, request, VIRTIO_BLK_S_IOERR);
		return;
	}
	request->io.kind = kind;
	request->io.durable = blk->write_through && !blk->unsafe;
	request->io.offset = request->sector * SECTOR;
	if (kind == DISK_IO_READ)
		request->written = (uint32_t) size;
	disk_io_start(blk->io, &request->io);
}

static void run(struct blk *blk, struct request *request)
{
	switch (request->type) {
	case VIRTIO_BLK_T_IN:
		transfer(blk, request, DISK_IO_READ);
		return;
	case VIRTIO_BLK_T_OUT:
		transfer(blk, request, DISK_IO_WRITE);
		return;
	case VIRTIO_BLK_T_FLUSH:
		if (blk->unsafe || blk->read_only) {
			answer(blk, request, VIRTIO_BLK_S_OK);
			return;
		}
		request->io.kind = DISK_IO_FLUSH;
		disk_io_start(blk->io, &request->io);
		return;
	case VIRTIO_BLK_T_GET_ID:
		answer(blk, request, give_id(blk, request));
		return;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		answer(blk, request,
		       blk->read_only ? VIRTIO_BLK_S_UNSUPP : erase_ranges(blk, request));
		return;
	default:
		answer(blk, request, VIRTIO_BLK_S_UNSUPP);
	}
}

/* Fills a request from a chain: header, data, and in the last byte the status. */
static bool parse(struct request *request, const struct queue_chain *chain, unsigned int queue)
{
	const struct iovec *in = chain->iov + chain->out_count;
	struct virtio_blk_outhdr header;

	if (chain->in_size == 0 || queue_iov_read(chain->iov, chain->out_count, 0, &header,
						  sizeof(header)) != sizeof(header))
		return false;
	request->queue = queue;
	request->head = chain->head;
	request->type = header.type;
	request->sector = header.sector;
	request->written = 0;
	request->status =
		(uint8_t *) in[chain->in_count - 1].iov_base + in[chain->in_count - 1].iov_len - 1;
	request->io = (struct disk_io_request){ .iov = request->iov };
	if (header.type == VIRTIO_BLK_T_IN || header.type == VIRTIO_BLK_T_GET_ID) {
		request->io.size = chain->in_size - 1;
		request->io.iov_count =
			queue_iov_slice(in, chain->in_count, 0, request->io.size, request->iov);
	} else {
		request->io.size = chain->out_size - sizeof(header);
		request->io.iov_count =
			queue_iov_slice(chain->iov, chain->out_count, sizeof(header),
					request->io.size, request->iov);
	}
	return true;
}

static bool may_go(struct blk *blk, const struct request *request)
{
	uint64_t cost = request->type <= VIRTIO_BLK_T_OUT ? request->io.size : 0, due;

	if (!ratelimit_is_limited(&blk->limit) ||
	    ratelimit_take(&blk->limit, ratelimit_now_ns(), cost, &due))
		return true;
	virtio_count(&blk->device.counters.throttled, 1);
	loop_source_set_timer(blk->timer, due);
	return false;
}

/* Takes one request; false: stop for now. */
static bool take_one(struct blk *blk, unsigned int index)
{
	struct virtio_device *device = &blk->device;
	struct queue *queue = &device->queues[index];
	struct request *request = get_slot(blk);
	struct queue_chain chain;
	int r;

	if (!request) {
		blk->stalled |= 1ull << index;
		return false;
	}
	r = virtio_pop(device, index, &chain);
	if (r <= 0) {
		put_slot(blk, request);
		return r == 0 && queue_enable_doorbell(queue);
	}
	if (!parse(request, &chain, index)) {
		put_slot(blk, request);
		virtio_break(device, index, "a disk request without header or status");
		return false;
	}
	if (!may_go(blk, request)) {
		put_slot(blk, request);
		queue_undo_pop(queue);
		blk->stalled |= 1ull << index;
		return false;
	}
	run(blk, request);
	return true;
}

static void tell(struct blk *blk)
{
	for (uint64_t left = blk->touched; left; left &= left - 1)
		virtio_interrupt(&blk->device, (unsigned int) __builtin_ctzll(left));
	blk->touched = 0;
}

static void serve(struct blk *blk, unsigned int index)
{
	unsigned int i = 0;

	queue_disable_doorbell(&blk->device.queues[index]);
	while (i < BATCH && take_one(blk, index))
		i++;
	if (i == BATCH) {
		blk->stalled |= 1ull << index;
		loop_source_set_timer(blk->timer, 1);
	}
}

static void serve_stalled(struct blk *blk)
{
	uint64_t queues = blk->stalled;

	blk->stalled = 0;
	for (; queues; queues &= queues - 1)
		serve(blk, (unsigned int) __builtin_ctzll(queues));
	disk_io_submit(blk->io);
	tell(blk);
}

static void on_round(void *data)
{
	struct blk *blk = data;

	tell(blk);
	serve_stalled(blk);
}

static void on_timer(struct loop_source *source, void *data)
{
	(void) source;
	serve_stalled(data);
}

/* ---- the device ---- */

static void blk_config_read(struct virtio_device *device, uint32_t offset, void *data, size_t size)
{
	struct blk *blk = (struct blk *) device;

	virtio_config_copy(&blk->config, sizeof(blk->config), offset, data, size);
}

static int blk_activate(struct virtio_device *device, uint64_t features)
{
	struct blk *blk = (struct blk *) device;

	/* Who cannot flush expects every write to last. */
	blk->write_through = !blk->read_only && !(features & (1ull << VIRTIO_BLK_F_FLUSH));
	return 0;
}

static void blk_notify(struct virtio_device *device, unsigned int queue)
{
	struct blk *blk = (struct blk *) device;

	/* Rung while it waits for its time or a slot: it is in line already. */
	if (blk->stalled & (1ull << queue))
		return;
	serve(blk, queue);
	disk_io_submit(blk->io);
	tell(blk);
}

static void blk_reset(struct virtio_device *device)
{
	struct blk *blk = (struct blk *) device;

	blk->draining = true;
	disk_io_drain(blk->io);
	blk->draining = false;
	blk->stalled = blk->touched = 0;
	loop_source_set_timer(blk->timer, 0);
}

static void blk_free(struct virtio_device *device)
{
	struct blk *blk = (struct blk *) device;

	if (!blk)
		return;
	loop_source_free(blk->timer);
	disk_io_free(blk->io);
	free(blk->slots);
	free(blk);
}

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.type = VIRTIO_ID_BLOCK,
	.config_read = blk_config_read,
	.activate = blk_activate,
	.notify = blk_notify,
	.reset = blk_reset,
	.free = blk_free,
};

static int size_of(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, ret) < 0 ? -errno : 0;
	if (!S_ISREG(st.st_mode))
		return -ENOTBLK;
	*ret = (uint64_t) st.st_size;
	return 0;
}

static int read_size(struct blk *blk, struct error *err)
{
	const char *id = blk->device.id;
	uint64_t size;
	int r = size_of(blk->fd, &size);

	if (r < 0)
		return error_set(err, r, "%s: looking at the disk's file", id);
	if (size == 0 || size % SECTOR)
		return error_say(err, -EINVAL,
				 "%s: the disk's file has %llu bytes, it must be a multiple of %d",
				 id, (unsigned long long) size, SECTOR);
	blk->config.capacity = size / SECTOR;
	return 0;
}

static void init_features(struct blk *blk, const struct blk_options *options)
{
	struct virtio_blk_config *config = &blk->config;
	uint64_t *features = &blk->device.features;
	off_t end = (off_t) (config->capacity * SECTOR);
	uint64_t device_size;

	*features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
		    1ull << VIRTIO_BLK_F_FLUSH;
	config->seg_max = SEGMENTS_MAX;
	config->blk_size = options->block_size ? options->block_size : SECTOR;
	config->num_queues = (uint16_t) blk->device.queue_count;
	if (config->num_queues > 1)
		*features |= 1ull << VIRTIO_BLK_F_MQ;
	if (blk->read_only) {
		*features |= 1ull << VIRTIO_BLK_F_RO;
		return;
	}
	/* A hole behind a file's end changes nothing, but says whether there are holes at all. */
	if (ioctl(blk->fd, BLKGETSIZE64, &device_size) == 0 ||
	    fallocate(blk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, end, SECTOR) == 0) {
		*features |= 1ull << VIRTIO_BLK_F_DISCARD;
		config->max_discard_sectors = RANGE_SECTORS_MAX;
		config->max_discard_seg = RANGES_MAX;
		config->discard_sector_alignment = config->blk_size / SECTOR;
		config->write_zeroes_may_unmap = 1;
	}
	blk->zero_range = true;
	*features |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	config->max_write_zeroes_sectors = ZEROES_SECTORS_MAX;
	config->max_write_zeroes_seg = RANGES_MAX;
}

static int check_options(const struct blk_options *options, struct error *err)
{
	uint32_t block = options->block_size ? options->block_size : SECTOR;
	unsigned int size = options->queue_size ? options->queue_size : QUEUE_SIZE;

	if (options->queues > BLK_QUEUES_MAX)
		return error_say(err, -EINVAL, "%s: %u queues, at most %d are possible",
				 options->id, options->queues, BLK_QUEUES_MAX);
	if (size > QUEUE_SIZE_MAX || size < 2 || (size & (size - 1)))
		return error_say(err, -EINVAL,
				 "%s: a queue of %u, it must be a power of two up to %d",
				 options->id, size, QUEUE_SIZE_MAX);
	if (block < SECTOR || block > 4096 || (block & (block - 1)))
		return error_say(err, -EINVAL, "%s: blocks of %u bytes, they must be 512 to 4096",
				 options->id, block);
	if (options->serial && strlen(options->serial) > BLK_SERIAL_MAX)
		return error_say(err, -EINVAL, "%s: the serial \"%s\" is longer than %d characters",
				 options->id, options->serial, BLK_SERIAL_MAX);
	return 0;
}

int blk_new(const struct blk_options *options, struct loop *loop, struct virtio_device **ret,
	    struct error *err)
{
	static const struct disk_io_callbacks callbacks = { .done = on_done, .round = on_round };
	struct blk *blk;
	struct virtio_device *device;
	int r;

	r = check_options(options, err);
	if (r < 0)
		return r;
	blk = mem_new0(struct blk);
	device = &blk->device;
	virtio_init(device, &blk_ops, options->id, loop);
	virtio_init_queues(device, options->queues ? options->queues : 1,
			   options->queue_size ? options->queue_size : QUEUE_SIZE);
	device->config_size = sizeof(blk->config);
	blk->fd = options->fd;
	blk->read_only = options->read_only;
	blk->unsafe = options->unsafe;
	if (options->serial)
		memcpy(blk->serial, options->serial, strlen(options->serial));
	ratelimit_init(&blk->limit, &options->limit);
	blk->slots = mem_zalloc(SLOTS * sizeof(struct request));

	r = read_size(blk, err);
	if (r >= 0) {
		init_features(blk, options);
		r = disk_io_new(blk->fd, options->engine, SLOTS, loop, &callbacks, blk, &blk->io,
				err);
	}
	if (r >= 0)
		r = virtio_add_timer(device, on_timer, blk, &blk->timer, err);
	if (r < 0) {
		blk_free(device);
		return r;
	}
	*ret = device;
	return 0;
}

int blk_resize(struct virtio_device *device, struct error *err)
{
	struct blk *blk = (struct blk *) device;
	uint64_t before = blk->config.capacity;
	int r = read_size(blk, err);

	if (r >= 0 && blk->config.capacity != before)
		virtio_config_changed(device);
	return r;
}
