#pragma once
/*
 * agent/flow_log.h - who talked with whom: the logs of networks that asked for one.
 *
 * The kernel tells the end of each flow (net/flow.h) with all that is known about it, so nothing is
 * kept here of flows that live.  One worker reads what has ended on the node and in the routers of
 * those networks, finds out whose it is (flow_table.h), and appends a line of JSON to
 * STATE/networks/UID/flows, with the files, heads and rotation of an instance's log
 * (keeper/joblog.h).  It has a thread of its own: a flood of ends costs the agent nothing but that.
 * What the kernel could not hand over meanwhile is counted, and a line says so.
 *
 * Crash: what the kernel was told to count, it goes on counting.  The next agent begins with a line
 * that says from when to when nobody listened: flows that ended then are missing.
 *
 * Threads: the loop's, except flow_log_folder().
 */
struct agent;
struct error;
struct flow_log;
struct flow_table;

#define FLOW_LOG_NAME "flows"

int flow_log_new(struct agent *agent, struct flow_log **ret, struct error *err);

/* Workers have ended, the actors are still there.  Reads what has ended until now. */
void flow_log_free(struct flow_log *log);

/* A network, router, or instance is another now. */
void flow_log_changed(struct agent *agent);

/* What flows mean now; the caller's. */
struct flow_table *flow_log_table(struct agent *agent);

/* Where a network's log is; the caller frees. */
char *flow_log_folder(const struct agent *agent, const char *network_uid);
