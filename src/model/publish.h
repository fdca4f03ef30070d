#pragma once
/*
 * model/publish.h - a published port: a port of the node that leads to a port of an instance.
 *
 * The text form is what people type: [HOST_IP:]HOST_PORT:PORT[/tcp|/udp], an IPv6 HOST_IP in
 * brackets, e.g. "8080:80", "127.0.0.1:5353:53/udp", "[::1]:8080:80".  No state, thread-safe.
 */
#include <jansson.h>
#include <stdint.h>

#include "model/address.h"

struct error;
struct json_reader;

enum protocol { PROTOCOL_TCP, PROTOCOL_UDP };
const char *protocol_name(enum protocol protocol);

struct publish {
	char host_ip[IP_TEXT_SIZE]; /* "" = every address of the node, v4 and v6 */
	uint16_t host_port;
	uint16_t port;
	enum protocol protocol;
};

enum { PUBLISH_MAX = 256 };

int publish_parse(const char *text, struct publish *ret, struct error *err);

/* Reads a list of published ports; refuses two that take the same port of the host. */
int publish_read_list(struct json_reader *in, const json_t *object, const char *name,
		      struct publish **ret, size_t *ret_count);
json_t *publish_encode_list(const struct publish *list, size_t count);

/* Do two publishes want the same port of the host? */
int publish_conflict(const struct publish *a, const struct publish *b);
