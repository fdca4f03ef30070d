#pragma once
/*
 * base/signame.h - the names of signals, as people write them.
 *
 * Used by model/ and the command line, by the agent, and by guest/, where a virtual machine is told
 * the same names.  No state, thread-safe.
 */

/* "TERM", "SIGTERM", "15", "RTMIN+3"; the number or -EINVAL. */
int signame_number(const char *text);
