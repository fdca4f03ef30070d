#include "cli/number.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"

int number_parse(const char *text, const char *what, int64_t min, int64_t max, int64_t *ret,
		 struct error *err)
{
	bool negative = *text == '-';
	const char *digits = text + negative;
	int64_t value = 0;
	bool good = *digits && strlen(digits) <= 18 && digits[strspn(digits, "0123456789")] == '\0';

	for (; good && *digits; digits++)
		value = value * 10 + (*digits - '0');
	if (negative)
		value = -value;
	if (!good || value < min || value > max)
		return error_say(err, -EINVAL,
				 "%s \"%s\": a whole number from %lld to %lld is needed", what,
				 text, (long long) min, (long long) max);
	*ret = value;
	return 0;
}
