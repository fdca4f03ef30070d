#include "image/info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"

static void put_digest(json_t *object, const char *name, const struct digest *digest)
{
	char text[DIGEST_TEXT_SIZE];

	digest_format(digest, text);
	json_put_string(object, name, text);
}

static json_t *layers_json(const struct image_info *info, bool with_type)
{
	json_t *layers = json_array();

	for (size_t i = 0; i < info->layer_count; i++) {
		const struct image_info_layer *layer = &info->layers[i];
		json_t *object = json_object();

		put_digest(object, "digest", &layer->digest);
		put_digest(object, "diff_id", &layer->diff_id);
		json_object_set_new(object, "size_bytes",
				    json_integer((json_int_t) layer->size_bytes));
		if (with_type)
			json_put_string(object, "media_type", layer->media_type);
		json_array_append_new(layers, object);
	}
	return layers;
}

static json_t *status_json(const struct image_info *info, bool with_type)
{
	json_t *object = json_object();

	put_digest(object, "digest", &info->manifest);
	json_object_set_new(object, "size_bytes", json_integer((json_int_t) info->size_bytes));
	json_object_set_new(object, "layers", layers_json(info, with_type));
	json_put_string(object, "architecture", info->architecture);
	json_put_string(object, "os", info->os);
	json_put_string(object, "created", info->created);
	json_object_set_new(object, "config", oci_image_config_json(&info->config));
	if (info->disk != DISK_NONE)
		json_object_set_new(object, "disk",
				    json_pack("{s:s, s:I}", "format", disk_format_names[info->disk],
					      "virtual_bytes", (json_int_t) info->virtual_bytes));
	return object;
}

json_t *image_info_status(const struct image_info *info)
{
	return status_json(info, false);
}

json_t *image_info_json(const struct image_info *info)
{
	json_t *object = status_json(info, true);

	json_put_string(object, "reference", info->reference);
	json_put_string(object, "platform", info->platform);
	put_digest(object, "top", &info->top);
	put_digest(object, "config_digest", &info->config_digest);
	json_put_string(object, "manifest_type", info->manifest_type);
	json_object_set_new(object, "manifest_size_bytes",
			    json_integer((json_int_t) info->manifest_size_bytes));
	json_object_set_new(object, "config_size_bytes",
			    json_integer((json_int_t) info->config_size_bytes));
	return object;
}

static int read_digest(struct json_reader *in, const json_t *object, const char *name,
		       struct digest *ret)
{
	AUTO(free) char *text = NULL;
	int r = json_read_string(in, object, name, &text);

	if (r < 0)
		return r;
	r = digest_parse(text ? text : "", ret, in->err);
	if (r < 0)
		in->result = error_wrap(in->err, r, "%s", name);
	return r;
}

static int read_type(struct json_reader *in, const json_t *object, const char *name, char *ret)
{
	AUTO(free) char *text = NULL;
	int r = json_read_string(in, object, name, &text);

	if (r < 0 || !text)
		return r;
	if (strlen(text) >= OCI_MEDIA_TYPE_SIZE) {
		in->result = error_say(in->err, -EINVAL, "%s: is too long", name);
		return in->result;
	}
	memcpy(ret, text, strlen(text) + 1);
	return 0;
}

static int layer_read(const json_t *object, struct image_info_layer *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "layers" };

	read_digest(&in, object, "digest", &ret->digest);
	read_digest(&in, object, "diff_id", &ret->diff_id);
	json_read_uint64(&in, object, "size_bytes", &ret->size_bytes);
	read_type(&in, object, "media_type", ret->media_type);
	if (in.result == 0 && ret->diff_id.kind != DIGEST_SHA256)
		return error_say(err, -EINVAL, "layers.diff_id: must be a sha256 digest");
	return json_reader_finish(&in, object);
}

static int layers_read(const json_t *layers, struct image_info *ret, struct error *err)
{
	json_t *item;
	size_t i;

	if (json_array_size(layers) == 0 || json_array_size(layers) > OCI_LAYERS_MAX)
		return error_say(err, -EINVAL, "an image needs 1 to %d layers", OCI_LAYERS_MAX);
	ret->layers = mem_new0_array(struct image_info_layer, json_array_size(layers));
	ret->layer_count = json_array_size(layers);
	json_array_foreach(layers, i, item)
	{
		int r = layer_read(item, &ret->layers[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int disk_read(const json_t *object, struct image_info *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "disk" };
	AUTO(free) char *format = NULL;
	int r;

	json_read_string(&in, object, "format", &format);
	json_read_uint64(&in, object, "virtual_bytes", &ret->virtual_bytes);
	r = json_reader_finish(&in, object);
	if (r < 0)
		return r;
	for (enum disk_format known = DISK_RAW; disk_format_names[known]; known++)
		if (format && strcmp(format, disk_format_names[known]) == 0)
			ret->disk = known;
	if (ret->disk == DISK_NONE || ret->virtual_bytes == 0 || ret->virtual_bytes > INT64_MAX)
		return error_say(err, -EINVAL, "disk: there is no such format or size");
	if (ret->layer_count != 1 || !digest_equal(&ret->layers[0].digest, &ret->layers[0].diff_id))
		return error_say(err, -EINVAL, "disk: the image must be one file as it is");
	return 0;
}

int image_info_read(const json_t *object, struct image_info *ret, struct error *err)
{
	AUTO(image_info_done) struct image_info info = {};
	struct json_reader in = { .err = err, .where = "image" };
	json_t *layers = NULL, *config = NULL, *disk = NULL;
	int r;

	json_read_string(&in, object, "reference", &info.reference);
	json_read_string(&in, object, "platform", &info.platform);
	read_digest(&in, object, "top", &info.top);
	read_digest(&in, object, "digest", &info.manifest);
	read_digest(&in, object, "config_digest", &info.config_digest);
	read_type(&in, object, "manifest_type", info.manifest_type);
	json_read_uint64(&in, object, "manifest_size_bytes", &info.manifest_size_bytes);
	json_read_uint64(&in, object, "config_size_bytes", &info.config_size_bytes);
	json_read_uint64(&in, object, "size_bytes", &info.size_bytes);
	json_read_string(&in, object, "architecture", &info.architecture);
	json_read_string(&in, object, "os", &info.os);
	json_read_string(&in, object, "created", &info.created);
	json_read_array(&in, object, "layers", &layers);
	json_read_object(&in, object, "config", &config);
	json_read_object(&in, object, "disk", &disk);
	r = json_reader_finish(&in, object);
	if (r == 0)
		r = layers_read(layers, &info, err);
	if (r == 0 && config)
		r = oci_image_config_read(config, &info.config, err);
	if (r == 0 && disk)
		r = disk_read(disk, &info, err);
	if (r < 0)
		return r;
	*ret = info;
	info = (struct image_info){};
	return 0;
}

char **image_info_layers(const struct image_info *info)
{
	char **strv = NULL;

	for (size_t i = 0; i < info->layer_count; i++) {
		char text[DIGEST_TEXT_SIZE];

		digest_format(&info->layers[i].diff_id, text);
		strv_append(&strv, text);
	}
	return strv;
}

void image_info_done(struct image_info *info)
{
	free(info->reference);
	free(info->platform);
	free(info->layers);
	free(info->architecture);
	free(info->os);
	free(info->created);
	oci_image_config_done(&info->config);
	*info = (struct image_info){};
}
