#pragma once
/*
 * net/limit_internal.h - the queues of a port.
 *
 * Used by port.c and tap.c, with the lock of struct net held, except limit_plan(), which is pure.
 */
#include "kern/link.h"
#include "kern/qdisc.h"
#include "net/limit.h"

struct error;
struct net;

/* Makes the queues of the interface `port` of the port `uid` what `spec` says. */
int limit_ensure(struct net *net, const char *uid, const struct link *port, uint32_t mtu,
		 const struct limit_spec *spec, struct error *err);

/* 0 when there are none; for ports of a driver that cannot. */
int limit_refuse(const struct limit_spec *spec, const char *driver, struct error *err);

/* Takes away what the interface does not take with it. */
int limit_remove(struct net *net, const char *uid, struct error *err);

/* The bucket for a rate: never smaller than one frame, for that would let nothing through. */
struct qdisc_tbf limit_plan(uint64_t bps, uint64_t burst_bytes, uint32_t mtu);
