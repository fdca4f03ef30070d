#pragma once
/*
 * model/port_limits.h - how fast a port may receive and send.
 *
 * Part of model/port.h; the text form is that of a port's members, "ingress=100M".  No state,
 * thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct json_reader;

/* Seen from the instance; 0 = none. */
struct port_limits {
	uint64_t ingress_bps; /* bits a second, of whole frames */
	uint64_t egress_bps;
	uint64_t burst_bytes; /* at once; 0: the node chooses */
};

bool port_limits_equal(const struct port_limits *a, const struct port_limits *b);
bool port_limits_any(const struct port_limits *limits);

/* Is the text up to `size` the name of one of them?  Then port_limits_parse() takes it and its
 * value; "0" and "none" are no limit. */
bool port_limits_knows(const char *name, size_t size);
int port_limits_parse(const char *name, const char *value, struct port_limits *limits,
		      struct error *err);

/* What only holds between them; `where` names the burst in messages. */
int port_limits_check(const struct port_limits *limits, const char *where, struct error *err);

/*
 * The member `limits` of a port, as a merge patch: what is absent stays as it is, null takes away.
 */
void port_limits_read(struct json_reader *in, const json_t *port, struct port_limits *limits);
void port_limits_put(json_t *port, const struct port_limits *limits); /* none: nothing */

/* The patch that makes them these, whatever they are; a new reference. */
json_t *port_limits_patch(const struct port_limits *limits);
