/* What an instance answers to a health check: a number in its range, or an error; never past the
 * end. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "codec/http_status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int number = 0;
	int r = http_status_parse((const char *) data, size, &number);

	if (r == 0 && (number < 100 || number > 599))
		abort();
	/* More bytes never change what was decided. */
	for (size_t i = 0; i < size && i < 16; i++) {
		unsigned int early = 0;
		int e = http_status_parse((const char *) data, i, &early);

		if (e != -EAGAIN && (e != r || early != number))
			abort();
	}
	return 0;
}
