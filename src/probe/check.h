#pragma once
/*
 * probe/check.h - does somebody answer on a port of this network namespace?
 *
 * Looks on the loopback of both families or at one address, writes one request at most, reads
 * CHECK_READ_MAX bytes at most, and is over at the deadline.  Used by brume-probe, after it has
 * given everything else up (probe/confine.h): no files are opened and no memory is allocated.  One
 * thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHECK_READ_MAX = 4096 };

struct check {
	const char *path;    /* NULL: a connection is enough; else GET this */
	const char *address; /* IPv4 or IPv6; NULL: the loopback of both */
	uint16_t port;
	uint32_t timeout_ms;
};

/* True when it passed.  One line without its end goes to `words`. */
bool check_run(const struct check *check, char *words, size_t size);
