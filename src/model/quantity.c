#include "model/quantity.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "model/member.h"

#define DURATION_MAX_MS (24.0 * 3600 * 1000)

const char *const restart_policy_names[] = { "no", "on-failure", "always", "unless-stopped", NULL };

/* A decimal number without sign, exponent or hexadecimal; strtod() alone allows too much. */
static int decimal_parse(const char *text, double *ret, const char **ret_rest)
{
	size_t size = strspn(text, "0123456789.");
	char buf[32];
	char *end;

	if (size == 0 || size >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, text, size);
	buf[size] = '\0';
	double value = strtod(buf, &end);
	if (*end || end == buf || !isfinite(value))
		return -EINVAL;
	*ret = value;
	*ret_rest = text + size;
	return 0;
}

int memory_parse(const char *text, const char *what, uint64_t *ret_bytes, struct error *err)
{
	static const char units[] = "kmgt";
	const char *rest;
	double value;

	if (decimal_parse(text, &value, &rest) == 0) {
		const char *unit = *rest ? strchr(units, tolower((unsigned char) *rest)) : NULL;

		if (unit) {
			value *= (double) (UINT64_C(1024) << (10 * (unit - units)));
			rest++;
			if (strcasecmp(rest, "iB") == 0 || strcasecmp(rest, "B") == 0)
				rest += strlen(rest);
		} else if (strcasecmp(rest, "B") == 0) {
			rest++;
		}
		if (!*rest && value < 0x1p62) {
			*ret_bytes = (uint64_t) value;
			return 0;
		}
	}
	return error_say(err, -EINVAL,
			 "%s: \"%.64s\" is not a size: use bytes or a number with K, M, G or T, "
			 "for example 512M",
			 what, text);
}

int rate_parse(const char *text, const char *what, uint64_t *ret_bps, struct error *err)
{
	static const char units[] = "kmgt";
	const char *rest;
	double value;

	if (decimal_parse(text, &value, &rest) == 0) {
		const char *unit = *rest ? strchr(units, tolower((unsigned char) *rest)) : NULL;

		if (unit) {
			value *= pow(1000, (double) (unit - units + 1));
			rest++;
		}
		if (strcasecmp(rest, "bit") == 0 || strcasecmp(rest, "bps") == 0)
			rest += strlen(rest);
		if (!*rest && value < 0x1p62) {
			*ret_bps = (uint64_t) llround(value);
			return 0;
		}
	}
	return error_say(err, -EINVAL,
			 "%s: \"%.64s\" is not a rate: use bits a second or a number with K, M, G "
			 "or T, for example 100M",
			 what, text);
}

int cpus_parse(const char *text, const char *what, double *ret, struct error *err)
{
	const char *rest;
	double value;

	if (decimal_parse(text, &value, &rest) < 0 || *rest || value < 0.01)
		return error_say(err, -EINVAL,
				 "%s: \"%.64s\" is not a number of processors of at least 0.01, "
				 "for example 0.5",
				 what, text);
	*ret = value;
	return 0;
}

static double unit_ms(const char *unit, size_t size)
{
	if (size == 2 && strncmp(unit, "ms", 2) == 0)
		return 1;
	if (size == 0 || (size == 1 && unit[0] == 's'))
		return 1000;
	if (size == 1 && unit[0] == 'm')
		return 60 * 1000;
	return size == 1 && unit[0] == 'h' ? 3600 * 1000 : 0;
}

int duration_parse(const char *text, const char *what, uint32_t *ret_ms, struct error *err)
{
	const char *rest = text;
	double total = 0, value;
	bool good = *rest != '\0';

	while (good && *rest) {
		good = decimal_parse(rest, &value, &rest) == 0;
		if (!good)
			break;
		size_t size = strspn(rest, "abcdefghijklmnopqrstuvwxyz");
		double unit = unit_ms(rest, size);
		/* Only a number that stands alone needs no unit. */
		good = unit > 0 && (size > 0 || (total == 0 && !*rest));
		total += value * unit;
		rest += size;
	}
	if (!good || total > DURATION_MAX_MS)
		return error_say(
			err, -EINVAL,
			"%s: \"%.64s\" is not a time of at most a day: use ms, s, m and h, "
			"for example 1m30s",
			what, text);
	*ret_ms = (uint32_t) llround(total);
	return 0;
}

int restart_parse(const char *text, enum restart_policy *ret, uint32_t *ret_max_retries,
		  struct error *err)
{
	static const char prefix[] = "on-failure:";
	int index = member_enum_index(restart_policy_names, text);
	unsigned long retries = 0;

	if (index < 0 && strncmp(text, prefix, strlen(prefix)) == 0) {
		const char *number = text + strlen(prefix);

		if (number[0] && strlen(number) <= 6 &&
		    strspn(number, "0123456789") == strlen(number)) {
			retries = strtoul(number, NULL, 10);
			index = RESTART_ON_FAILURE;
		}
	}
	if (index < 0)
		return error_say(err, -EINVAL,
				 "\"%.64s\" is not a restart policy: use no, on-failure[:N], "
				 "always or unless-stopped",
				 text);
	*ret = (enum restart_policy) index;
	*ret_max_retries = (uint32_t) retries;
	return 0;
}
