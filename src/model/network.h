#pragma once
/*
 * model/network.h - an isolated layer-2 segment of a project, with its subnets.
 *
 * control/ writes the spec and allocates addresses from the subnets, net/ builds it on the node.
 * No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "model/address.h"
#include "model/meta.h"
#include "model/network_driver.h"

struct json_reader;

/* The same network on other nodes, see net/network.h. */
struct network_tunnel {
	bool gre;      /* else VXLAN */
	uint32_t vni;  /* of GRE: the key; 0 = no tunnel */
	uint16_t port; /* of UDP; 0 = 4789 */
	char *local;   /* the node's own address for it; NULL = the kernel's choice */
	char **peers;  /* addresses of other nodes, all of one family */
};

/* NETWORK.PROJECT.internal, and its '\0'. */
enum { NETWORK_ZONE_SIZE = 63 + 1 + 63 + sizeof(".internal") };

enum network_state { NETWORK_PENDING, NETWORK_READY, NETWORK_FAILED, NETWORK_GONE };

struct network_spec {
	enum network_driver driver;
	enum macvlan_mode mode; /* of driver macvlan */
	char *uplink;           /* an interface of the node; NULL = none */
	struct subnet ipv4;     /* family 0 = no IPv4 */
	struct subnet ipv6;
	struct ip gateway4; /* the first address of each; of an outside LAN: somebody else's */
	struct ip gateway6;
	struct ip_range range4, range6; /* that addresses are chosen from */
	bool nat;                       /* masquerade towards the outside */
	bool isolated; /* the node has no address there: nothing leads out, and nothing in */
	char *dns_domain;
	bool dhcp;      /* ports get their addresses from the node, when they ask */
	bool advertise; /* routing daemons of the node announce it; routed ones only */
	bool flow_log;  /* who talks with whom is put down */
	uint32_t mtu;   /* 0 = the kernel's choice */
	struct network_tunnel tunnel;
	char *node;
};

struct network_status {
	uint64_t generation;
	enum network_state state;
	char *bridge;
	uint32_t mtu;      /* that its ports have */
	char **advertised; /* subnets that a routing daemon is told to announce; NULL = none */
	char *error;
};

struct network {
	struct meta meta;
	struct network_spec spec;
	struct network_status status;
};

int network_decode(const json_t *doc, struct network **ret, struct error *err);
json_t *network_encode(const struct network *network, unsigned int parts); /* enum encode */
struct network *network_copy(const struct network *network);
void network_free(struct network *network);
DEFINE_AUTO(struct network *, network_free)

/* What the full names of its instances end in: NETWORK.PROJECT.internal. */
void network_zone(const struct network *network, char ret[NETWORK_ZONE_SIZE]);

int network_spec_decode(const json_t *object, struct network_spec *spec, struct error *err);
json_t *network_spec_encode(const struct network_spec *spec);
/* Whether its instances have the second domain that all have whose network says nothing. */
bool network_domain_is_default(const struct network_spec *spec);

void network_spec_init(struct network_spec *spec); /* nat, "brume.internal" */
void network_spec_copy(struct network_spec *to, const struct network_spec *from);
void network_spec_done(struct network_spec *spec);

/* Status alone, as it travels over the agent link.  `status` may be zeroed. */
int network_status_decode(const json_t *object, struct network_status *status, struct error *err);
json_t *network_status_encode(const struct network_status *status);
void network_status_done(struct network_status *status);

/* Members that a user may set, for requests; see instance_spec_read_user(). */
int network_spec_read_user(struct json_reader *in, const json_t *object, struct network_spec *spec);
void network_spec_put_user(json_t *object, const struct network_spec *spec);

/*
 * Applies a JSON merge patch (RFC 7396) of the members `tunnel`, `advertise` and `flow_log`, which
 * may change while the network is used. After -EINVAL the network is half changed, to be thrown
 * away.
 */
int network_patch(struct network *network, const json_t *patch, struct error *err);

/* The patch that gives a network back what `patch` would change now; a new reference. */
json_t *network_patch_undo(const struct network *network, const json_t *patch);
