#include "image/layer_meta_internal.h"

#include "base/json.h"

json_t *layer_meta_json(const struct layer_meta *meta)
{
	json_t *object = json_pack("{s:I, s:I}", "bytes", (json_int_t) meta->bytes, "inodes",
				   (json_int_t) meta->inodes);

	if (meta->has_root)
		json_object_set_new(
			object, "root",
			json_pack("{s:I, s:I, s:I}", "mode", (json_int_t) meta->root_mode, "uid",
				  (json_int_t) meta->root_uid, "gid", (json_int_t) meta->root_gid));
	return object;
}

int layer_meta_read(const json_t *object, struct layer_meta *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "layer" };
	struct layer_meta meta = {};
	json_t *root = NULL;
	int r;

	json_read_uint64(&in, object, "bytes", &meta.bytes);
	json_read_uint64(&in, object, "inodes", &meta.inodes);
	json_read_object(&in, object, "root", &root);
	r = json_reader_finish(&in, object);
	if (r < 0)
		return r;
	if (root) {
		struct json_reader root_in = { .err = err, .where = "layer.root" };

		meta.has_root = true;
		json_read_uint32(&root_in, root, "mode", 07777, &meta.root_mode);
		json_read_uint32(&root_in, root, "uid", 65535, &meta.root_uid);
		json_read_uint32(&root_in, root, "gid", 65535, &meta.root_gid);
		r = json_reader_finish(&root_in, root);
		if (r < 0)
			return r;
	}
	*ret = meta;
	return 0;
}
