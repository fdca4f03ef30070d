#pragma once
/*
 * base/limitname.h - the names of a process's limits (setrlimit), as OCI documents write them.
 *
 * The one table of them, for container/ and for guest/, which does the same inside of a virtual
 * machine.  No state, thread-safe.
 */

/* "RLIMIT_NOFILE" ...; `resource` is the kernel's number of it.  NULL when there is none. */
const char *limitname(int resource);

/* "RLIMIT_NOFILE" -> its number, or -EINVAL. */
int limitname_number(const char *name);
