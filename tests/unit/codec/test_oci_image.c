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
#include "codec/oci_image.h"
#include "codec/oci_platform.h"

#define A "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define B "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static json_t *parse(const char *text)
{
	json_t *object = NULL;

	assert_int_equal(json_parse(text, strlen(text), OCI_DOCUMENT_MAX, &object, NULL), 0);
	return object;
}

static void reads_a_manifest(void **state)
{
	AUTO(json_decref)
	json_t *object = parse(
		"{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_DOCKER_MANIFEST "\",\"extra\":1,"
		"\"config\":{\"mediaType\":\"" OCI_TYPE_DOCKER_CONFIG "\",\"digest\":\"" A
		"\",\"size\":10},\"layers\":[{\"mediaType\":\"" OCI_TYPE_DOCKER_LAYER
		".gzip\",\"digest\":\"" B "\",\"size\":20}]}");
	AUTO(oci_manifest_done) struct oci_manifest manifest = {};

	(void) state;
	assert_int_equal(oci_document_kind(object, NULL), OCI_MANIFEST);
	assert_int_equal(oci_manifest_decode(object, &manifest, NULL), 0);
	assert_int_equal(manifest.layer_count, 1);
	assert_int_equal(manifest.layers[0].size_bytes, 20);
	assert_int_equal(manifest.config.size_bytes, 10);

	AUTO(json_decref) json_t *back = oci_manifest_encode(&manifest);
	AUTO(oci_manifest_done) struct oci_manifest again = {};
	assert_int_equal(oci_manifest_decode(back, &again, NULL), 0);
	assert_true(digest_equal(&again.layers[0].digest, &manifest.layers[0].digest));
}

static void refuses_manifest(const char *text, const char *words)
{
	AUTO(json_decref) json_t *object = parse(text);
	struct oci_manifest manifest = {};
	struct error err = {};

	assert_true(oci_manifest_decode(object, &manifest, &err) < 0);
	if (!strstr(err.msg, words))
		fail_msg("%s: %s", text, err.msg);
	assert_null(manifest.layers);
}

static void refuses_bad_manifests(void **state)
{
	(void) state;
	refuses_manifest("{}", "no list of layers");
	refuses_manifest("[]", "no list of layers");
	refuses_manifest("{\"schemaVersion\":1,\"layers\":[]}", "schema 1");
	refuses_manifest("{\"layers\":[]}", "manifest");
	refuses_manifest("{\"layers\":[],\"config\":{\"digest\":\"" A "\",\"size\":-1}}", "size");
	refuses_manifest("{\"layers\":[],\"config\":{\"digest\":\"" A "\",\"size\":99999999}}",
			 "too large");
	refuses_manifest("{\"layers\":[{}],\"config\":{\"digest\":\"" A "\",\"size\":1}}",
			 "layer 0");
	refuses_manifest(
		"{\"layers\":[{\"digest\":\"../x\",\"size\":1}],\"config\":{\"digest\":\"" A
		"\",\"size\":1}}",
		"bad digest");
	refuses_manifest("{\"layers\":[{\"mediaType\":\"application/wasm\",\"digest\":\"" B
			 "\",\"size\":1}],\"config\":{\"digest\":\"" A "\",\"size\":1}}",
			 "application/wasm");
}

static void chooses_the_platform(void **state)
{
	AUTO(json_decref)
	json_t *object = parse(
		"{\"manifests\":["
		"{\"digest\":\"" A
		"\",\"size\":1,\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
		"{\"digest\":\"" A "\",\"size\":2,\"platform\":{\"os\":\"linux\",\"architecture\":"
		"\"arm\",\"variant\":\"v7\"}},"
		"{\"digest\":\"" A "\",\"size\":3,\"platform\":{\"os\":\"linux\",\"architecture\":"
		"\"arm64\",\"variant\":\"v8\"}},"
		"{\"digest\":\"" B
		"\",\"size\":4,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}");
	AUTO(oci_index_done) struct oci_index index = {};
	struct error err = {};
	size_t chosen = 99;

	(void) state;
	assert_int_equal(oci_document_kind(object, NULL), OCI_INDEX);
	assert_int_equal(oci_index_decode(object, &index, NULL), 0);
	assert_int_equal(oci_index_select(&index, "linux/amd64", &chosen, NULL), 0);
	assert_int_equal(chosen, 3);
	assert_int_equal(oci_index_select(&index, "linux/arm64", &chosen, NULL), 0);
	assert_int_equal(chosen, 2);
	assert_int_equal(oci_index_select(&index, "linux/arm/v7", &chosen, NULL), 0);
	assert_int_equal(chosen, 1);
	assert_int_equal(oci_index_select(&index, "linux/arm/v6", &chosen, &err), -ENOENT);
	assert_int_equal(oci_index_select(&index, "linux/s390x", &chosen, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "linux/arm/v7, linux/arm64/v8, linux/amd64"));
	assert_null(strstr(err.msg, "unknown"));
}

