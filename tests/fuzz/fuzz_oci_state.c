/* state.json of a container: what is read is written again as the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "codec/oci_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(oci_state_free) struct oci_state *state = NULL;
	AUTO(oci_state_free) struct oci_state *again = NULL;
	AUTO(json_decref) json_t *shown = NULL;
	AUTO(free) char *text = NULL, *second = NULL;
	struct error err = {};

	if (oci_state_decode((const char *) data, size, &state, &err) < 0) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	shown = oci_state_public(state, OCI_STATUS_RUNNING);
	text = oci_state_encode(state);
	if (!shown || !text || oci_state_decode(text, strlen(text), &again, &err) < 0)
		abort();
	second = oci_state_encode(again);
	if (strcmp(text, second) != 0 || state->pid != again->pid)
		abort();
	return 0;
}
