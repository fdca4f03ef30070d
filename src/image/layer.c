#include "image/layer_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "codec/digest_stream.h"
#include "image/inflate_internal.h"

enum { BLOCK_COUNT = 4, BLOCK_SIZE = 256 << 10 };

struct block {
	size_t size;
	char *data;
};

/* Plain bytes on their way from the decompressing thread to the unpacking one. */
struct pump {
	struct layer *layer;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct block blocks[BLOCK_COUNT];
	uint64_t produced, consumed; /* blocks */
	bool ended;                  /* nothing more will be produced */
	bool discard;                /* nobody wants the plain bytes any more */
	bool held;                   /* the consumer still looks at block `consumed` */
	int result;
	struct error err;

	struct digest_stream *blob_hash, *plain_hash;
	uint64_t offset; /* in the spool */
	pthread_t thread;
};

static ssize_t read_blob(void *data, void *buffer, size_t size, struct error *err)
{
	struct pump *pump = data;
	ssize_t n = spool_read(&pump->layer->spool, pump->offset, buffer, size);

	if (n < 0)
		return error_set(err, (int) n, "read the blob");
	digest_stream_add(pump->blob_hash, buffer, (size_t) n);
	pump->offset += (uint64_t) n;
	return n;
}

/* Hashes the rest of the blob, of which the plain bytes are of no interest. */
static int drain_blob(struct pump *pump, struct error *err)
{
	AUTO(free) char *buffer = mem_zalloc(BLOCK_SIZE);
	ssize_t n;

	do
		n = read_blob(pump, buffer, BLOCK_SIZE, err);
	while (n > 0);
	return (int) n;
}

/* Waits for an empty block; NULL when nobody wants it. */
static struct block *empty_block(struct pump *pump)
{
	struct block *block = NULL;

	pthread_mutex_lock(&pump->lock);
	while (pump->produced - pump->consumed == BLOCK_COUNT && !pump->discard)
		pthread_cond_wait(&pump->changed, &pump->lock);
	if (!pump->discard)
		block = &pump->blocks[pump->produced % BLOCK_COUNT];
	pthread_mutex_unlock(&pump->lock);
	return block;
}

static void block_filled(struct pump *pump)
{
	pthread_mutex_lock(&pump->lock);
	pump->produced++;
	pthread_cond_broadcast(&pump->changed);
	pthread_mutex_unlock(&pump->lock);
}

static int decompress(struct pump *pump, struct error *err)
{
	AUTO(inflate_free) struct inflate *inflate = inflate_new(read_blob, pump);
	struct block *block;

	while ((block = empty_block(pump))) {
		ssize_t n = inflate_read(inflate, block->data, BLOCK_SIZE, err);

		pump->layer->compression = inflate_kind(inflate);
		if (n <= 0)
			return (int) n;
		block->size = (size_t) n;
		block_filled(pump);
	}
	return 0;
}

static void *pump_main(void *data)
{
	struct pump *pump = data;
	struct error err = {};
	int r = pump->layer->tree_fd >= 0 ? decompress(pump, &err) : 0;

	/* Behind a damaged stream, and after an unpacking that failed over one, the rest is hashed.
	 */
	if (r == 0 || r == -EBADMSG) {
		int drained = drain_blob(pump, r < 0 ? NULL : &err);

		r = r < 0 ? r : drained;
	}
	pthread_mutex_lock(&pump->lock);
	pump->result = r;
	pump->err = err;
	pump->ended = true;
	pthread_cond_broadcast(&pump->changed);
	pthread_mutex_unlock(&pump->lock);
	return NULL;
}

/* The source of the tar: a block stays valid until the next one is asked for. */
static ssize_t next_block(void *data, const void **ret, struct error *err)
{
	struct pump *pump = data;
	struct block *block = NULL;
	int result = 0;

	pthread_mutex_lock(&pump->lock);
	if (pump->held) {
		pump->held = false;
		pump->consumed++;
		pthread_cond_broadcast(&pump->changed);
	}
	while (pump->produced == pump->consumed && !pump->ended)
		pthread_cond_wait(&pump->changed, &pump->lock);
	if (pump->produced != pump->consumed) {
		block = &pump->blocks[pump->consumed % BLOCK_COUNT];
		pump->held = true;
	} else {
		result = pump->result;
		if (result < 0 && err)
			*err = pump->err;
	}
	pthread_mutex_unlock(&pump->lock);
	if (!block)
		return result;
	digest_stream_add(pump->plain_hash, block->data, block->size);
	*ret = block->data;
	return (ssize_t) block->size;
}

