#pragma once
/*
 * model/trace_request.h - which packet is to be followed: POST /1.0/instances/NAME/trace.
 *
 * Shared by the command line, which makes it of what people type, and the API.  No state,
 * thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct error;

enum trace_protocol { TRACE_TCP, TRACE_UDP, TRACE_ICMP };
extern const char *const trace_protocol_names[]; /* NULL-terminated */

struct trace_request {
	char *network; /* with the address of this port; NULL: that of the port it leaves by */
	char *to;      /* an address, INSTANCE[.NETWORK[.PROJECT.internal]], or a balancer */
	enum trace_protocol protocol;
	uint16_t port; /* of tcp and udp */
	bool live;     /* send one, too, and see what the kernel does with it */
};

int trace_request_decode(const json_t *doc, struct trace_request **ret, struct error *err);
json_t *trace_request_encode(const struct trace_request *request);

/*
 * What people type: `from` is INSTANCE[.NETWORK], `to` is NAME[:PORT], ADDRESS[:PORT] or
 * [ADDRESS]:PORT, `protocol` may be NULL: tcp with a port, else icmp.
 */
int trace_request_parse(const char *from, const char *to, const char *protocol, char **ret_instance,
			struct trace_request **ret, struct error *err);

void trace_request_free(struct trace_request *request);
DEFINE_AUTO(struct trace_request *, trace_request_free)
