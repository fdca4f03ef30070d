#include "model/trace_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/address.h"
#include "model/member.h"

enum { TO_MAX_BYTES = 253, NETWORK_MAX_BYTES = 63, PORT_MAX = 65535 };

const char *const trace_protocol_names[] = { "tcp", "udp", "icmp", NULL };

void trace_request_free(struct trace_request *request)
{
	if (!request)
		return;
	free(request->network);
	free(request->to);
	free(request);
}

static int check(const struct trace_request *request, struct error *err)
{
	if (!request->to || !request->to[0])
		return error_say(err, -EINVAL,
				 "to: is missing, an address or the name of an instance");
	if (request->protocol != TRACE_ICMP && request->port == 0)
		return error_say(err, -EINVAL, "port: %s goes to a port, 1 to %d",
				 trace_protocol_names[request->protocol], PORT_MAX);
	if (request->protocol == TRACE_ICMP && request->port != 0)
		return error_say(err, -EINVAL, "port: icmp has none, only tcp and udp have");
	return 0;
}

int trace_request_decode(const json_t *doc, struct trace_request **ret, struct error *err)
{
	AUTO(trace_request_free) struct trace_request *request = mem_new0(struct trace_request);
	struct json_reader in = { .err = err, .where = "" };
	unsigned int protocol = TRACE_ICMP;
	uint32_t port = 0;
	int r;

	member_read_text(&in, doc, "network", NETWORK_MAX_BYTES, &request->network);
	member_read_text(&in, doc, "to", TO_MAX_BYTES, &request->to);
	json_read_uint32(&in, doc, "port", PORT_MAX, &port);
	if (port > 0)
		protocol = TRACE_TCP;
	member_read_enum(&in, doc, "protocol", trace_protocol_names, &protocol);
	json_read_bool(&in, doc, "live", &request->live);
	r = json_reader_finish(&in, doc);
	request->protocol = protocol;
	request->port = (uint16_t) port;
	if (r == 0)
		r = check(request, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(request);
	return 0;
}

json_t *trace_request_encode(const struct trace_request *request)
{
	json_t *doc = json_pack("{s:s, s:s}", "to", request->to, "protocol",
				trace_protocol_names[request->protocol]);

	json_put_string(doc, "network", request->network);
	member_put_uint(doc, "port", request->port);
	if (request->live)
		json_object_set_new(doc, "live", json_true());
	return doc;
}

/* ---- what people type */

static int parse_port(const char *text, uint16_t *ret, struct error *err)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || port == 0 || port > PORT_MAX)
		return error_say(err, -EINVAL, "--to: \"%.16s\" is not a port, 1 to %d", text,
				 PORT_MAX);
	*ret = (uint16_t) port;
	return 0;
}

/* Nobody has such a name, and it cannot be asked for. */
static bool is_utf8(const char *text)
{
	AUTO(json_decref) json_t *value = json_string(text);

	return value != NULL;
}

/* Many colons are an IPv6 address', one is in front of the port. */
static int parse_to(const char *text, struct trace_request *request, struct error *err)
{
	const char *colon = strchr(text, ':'), *bracket = strchr(text, ']');
	struct ip ip;

	if (text[0] == '[') {
		if (!bracket || (bracket[1] && bracket[1] != ':'))
			return error_say(err, -EINVAL, "--to: \"%.64s\" is not [ADDRESS]:PORT",
					 text);
		request->to = mem_strndup(text + 1, (size_t) (bracket - text - 1));
		if (ip_parse(request->to, &ip) < 0 || ip.family != 6)
			return error_say(err, -EINVAL, "--to: \"%.64s\" is not an IPv6 address",
					 request->to);
		return bracket[1] ? parse_port(bracket + 2, &request->port, err) : 0;
	}
	if (!colon || strchr(colon + 1, ':')) {
		request->to = mem_strdup(text);
		return 0;
	}
	request->to = mem_strndup(text, (size_t) (colon - text));
	return parse_port(colon + 1, &request->port, err);
}

int trace_request_parse(const char *from, const char *to, const char *protocol, char **ret_instance,
			struct trace_request **ret, struct error *err)
{
	AUTO(trace_request_free) struct trace_request *request = mem_new0(struct trace_request);
	const char *dot = strchr(from, '.');
	int index, r = parse_to(to, request, err);

	if (r < 0)
		return r;
	if (!from[0] || dot == from || (dot && !dot[1]))
		return error_say(err, -EINVAL,
				 "--from: \"%.64s\" is not INSTANCE or "
				 "INSTANCE.NETWORK",
				 from);
	if (!is_utf8(from) || !is_utf8(to))
		return error_say(err, -EINVAL, "%s: is not UTF-8",
				 is_utf8(from) ? "--to" : "--from");
	if (!request->to[0])
		return error_say(err, -EINVAL, "--to: \"%.64s\" names nobody", to);
	if (dot)
		request->network = mem_strdup(dot + 1);
	index = protocol        ? member_enum_index(trace_protocol_names, protocol)
		: request->port ? TRACE_TCP
				: TRACE_ICMP;
	if (index < 0)
		return error_say(err, -EINVAL, "--proto: \"%.16s\" must be tcp, udp or icmp",
				 protocol);
	request->protocol = (enum trace_protocol) index;
	if (request->protocol == TRACE_ICMP && request->port)
		return error_say(err, -EINVAL, "--proto: icmp has no ports");
	if (request->protocol != TRACE_ICMP && !request->port)
		return error_say(err, -EINVAL, "--to: %s goes to a port: %s:PORT", protocol, to);
	*ret_instance = dot ? mem_strndup(from, (size_t) (dot - from)) : mem_strdup(from);
	*ret = TAKE_PTR(request);
	return 0;
}
