#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/info.h"
#include "image/layer_meta_internal.h"

#define A "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define B "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void fill(struct image_info *info)
{
	info->reference = mem_strdup("r.example/web:1");
	info->platform = mem_strdup("linux/amd64");
	assert_int_equal(digest_parse(A, &info->manifest, NULL), 0);
	info->top = info->config_digest = info->manifest;
	info->size_bytes = 123;
	info->architecture = mem_strdup("amd64");
	info->os = mem_strdup("linux");
	info->layers = mem_new0(struct image_info_layer);
	info->layer_count = 1;
	info->layers[0].size_bytes = 100;
	assert_int_equal(digest_parse(A, &info->layers[0].digest, NULL), 0);
	assert_int_equal(digest_parse(B, &info->layers[0].diff_id, NULL), 0);
	strv_append(&info->config.cmd, "sh");
}

static void reads_what_it_writes(void **state)
{
	AUTO(image_info_done) struct image_info info = {}, again = {};

	(void) state;
	fill(&info);
	AUTO(json_decref) json_t *object = image_info_json(&info);
	assert_int_equal(image_info_read(object, &again, NULL), 0);
	AUTO(json_decref) json_t *back = image_info_json(&again);
	assert_true(json_equal(object, back));
	AUTO(strv_free) char **layers = image_info_layers(&again);
	assert_string_equal(layers[0], B);
	assert_null(layers[1]);
}

static void of_a_disk(void **state)
{
	AUTO(image_info_done) struct image_info info = {}, again = {};
	struct error err = {};

	(void) state;
	fill(&info);
	info.disk = DISK_QCOW2;
	info.virtual_bytes = 1 << 20;
	AUTO(json_decref) json_t *wrong = image_info_json(&info);
	assert_int_equal(image_info_read(wrong, &again, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "one file as it is"));
	info.layers[0].diff_id = info.layers[0].digest;
	AUTO(json_decref) json_t *object = image_info_json(&info);
	assert_int_equal(image_info_read(object, &again, NULL), 0);
	assert_int_equal(again.disk, DISK_QCOW2);
	assert_int_equal(again.virtual_bytes, 1 << 20);
	json_object_set_new(json_object_get(object, "disk"), "format", json_string("vmdk"));
	assert_int_equal(image_info_read(object, &again, &err), -EINVAL);
	json_object_set_new(json_object_get(object, "disk"), "format", json_string("none"));
	assert_int_equal(image_info_read(object, &again, &err), -EINVAL);
}

static void shows_what_a_status_has(void **state)
{
	AUTO(image_info_done) struct image_info info = {};

	(void) state;
	fill(&info);
	AUTO(json_decref) json_t *status = image_info_status(&info);
	assert_string_equal(json_string_value(json_object_get(status, "digest")), A);
	assert_null(json_object_get(status, "reference"));
	assert_null(json_object_get(status, "top"));
}

static void refuses(void **state)
{
	static const struct {
		const char *name, *value;
	} changes[] = {
		{ "digest", "\"../../etc\"" },
		{ "layers", "[]" },
		{ "layers", "[{}]" },
		{ "layers", "[{\"digest\":\"" A "\",\"diff_id\":\"sha512:00\",\"size_bytes\":1}]" },
		{ "size_bytes", "-1" },
		{ "config", "{\"env\":[\"=\"]}" },
		{ "unknown", "1" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
		AUTO(image_info_done) struct image_info info = {};
		struct image_info again = {};

		fill(&info);
		AUTO(json_decref) json_t *object = image_info_json(&info);
		json_object_set_new(object, changes[i].name,
				    json_loads(changes[i].value, JSON_DECODE_ANY, NULL));
		assert_int_equal(image_info_read(object, &again, NULL), -EINVAL);
		assert_null(again.layers);
	}
}

static void keeps_the_attributes_of_a_layer(void **state)
{
	const struct layer_meta meta = { .bytes = 5,
					 .inodes = 6,
					 .has_root = true,
					 .root_mode = 01777,
					 .root_uid = 7,
					 .root_gid = 8 };
	AUTO(json_decref) json_t *object = layer_meta_json(&meta);
	AUTO(json_decref) json_t *bad = json_pack("{s:{s:i}}", "root", "uid", 70000);
	struct layer_meta again;

	(void) state;
	assert_int_equal(layer_meta_read(object, &again, NULL), 0);
	assert_int_equal(again.root_mode, 01777);
	assert_int_equal(again.root_gid, 8);
	assert_int_equal(layer_meta_read(bad, &again, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(of_a_disk),
		cmocka_unit_test(shows_what_a_status_has),
		cmocka_unit_test(refuses),
		cmocka_unit_test(keeps_the_attributes_of_a_layer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
