#pragma once
/*
 * container/stats.h - what a container uses, as the JSON that callers of `events` read.
 *
 * The members are those of runc's documents; what a version of control groups does not have is
 * absent or zero.  Used by the verb events.  One thread; keeps nothing.
 */
#include "base/json.h"
#include "kern/cgroup.h"

/* `pid` is of init, for its network interfaces.  A new reference. */
json_t *stats_read(const struct cgroup *cgroup, pid_t pid);

/* Parsers of the kernel's files, for stats_read(). */

/* "name value" lines as an object of numbers. */
json_t *stats_parse_pairs(const char *text);
/* The value of one of these lines; 0 when it is not there. */
int64_t stats_pair(const char *text, const char *name);
/* "some avg10=0.00 avg60=... total=1" lines. */
json_t *stats_parse_pressure(const char *text);
/* "8:0 Read 12" lines (version 1). */
json_t *stats_parse_blkio(const char *text);
/* "8:0 rbytes=1 wbytes=2 ..." lines (version 2): the two counters, as Read and Write. */
json_t *stats_parse_io(const char *text, const char *read_key, const char *write_key);
/* "0-2,7" as an array of numbers. */
json_t *stats_parse_list(const char *text);
/* /proc/PID/net/dev without loopback. */
json_t *stats_parse_interfaces(const char *text);
