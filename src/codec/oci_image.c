#include "codec/oci_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"

enum {
	SAVED_IMAGES_MAX = 1000,
	CONFIG_STRINGS_MAX = 4096,
	CONFIG_TEXT_MAX = 512 << 10, /* as JSON: it travels in one message with other things */
	WORD_MAX = 128,              /* architecture, os and the like */
};

#define REF_NAME "org.opencontainers.image.ref.name"

enum oci_kind oci_kind_of(const char *media_type)
{
	size_t n = strcspn(media_type, ";");
	static const struct {
		const char *type;
		enum oci_kind kind;
		bool prefix;
	} types[] = {
		{ OCI_TYPE_MANIFEST, OCI_MANIFEST },
		{ OCI_TYPE_DOCKER_MANIFEST, OCI_MANIFEST },
		{ OCI_TYPE_INDEX, OCI_INDEX },
		{ OCI_TYPE_DOCKER_INDEX, OCI_INDEX },
		{ OCI_TYPE_CONFIG, OCI_CONFIG },
		{ OCI_TYPE_DOCKER_CONFIG, OCI_CONFIG },
		{ OCI_TYPE_LAYER, OCI_LAYER, true },
		{ OCI_TYPE_DOCKER_LAYER, OCI_LAYER, true },
		{ "application/vnd.oci.image.layer.nondistributable.v1.tar", OCI_LAYER, true },
		{ "application/vnd.docker.image.rootfs.foreign.diff.tar", OCI_LAYER, true },
	};

	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		size_t length = strlen(types[i].type);

		if (strncmp(media_type, types[i].type, length) == 0 &&
		    (n == length || (types[i].prefix && n > length)))
			return types[i].kind;
	}
	return OCI_OTHER;
}

enum oci_kind oci_document_kind(const json_t *document, const char *media_type)
{
	const char *own = json_string_value(json_object_get(document, "mediaType"));

	if (own && oci_kind_of(own) != OCI_OTHER)
		return oci_kind_of(own);
	if (json_is_array(json_object_get(document, "manifests")))
		return OCI_INDEX;
	if (json_is_array(json_object_get(document, "layers")))
		return OCI_MANIFEST;
	return media_type ? oci_kind_of(media_type) : OCI_OTHER;
}

/* Copies a short text; refuses one that does not fit. */
static int read_short(const json_t *object, const char *name, char *ret, size_t size,
		      struct error *err)
{
	json_t *value = json_object_get(object, name);

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value))
		return error_say(err, -EINVAL, "%s: must be a string", name);
	if (json_string_length(value) >= size ||
	    strlen(json_string_value(value)) != json_string_length(value))
		return error_say(err, -EINVAL, "%s: is longer than %zu characters", name, size - 1);
	memcpy(ret, json_string_value(value), json_string_length(value) + 1);
	return 0;
}

static int descriptor_decode(const json_t *object, struct oci_descriptor *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "descriptor" };
	AUTO(free) char *digest = NULL;
	json_t *platform, *annotations;
	int64_t size = -1;
	int r;

	json_read_string(&in, object, "digest", &digest);
	r = json_read_int(&in, object, "size", 0, INT64_MAX, &size);
	if (r < 0)
		return r;
	if (!digest || size < 0)
		return error_say(err, -EINVAL, "descriptor: digest and size are needed");
	ret->size_bytes = (uint64_t) size;
	r = digest_parse(digest, &ret->digest, err);
	if (r == 0)
		r = read_short(object, "mediaType", ret->media_type, sizeof(ret->media_type), err);
	platform = json_object_get(object, "platform");
	if (r == 0 && platform)
		r = read_short(platform, "os", ret->os, sizeof(ret->os), err);
	if (r == 0 && platform)
		r = read_short(platform, "architecture", ret->architecture,
			       sizeof(ret->architecture), err);
	if (r == 0 && platform)
		r = read_short(platform, "variant", ret->variant, sizeof(ret->variant), err);
	annotations = json_object_get(object, "annotations");
	if (r == 0)
		ret->ref_name =
			mem_strdup(json_string_value(json_object_get(annotations, REF_NAME)));
	return r;
}

