#pragma once
/*
 * net/tap.h - a virtual machine's attachment to a network: a tap device, named as a veth would be.
 *
 * The device lives on the network's bridge, in the node's own network namespace; its descriptor
 * goes to the machine's monitor.  The guest itself sets up addresses and routes.  The device is
 * not persistent: it ends with its last descriptor, so a monitor that dies, however, leaves
 * nothing.  Counters, published ports, names and garbage are those of port.h, publish.h and
 * observe.h.
 *
 * Used by the agent; uses net/node.h.  Threads and crash: see there.
 */
#include "net/port.h"

/* What the guest has to know about its port. */
struct tap_facts {
	uint8_t mac[6];
	uint16_t mtu;
	char ipv4[24], ipv6[56]; /* "10.90.0.5/24"; "" = none */
};

/* What the guest of a device that is there has to know. */
int tap_describe(const struct port_spec *spec, struct tap_facts *ret, struct error *err);

/*
 * Makes the device and puts it on the bridge.  One of an earlier run goes.  *ret_fd speaks
 * Ethernet frames behind a virtio_net_hdr of 12 bytes.
 */
int tap_open(struct net *net, const struct port_spec *spec, int *ret_fd, struct tap_facts *ret,
	     struct error *err);

/*
 * Makes good what is missing of a device whose machine runs, and publishes the name.  -ENODEV when
 * the device is gone: only a new run brings it back.
 */
int tap_attach(struct net *net, const struct port_spec *spec, struct error *err);
