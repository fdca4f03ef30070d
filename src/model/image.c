#include "model/image.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/member.h"

enum {
	COMMIT_TEXT_MAX = 4096,
	NAME_MAX_BYTES = 512,
	TEXT_MAX_BYTES = 1024,
	SECRET_MAX_BYTES = 16384,
	LAYERS_MAX = 1024
};

static const char *const source_names[] = { "pull", "import", "commit", NULL };
static const char *const state_names[] = { "pending", "pulling", "ready", "failed", "gone", NULL };

bool image_format_is_valid(const char *format)
{
	return strcmp(format, "raw") == 0 || strcmp(format, "qcow2") == 0;
}

const char *image_state_name(enum image_state state)
{
	return state_names[state];
}

static void read_commit(struct json_reader *in, const json_t *object,
			struct image_commit_spec *commit)
{
	struct json_reader sub = { .err = in->err, .where = "spec.commit" };
	json_t *value = NULL;

	json_read_object(in, object, "commit", &value);
	if (in->result < 0 || !value)
		return;
	member_read_uid(&sub, value, "instance_uid", commit->instance_uid);
	member_read_text(&sub, value, "instance", NAME_MAX_BYTES, &commit->instance);
	json_read_strv(&sub, value, "changes", &commit->changes);
	member_read_text(&sub, value, "message", COMMIT_TEXT_MAX, &commit->message);
	member_read_text(&sub, value, "author", COMMIT_TEXT_MAX, &commit->author);
	member_read_text(&sub, value, "created_by", COMMIT_TEXT_MAX, &commit->created_by);
	json_read_bool(&sub, value, "pause", &commit->pause);
	in->result = json_reader_finish(&sub, value);
}

static json_t *commit_encode(const struct image_commit_spec *commit)
{
	json_t *object = json_object();

	json_put_string(object, "instance_uid", commit->instance_uid);
	json_put_string(object, "instance", commit->instance);
	json_put_strv(object, "changes", commit->changes);
	json_put_string(object, "message", commit->message);
	json_put_string(object, "author", commit->author);
	json_put_string(object, "created_by", commit->created_by);
	json_object_set_new(object, "pause", json_boolean(commit->pause));
	return object;
}

void image_commit_spec_done(struct image_commit_spec *commit)
{
	free(commit->instance);
	strv_free(commit->changes);
	free(commit->message);
	free(commit->author);
	free(commit->created_by);
	*commit = (struct image_commit_spec){};
}

void image_commit_spec_copy(struct image_commit_spec *to, const struct image_commit_spec *from)
{
	*to = *from;
	to->instance = mem_strdup(from->instance);
	to->changes = strv_copy(from->changes);
	to->message = mem_strdup(from->message);
	to->author = mem_strdup(from->author);
	to->created_by = mem_strdup(from->created_by);
}

int image_spec_decode(const json_t *object, struct image_spec *spec, struct error *err)
{
	struct json_reader in = { .err = err, .where = "spec" };
	unsigned int source = spec->source;

	member_read_enum(&in, object, "source", source_names, &source);
	member_read_text(&in, object, "reference", NAME_MAX_BYTES, &spec->reference);
	member_read_text(&in, object, "platform", TEXT_MAX_BYTES, &spec->platform);
	json_read_bool(&in, object, "insecure", &spec->insecure);
	member_read_text(&in, object, "username", SECRET_MAX_BYTES, &spec->username);
	member_read_text(&in, object, "password", SECRET_MAX_BYTES, &spec->password);
	member_read_text(&in, object, "upload", TEXT_MAX_BYTES, &spec->upload);
	json_read_uint64(&in, object, "pull_seq", &spec->pull_seq);
	member_read_text(&in, object, "node", TEXT_MAX_BYTES, &spec->node);
	json_read_bool(&in, object, "implicit", &spec->implicit);
	member_read_text(&in, object, "format", TEXT_MAX_BYTES, &spec->format);
	if (in.result == 0 && spec->format && !image_format_is_valid(spec->format))
		member_fail(&in, "format", "must be \"raw\" or \"qcow2\"");
	read_commit(&in, object, &spec->commit);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	spec->source = source;
	return 0;
}

json_t *image_spec_encode(const struct image_spec *spec, unsigned int parts)
{
	json_t *object = json_object();

	json_put_string(object, "source", source_names[spec->source]);
	json_put_string(object, "reference", spec->reference);
	json_put_string(object, "platform", spec->platform);
	if (spec->insecure)
		json_object_set_new(object, "insecure", json_true());
	if (parts & ENCODE_SECRETS) {
		json_put_string(object, "username", spec->username);
		json_put_string(object, "password", spec->password);
	}
	json_put_string(object, "upload", spec->upload);
	member_put_uint(object, "pull_seq", spec->pull_seq);
	json_put_string(object, "node", spec->node);
	if (spec->implicit)
		json_object_set_new(object, "implicit", json_true());
	json_put_string(object, "format", spec->format);
	if (spec->source == IMAGE_COMMIT)
		json_object_set_new(object, "commit", commit_encode(&spec->commit));
	return object;
}