int oci_manifest_decode(const json_t *document, struct oci_manifest *ret, struct error *err)
{
	AUTO(oci_manifest_done) struct oci_manifest manifest = {};
	json_t *layers = json_object_get(document, "layers");
	json_t *layer;
	size_t i;
	int r;

	if (json_integer_value(json_object_get(document, "schemaVersion")) == 1)
		return error_say(
			err, -EINVAL,
			"the manifest is of Docker's schema 1, which nobody makes any more: "
			"push the image again with a present tool");
	if (!json_is_array(layers))
		return error_say(err, -EINVAL, "the manifest has no list of layers");
	if (json_array_size(layers) > OCI_LAYERS_MAX)
		return error_say(err, -E2BIG, "the image has %zu layers, at most %d can be stacked",
				 json_array_size(layers), OCI_LAYERS_MAX);
	r = read_short(document, "mediaType", manifest.media_type, sizeof(manifest.media_type),
		       err);
	if (r == 0)
		r = descriptor_decode(json_object_get(document, "config"), &manifest.config, err);
	if (r < 0)
		return error_wrap(err, r, "manifest");
	if (manifest.config.size_bytes > OCI_DOCUMENT_MAX)
		return error_say(err, -EFBIG,
				 "manifest: a configuration of %llu bytes is too large",
				 (unsigned long long) manifest.config.size_bytes);
	manifest.layers = mem_new0_array(struct oci_descriptor, json_array_size(layers));
	json_array_foreach(layers, i, layer)
	{
		r = descriptor_decode(layer, &manifest.layers[i], err);
		if (r < 0)
			return error_wrap(err, r, "manifest: layer %zu", i);
		manifest.layer_count = i + 1;
		const char *type = manifest.layers[i].media_type;
		if (type[0] && oci_kind_of(type) != OCI_LAYER)
			return error_say(
				err, -EINVAL,
				"layer %zu is of type '%s', which is not a layer of a file "
				"system: this is not an image that can run",
				i, type);
	}
	*ret = manifest;
	manifest = (struct oci_manifest){};
	return 0;
}

int oci_index_decode(const json_t *document, struct oci_index *ret, struct error *err)
{
	AUTO(oci_index_done) struct oci_index index = {};
	json_t *manifests = json_object_get(document, "manifests");
	json_t *item;
	size_t i;

	if (!json_is_array(manifests))
		return error_say(err, -EINVAL, "the image index has no list of manifests");
	if (json_array_size(manifests) > OCI_INDEX_MAX)
		return error_say(err, -E2BIG,
				 "the image index names %zu manifests, at most %d are allowed",
				 json_array_size(manifests), OCI_INDEX_MAX);
	index.manifests = mem_new0_array(struct oci_descriptor, json_array_size(manifests));
	json_array_foreach(manifests, i, item)
	{
		int r = descriptor_decode(item, &index.manifests[i], err);

		if (r < 0)
			return error_wrap(err, r, "image index: manifest %zu", i);
		index.count = i + 1;
	}
	*ret = index;
	index = (struct oci_index){};
	return 0;
}

/* {"80/tcp": {}} as a list of names. */
static char **read_set(const json_t *object)
{
	char **strv = NULL;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) object, name, value) strv_append(&strv, name);
	return strv;
}

static int read_labels(const json_t *object, char ***ret, struct error *err)
{
	AUTO(strv_free) char **strv = NULL;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) object, name, value)
	{
		if (!json_is_string(value))
			return error_say(err, -EINVAL, "config.Labels: '%.60s' must be a string",
					 name);
		strv_append_take(&strv, mem_printf("%s=%s", name, json_string_value(value)));
	}
	*ret = TAKE_PTR(strv);
	return 0;
}

