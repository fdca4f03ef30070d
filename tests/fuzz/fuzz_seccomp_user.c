/*
 * A seccomp profile that somebody brings along: what is accepted is small, asks nobody, and is
 * accepted again and stays the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "codec/seccomp_user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct seccomp_user_host hosts[] = { {}, { UINT64_MAX, 6, 18 } };
	AUTO(json_decref) json_t *profile = NULL;

	if (json_parse((const char *) data, size, 1 << 20, &profile, NULL) < 0)
		return 0;
	for (size_t i = 0; i < ARRAY_COUNT(hosts); i++) {
		AUTO(json_decref) json_t *result = NULL;
		AUTO(json_decref) json_t *again = NULL;

		if (seccomp_user_resolve(profile, &hosts[i], &result, NULL) < 0)
			continue;
		if (json_object_get(result, "listenerPath") ||
		    seccomp_user_resolve(result, &hosts[!i], &again, NULL) < 0 ||
		    !json_equal(result, again))
			abort();
	}
	return 0;
}