void image_spec_done(struct image_spec *spec)
{
	free(spec->reference);
	free(spec->platform);
	free(spec->username);
	free(spec->password);
	free(spec->upload);
	free(spec->node);
	free(spec->format);
	image_commit_spec_done(&spec->commit);
	*spec = (struct image_spec){};
}

static void layers_free(struct image_layer *layers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(layers[i].digest);
		free(layers[i].diff_id);
	}
	free(layers);
}

static void read_layers(struct json_reader *in, const json_t *object, struct image_status *status)
{
	struct json_reader sub = { .err = in->err, .where = "status.layers[]" };
	json_t *array = NULL, *item;
	size_t i;

	json_read_array(in, object, "layers", &array);
	if (in->result < 0 || !array)
		return;
	if (json_array_size(array) > LAYERS_MAX) {
		member_fail(in, "layers", "at most %d are allowed", LAYERS_MAX);
		return;
	}
	layers_free(status->layers, status->layer_count);
	status->layers = mem_new0_array(struct image_layer, json_array_size(array) + 1);
	status->layer_count = json_array_size(array);
	json_array_foreach(array, i, item)
	{
		struct image_layer *layer = &status->layers[i];

		sub.count = 0;
		member_read_text(&sub, item, "digest", TEXT_MAX_BYTES, &layer->digest);
		member_read_text(&sub, item, "diff_id", TEXT_MAX_BYTES, &layer->diff_id);
		json_read_uint64(&sub, item, "size_bytes", &layer->size_bytes);
		in->result = json_reader_finish(&sub, item);
		if (in->result < 0)
			return;
	}
}

static void read_config(struct json_reader *in, const json_t *object, struct image_config *config)
{
	struct json_reader sub = { .err = in->err, .where = "status.config" };
	json_t *value = NULL;

	json_read_object(in, object, "config", &value);
	if (in->result < 0 || !value)
		return;
	json_read_strv(&sub, value, "entrypoint", &config->entrypoint);
	json_read_strv(&sub, value, "command", &config->command);
	member_read_map(&sub, value, "env", &config->env);
	json_read_string(&sub, value, "workdir", &config->workdir);
	json_read_string(&sub, value, "user", &config->user);
	json_read_strv(&sub, value, "exposed", &config->exposed);
	member_read_map(&sub, value, "labels", &config->labels);
	json_read_string(&sub, value, "stop_signal", &config->stop_signal);
	health_check_read(&sub, value, "healthcheck", &config->healthcheck);
	in->result = json_reader_finish(&sub, value);
}

static void read_progress(struct json_reader *in, const json_t *object, struct image_status *status)
{
	struct json_reader sub = { .err = in->err, .where = "status.progress" };
	json_t *value = NULL;

	json_read_object(in, object, "progress", &value);
	if (in->result < 0 || !value)
		return;
	json_read_uint64(&sub, value, "done_bytes", &status->done_bytes);
	json_read_uint64(&sub, value, "total_bytes", &status->total_bytes);
	member_read_text(&sub, value, "text", TEXT_MAX_BYTES, &status->progress_text);
	in->result = json_reader_finish(&sub, value);
}

static void read_disk(struct json_reader *in, const json_t *object, struct image_status *status)
{
	struct json_reader sub = { .err = in->err, .where = "status.disk" };
	json_t *value = NULL;

	json_read_object(in, object, "disk", &value);
	if (in->result < 0 || !value)
		return;
	member_read_text(&sub, value, "format", TEXT_MAX_BYTES, &status->disk_format);
	json_read_uint64(&sub, value, "virtual_bytes", &status->virtual_bytes);
	in->result = json_reader_finish(&sub, value);
}

int image_status_decode(const json_t *object, struct image_status *status, struct error *err)
{
	struct json_reader in = { .err = err, .where = "status" };
	unsigned int state = status->state;

	json_read_uint64(&in, object, "generation", &status->generation);
	json_read_uint64(&in, object, "pull_seq", &status->pull_seq);
	member_read_enum(&in, object, "state", state_names, &state);
	member_read_text(&in, object, "digest", TEXT_MAX_BYTES, &status->digest);
	json_read_uint64(&in, object, "size_bytes", &status->size_bytes);
	read_layers(&in, object, status);
	member_read_text(&in, object, "architecture", TEXT_MAX_BYTES, &status->architecture);
	member_read_text(&in, object, "os", TEXT_MAX_BYTES, &status->os);
	json_read_time(&in, object, "created", &status->created_ms);
	read_config(&in, object, &status->config);
	read_disk(&in, object, status);
	read_progress(&in, object, status);
	member_read_text(&in, object, "error", TEXT_MAX_BYTES, &status->error);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	status->state = state;
	return 0;
}

