#pragma once
/*
 * model/traffic.h - what the ports of an instance have carried in all their life.
 *
 * The kernel's counts begin anew with each run of an instance and each boot of its node.  So a
 * record keeps sums, and with each how much of the present counts is in it: what comes on top is
 * the difference, and counts of another serial come on top as a whole.  Sum and difference stand in
 * one document that is replaced as a whole, so nothing is counted twice or forgotten, whoever dies
 * between two steps.
 *
 * One sum for each network that the instance is, or was, in: it goes on when the instance comes
 * back.  Written and read by agent/, shown by the API.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "model/port.h"

struct error;

enum { TRAFFIC_PORTS_MAX = 32 };

struct traffic_sum {
	uint64_t bytes, packets;
};

/* With addresses of the port's own network, and with all others. */
struct traffic_way {
	struct traffic_sum inside, outside;
};

/* Seen from the instance. */
struct traffic {
	struct traffic_way in, out;
};

/* {"in": {"inside": {"bytes", "packets"}, "outside": {..}}, "out": {..}} */
json_t *traffic_encode(const struct traffic *traffic);

struct traffic_port {
	char network[PORT_NETWORK_SIZE];
	char network_uid[UID_SIZE]; /* "": of networks that it left long ago, together */
	struct traffic sum;
	uint64_t serial;         /* of the counts that the sum has last grown by; 0 = none */
	struct traffic included; /* of them, in the sum */
};

struct traffic_record {
	struct traffic_port *ports;
	size_t count;
};

int traffic_record_decode(const json_t *doc, struct traffic_record *ret, struct error *err);
json_t *traffic_record_encode(const struct traffic_record *record);

/* The present counts of the port on a network.  True: the sum has grown, or is new. */
bool traffic_record_add(struct traffic_record *record, const struct port *port, uint64_t serial,
			const struct traffic *now);

/* Adds up what was carried on networks that none of `ports` is on, when they become too many. */
void traffic_record_trim(struct traffic_record *record, const struct port *ports, size_t count);

/* The sum on a network; NULL when there is none yet. */
const struct traffic_port *traffic_record_find(const struct traffic_record *record,
					       const char *network_uid);

void traffic_record_done(struct traffic_record *record);
static inline void traffic_record_done_autop(struct traffic_record *record)
{
	traffic_record_done(record);
}
