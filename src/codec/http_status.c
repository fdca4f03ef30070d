#include "codec/http_status.h"

#include <errno.h>

/* '#' stands for a digit; behind the number comes a space or the end of the line. */
static const char pattern[] = "HTTP/1.# ###";

static int is_digit(char c)
{
	return c >= '0' && c <= '9';
}

int http_status_parse(const char *data, size_t size, unsigned int *ret)
{
	const size_t length = sizeof(pattern) - 1;
	unsigned int number = 0;

	for (size_t i = 0; i < length && i < size; i++) {
		if (pattern[i] == '#' ? !is_digit(data[i]) : data[i] != pattern[i])
			return -EBADMSG;
		if (i + 3 >= length)
			number = number * 10 + (unsigned int) (data[i] - '0');
	}
	if (size <= length)
		return -EAGAIN;
	if (data[length] != ' ' && data[length] != '\r' && data[length] != '\n')
		return -EBADMSG;
	if (number < 100 || number > 599)
		return -EBADMSG;
	*ret = number;
	return 0;
}
