/* Changes of limits: what is accepted merges, and merging it again changes nothing. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"
#include "codec/oci_update.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	AUTO(json_decref) json_t *change = NULL;
	AUTO(json_decref) json_t *once = NULL;
	AUTO(json_decref) json_t *twice = NULL;
	struct error err = {};

	if (oci_update_decode((const char *) data, size, &change, &err) < 0)
		return 0;
	once = oci_update_merge(NULL, change);
	twice = oci_update_merge(once, change);
	if (!json_equal(once, twice) || oci_update_resources(twice, &spec, &err) < 0)
		abort();
	return 0;
}
