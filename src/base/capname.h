#pragma once
/*
 * base/capname.h - the names of Linux capabilities.
 *
 * The one table of them, for those who ask the kernel (kern/caps.h) and those who read what people
 * write (model/capability.h).  No state, thread-safe.
 */

enum { CAPNAME_COUNT = 41 }; /* those that have names here; a newer kernel may have more */

/* "CAP_CHOWN" ...; `number` is the kernel's number of it.  NULL above the last. */
const char *capname(unsigned int number);

/* "CAP_CHOWN" or "chown", in any case -> its number, or -EINVAL. */
int capname_number(const char *name);
