#pragma once
/*
 * agent/native.h - which architectures' programs this node's kernel executes without a machine.
 *
 * Used by instance_task.c before a container is made: what it refuses would end with "exec format
 * error".  Stateless; called on workers.
 */

struct error;

/* Where binfmt_misc shows its entries. */
#define NATIVE_BINFMT "/proc/sys/fs/binfmt_misc"

/*
 * `architecture` and `host` in OCI's words.  0 when programs of the one run on the other: by
 * itself, because the kernel has been told of an interpreter that works in any root (`binfmt`, the
 * flag F), or because the name is not known to us.  -ENOEXEC says what would run it.
 */
int native_check(const char *architecture, const char *host, const char *binfmt, struct error *err);
