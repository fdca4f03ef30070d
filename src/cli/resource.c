#include "cli/resource.h"

#include <string.h>

enum { RESOURCE_PATH_MAX = 128 };

const json_t *resource_at(const json_t *resource, const char *path)
{
	char name[RESOURCE_PATH_MAX];

	while (resource) {
		size_t size = strcspn(path, ".");

		if (size >= sizeof(name))
			return NULL;
		memcpy(name, path, size);
		name[size] = '\0';
		resource = json_object_get(resource, name);
		if (!path[size])
			break;
		path += size + 1;
	}
	return resource;
}

const char *resource_text(const json_t *resource, const char *path)
{
	return json_string_value(resource_at(resource, path));
}

int64_t resource_int(const json_t *resource, const char *path, int64_t otherwise)
{
	const json_t *value = resource_at(resource, path);

	return json_is_number(value) ? (int64_t) json_number_value(value) : otherwise;
}

static void put_address(struct strbuf *out, const json_t *port, const char *member)
{
	const char *address = resource_text(port, member);

	if (address)
		strbuf_printf(out, "%s%s", out->size > 0 ? ", " : "", address);
}

void resource_put_addresses(struct strbuf *out, const json_t *instance, bool ipv4, bool ipv6)
{
	const json_t *port;
	size_t i;

	json_array_foreach(resource_at(instance, "spec.ports"), i, port)
	{
		if (json_is_true(resource_at(port, "leaving")))
			continue;
		if (ipv4)
			put_address(out, port, "ipv4");
		if (ipv6)
			put_address(out, port, "ipv6");
	}
}

void resource_put_ports(struct strbuf *out, const json_t *instance)
{
	const json_t *list = resource_at(instance, "spec.publish"), *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		const char *host_ip = resource_text(one, "host_ip");
		const char *protocol = resource_text(one, "protocol");

		strbuf_puts(out, i > 0 ? ", " : "");
		if (host_ip && *host_ip)
			strbuf_printf(out, strchr(host_ip, ':') ? "[%s]:" : "%s:", host_ip);
		strbuf_printf(out, "%lld->%lld", (long long) resource_int(one, "host_port", 0),
			      (long long) resource_int(one, "port", 0));
		if (protocol && strcmp(protocol, "tcp") != 0)
			strbuf_printf(out, "/%s", protocol);
	}
}

static void resource_put_word(struct strbuf *out, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "-._/:=,@%+";

	if (*word && word[strspn(word, plain)] == '\0') {
		strbuf_puts(out, word);
		return;
	}
	strbuf_puts(out, "'");
	for (; *word; word++)
		if (*word == '\'')
			strbuf_puts(out, "'\\''");
		else
			strbuf_append(out, word, 1);
	strbuf_puts(out, "'");
}

void resource_put_words(struct strbuf *out, const json_t *list)
{
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		strbuf_puts(out, i > 0 ? " " : "");
		resource_put_word(out, json_string_value(one) ? json_string_value(one) : "");
	}
}

const char *resource_name(const json_t *resource)
{
	const char *name = resource_text(resource, "meta.name");

	return name ? name : "?";
}
