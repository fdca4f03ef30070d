#include "base/signame.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int signame_number(const char *text)
{
	char *end;

	if (!text || !text[0])
		return -EINVAL;
	if (isdigit((unsigned char) text[0])) {
		unsigned long number = strtoul(text, &end, 10);

		return *end || number < 1 || number > 64 ? -EINVAL : (int) number;
	}
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	if (strncasecmp(text, "RTMIN", 5) == 0 || strncasecmp(text, "RTMAX", 5) == 0) {
		/* The C library keeps 32 and 33 for itself; containers count from 34 like it does.
		 */
		bool from_min = toupper((unsigned char) text[4]) == 'N';
		long offset = 0;

		if (text[5]) {
			if (text[5] != (from_min ? '+' : '-') || !isdigit((unsigned char) text[6]))
				return -EINVAL;
			offset = strtol(text + 6, &end, 10);
			if (*end || offset > 30)
				return -EINVAL;
		}
		return (int) (from_min ? 34 + offset : 64 - offset);
	}
	for (int number = 1; number < 32; number++) {
		const char *name = sigabbrev_np(number);

		if (name && strcasecmp(name, text) == 0)
			return number;
	}
	return -EINVAL;
}
