#include "model/publish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/member.h"

static const char *const protocol_names[] = { "tcp", "udp", NULL };

const char *protocol_name(enum protocol protocol)
{
	return protocol_names[protocol];
}

/* A port from 1 to 65535 that fills `size` bytes of `text`. */
static int port_parse(const char *text, size_t size, uint16_t *ret)
{
	unsigned int port = 0;

	if (size == 0 || size > 5)
		return -EINVAL;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		port = port * 10 + (unsigned int) (text[i] - '0');
	}
	if (port < 1 || port > 65535)
		return -EINVAL;
	*ret = (uint16_t) port;
	return 0;
}

/* The canonical text of an address, so that equal addresses are equal strings; "all" is empty. */
static int host_ip_canonical(const char *text, char ret[IP_TEXT_SIZE])
{
	struct ip ip;

	ret[0] = '\0';
	if (!text || !text[0])
		return 0;
	if (ip_parse(text, &ip) < 0)
		return -EINVAL;
	ip_format(&ip, ret);
	if (strcmp(ret, "0.0.0.0") == 0 || strcmp(ret, "::") == 0)
		ret[0] = '\0';
	return 0;
}

/* Splits "[v6]:" or "v4:" off the front of `rest`. */
static int split_host_ip(const char **rest, const char *colon, char ret[IP_TEXT_SIZE])
{
	const char *start = *rest, *end = colon;
	char text[IP_TEXT_SIZE];

	if (start[0] == '[') {
		end = strchr(++start, ']');
		if (!end || end[1] != ':')
			return -EINVAL;
		*rest = end + 2;
	} else {
		*rest = colon + 1;
	}
	if (end == start || (size_t) (end - start) >= sizeof(text))
		return -EINVAL;
	memcpy(text, start, (size_t) (end - start));
	text[end - start] = '\0';
	return host_ip_canonical(text, ret);
}

int publish_parse(const char *text, struct publish *ret, struct error *err)
{
	struct publish publish = {};
	const char *rest = text, *slash = strchr(text, '/');
	size_t size = slash ? (size_t) (slash - text) : strlen(text);
	const char *first = memchr(text, ':', size);
	bool good = true;

	if (slash && strcmp(slash + 1, "udp") == 0)
		publish.protocol = PROTOCOL_UDP;
	else if (slash && strcmp(slash + 1, "tcp") != 0)
		good = false;
	if (good && first &&
	    (text[0] == '[' || memchr(first + 1, ':', size - (size_t) (first + 1 - text))))
		good = split_host_ip(&rest, first, publish.host_ip) == 0;
	size -= good ? (size_t) (rest - text) : 0;
	const char *colon = good ? memchr(rest, ':', size) : NULL;
	if (!colon || port_parse(rest, (size_t) (colon - rest), &publish.host_port) < 0 ||
	    port_parse(colon + 1, size - (size_t) (colon + 1 - rest), &publish.port) < 0)
		return error_say(err, -EINVAL,
				 "\"%.80s\" is not a published port: use "
				 "[HOST_IP:]HOST_PORT:PORT[/tcp|/udp], "
				 "for example 8080:80",
				 text);
	*ret = publish;
	return 0;
}

int publish_conflict(const struct publish *a, const struct publish *b)
{
	return a->host_port == b->host_port && a->protocol == b->protocol &&
	       (!a->host_ip[0] || !b->host_ip[0] || strcmp(a->host_ip, b->host_ip) == 0);
}

static int publish_decode(const json_t *object, const char *where, struct publish *publish,
			  struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	AUTO(free) char *host_ip = NULL;
	unsigned int protocol = PROTOCOL_TCP;
	int64_t host_port = 0, port = 0;

	json_read_string(&in, object, "host_ip", &host_ip);
	json_read_int(&in, object, "host_port", 1, 65535, &host_port);
	json_read_int(&in, object, "port", 1, 65535, &port);
	member_read_enum(&in, object, "protocol", protocol_names, &protocol);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	if (host_port == 0 || port == 0)
		return error_say(err, -EINVAL, "%s: host_port and port must be given", where);
	if (host_ip_canonical(host_ip, publish->host_ip) < 0)
		return error_say(err, -EINVAL, "%s.host_ip: \"%.64s\" is not an IP address", where,
				 host_ip);
	publish->host_port = (uint16_t) host_port;
	publish->port = (uint16_t) port;
	publish->protocol = protocol;
	return 0;
}

int publish_read_list(struct json_reader *in, const json_t *object, const char *name,
		      struct publish **ret, size_t *ret_count)
{
	AUTO(free) struct publish *list = NULL;
	char path[MEMBER_PATH_MAX], item_path[MEMBER_PATH_MAX + 32];
	json_t *array = NULL, *item;
	size_t i;

	json_read_array(in, object, name, &array);
	if (in->result < 0 || !array)
		return in->result;
	if (json_array_size(array) > PUBLISH_MAX)
		return member_fail(in, name, "at most %d ports can be published", PUBLISH_MAX);
	member_path(path, in->where, name);
	list = mem_new0_array(struct publish, json_array_size(array) + 1);
	json_array_foreach(array, i, item)
	{
		snprintf(item_path, sizeof(item_path), "%s[%zu]", path, i);
		int r = publish_decode(item, item_path, &list[i], in->err);
		if (r < 0) {
			in->result = r;
			return r;
		}
		for (size_t k = 0; k < i; k++)
			if (publish_conflict(&list[k], &list[i]))
				return member_fail(in, name, "port %u/%s is published twice",
						   list[i].host_port,
						   protocol_name(list[i].protocol));
	}
	free(*ret);
	*ret = TAKE_PTR(list);
	*ret_count = json_array_size(array);
	return 0;
}

json_t *publish_encode_list(const struct publish *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *item = json_object();

		json_object_set_new(item, "host_ip", json_string(list[i].host_ip));
		json_object_set_new(item, "host_port", json_integer(list[i].host_port));
		json_object_set_new(item, "port", json_integer(list[i].port));
		json_object_set_new(item, "protocol", json_string(protocol_name(list[i].protocol)));
		json_array_append_new(array, item);
	}
	return array;
}
