/* Answers of CRIU: whatever comes, only its own bytes are read. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/criu_rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct criu_reply reply;

	if (criu_reply_decode(data, size, &reply) < 0)
		return 0;
	if (!memchr(reply.script, '\0', sizeof(reply.script)) || reply.pid < 0 ||
	    reply.version < 0 || reply.version > 999999)
		abort();
	return 0;
}
