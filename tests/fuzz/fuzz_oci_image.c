/* The documents of images, references and digests: whatever a registry sends is bounded and freed.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/image_ref.h"
#include "codec/oci_image.h"
#include "codec/oci_platform.h"
#include "image/challenge_internal.h"
#include "image/info.h"

static void decode(const json_t *document, struct error *err)
{
	AUTO(oci_manifest_done) struct oci_manifest manifest = {};
	AUTO(oci_index_done) struct oci_index index = {};
	AUTO(oci_image_done) struct oci_image image = {};
	AUTO(image_info_done) struct image_info info = {};
	struct oci_docker_save *saved = NULL;
	size_t count = 0, chosen;

	oci_document_kind(document, NULL);
	oci_layout_decode(document, err);
	image_info_read(document, &info, err);
	if (oci_manifest_decode(document, &manifest, err) == 0)
		json_decref(oci_manifest_encode(&manifest));
	if (oci_index_decode(document, &index, err) == 0)
		oci_index_select(&index, "linux/amd64", &chosen, err);
	if (oci_image_decode(document, &image, err) == 0) {
		oci_image_check_platform(&image, "linux/arm/v7", err);
		json_decref(oci_image_encode(&image));
	}
	if (oci_docker_save_decode(document, &saved, &count, err) == 0)
		oci_docker_save_free(saved, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) char *text = mem_strndup((const char *) data, size);
	AUTO(json_decref) json_t *document = NULL;
	AUTO(image_ref_done) struct image_ref ref = {};
	AUTO(challenge_done) struct challenge challenge = {};
	struct digest digest;
	struct error err = {};

	if (json_parse((const char *) data, size, OCI_DOCUMENT_MAX, &document, &err) == 0)
		decode(document, &err);
	image_ref_parse(text, "r.example", &ref, &err);
	digest_parse(text, &digest, &err);
	challenge_parse(text, &challenge);
	return 0;
}
