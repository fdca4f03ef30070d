#pragma once
/*
 * agent/traffic.h - puts down what the ports of instances carry, and tells it.
 *
 * The kernel counts (net/count.h), STATE/instances/UID/traffic.json has the sums (model/traffic.h).
 * They are brought up to date when a port goes, when an instance has ended, every half minute, when
 * somebody asks, and when the agent ends.  Order is what makes them exact: the interface goes
 * first, then its counts are put down, then they are forgotten; each step may be repeated.  What a
 * power cut takes is what was carried since the last time.
 *
 * Used by the steps of instances and by the stream "usage".  Threads: traffic_save() and
 * traffic_save_gone() are for workers; the rest is the loop's.
 */
#include <stddef.h>

#include "model/traffic.h"

struct agent;
struct error;
struct traffic_keeper;

/* Begins to put down what is carried, again and again. */
struct traffic_keeper *traffic_keeper_new(struct agent *agent);

/* Puts it down a last time; workers have ended. */
void traffic_keeper_free(struct traffic_keeper *keeper);

/* Brings the sums of an instance up to date; *ret (may be NULL) is the caller's. */
int traffic_save(const struct agent *agent, const char *uid, const struct port *ports, size_t count,
		 struct traffic_record *ret, struct error *err);

/* The same, for ports whose interfaces have gone: then the kernel forgets their counts. */
int traffic_save_gone(const struct agent *agent, const char *uid, const struct port *ports,
		      size_t count, struct error *err);