static void reads_a_configuration(void **state)
{
	AUTO(json_decref)
	json_t *object = parse(
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":\"2026-01-01T00:00:00Z\","
		"\"config\":{\"Entrypoint\":[\"/"
		"e\"],\"Cmd\":null,\"Env\":[\"A=b\"],\"User\":\"web\","
		"\"WorkingDir\":\"/srv\",\"ExposedPorts\":{\"80/tcp\":{}},\"Labels\":{\"x\":\"y\"},"
		"\"StopSignal\":\"SIGINT\",\"Volumes\":{}},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\"]},\"history\":[]}");
	AUTO(oci_image_done) struct oci_image image = {};
	AUTO(oci_image_config_done) struct oci_image_config again = {};
	struct error err = {};

	(void) state;
	assert_int_equal(oci_image_decode(object, &image, NULL), 0);
	assert_string_equal(image.config.entrypoint[0], "/e");
	assert_null(image.config.cmd);
	assert_string_equal(image.config.exposed_ports[0], "80/tcp");
	assert_string_equal(image.config.labels[0], "x=y");
	assert_int_equal(image.layer_count, 1);
	assert_int_equal(oci_image_check_platform(&image, "linux/amd64", NULL), 0);
	assert_int_equal(oci_image_check_platform(&image, "linux/arm64", &err), -ENOEXEC);

	AUTO(json_decref) json_t *config = oci_image_config_json(&image.config);
	assert_int_equal(oci_image_config_read(config, &again, NULL), 0);
	assert_string_equal(again.stop_signal, "SIGINT");
	assert_true(strv_equal(again.env, image.config.env));
}

static void refuses_image(const char *text, const char *words)
{
	AUTO(json_decref) json_t *object = parse(text);
	struct oci_image image = {};
	struct error err = {};

	assert_true(oci_image_decode(object, &image, &err) < 0);
	if (!strstr(err.msg, words))
		fail_msg("%s: %s", text, err.msg);
	assert_null(image.diff_ids);
}

static void refuses_bad_configurations(void **state)
{
	(void) state;
	refuses_image("[]", "must be an object");
	refuses_image("{}", "diff_ids is missing");
	refuses_image("{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "bad digest");
	refuses_image("{\"rootfs\":{\"diff_ids\":[]},\"config\":{\"Env\":[\"=x\"]}}", "NAME=VALUE");
	refuses_image("{\"rootfs\":{\"diff_ids\":[]},\"config\":{\"Env\":\"x\"}}",
		      "list of strings");
	refuses_image("{\"rootfs\":{\"diff_ids\":[]},\"config\":{\"Labels\":{\"a\":1}}}", "'a'");
}

static void refuses_what_fills_a_message(void **state)
{
	AUTO(json_decref) json_t *object = parse("{\"rootfs\":{\"diff_ids\":[]},\"config\":{}}");
	AUTO(json_decref) json_t *words = parse("{\"rootfs\":{\"diff_ids\":[]}}");
	AUTO(free) char *big = mem_zalloc(600 << 10);
	struct oci_image image = {};
	struct error err = {};

	(void) state;
	memset(big, 'x', (600 << 10) - 1);
	json_object_set_new(words, "created", json_string(big));
	assert_int_equal(oci_image_decode(words, &image, &err), -EINVAL);
	json_object_set_new(json_object_get(object, "config"), "Labels",
			    json_pack("{s:s}", "a", big));
	assert_int_equal(oci_image_decode(object, &image, &err), -E2BIG);
	assert_null(image.config.labels);
}

static void reads_a_saved_image(void **state)
{
	AUTO(json_decref)
	json_t *object =
		parse("[{\"Config\":\"c.json\",\"RepoTags\":null,\"Layers\":[\"a/layer.tar\"]}]");
	AUTO(json_decref) json_t *empty = parse("[]");
	AUTO(json_decref) json_t *bad = parse("[{\"Config\":\"c.json\"}]");
	struct oci_docker_save *images = NULL;
	size_t count = 0;

	(void) state;
	assert_int_equal(oci_docker_save_decode(object, &images, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_string_equal(images[0].layers[0], "a/layer.tar");
	oci_docker_save_free(images, count);
	assert_int_equal(oci_docker_save_decode(empty, &images, &count, NULL), -EINVAL);
	assert_int_equal(oci_docker_save_decode(bad, &images, &count, NULL), -EINVAL);
}

static void checks_platforms(void **state)
{
	(void) state;
	assert_int_equal(oci_platform_check("linux/amd64", NULL), 0);
	assert_int_equal(oci_platform_check("linux/arm/v7", NULL), 0);
	assert_int_equal(oci_platform_check("amd64", NULL), -EINVAL);
	assert_int_equal(oci_platform_check("linux/", NULL), -EINVAL);
	assert_int_equal(oci_platform_check("/amd64", NULL), -EINVAL);
	assert_int_equal(oci_platform_check("a/b/c/d", NULL), -EINVAL);
	assert_int_equal(oci_platform_check("linux/amd 64", NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_a_manifest),
		cmocka_unit_test(refuses_bad_manifests),
		cmocka_unit_test(chooses_the_platform),
		cmocka_unit_test(reads_a_configuration),
		cmocka_unit_test(refuses_bad_configurations),
		cmocka_unit_test(refuses_what_fills_a_message),
		cmocka_unit_test(reads_a_saved_image),
		cmocka_unit_test(checks_platforms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
