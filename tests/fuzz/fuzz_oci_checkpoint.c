/* Images travel: what stands beside them must never name a path that leads out. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/oci_checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(oci_checkpoint_done) struct oci_checkpoint checkpoint = {};
	AUTO(oci_checkpoint_done) struct oci_checkpoint again = {};
	AUTO(free) char *text = NULL;

	if (oci_checkpoint_decode((const char *) data, size, &checkpoint, NULL) < 0)
		return 0;
	for (size_t i = 0; i < checkpoint.external_count; i++)
		if (checkpoint.externals[i].below[0] == '/' ||
		    strcmp(checkpoint.externals[i].below, "..") == 0 ||
		    strstr(checkpoint.externals[i].below, "/../"))
			abort();
	text = oci_checkpoint_encode(&checkpoint);
	if (oci_checkpoint_decode(text, strlen(text), &again, NULL) < 0 ||
	    again.external_count != checkpoint.external_count)
		abort();
	return 0;
}