static void stop_pump(struct pump *pump)
{
	pthread_mutex_lock(&pump->lock);
	pump->discard = true;
	pthread_cond_broadcast(&pump->changed);
	pthread_mutex_unlock(&pump->lock);
}

static int unpack(struct layer *layer, struct pump *pump, struct error *err)
{
	AUTO(tree_free) struct tree *tree = tree_new(layer->tree_fd, layer->limits);
	struct untar job = layer->untar;
	const void *block;
	ssize_t n;
	int r;

	job.source = next_block;
	job.source_data = pump;
	r = untar(&job, tree, &layer->meta, err);
	if (r < 0)
		return r;
	/* What is behind the end of the archive belongs to the digest. */
	do
		n = next_block(pump, &block, err);
	while (n > 0);
	return (int) n;
}

static int check_digest(const struct digest *want, const struct digest *real, const char *what,
			struct error *err)
{
	char want_text[DIGEST_TEXT_SIZE], real_text[DIGEST_TEXT_SIZE];

	if (want->kind == DIGEST_NONE || digest_equal(want, real))
		return 0;
	digest_format(want, want_text);
	digest_format(real, real_text);
	return error_say(err, -EBADMSG, "digest mismatch: %s should be %s but is %s", what,
			 want_text, real_text);
}

/* The blob's digest first: if that is wrong, nothing else is worth a word. */
static int verify(struct layer *layer, struct pump *pump, int unpacked, struct error *err)
{
	bool whole = pump->result == 0 || pump->result == -EBADMSG;
	int r;

	digest_stream_end(pump->blob_hash, &layer->real_digest);
	digest_stream_end(pump->plain_hash, &layer->real_diff_id);
	if (whole && (unpacked == 0 || unpacked == -EBADMSG)) {
		r = check_digest(&layer->digest, &layer->real_digest, "the blob", err);
		if (r < 0)
			return r;
	}
	if (unpacked < 0)
		return unpacked;
	if (pump->result < 0) {
		*err = pump->err;
		return pump->result;
	}
	return layer->tree_fd < 0 ? 0
				  : check_digest(&layer->diff_id, &layer->real_diff_id,
						 "the unpacked layer", err);
}

static int run(struct layer *layer, struct pump *pump, struct error *err)
{
	int r = -pthread_create(&pump->thread, NULL, pump_main, pump);
	int unpacked = 0;

	if (r < 0)
		return error_set(err, r, "thread");
	if (layer->tree_fd >= 0)
		unpacked = unpack(layer, pump, err);
	stop_pump(pump);
	/* Then nobody needs the rest; the writer learns it, and the thread with it. */
	if (unpacked < 0 && unpacked != -EBADMSG)
		spool_abandon(&layer->spool);
	pthread_join(pump->thread, NULL);
	return verify(layer, pump, unpacked, err);
}

static void *layer_main(void *data)
{
	struct layer *layer = data;
	struct pump pump = { .layer = layer };

	pthread_mutex_init(&pump.lock, NULL);
	pthread_cond_init(&pump.changed, NULL);
	for (size_t i = 0; i < BLOCK_COUNT; i++)
		pump.blocks[i].data = mem_zalloc(layer->tree_fd >= 0 ? BLOCK_SIZE : 1);
	pump.blob_hash = digest_stream_new(layer->digest.kind == DIGEST_SHA512 ? DIGEST_SHA512
									       : DIGEST_SHA256);
	pump.plain_hash = digest_stream_new(DIGEST_SHA256);
	layer->result = run(layer, &pump, &layer->err);
	digest_stream_free(pump.blob_hash);
	digest_stream_free(pump.plain_hash);
	for (size_t i = 0; i < BLOCK_COUNT; i++)
		free(pump.blocks[i].data);
	pthread_cond_destroy(&pump.changed);
	pthread_mutex_destroy(&pump.lock);
	if (layer->finished)
		layer->finished(layer);
	return NULL;
}

int layer_start(struct layer *layer, struct error *err)
{
	int r = -pthread_create(&layer->thread, NULL, layer_main, layer);

	return r < 0 ? error_set(err, r, "thread") : 0;
}

void layer_join(struct layer *layer)
{
	pthread_join(layer->thread, NULL);
}
