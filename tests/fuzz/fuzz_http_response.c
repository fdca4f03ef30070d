#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"
#include "client/http_response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	int result, status;
	size_t used, body;
};

static int count(void *userdata, const void *data, size_t size)
{
	struct outcome *outcome = userdata;

	(void) data;
	outcome->body += size;
	return 0;
}

static struct outcome decode(const uint8_t *data, size_t size, size_t step)
{
	AUTO(http_response_done) struct http_response response = {};
	struct outcome outcome = {};
	struct error err = {};

	for (size_t at = 0; at < size && outcome.result == 0; at += step) {
		size_t part = size - at < step ? size - at : step, used = 0;

		outcome.result = http_response_feed(&response, data + at, part, &used, count,
						    &outcome, &err);
		if (outcome.result >= 0 && used > part)
			abort();
		outcome.used = at + used;
	}
	outcome.status = response.status;
	if (outcome.result < 0) /* how far it came before the error does not matter */
		return (struct outcome){ .result = -1 };
	return outcome;
}

/* An answer means the same whether it comes at once or byte by byte. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole = decode(data, size, size ? size : 1), bytes = decode(data, size, 1);

	if (whole.result != bytes.result || whole.status != bytes.status ||
	    (whole.result >= 0 && whole.body != bytes.body) ||
	    (whole.result == 1 && whole.used != bytes.used))
		abort();
	return 0;
}
