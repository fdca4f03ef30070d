#include "image/worker.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/oci_platform.h"
#include "image/files_internal.h"
#include "image/kernel_internal.h"
#include "image/sandbox_internal.h"
#include "image/upper_internal.h"
#include "image/worker_internal.h"

void worker_send(struct worker *worker, json_t *object)
{
	int r;

	pthread_mutex_lock(&worker->send_lock);
	r = wire_send(worker->wire.fd, object);
	pthread_mutex_unlock(&worker->send_lock);
	if (r < 0)
		_exit(1);
}

void worker_progress(struct worker *worker, uint64_t done, uint64_t total, const char *text)
{
	worker_send(worker,
		    json_pack("{s:s, s:I, s:I, s:s}", "type", "progress", "done", (json_int_t) done,
			      "total", (json_int_t) total, "text", text));
}

int worker_save(struct worker *worker, const struct digest *digest, const void *data, size_t size,
		struct error *err)
{
	char name[DIGEST_TEXT_SIZE];
	AUTO(fd_close) int fd = -1;
	int r;

	digest_format(digest, name);
	fd = openat(worker->blobs_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : file_write_all(fd, data, size);
	return r < 0 ? error_set(err, r, "write %s", name) : 0;
}

/* Who is refused is told how to have it all the same. */
static int check_platform(const struct worker *worker, const struct oci_image *image,
			  struct error *err)
{
	const char *machine = kernel_architecture(image->architecture);
	struct error why = {};
	int r = oci_image_check_platform(image, worker->platform, &why);

	if (r == 0)
		return 0;
	if (machine && strcmp(machine, kernel_host_architecture()) != 0)
		return error_say(err, r,
				 "%s: --platform linux/%s takes it, and launch --vm --emulate runs "
				 "it",
				 why.msg, machine);
	return error_say(err, r, "%s", why.msg);
}

int worker_describe(struct worker *worker, const struct oci_manifest *manifest,
		    const struct oci_image *image, struct error *err)
{
	struct image_info *info = &worker->info;
	int r = check_platform(worker, image, err);

	if (r < 0)
		return r;
	if (manifest->layer_count == 0)
		return error_say(err, -EINVAL, "the image has no layers: there is nothing to run");
	if (manifest->layer_count != image->layer_count)
		return error_say(
			err, -EINVAL,
			"the manifest names %zu layers, the configuration %zu: the image is broken",
			manifest->layer_count, image->layer_count);
	info->reference = mem_strdup(worker->name);
	info->platform = mem_strdup(worker->platform);
	info->config_digest = manifest->config.digest;
	info->config_size_bytes = manifest->config.size_bytes;
	info->architecture = mem_strdup(image->architecture);
	info->os = mem_strdup(image->os);
	info->created = mem_strdup(image->created);
	info->size_bytes = info->manifest_size_bytes + info->config_size_bytes;
	info->layers = mem_new0_array(struct image_info_layer, manifest->layer_count);
	info->layer_count = manifest->layer_count;
	for (size_t i = 0; i < manifest->layer_count; i++) {
		const struct oci_descriptor *from = &manifest->layers[i];
		struct image_info_layer *layer = &info->layers[i];

		if (from->size_bytes > worker->blob_bytes_max)
			return error_say(err, -EDQUOT, "layer %zu has %llu bytes, %llu are allowed",
					 i + 1, (unsigned long long) from->size_bytes,
					 (unsigned long long) worker->blob_bytes_max);
		layer->digest = from->digest;
		layer->diff_id = image->diff_ids[i];
		layer->size_bytes = from->size_bytes;
		memcpy(layer->media_type, from->media_type, sizeof(layer->media_type));
		info->size_bytes += from->size_bytes;
	}

	/* By way of JSON, the parent gets it the same way. */
	AUTO(json_decref) json_t *config = oci_image_config_json(&image->config);
	return oci_image_config_read(config, &info->config, err);
}

int worker_negotiate(struct worker *worker, struct error *err)
{
	AUTO(json_decref) json_t *reply = NULL;
	json_t *need, *item;
	size_t i;
	int r;

	worker_send(worker, json_pack("{s:s, s:o}", "type", "layers", "info",
				      image_info_json(&worker->info)));
	r = wire_receive(&worker->wire, &reply, err);
	if (r < 0)
		return r;
	need = json_object_get(reply, "need");
	if (json_array_size(need) != worker->info.layer_count)
		return error_say(err, -EPROTO, "the agent's answer does not fit");
	worker->need = mem_new0_array(unsigned int, worker->info.layer_count);
	json_array_foreach(need, i, item) worker->need[i] = (unsigned int) json_integer_value(item);
	return 0;
}

static int report_node(void *data, const char *name, const struct untar_node *node)
{
	struct worker_layer *work = data;
	AUTO(free) char *path = wire_path_encode(name);

	worker_send(work->worker,
		    json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I}", "type", "node", "layer",
			      (json_int_t) work->index, "path", path, "mode",
			      (json_int_t) node->mode, "uid", (json_int_t) node->uid, "gid",
			      (json_int_t) node->gid, "major", (json_int_t) node->major, "minor",
			      (json_int_t) node->minor));
	return 0;
}