static int check_config(const struct oci_image_config *config, struct error *err)
{
	char *const *lists[] = { config->entrypoint, config->cmd, config->env,
				 config->exposed_ports, config->labels };

	for (size_t i = 0; i < ARRAY_COUNT(lists); i++)
		if (strv_count(lists[i]) > CONFIG_STRINGS_MAX)
			return error_say(err, -E2BIG,
					 "image configuration: a list has more than %d members",
					 CONFIG_STRINGS_MAX);
	for (char *const *env = config->env; env && *env; env++)
		if (!strchr(*env, '=') || **env == '=')
			return error_say(err, -EINVAL,
					 "image configuration: Env: '%.60s' must be NAME=VALUE",
					 *env);

	AUTO(json_decref) json_t *object = oci_image_config_json(config);
	AUTO(free) char *text = json_text(object);
	if (strlen(text) > CONFIG_TEXT_MAX)
		return error_say(
			err, -E2BIG,
			"image configuration: environment, labels and commands have %zu bytes, "
			"at most %d are allowed",
			strlen(text), CONFIG_TEXT_MAX);
	return 0;
}

static int check_words(const struct oci_image *image, struct error *err)
{
	const char *const words[] = { image->architecture, image->variant, image->os,
				      image->created };

	for (size_t i = 0; i < ARRAY_COUNT(words); i++)
		if (words[i] && strlen(words[i]) > WORD_MAX)
			return error_say(
				err, -EINVAL,
				"image configuration: '%.40s...' is longer than %d characters",
				words[i], WORD_MAX);
	return 0;
}

static int config_decode(const json_t *object, struct oci_image_config *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "image configuration: config" };
	json_t *exposed = NULL, *labels = NULL, *healthcheck = NULL;
	int r;

	json_read_strv(&in, object, "Entrypoint", &ret->entrypoint);
	json_read_strv(&in, object, "Cmd", &ret->cmd);
	json_read_strv(&in, object, "Env", &ret->env);
	json_read_string(&in, object, "WorkingDir", &ret->workdir);
	json_read_string(&in, object, "User", &ret->user);
	json_read_string(&in, object, "StopSignal", &ret->stop_signal);
	json_read_object(&in, object, "Healthcheck", &healthcheck);
	json_read_object(&in, object, "ExposedPorts", &exposed);
	r = json_read_object(&in, object, "Labels", &labels);
	if (r < 0)
		return r;
	if (exposed)
		ret->exposed_ports = read_set(exposed);
	if (labels)
		r = read_labels(labels, &ret->labels, err);
	if (r == 0 && healthcheck) {
		r = oci_healthcheck_decode(healthcheck, &ret->healthcheck, err);
		if (r < 0)
			r = error_wrap(err, r, "image configuration");
	}
	return r < 0 ? r : check_config(ret, err);
}

static int diff_ids_decode(const json_t *rootfs, struct oci_image *ret, struct error *err)
{
	json_t *ids = json_object_get(rootfs, "diff_ids");
	json_t *id;
	size_t i;

	if (!json_is_array(ids))
		return error_say(err, -EINVAL, "image configuration: rootfs.diff_ids is missing");
	if (json_array_size(ids) > OCI_LAYERS_MAX)
		return error_say(err, -E2BIG, "the image has %zu layers, at most %d can be stacked",
				 json_array_size(ids), OCI_LAYERS_MAX);
	ret->diff_ids = mem_new0_array(struct digest, json_array_size(ids));
	json_array_foreach(ids, i, id)
	{
		const char *text = json_string_value(id);
		int r = digest_parse(text ? text : "", &ret->diff_ids[i], err);

		if (r < 0)
			return error_wrap(err, r, "image configuration: rootfs.diff_ids");
		if (ret->diff_ids[i].kind != DIGEST_SHA256)
			return error_say(err, -EINVAL,
					 "image configuration: rootfs.diff_ids must be "
					 "sha256 digests");
	}
	ret->layer_count = json_array_size(ids);
	return 0;
}

int oci_image_decode(const json_t *document, struct oci_image *ret, struct error *err)
{
	AUTO(oci_image_done) struct oci_image image = {};
	struct json_reader in = { .err = err, .where = "image configuration" };
	json_t *config = NULL, *rootfs = NULL;
	int r;

	json_read_string(&in, document, "architecture", &image.architecture);
	json_read_string(&in, document, "variant", &image.variant);
	json_read_string(&in, document, "os", &image.os);
	json_read_string(&in, document, "created", &image.created);
	json_read_object(&in, document, "config", &config);
	r = json_read_object(&in, document, "rootfs", &rootfs);
	if (r < 0)
		return r;
	r = check_words(&image, err);
	if (r == 0)
		r = diff_ids_decode(rootfs, &image, err);
	if (r == 0 && config)
		r = config_decode(config, &image.config, err);
	if (r < 0)
		return r;
	*ret = image;
	image = (struct oci_image){};
	return 0;
}

