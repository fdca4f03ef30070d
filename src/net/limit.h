#pragma once
/*
 * net/limit.h - how fast a port may receive and send.
 *
 * What an instance receives waits in a token bucket on the node's end of its port.  What it sends
 * has no queue there, so it takes a detour: an ifb device of the port's own, `PREFIXq` + the port's
 * uid, whose token bucket it waits in before the bridge sees it.  A queue, and not a policer that
 * drops: a sender on this node is slowed down without losing anything, for its packets count as
 * its own until they have left the queue.  Nothing of this is inside the instance.
 *
 * A part of a struct port_spec; port_attach() and tap_open() make it so, and change it while
 * connections go on.  It goes with port_detach(), or is garbage.  Threads and crash: see
 * net/node.h.
 */
#include <stdint.h>

/* Seen from the instance; bits of whole frames a second, 0 = no limit. */
struct limit_spec {
	uint64_t ingress_bps, egress_bps;
	uint64_t burst_bytes; /* at once, both ways; 0 = what 20 ms let through */
};
