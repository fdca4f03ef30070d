#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/oci_platform.h"
#include "image/download_internal.h"
#include "image/registry_internal.h"
#include "image/worker_internal.h"

enum { INDEX_DEPTH_MAX = 3, PROGRESS_EVERY_US = 100 * 1000, WAIT_MS = 100 };

/* One layer that is needed, from the network to the folder. */
struct transfer {
	struct worker_layer work;
	struct download download;
	struct downloads *set;
	bool running, done;
	bool resumed; /* begins with bytes of an earlier pull, which may be wrong */
	atomic_bool finished;
};

struct pull {
	struct worker *worker;
	struct registry *registry;
	struct downloads *set;
	struct transfer *transfers;
	size_t count, begun, running;
	uint64_t total_bytes;
	uint64_t reported_us;
};

static bool is_known(const struct worker *worker, const struct digest *digest)
{
	char text[DIGEST_TEXT_SIZE];

	digest_format(digest, text);
	for (char **known = worker->known; known && *known && text[0]; known++)
		if (strcmp(*known, text) == 0)
			return true;
	return false;
}

static int parse_document(const struct registry_document *document, json_t **ret, struct error *err)
{
	return json_parse(strbuf_str(&document->body), document->body.size, OCI_DOCUMENT_MAX, ret,
			  err);
}

/* Goes down from what the reference names to a manifest for the platform. */
static int find_manifest(struct worker *worker, struct registry *registry, struct oci_manifest *ret,
			 struct error *err)
{
	AUTO(free)
	char *name = mem_strdup(worker->reference.digest ? worker->reference.digest
							 : worker->reference.tag);
	struct digest expected = {};
	int r = worker->reference.digest ? digest_parse(name, &expected, err) : 0;

	for (unsigned int depth = 0; r == 0; depth++) {
		AUTO(registry_document_done) struct registry_document document = {};
		AUTO(oci_index_done) struct oci_index index = {};
		AUTO(json_decref) json_t *json = NULL;
		char text[DIGEST_TEXT_SIZE];
		size_t chosen = 0;

		r = registry_manifest(registry, name, expected.kind ? &expected : NULL, &document,
				      err);
		if (r == 0)
			r = parse_document(&document, &json, err);
		if (r == 0)
			r = worker_save(worker, &document.digest, strbuf_str(&document.body),
					document.body.size, err);
		if (r < 0)
			return r;
		if (depth == 0)
			worker->info.top = document.digest;
		if (oci_document_kind(json, document.media_type) != OCI_INDEX) {
			worker->info.manifest = document.digest;
			worker->info.manifest_size_bytes = document.body.size;
			memcpy(worker->info.manifest_type, document.media_type,
			       sizeof(document.media_type));
			return oci_manifest_decode(json, ret, err);
		}
		if (depth == INDEX_DEPTH_MAX)
			return error_say(err, -ELOOP, "image indexes are nested too deeply");
		r = oci_index_decode(json, &index, err);
		if (r == 0)
			r = oci_index_select(&index, worker->platform, &chosen, err);
		if (r < 0)
			return r;
		expected = index.manifests[chosen].digest;
		digest_format(&expected, text);
		mem_replace(&name, text);
	}
	return r;
}

static int fetch_documents(struct worker *worker, struct registry *registry, struct error *err)
{
	AUTO(oci_manifest_done) struct oci_manifest manifest = {};
	AUTO(oci_image_done) struct oci_image image = {};
	AUTO(registry_document_done) struct registry_document config = {};
	AUTO(json_decref) json_t *json = NULL;
	int r = find_manifest(worker, registry, &manifest, err);

	if (r == 0)
		r = registry_document(registry, &manifest.config.digest, OCI_DOCUMENT_MAX, &config,
				      err);
	if (r == 0)
		r = parse_document(&config, &json, err);
	if (r == 0)
		r = oci_image_decode(json, &image, err);
	if (r == 0)
		r = worker_save(worker, &manifest.config.digest, strbuf_str(&config.body),
				config.body.size, err);
	return r < 0 ? r : worker_describe(worker, &manifest, &image, err);
}

/* On the layer's thread. */
static void layer_finished(struct layer *layer)
{
	struct transfer *transfer = layer->owner;

	atomic_store(&transfer->finished, true);
	downloads_wake(transfer->set);
}

static int begin_threads(struct pull *pull, struct transfer *transfer, uint64_t size,
			 struct error *err)
{
	struct worker_layer *work = &transfer->work;
	int r;

	atomic_store(&transfer->finished, false);
	work->layer.owner = transfer;
	work->layer.finished = layer_finished;
	spool_init(&work->layer.spool, work->blob_fd, size);
	r = layer_start(&work->layer, err);
	if (r < 0)
		return r;
	transfer->running = true;
	pull->running++;
	transfer->download.spool = &work->layer.spool;
	download_start(pull->set, &transfer->download);
	return 0;
}

static int begin_transfer(struct pull *pull, struct transfer *transfer, struct error *err)
{
	const struct image_info_layer *layer = &pull->worker->info.layers[transfer->work.index];
	uint64_t size;
	int r = worker_layer_open(pull->worker, transfer->work.index, &transfer->work, &size, err);

	if (r < 0)
		return r;
	if (size > layer->size_bytes) {
		if (ftruncate(transfer->work.blob_fd, 0) < 0)
			return error_set(err, -errno, "blob of layer %zu",
					 transfer->work.index + 1);
		size = 0;
	}
	transfer->set = pull->set;
	transfer->resumed = size > 0;
	transfer->download.digest = layer->digest;
	transfer->download.size_bytes = layer->size_bytes;
	return begin_threads(pull, transfer, size, err);
}