int oci_layout_decode(const json_t *document, struct error *err)
{
	const char *version = json_string_value(json_object_get(document, "imageLayoutVersion"));

	if (!version || strncmp(version, "1.", 2) != 0)
		return error_say(err, -EINVAL,
				 "oci-layout: imageLayoutVersion must be 1.x, not '%.20s'",
				 version ? version : "");
	return 0;
}

static int saved_decode(const json_t *object, struct oci_docker_save *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "manifest.json" };
	int r;

	json_read_string(&in, object, "Config", &ret->config);
	json_read_strv(&in, object, "RepoTags", &ret->repo_tags);
	r = json_read_strv(&in, object, "Layers", &ret->layers);
	if (r < 0)
		return r;
	if (!ret->config || !ret->layers)
		return error_say(err, -EINVAL, "manifest.json: Config and Layers are needed");
	if (strv_count(ret->layers) > OCI_LAYERS_MAX)
		return error_say(err, -E2BIG, "the image has %zu layers, at most %d can be stacked",
				 strv_count(ret->layers), OCI_LAYERS_MAX);
	return 0;
}

int oci_docker_save_decode(const json_t *document, struct oci_docker_save **ret, size_t *ret_count,
			   struct error *err)
{
	struct oci_docker_save *images;
	size_t count = json_array_size(document);
	json_t *item;
	size_t i;

	if (!json_is_array(document) || count == 0 || count > SAVED_IMAGES_MAX)
		return error_say(err, -EINVAL, "manifest.json: must be a list of 1 to %d images",
				 SAVED_IMAGES_MAX);
	images = mem_new0_array(struct oci_docker_save, count);
	json_array_foreach(document, i, item)
	{
		int r = saved_decode(item, &images[i], err);

		if (r < 0) {
			oci_docker_save_free(images, count);
			return r;
		}
	}
	*ret = images;
	*ret_count = count;
	return 0;
}

static json_t *descriptor_encode(const struct oci_descriptor *descriptor, const char *default_type)
{
	json_t *object = json_object();
	char text[DIGEST_TEXT_SIZE];

	digest_format(&descriptor->digest, text);
	json_put_string(object, "mediaType",
			descriptor->media_type[0] ? descriptor->media_type : default_type);
	json_put_string(object, "digest", text);
	json_object_set_new(object, "size", json_integer((json_int_t) descriptor->size_bytes));
	if (descriptor->os[0]) {
		json_t *platform = json_object();

		json_put_string(platform, "os", descriptor->os);
		json_put_string(platform, "architecture", descriptor->architecture);
		json_put_string(platform, "variant", descriptor->variant);
		json_object_set_new(object, "platform", platform);
	}
	if (descriptor->ref_name && descriptor->ref_name[0])
		json_object_set_new(object, "annotations",
				    json_pack("{s:s}", REF_NAME, descriptor->ref_name));
	return object;
}

json_t *oci_manifest_encode(const struct oci_manifest *manifest)
{
	json_t *layers = json_array();

	for (size_t i = 0; i < manifest->layer_count; i++)
		json_array_append_new(layers,
				      descriptor_encode(&manifest->layers[i], OCI_TYPE_LAYER));
	return json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", OCI_TYPE_MANIFEST,
			 "config", descriptor_encode(&manifest->config, OCI_TYPE_CONFIG), "layers",
			 layers);
}

json_t *oci_index_encode(const struct oci_index *index)
{
	json_t *manifests = json_array();

	for (size_t i = 0; i < index->count; i++)
		json_array_append_new(manifests,
				      descriptor_encode(&index->manifests[i], OCI_TYPE_MANIFEST));
	return json_pack("{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType", OCI_TYPE_INDEX,
			 "manifests", manifests);
}

