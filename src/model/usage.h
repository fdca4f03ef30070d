#pragma once
/*
 * model/usage.h - what an instance has consumed: one sample of the kernel's counters.
 *
 * Counters grow from the start of a run to its end, whatever happens to the daemons; a restart of
 * the instance begins a new run.  The agent reads samples, people see them (stats, info), and what
 * is billed is made of them.  No state, thread-safe.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "model/port.h"

struct strbuf;

/* The instance's view: `rx` is what it has received. */
struct usage_traffic {
	uint64_t rx_bytes, rx_packets, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_dropped;
};

/* What one of its ports has carried since it was made. */
struct usage_port {
	char uid[UID_SIZE];
	char interface[PORT_INTERFACE_SIZE];
	char network[PORT_NETWORK_SIZE];
	bool there; /* the next ones mean something */
	struct usage_traffic traffic;
};

struct usage {
	int64_t time_ms; /* when it was read */
	uint64_t cpu_ns, cpu_user_ns, cpu_system_ns;
	uint64_t cpu_periods, cpu_throttled_periods, cpu_throttled_ns;
	uint64_t memory_bytes;       /* without the page cache that the kernel takes back first */
	uint64_t memory_limit_bytes; /* the instance's, or the memory of the node */
	/* What a virtual machine's guest has in use, and has at all; 0: not known, or a container.
	 */
	uint64_t guest_memory_bytes, guest_memory_total_bytes;
	/* Of a virtual machine whose monitor answers; what was given back not every one counts. */
	bool ballooned, counts_given_back;
	uint64_t balloon_bytes, given_back_bytes;
	uint64_t read_bytes, write_bytes, read_ops, write_ops;
	uint64_t pids, pids_limit; /* limit 0 = none */
	bool networked;            /* the next ones mean something: the sum over its ports */
	struct usage_traffic traffic;
};

enum { USAGE_PERCENT_UNKNOWN = -1 };

/*
 * Processor time between two samples of one run, 100 for a whole processor; USAGE_PERCENT_UNKNOWN
 * when they are of different runs or of the same instant.
 */
double usage_cpu_percent(const struct usage *before, const struct usage *now, uint64_t elapsed_us);

/* Adds a port's counters to the sum. */
void usage_add_traffic(struct usage *usage, const struct usage_traffic *traffic);

/*
 * Appends a sample as a JSON object.  Written as text, because a node has hundreds of them every
 * second.  `name` and `uid` are valid ones, and need no escaping.
 */
void usage_put(struct strbuf *out, const char *name, const char *uid, const struct usage *usage,
	       const struct usage_port *ports, size_t port_count, double cpu_percent);
