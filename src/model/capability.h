#pragma once
/*
 * model/capability.h - names of Linux capabilities, as people write them.
 *
 * Shared by the command line, the API and the agent.  No state, thread-safe.
 */

struct error;

/*
 * "net_admin", "CAP_NET_ADMIN" or "all" in any case; *ret is the one spelling that is stored,
 * "CAP_NET_ADMIN" or "ALL".  -EINVAL names those that look alike.
 */
int capability_parse(const char *text, const char **ret, struct error *err);