json_t *oci_image_encode(const struct oci_image *image)
{
	json_t *object = json_object(), *ids = json_array(), *config = json_object();

	for (size_t i = 0; i < image->layer_count; i++) {
		char text[DIGEST_TEXT_SIZE];

		digest_format(&image->diff_ids[i], text);
		json_array_append_new(ids, json_string(text));
	}
	json_put_string(object, "created", image->created);
	json_put_string(object, "architecture", image->architecture);
	json_put_string(object, "variant", image->variant);
	json_put_string(object, "os", image->os);
	json_put_strv(config, "Entrypoint", image->config.entrypoint);
	json_put_strv(config, "Cmd", image->config.cmd);
	json_put_strv(config, "Env", image->config.env);
	json_object_set_new(object, "config", config);
	json_object_set_new(object, "rootfs",
			    json_pack("{s:s, s:o}", "type", "layers", "diff_ids", ids));
	return object;
}

json_t *oci_image_config_json(const struct oci_image_config *config)
{
	json_t *object = json_object();

	json_put_strv(object, "entrypoint", config->entrypoint);
	json_put_strv(object, "cmd", config->cmd);
	json_put_strv(object, "env", config->env);
	json_put_string(object, "workdir", config->workdir);
	json_put_string(object, "user", config->user);
	json_put_strv(object, "exposed", config->exposed_ports);
	json_put_strv(object, "labels", config->labels);
	json_put_string(object, "stop_signal", config->stop_signal);
	json_t *healthcheck = oci_healthcheck_json(&config->healthcheck);
	if (healthcheck)
		json_object_set_new(object, "healthcheck", healthcheck);
	return object;
}

int oci_image_config_read(const json_t *object, struct oci_image_config *ret, struct error *err)
{
	AUTO(oci_image_config_done) struct oci_image_config config = {};
	struct json_reader in = { .err = err, .where = "config" };
	json_t *healthcheck = NULL;
	int r;

	json_read_strv(&in, object, "entrypoint", &config.entrypoint);
	json_read_strv(&in, object, "cmd", &config.cmd);
	json_read_strv(&in, object, "env", &config.env);
	json_read_string(&in, object, "workdir", &config.workdir);
	json_read_string(&in, object, "user", &config.user);
	json_read_strv(&in, object, "exposed", &config.exposed_ports);
	json_read_strv(&in, object, "labels", &config.labels);
	json_read_string(&in, object, "stop_signal", &config.stop_signal);
	json_read_object(&in, object, "healthcheck", &healthcheck);
	r = json_reader_finish(&in, object);
	if (r == 0 && healthcheck)
		r = oci_healthcheck_read(healthcheck, &config.healthcheck, err);
	if (r == 0)
		r = check_config(&config, err);
	if (r < 0)
		return r;
	*ret = config;
	config = (struct oci_image_config){};
	return 0;
}

void oci_image_config_done(struct oci_image_config *config)
{
	strv_free(config->entrypoint);
	strv_free(config->cmd);
	strv_free(config->env);
	free(config->workdir);
	free(config->user);
	strv_free(config->exposed_ports);
	strv_free(config->labels);
	free(config->stop_signal);
	oci_healthcheck_done(&config->healthcheck);
	*config = (struct oci_image_config){};
}

void oci_manifest_done(struct oci_manifest *manifest)
{
	free(manifest->config.ref_name);
	for (size_t i = 0; i < manifest->layer_count; i++)
		free(manifest->layers[i].ref_name);
	free(manifest->layers);
	*manifest = (struct oci_manifest){};
}

void oci_index_done(struct oci_index *index)
{
	for (size_t i = 0; i < index->count; i++)
		free(index->manifests[i].ref_name);
	free(index->manifests);
	*index = (struct oci_index){};
}

void oci_image_done(struct oci_image *image)
{
	free(image->architecture);
	free(image->variant);
	free(image->os);
	free(image->created);
	oci_image_config_done(&image->config);
	free(image->diff_ids);
	*image = (struct oci_image){};
}

void oci_docker_save_free(struct oci_docker_save *images, size_t count)
{
	for (size_t i = 0; images && i < count; i++) {
		free(images[i].config);
		strv_free(images[i].repo_tags);
		strv_free(images[i].layers);
	}
	free(images);
}