static int report_opaque(void *data, const char *name)
{
	struct worker_layer *work = data;
	AUTO(free) char *path = wire_path_encode(name);

	worker_send(work->worker, json_pack("{s:s, s:I, s:s}", "type", "opaque", "layer",
					    (json_int_t) work->index, "path", path));
	return 0;
}

void worker_layer_prepare(struct worker_layer *work)
{
	work->layer.limits = &work->worker->limits;
	work->layer.untar.report_node = report_node;
	work->layer.untar.report_opaque = report_opaque;
	work->layer.untar.data = work;
}

int worker_layer_folder(struct worker_layer *work, struct error *err)
{
	struct worker *worker = work->worker;
	AUTO(free) char *name = mem_printf("%zu", work->index);
	int r = file_remove_tree(worker->layers_fd, name);

	fd_close(work->layer.tree_fd);
	work->layer.tree_fd = -1;
	if (r == 0 && mkdirat(worker->layers_fd, name, 0755) < 0)
		r = -errno;
	if (r == 0) {
		work->layer.tree_fd =
			openat(worker->layers_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = work->layer.tree_fd < 0 ? -errno : 0;
	}
	return r < 0 ? error_set(err, r, "folder of layer %zu", work->index + 1) : 0;
}

int worker_layer_open(struct worker *worker, size_t index, struct worker_layer *ret,
		      uint64_t *ret_size, struct error *err)
{
	const struct image_info_layer *layer = &worker->info.layers[index];
	char name[DIGEST_TEXT_SIZE];
	struct stat st;

	*ret = (struct worker_layer){
		.worker = worker,
		.index = index,
		.layer = {
			.digest = layer->digest,
			.diff_id = layer->diff_id,
			.tree_fd = -1,
		},
	};
	worker_layer_prepare(ret);
	digest_format(&layer->digest, name);
	ret->blob_fd =
		openat(worker->blobs_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (ret->blob_fd < 0 || fstat(ret->blob_fd, &st) < 0)
		return error_set(err, -errno, "blob %s", name);
	*ret_size = (uint64_t) st.st_size;
	return worker->need[index] & WIRE_NEED_LAYER ? worker_layer_folder(ret, err) : 0;
}

void worker_layer_report(struct worker_layer *work)
{
	json_t *object = layer_meta_json(&work->layer.meta);

	json_object_set_new(object, "type", json_string("layer"));
	json_object_set_new(object, "layer", json_integer((json_int_t) work->index));
	worker_send(work->worker, object);
}

void worker_layer_close(struct worker_layer *work)
{
	fd_close(work->blob_fd);
	fd_close(work->layer.tree_fd);
	work->blob_fd = work->layer.tree_fd = -1;
}

/* The parent's maps are there when its first message is. */
static int wait_for_maps(void *data, struct error *err)
{
	struct worker *worker = data;
	int r;

	worker_send(worker, json_pack("{s:s}", "type", "ready"));
	do
		r = wire_fill(&worker->wire);
	while (r > 0 && !memchr(worker->wire.in.data, '\n', worker->wire.in.size));
	return r > 0 ? 0 : error_say(err, -EPIPE, "the agent is gone");
}

static int read_request(struct worker *worker, struct error *err)
{
	AUTO(json_decref) json_t *request = NULL;
	struct json_reader in = { .err = err, .where = "request" };
	uint64_t inodes = 0, bytes = 0;
	int r = wire_receive(&worker->wire, &request, err);

	if (r < 0)
		return r;
	json_read_string(&in, request, "name", &worker->name);
	json_read_string(&in, request, "platform", &worker->platform);
	json_read_string(&in, request, "host", &worker->reference.host);
	json_read_string(&in, request, "path", &worker->reference.path);
	json_read_string(&in, request, "tag", &worker->reference.tag);
	json_read_string(&in, request, "digest", &worker->reference.digest);
	json_read_bool(&in, request, "insecure", &worker->insecure);
	json_read_string(&in, request, "username", &worker->username);
	json_read_string(&in, request, "password", &worker->password);
	json_read_strv(&in, request, "known", &worker->known);
	json_read_string(&in, request, "format", &worker->format);
	json_read_uint64(&in, request, "blob_bytes", &worker->blob_bytes_max);
	json_read_uint64(&in, request, "unpacked_bytes", &bytes);
	json_read_uint64(&in, request, "inodes", &inodes);
	worker->limits.bytes_max = bytes;
	worker->limits.inodes_max = inodes;
	return json_reader_finish(&in, request);
}

static int open_folders(struct worker *worker, struct error *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

	worker->job_fd = open("/job", flags);
	worker->blobs_fd = worker->job_fd < 0 ? -1 : openat(worker->job_fd, "blobs", flags);
	worker->layers_fd = worker->job_fd < 0 ? -1 : openat(worker->job_fd, "layers", flags);
	return worker->blobs_fd < 0 || worker->layers_fd < 0 ? error_set(err, -errno, "/job") : 0;
}

static int run(struct worker *worker, bool pull, struct error *err)
{
	const struct sandbox sandbox = {
		.work_fd = WORKER_JOB_FD,
		.network = pull,
		.wait_for_maps = wait_for_maps,
		.data = worker,
	};
	int r = sandbox_enter(&sandbox, err);

	close(WORKER_JOB_FD);
	if (r == 0)
		r = read_request(worker, err);
	if (r == 0)
		r = open_folders(worker, err);
	if (r == 0)
		r = sandbox_limit_files(worker->blob_bytes_max, err);
	if (r < 0)
		return r;
	return pull ? worker_pull(worker, err) : worker_import(worker, err);
}

/* Those that work for one instance. */
static const struct {
	const char *name;
	int (*run)(struct wire *wire, const char *action, struct error *err);
} instance_actions[] = {
	{ "stat", files_worker },    { "get", files_worker },   { "put", files_worker },
	{ "changes", upper_worker }, { "layer", upper_worker }, { "disk", disk_worker },
	{ "kernel", kernel_worker },
};

static int run_action(struct worker *worker, const char *action, struct error *err)
{
	for (size_t i = 0; i < ARRAY_COUNT(instance_actions); i++)
		if (strcmp(instance_actions[i].name, action) == 0)
			return instance_actions[i].run(&worker->wire, action, err);
	/* Opens what it opens (entropy, configuration) before the sandbox closes. */
	curl_global_init(CURL_GLOBAL_DEFAULT);
	return run(worker, strcmp(action, "pull") == 0, err);
}

bool image_worker_knows(const char *action)
{
	for (size_t i = 0; i < ARRAY_COUNT(instance_actions); i++)
		if (strcmp(instance_actions[i].name, action) == 0)
			return true;
	return strcmp(action, "pull") == 0 || strcmp(action, "import") == 0;
}

void image_worker_main(const char *action)
{
	struct worker worker = { .wire = { .fd = WORKER_WIRE_FD } };
	struct error err = {};
	int r;

	pthread_mutex_init(&worker.send_lock, NULL);
	r = run_action(&worker, action, &err);
	if (r < 0)
		worker_send(&worker, json_pack("{s:s, s:i, s:s%}", "type", "error", "code", r,
					       "message", err.msg, strlen(err.msg)));
	else
		worker_send(&worker, json_pack("{s:s}", "type", "done"));
	/* At once: threads may still run, and there is nothing to tidy up. */
	_exit(r < 0);
}
