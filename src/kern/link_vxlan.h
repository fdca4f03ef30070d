#pragma once
/*
 * kern/link_vxlan.h - VXLAN devices: a layer-2 segment carried in UDP (RFC 7348), and their
 * forwarding tables.
 *
 * Used by net/.  One request each over a struct netlink of NETLINK_ROUTE.  Returns 0 or -errno.  No
 * state. Threads: as struct netlink.
 */
#include <stdbool.h>
#include <stdint.h>

#include "kern/link.h"
#include "kern/route.h"

enum { LINK_VNI_MAX = 0xffffff };

struct link_vxlan {
	uint32_t vni;          /* 1..LINK_VNI_MAX */
	uint16_t port;         /* UDP, of both sides */
	struct route_ip local; /* source address of what is sent; family 0 = the kernel's choice */
	bool ipv6;             /* the underlay; fixed when the device is made */
	bool learning;         /* of the senders' addresses */
};

/* Born down, on the bridge with the index `master`. */
int link_add_vxlan(struct netlink *nl, const char *name, int master,
		   const struct link_vxlan *vxlan);

/* -ENODEV: no such interface, or one of another kind. */
int link_read_vxlan(struct netlink *nl, const char *name, struct link_vxlan *ret);

/*
 * One line of the table: frames for `mac` go to `remote`.  Frames for everybody, and for those not
 * known, go to each remote that has a line with a MAC of zeros.
 */
struct link_fdb {
	uint8_t mac[LINK_MAC_SIZE];
	struct route_ip remote; /* without prefix */
	bool permanent;         /* false: learnt, and forgotten again */
};

/* One that is there already is fine. */
int link_fdb_add(struct netlink *nl, int index, const struct link_fdb *line);

/* One that is not there is fine. */
int link_fdb_delete(struct netlink *nl, int index, const struct link_fdb *line);

/* Hands every line of the device's own table to `fn`, which may not use `nl`.  -EINTR: changed
 * meanwhile, begin anew. */
int link_fdb_list(struct netlink *nl, int index,
		  void (*fn)(const struct link_fdb *line, void *data), void *data);