static void end_threads(struct pull *pull, struct transfer *transfer)
{
	download_cancel(&transfer->download);
	layer_join(&transfer->work.layer);
	spool_done(&transfer->work.layer.spool);
	transfer->running = false;
	pull->running--;
}

/* The bytes of an earlier pull were wrong: once more, from the beginning. */
static int begin_anew(struct pull *pull, struct transfer *transfer, struct error *err)
{
	struct worker_layer *work = &transfer->work;
	int r = 0;

	transfer->resumed = false;
	if (ftruncate(work->blob_fd, 0) < 0)
		return error_set(err, -errno, "blob of layer %zu", work->index + 1);
	if (work->layer.tree_fd >= 0)
		r = worker_layer_folder(work, err);
	work->layer.result = 0;
	return r < 0 ? r : begin_threads(pull, transfer, 0, err);
}

static int finish_transfer(struct pull *pull, struct transfer *transfer, struct error *err)
{
	struct worker_layer *work = &transfer->work;
	char name[DIGEST_TEXT_SIZE];
	int r;

	end_threads(pull, transfer);
	r = work->layer.result;
	if (r == -EBADMSG && transfer->resumed)
		return begin_anew(pull, transfer, err);
	transfer->done = true;
	if (r == 0) {
		worker_layer_report(work);
		worker_layer_close(work);
		return 0;
	}
	/* The download's own words are better than "the source failed". */
	*err = transfer->download.ended && transfer->download.result < 0 &&
			       transfer->download.result != -ECANCELED
		       ? transfer->download.err
		       : work->layer.err;
	digest_format(&work->layer.digest, name);
	if (err->code == -EBADMSG)
		unlinkat(pull->worker->blobs_fd, name, 0); /* nothing to go on with */
	worker_layer_close(work);
	return error_wrap(err, err->code, "layer %zu of %zu (%.19s)", work->index + 1,
			  pull->worker->info.layer_count, name);
}

static void report_progress(struct pull *pull, bool force)
{
	uint64_t now = clock_monotonic_us(clock_system()), done = 0;

	if (!force && now - pull->reported_us < PROGRESS_EVERY_US)
		return;
	pull->reported_us = now;
	for (size_t i = 0; i < pull->begun; i++)
		done += pull->transfers[i].running ? pull->transfers[i].work.layer.spool.size
						   : pull->transfers[i].download.size_bytes;
	worker_progress(pull->worker, done, pull->total_bytes,
			done < pull->total_bytes ? "downloading" : "unpacking");
}

static int transfer_all(struct pull *pull, struct error *err)
{
	size_t finished = 0;
	int r = 0;

	while (r == 0 && finished < pull->count) {
		while (r == 0 && pull->running < WORKER_PARALLEL && pull->begun < pull->count)
			r = begin_transfer(pull, &pull->transfers[pull->begun++], err);
		if (r == 0)
			r = downloads_wait(pull->set, WAIT_MS, err);
		for (size_t i = 0; r == 0 && i < pull->begun; i++) {
			struct transfer *transfer = &pull->transfers[i];

			if (transfer->running && atomic_load(&transfer->finished)) {
				r = finish_transfer(pull, transfer, err);
				finished += transfer->done;
			}
		}
		report_progress(pull, false);
	}
	for (size_t i = 0; r < 0 && i < pull->begun; i++) {
		if (!pull->transfers[i].running)
			continue;
		spool_abandon(&pull->transfers[i].work.layer.spool);
		end_threads(pull, &pull->transfers[i]);
	}
	return r;
}

static int pull_layers(struct worker *worker, struct registry *registry, struct error *err)
{
	AUTO(downloads_free) struct downloads *set = NULL;
	AUTO(free)
	struct transfer *transfers = mem_new0_array(struct transfer, worker->info.layer_count);
	struct pull pull = { .worker = worker, .registry = registry, .transfers = transfers };
	int r = downloads_new(registry, &set, err);

	if (r < 0)
		return r;
	pull.set = set;
	for (size_t i = 0; i < worker->info.layer_count; i++) {
		if (!worker->need[i])
			continue;
		transfers[pull.count].work.index = i;
		transfers[pull.count].work.blob_fd = -1;
		pull.count++;
		pull.total_bytes += worker->info.layers[i].size_bytes;
	}
	report_progress(&pull, true);
	return transfer_all(&pull, err);
}

int worker_pull(struct worker *worker, struct error *err)
{
	const struct image_ref *reference = &worker->reference;
	const struct registry_config config = {
		.host = reference->host,
		.path = reference->path,
		.insecure = worker->insecure,
		.username = worker->username,
		.password = worker->password,
	};
	AUTO(registry_free) struct registry *registry = NULL;
	const char *name = reference->digest ? reference->digest : reference->tag;
	struct digest top = {};
	int r = registry_new(&config, &registry, err);

	if (r == 0 && worker->known && worker->known[0])
		r = registry_head(registry, name, &top, err);
	if (r < 0)
		return r;
	if (is_known(worker, &top)) {
		char text[DIGEST_TEXT_SIZE];

		digest_format(&top, text);
		worker_send(worker, json_pack("{s:s, s:s}", "type", "unchanged", "top", text));
		return 0;
	}
	r = fetch_documents(worker, registry, err);
	if (r == 0)
		r = worker_negotiate(worker, err);
	return r < 0 ? r : pull_layers(worker, registry, err);
}
