#include "container/number_list.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int parse_number(const char **p, unsigned int *ret)
{
	unsigned int value = 0;

	if (!is_digit(**p))
		return -EINVAL;
	for (; is_digit(**p); (*p)++) {
		value = value * 10 + (unsigned int) (**p - '0');
		if (value >= NUMBER_LIST_MAX)
			return -ERANGE;
	}
	*ret = value;
	return 0;
}

int number_list_parse(const char *text, struct number_set *ret)
{
	const unsigned int bits = 8 * sizeof(unsigned long);
	struct number_set set = {};
	const char *p = text;

	while (*p) {
		unsigned int first, last;
		int r = parse_number(&p, &first);

		last = first;
		if (r == 0 && *p == '-') {
			p++;
			r = parse_number(&p, &last);
		}
		if (r < 0)
			return r;
		if (last < first || (*p && *p != ',') || (*p == ',' && !p[1]))
			return -EINVAL;
		for (; first <= last; first++)
			set.words[first / bits] |= 1UL << (first % bits);
		p += *p == ',';
	}
	*ret = set;
	return 0;
}
