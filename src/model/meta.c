#include "model/meta.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/member.h"

enum { NAME_MAX_BYTES = 63, ANY_NAME_MAX_BYTES = 512 };
enum { LABELS_MAX = 64, LABEL_KEY_MAX = 128, LABEL_VALUE_MAX = 1024 };

const char *const kind_names[] = { "instance", "network",  "image", "operation", "project",
				   "node",     "balancer", "group", "router",    NULL };

const char *kind_name(enum kind kind)
{
	return kind_names[kind];
}

int kind_parse(const char *text, enum kind *ret)
{
	int index = member_enum_index(kind_names, text);

	if (index < 0)
		return index;
	*ret = (enum kind) index;
	return 0;
}

int name_check(const char *name, const char *what, struct error *err)
{
	size_t size = name ? strlen(name) : 0;
	bool good = size > 0 && size <= NAME_MAX_BYTES && name[0] >= 'a' && name[0] <= 'z' &&
		    name[size - 1] != '-';

	for (size_t i = 0; good && i < size; i++)
		good = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
		       name[i] == '-';
	if (good)
		return 0;
	return error_say(err, -EINVAL,
			 "%s: \"%.64s\" is not a name: use 1 to 63 lower-case letters, digits and "
			 "'-', starting with a letter and not ending with '-'",
			 what, name ? name : "");
}

int labels_check(char *const *labels, struct error *err)
{
	if (strv_count(labels) > LABELS_MAX)
		return error_say(err, -EINVAL, "labels: at most %d are allowed", LABELS_MAX);
	for (size_t i = 0; labels && labels[i]; i++) {
		const char *equals = strchr(labels[i], '=');
		size_t size = equals ? (size_t) (equals - labels[i]) : 0;
		bool good =
			size > 0 && size <= LABEL_KEY_MAX && isalnum((unsigned char) labels[i][0]);

		for (size_t k = 0; good && k < size; k++)
			good = isalnum((unsigned char) labels[i][k]) ||
			       strchr("._/-", labels[i][k]);
		if (!good)
			return error_say(
				err, -EINVAL,
				"labels: \"%.64s\" is not KEY=VALUE with a key of 1 to 128 "
				"letters, digits and \"._/-\"",
				labels[i]);
		if (strlen(equals + 1) > LABEL_VALUE_MAX)
			return error_say(err, -EINVAL,
					 "labels: the value of \"%.*s\" is over %d bytes",
					 (int) size, labels[i], LABEL_VALUE_MAX);
	}
	return 0;
}

int meta_decode(const json_t *object, struct meta *meta, struct error *err)
{
	struct json_reader in = { .err = err, .where = "meta" };

	member_read_text(&in, object, "name", ANY_NAME_MAX_BYTES, &meta->name);
	member_read_text(&in, object, "project", NAME_MAX_BYTES, &meta->project);
	member_read_uid(&in, object, "uid", meta->uid);
	json_read_uint64(&in, object, "revision", &meta->revision);
	json_read_uint64(&in, object, "generation", &meta->generation);
	json_read_time(&in, object, "created", &meta->created_ms);
	json_read_time(&in, object, "deleted", &meta->deleted_ms);
	member_read_map(&in, object, "labels", &meta->labels);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	if (!meta->name || !meta->name[0])
		return error_say(err, -EINVAL, "meta.name: is missing");
	return labels_check(meta->labels, err);
}

int meta_decode_resource(const json_t *doc, enum kind kind, struct meta *meta, json_t **ret_spec,
			 json_t **ret_status, struct error *err)
{
	struct json_reader in = { .err = err };
	json_t *meta_object = NULL, *spec = NULL, *status = NULL;
	AUTO(free) char *text = NULL;

	json_read_string(&in, doc, "kind", &text);
	json_read_object(&in, doc, "meta", &meta_object);
	json_read_object(&in, doc, "spec", &spec);
	json_read_object(&in, doc, "status", &status);
	if (json_reader_finish(&in, doc) < 0)
		return in.result;
	if (!text || strcmp(text, kind_name(kind)) != 0)
		return error_say(err, -EINVAL, "kind: must be \"%s\"", kind_name(kind));
	if (!meta_object)
		return error_say(err, -EINVAL, "meta: is missing");
	int r = meta_decode(meta_object, meta, err);
	if (r < 0)
		return r;
	*ret_spec = spec;
	*ret_status = status;
	return 0;
}

json_t *meta_encode(const struct meta *meta)
{
	json_t *object = json_object();

	json_put_string(object, "name", meta->name);
	json_put_string(object, "project", meta->project);
	json_put_string(object, "uid", meta->uid);
	member_put_uint(object, "revision", meta->revision);
	member_put_uint(object, "generation", meta->generation);
	json_put_time(object, "created", meta->created_ms);
	json_put_time(object, "deleted", meta->deleted_ms);
	member_put_map(object, "labels", meta->labels);
	return object;
}

json_t *meta_encode_resource(enum kind kind, const struct meta *meta, json_t *spec, json_t *status)
{
	json_t *doc = json_object();

	json_object_set_new(doc, "kind", json_string(kind_name(kind)));
	json_object_set_new(doc, "meta", meta_encode(meta));
	if (spec)
		json_object_set_new(doc, "spec", spec);
	if (status)
		json_object_set_new(doc, "status", status);
	return doc;
}

void meta_copy(struct meta *to, const struct meta *from)
{
	*to = *from;
	to->name = mem_strdup(from->name);
	to->project = mem_strdup(from->project);
	to->labels = strv_copy(from->labels);
}

void meta_done(struct meta *meta)
{
	free(meta->name);
	free(meta->project);
	strv_free(meta->labels);
	*meta = (struct meta){};
}
