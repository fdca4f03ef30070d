/* guest.json: what is read is written again as the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "codec/guest_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(guest_config_done) struct guest_config config = {}, again = {};
	AUTO(json_decref) json_t *object = NULL;
	AUTO(free) char *text = NULL;
	struct error err = {};

	if (guest_config_decode((const char *) data, size, &config, &err) < 0) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	if (guest_config_encode(&config, &object, &err) < 0)
		abort();
	text = json_text(object);
	if (strlen(text) <= GUEST_CONFIG_MAX &&
	    guest_config_decode(text, strlen(text), &again, &err) < 0)
		abort();
	return 0;
}
