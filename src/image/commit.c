#include "image/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/digest_stream.h"
#include "codec/image_change.h"
#include "image/import.h"
#include "image/layout_internal.h"
#include "image/rootfs.h"
#include "image/store_internal.h"

/* One layer of the new image. */
struct part {
	struct oci_descriptor descriptor;
	struct digest diff_id;
	int fd; /* its blob, made here; -1: the store has it */
};

struct making {
	struct image_store *store;
	const struct image_commit *commit;
	image_progress_fn progress;
	void *progress_data;
	const char *doing;
	struct part *parts;
	size_t count;
	char *config, *manifest; /* the documents */
	struct image_info info;  /* what the layout's head needs */
};

static void on_progress(uint64_t done_bytes, void *data)
{
	const struct making *making = data;

	if (making->progress)
		making->progress(done_bytes, 0, making->doing, making->progress_data);
}

/* A file without a name: no crash leaves it behind. */
static int open_unnamed(struct image_store *store, struct error *err)
{
	int fd = openat(store->dir_fd, "jobs", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? error_set(err, -errno, "%s/jobs", store->dir) : fd;
}

static int make_layer(struct making *making, const struct image_upper *upper, struct part *ret,
		      struct error *err)
{
	struct image_layer_made made;
	AUTO(fd_close) int fd = open_unnamed(making->store, err);
	int r;

	if (fd < 0)
		return fd;
	r = image_layer_write(making->store, upper, fd, on_progress, making, &made, err);
	if (r < 0)
		return r;
	ret->descriptor.digest = made.digest;
	ret->descriptor.size_bytes = made.size_bytes;
	strcpy(ret->descriptor.media_type, OCI_TYPE_LAYER "+gzip");
	ret->diff_id = made.diff_id;
	ret->fd = TAKE_FD(fd);
	return 0;
}

/* In a manifest of OCI's all types are OCI's. */
static void set_type(struct oci_descriptor *descriptor, const char *type)
{
	size_t size = strlen(OCI_TYPE_DOCKER_LAYER);

	if (strncmp(type, OCI_TYPE_DOCKER_LAYER, size) == 0)
		snprintf(descriptor->media_type, sizeof(descriptor->media_type), "%s%s%s",
			 OCI_TYPE_LAYER, type[size] == '.' ? "+" : "",
			 type[size] == '.' ? type + size + 1 : "");
	else
		snprintf(descriptor->media_type, sizeof(descriptor->media_type), "%s", type);
}

/*
 * A layer of the base.  Its blob may be gone: a newer image has taken the name, and of the old one
 * only what instances lie on was kept.  Then it is written anew from what was unpacked.
 */
static int take_layer(struct making *making, size_t index, char *const *layers, struct error *err)
{
	const struct image_info_layer *from = &making->commit->base->layers[index];
	struct part *part = &making->parts[index];
	AUTO(strv_free) char **below = NULL;

	if (store_has_blob(making->store, &from->digest)) {
		part->descriptor.digest = from->digest;
		part->descriptor.size_bytes = from->size_bytes;
		part->diff_id = from->diff_id;
		set_type(&part->descriptor, from->media_type);
		return 0;
	}
	for (size_t i = 0; i <= index; i++)
		strv_append(&below, layers[i]);
	const struct image_upper upper = { .layers = below,
					   .owner_base = LAYER_UID_BASE,
					   .cancel_fd = making->commit->cancel_fd };
	making->doing = "writing the layers of the image";
	return make_layer(making, &upper, part, err);
}

static int make_parts(struct making *making, struct error *err)
{
	const struct image_commit *commit = making->commit;
	size_t count = commit->base->layer_count;
	struct image_upper upper = commit->upper;
	AUTO(strv_free) char **layers = image_info_layers(commit->base);
	int r;

	if (count + 1 > OCI_LAYERS_MAX)
		return error_say(err, -E2BIG, "the image has %zu layers already, %d can be stacked",
				 count, OCI_LAYERS_MAX);
	making->parts = mem_new0_array(struct part, count + 1);
	making->count = count + 1;
	for (size_t i = 0; i < making->count; i++)
		making->parts[i].fd = -1;
	upper.layers = layers;
	upper.cancel_fd = commit->cancel_fd;
	making->doing = "reading what has changed";
	r = make_layer(making, &upper, &making->parts[count], err);
	if (commit->files_read)
		commit->files_read(commit->data);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = take_layer(making, i, layers, err);
	return r;
}

/* The base's configuration with everything that its makers put into it, or else what is known. */
static int load_config(struct making *making, json_t **ret, struct error *err)
{
	const struct image_info *base = making->commit->base;
	struct oci_image image = { .architecture = base->architecture,
				   .os = base->os,
				   .created = base->created,
				   .config = base->config };
	char name[STORE_NAME_SIZE];
	AUTO(free) char *text = NULL;
	size_t size;
	int r;

	store_blob_name(&base->config_digest, name);
	r = file_read(making->store->dir_fd, name, OCI_DOCUMENT_MAX, &text, &size);
	if (r == -ENOENT) {
		*ret = oci_image_encode(&image);
		return 0;
	}
	if (r < 0)
		return error_set(err, r, "%s", name);
	r = json_parse(text, size, OCI_DOCUMENT_MAX, ret, err);
	return r < 0 ? error_wrap(err, r, "%s", name) : 0;
}

/* As many lines as layers, whatever the base has, and one more. */
static void add_history(const struct making *making, json_t *config)
{
	const struct image_commit *commit = making->commit;
	json_t *history = json_object_get(config, "history"), *item, *line = json_object();
	size_t i, layers = 0;

	if (!json_is_array(history)) {
		json_object_set_new(config, "history", json_array());
		history = json_object_get(config, "history");
	}
	json_array_foreach(history, i, item) layers +=
		!json_is_true(json_object_get(item, "empty_layer"));
	for (; layers + 1 < making->count; layers++)
		json_array_append_new(history, json_pack("{s:s}", "created_by", "unknown"));
	json_put_time(line, "created", commit->now_ms);
	json_put_string(line, "created_by", commit->created_by);
	json_put_string(line, "author", commit->author);
	json_put_string(line, "comment", commit->message);
	json_array_append_new(history, line);
}

static json_t *diff_ids(const struct making *making)
{
	json_t *array = json_array();

	for (size_t i = 0; i < making->count; i++) {
		char text[DIGEST_TEXT_SIZE];

		digest_format(&making->parts[i].diff_id, text);
		json_array_append_new(array, json_string(text));
	}
	return array;
}

static int make_config(struct making *making, struct error *err)
{
	/* What only said how the base came into being. */
	static const char *const stale[] = {
		"id", "parent", "container", "container_config", "docker_version", "throwaway"
	};
	AUTO(json_decref) json_t *config = NULL;
	json_t *members;
	int r = load_config(making, &config, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_COUNT(stale); i++)
		json_object_del(config, stale[i]);
	members = json_object_get(config, "config");
	if (!json_is_object(members)) {
		json_object_set_new(config, "config", json_object());
		members = json_object_get(config, "config");
	}
	r = image_changes_apply(members, making->commit->changes, err);
	if (r < 0)
		return r;
	json_put_time(config, "created", making->commit->now_ms);
	json_put_string(config, "author", making->commit->author);
	json_object_set_new(
		config, "rootfs",
		json_pack("{s:s, s:o}", "type", "layers", "diff_ids", diff_ids(making)));
	add_history(making, config);
	making->config = json_text(config);
	return 0;
}

static void make_manifest(struct making *making)
{
	AUTO(free)
	struct oci_descriptor *layers = mem_new0_array(struct oci_descriptor, making->count);
	struct oci_manifest manifest = { .layers = layers, .layer_count = making->count };
	struct image_info *info = &making->info;
	const struct image_info *base = making->commit->base;

	for (size_t i = 0; i < making->count; i++)
		layers[i] = making->parts[i].descriptor;
	manifest.config.size_bytes = strlen(making->config);
	digest_compute(DIGEST_SHA256, making->config, strlen(making->config),
		       &manifest.config.digest);
	AUTO(json_decref) json_t *document = oci_manifest_encode(&manifest);
	making->manifest = json_text(document);
	digest_compute(DIGEST_SHA256, making->manifest, strlen(making->manifest), &info->manifest);
	info->config_digest = manifest.config.digest;
	info->manifest_size_bytes = strlen(making->manifest);
	strcpy(info->manifest_type, OCI_TYPE_MANIFEST);
	info->reference = mem_strdup(making->commit->name);
	info->os = mem_strdup(base->os);
	info->architecture = mem_strdup(base->architecture);
}

/* -- into the store ------------------------------------------------------------------------------
 */

struct sending {
	struct making *making;
	int output_fd;
	pthread_t thread;
};

static int send_document(struct layout *layout, const struct digest *digest, const char *text)
{
	char name[STORE_NAME_SIZE];

	store_blob_name(digest, name);
	return layout_text(layout, name, text, NULL);
}

/* Only what was made here: the rest is in the store, the import does not ask for it. */
static void *send_layout(void *data)
{
	struct sending *sending = data;
	struct making *making = sending->making;
	struct layout layout = {};
	int r = layout_begin(&layout, sending->output_fd, making->commit->cancel_fd, NULL);

	if (r == 0)
		r = layout_head(&layout, &making->info, NULL);
	if (r == 0)
		r = send_document(&layout, &making->info.manifest, making->manifest);
	if (r == 0)
		r = send_document(&layout, &making->info.config_digest, making->config);
	for (size_t i = 0; r == 0 && i < making->count; i++) {
		char name[STORE_NAME_SIZE];
		bool again = false;

		for (size_t j = 0; j < i; j++)
			again |= making->parts[j].fd >= 0 &&
				 digest_equal(&making->parts[i].descriptor.digest,
					      &making->parts[j].descriptor.digest);
		if (making->parts[i].fd < 0 || again)
			continue;
		store_blob_name(&making->parts[i].descriptor.digest, name);
		r = layout_file(&layout, name, making->parts[i].fd, NULL);
	}
	/* A tar without its end is one that the import refuses. */
	if (r == 0)
		layout_end(&layout, NULL);
	layout_done(&layout);
	close(sending->output_fd);
	return NULL;
}

static int import(struct making *making, struct image_info *ret, struct error *err)
{
	const struct image_commit *commit = making->commit;
	struct sending sending = { .making = making };
	AUTO(fd_close) int input_fd = -1;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	input_fd = fds[0];
	sending.output_fd = fds[1];
	r = -pthread_create(&sending.thread, NULL, send_layout, &sending);
	if (r < 0) {
		close(fds[1]);
		return error_set(err, r, "thread");
	}
	const struct image_import order = { .uid = commit->uid,
					    .name = commit->name,
					    .platform = commit->base->platform,
					    .input_fd = input_fd,
					    .cancel_fd = commit->cancel_fd };
	r = image_import(making->store, &order, making->progress, making->progress_data, ret, err);
	/* Nobody reads any more: the other side's next write fails. */
	fd_close(TAKE_FD(input_fd));
	pthread_join(sending.thread, NULL);
	return r;
}

static void making_done(struct making *making)
{
	for (size_t i = 0; i < making->count; i++)
		fd_close(making->parts[i].fd);
	free(making->parts);
	free(making->config);
	free(making->manifest);
	image_info_done(&making->info);
}

int image_commit(struct image_store *store, const struct image_commit *commit,
		 image_progress_fn progress, void *progress_data, struct image_info *ret,
		 struct error *err)
{
	struct making making = { .store = store,
				 .commit = commit,
				 .progress = progress,
				 .progress_data = progress_data };
	struct claim claim;
	int r = store_claim_begin(store, &claim);

	if (r < 0)
		return error_set(err, r, "image store");
	store_claim_contents(store, &claim, commit->base);
	r = make_parts(&making, err);
	if (r == 0)
		r = make_config(&making, err);
	if (r == 0) {
		make_manifest(&making);
		r = import(&making, ret, err);
	}
	making_done(&making);
	store_claim_end(store, &claim);
	return r < 0 ? error_wrap(err, r, "commit %s", commit->name) : 0;
}
