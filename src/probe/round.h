#pragma once
/*
 * probe/round.h - do many answer?  One check of each of many addresses, many of them at a time.
 *
 * For the members of a load balancer: a process for each would cost more than the check.  Writes
 * one request at most to each, reads the beginning of its answer, and is over when the time of the
 * last one is.  Used by brume-probe, after it has given everything else up (probe/confine.h): no
 * files are opened and no memory is allocated.  One thread.
 */
#include <stddef.h>
#include <stdint.h>

enum {
	ROUND_MAX = 256,      /* addresses */
	ROUND_AT_A_TIME = 64, /* sockets that are open */
};

/* What is found out of one, as a letter. */
enum round_result {
	ROUND_PASSED = '+',
	ROUND_REFUSED = 'r',
	ROUND_TIMEOUT = 't',
	ROUND_UNREACHABLE = 'u',
	ROUND_NOT_HTTP = 'h',
	ROUND_BAD_STATUS = 's',
};

struct round {
	const char *path; /* NULL: a connection is enough; else GET this */
	uint16_t port;
	uint32_t timeout_ms; /* of each */
	char *const *addresses;
	size_t count; /* at most ROUND_MAX */
};

/* Writes a letter for each address, in their order; no end of the text. */
void round_run(const struct round *round, char *results);
