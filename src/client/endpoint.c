#include "client/endpoint.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "base/error.h"
#include "base/mem.h"

static int endpoint_parse_socket(const char *path, struct endpoint *ret, struct error *err)
{
	if (path[0] != '/')
		return error_say(
			err, -EINVAL,
			"socket \"%s\": an absolute path is needed, like /run/brume/brumed.sock",
			path);
	if (strlen(path) >= sizeof(((struct sockaddr_un *) 0)->sun_path))
		return error_say(err, -EINVAL, "socket \"%s\": at most %zu characters are possible",
				 path, sizeof(((struct sockaddr_un *) 0)->sun_path) - 1);
	*ret = (struct endpoint){ .socket_path = mem_strdup(path) };
	return 0;
}

static int endpoint_parse_port(const char *text, uint16_t *ret)
{
	unsigned int port = 0;

	if (!*text || strlen(text) > 5)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		port = port * 10 + (unsigned int) (*text - '0');
	}
	if (port < 1 || port > 65535)
		return -EINVAL;
	*ret = (uint16_t) port;
	return 0;
}

static int endpoint_parse_https(const char *text, struct endpoint *ret, struct error *err)
{
	const char *rest = text + strlen("https://");
	size_t size = strcspn(rest, "/");
	AUTO(free) char *authority = mem_strndup(rest, size);
	char *host = authority, *port = NULL;
	uint16_t number = ENDPOINT_DEFAULT_PORT;

	if (rest[size] && strcmp(rest + size, "/") != 0)
		return error_say(err, -EINVAL,
				 "host \"%s\": nothing may follow the name and the port", text);
	if (*host == '[') {
		char *end = strchr(++host, ']');

		if (!end || (end[1] && end[1] != ':'))
			return error_say(
				err, -EINVAL,
				"host \"%s\": an IPv6 address looks like https://[fd00::1]:8443",
				text);
		port = end[1] ? end + 2 : NULL;
		*end = '\0';
	} else {
		port = strchr(host, ':');
		if (port)
			*port++ = '\0';
	}
	if (!*host || strpbrk(host, "@?# "))
		return error_say(err, -EINVAL,
				 "host \"%s\": it should look like https://server:8443", text);
	if (port && endpoint_parse_port(port, &number) < 0)
		return error_say(err, -EINVAL, "host \"%s\": the port is a number from 1 to 65535",
				 text);
	*ret = (struct endpoint){ .host = mem_strdup(host), .port = number };
	return 0;
}

int endpoint_parse(const char *text, struct endpoint *ret, struct error *err)
{
	if (strncmp(text, "unix://", 7) == 0)
		return endpoint_parse_socket(text + 7, ret, err);
	if (text[0] == '/')
		return endpoint_parse_socket(text, ret, err);
	if (strncmp(text, "https://", 8) == 0)
		return endpoint_parse_https(text, ret, err);
	if (strncmp(text, "http://", 7) == 0)
		return error_say(
			err, -EINVAL,
			"host \"%s\": only https:// is spoken, a token would travel in the clear",
			text);
	return error_say(err, -EINVAL,
			 "host \"%s\": it should look like https://server:8443 or "
			 "unix:///run/brume/brumed.sock",
			 text);
}

void endpoint_done(struct endpoint *endpoint)
{
	free(endpoint->socket_path);
	free(endpoint->host);
	*endpoint = (struct endpoint){};
}
