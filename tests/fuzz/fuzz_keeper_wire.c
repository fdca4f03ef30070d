#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/strbuf.h"
#include "codec/keeper_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What decodes must encode again, and its strings must be readable. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(strbuf_done) struct strbuf again = {};
	struct keeper_msg msg;

	if (keeper_msg_decode(data, size, &msg) < 0)
		return 0;
	AUTO(free) char **argv = keeper_strings_unpack(&msg.argv);
	AUTO(free) char **env = keeper_strings_unpack(&msg.env);
	if (keeper_msg_encode(&msg, &again) < 0)
		abort();
	return 0;
}