static json_t *config_encode(const struct image_config *config)
{
	json_t *object = json_object();

	json_put_strv(object, "entrypoint", config->entrypoint);
	json_put_strv(object, "command", config->command);
	member_put_map(object, "env", config->env);
	json_put_string(object, "workdir", config->workdir);
	json_put_string(object, "user", config->user);
	json_put_strv(object, "exposed", config->exposed);
	member_put_map(object, "labels", config->labels);
	json_put_string(object, "stop_signal", config->stop_signal);
	if (!health_check_is_empty(&config->healthcheck))
		json_object_set_new(object, "healthcheck",
				    health_check_encode(&config->healthcheck));
	return object;
}

static json_t *layers_encode(const struct image_status *status)
{
	json_t *array = json_array();

	for (size_t i = 0; i < status->layer_count; i++) {
		json_t *layer = json_object();

		json_put_string(layer, "digest", status->layers[i].digest);
		json_put_string(layer, "diff_id", status->layers[i].diff_id);
		member_put_uint(layer, "size_bytes", status->layers[i].size_bytes);
		json_array_append_new(array, layer);
	}
	return array;
}

json_t *image_status_encode(const struct image_status *status)
{
	json_t *object = json_object();

	member_put_uint(object, "generation", status->generation);
	member_put_uint(object, "pull_seq", status->pull_seq);
	json_put_string(object, "state", state_names[status->state]);
	json_put_string(object, "digest", status->digest);
	member_put_uint(object, "size_bytes", status->size_bytes);
	if (status->layer_count > 0)
		json_object_set_new(object, "layers", layers_encode(status));
	json_put_string(object, "architecture", status->architecture);
	json_put_string(object, "os", status->os);
	json_put_time(object, "created", status->created_ms);
	json_t *config = config_encode(&status->config);
	if (json_object_size(config) > 0)
		json_object_set_new(object, "config", config);
	else
		json_decref(config);
	if (status->disk_format)
		json_object_set_new(object, "disk",
				    json_pack("{s:s, s:I}", "format", status->disk_format,
					      "virtual_bytes", (json_int_t) status->virtual_bytes));
	if (status->total_bytes || status->done_bytes || status->progress_text) {
		json_t *progress = json_object();

		member_put_uint(progress, "done_bytes", status->done_bytes);
		member_put_uint(progress, "total_bytes", status->total_bytes);
		json_put_string(progress, "text", status->progress_text);
		json_object_set_new(object, "progress", progress);
	}
	json_put_string(object, "error", status->error);
	return object;
}

void image_config_done(struct image_config *config)
{
	strv_free(config->entrypoint);
	strv_free(config->command);
	strv_free(config->env);
	free(config->workdir);
	free(config->user);
	strv_free(config->exposed);
	strv_free(config->labels);
	free(config->stop_signal);
	health_check_done(&config->healthcheck);
	*config = (struct image_config){};
}

void image_status_done(struct image_status *status)
{
	free(status->digest);
	layers_free(status->layers, status->layer_count);
	free(status->architecture);
	free(status->os);
	free(status->disk_format);
	image_config_done(&status->config);
	free(status->progress_text);
	free(status->error);
	*status = (struct image_status){};
}

int image_decode(const json_t *doc, struct image **ret, struct error *err)
{
	AUTO(image_free) struct image *image = mem_new0(struct image);
	json_t *spec, *status;
	int r;

	r = meta_decode_resource(doc, KIND_IMAGE, &image->meta, &spec, &status, err);
	if (r == 0)
		r = image_spec_decode(spec, &image->spec, err);
	if (r == 0 && status)
		r = image_status_decode(status, &image->status, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(image);
	return 0;
}

json_t *image_encode(const struct image *image, unsigned int parts)
{
	return meta_encode_resource(
		KIND_IMAGE, &image->meta, image_spec_encode(&image->spec, parts),
		parts & ENCODE_STATUS ? image_status_encode(&image->status) : NULL);
}

void image_free(struct image *image)
{
	if (!image)
		return;
	meta_done(&image->meta);
	image_spec_done(&image->spec);
	image_status_done(&image->status);
	free(image);
}
