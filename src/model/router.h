#pragma once
/*
 * model/router.h - what joins networks of a project, and joins them to the outside.
 *
 * Its lists are JSON objects, so that a merge patch can name one entry: networks by their names,
 * routes by where they lead, floating addresses by the address, forwards by "[ADDRESS:]PORT/tcp".
 * control/ completes the spec (uids, addresses, what instances' names mean), agent/ and net/ make
 * it.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/address.h"
#include "model/meta.h"
#include "model/port.h"
#include "model/publish.h"

enum { ROUTER_NETWORKS_MAX = 32, ROUTER_ENTRIES_MAX = 128, ROUTER_KEY_SIZE = 64 };

struct router_network {
	char network[PORT_NETWORK_SIZE];
	char ipv4[IP_TEXT_SIZE]; /* the router's there; completed by control, "" = none */
	char ipv6[IP_TEXT_SIZE];
	char uid[UID_SIZE]; /* of the network; set by control */
};

struct router_route {
	struct subnet to;
	struct ip via;
};

/* Where something leads: an instance on one of the router's networks, or an address. */
struct router_target {
	char instance[PORT_NETWORK_SIZE]; /* "" = `address` */
	char network[PORT_NETWORK_SIZE];  /* which of the instance's; "" = the first that is joined
					   */
	struct ip address;

	/* Set by control: what is in force; families 0 = it leads nowhere now. */
	char uid[UID_SIZE]; /* of the instance */
	struct ip ipv4, ipv6;
};

/* The address is the target's towards the outside, both ways; without a target for forwards only.
 */
struct router_floating {
	struct ip address;
	struct router_target target;
};

struct router_forward {
	struct ip address; /* a floating one; family 0 = the node's addresses */
	enum protocol protocol;
	uint16_t port;
	uint16_t target_port;
	struct router_target target;
};

struct router_spec {
	struct router_network *networks;
	struct router_route *routes;
	struct router_floating *floating;
	struct router_forward *forwards;
	size_t network_count, route_count, floating_count, forward_count;
	bool uplink; /* it leads outside */
	bool nat;    /* with the node's addresses; else with those of its networks */
	/* Routing daemons of the node announce its floating addresses and, without nat, networks.
	 */
	bool advertise;
	struct ip
		transit; /* set by control: the node's end of a /31, the router has the next one */
	char *node;
};

enum router_state { ROUTER_PENDING, ROUTER_READY, ROUTER_FAILED, ROUTER_GONE };

struct router_status {
	uint64_t generation;
	enum router_state state;
	char **advertised; /* subnets that a routing daemon is told to announce; NULL = none */
	char *error;
};

struct router {
	struct meta meta;
	struct router_spec spec;
	struct router_status status;
};

int router_decode(const json_t *doc, struct router **ret, struct error *err);
json_t *router_encode(const struct router *router, unsigned int parts); /* enum encode */
void router_free(struct router *router);
DEFINE_AUTO(struct router *, router_free)

void router_spec_init(struct router_spec *spec); /* uplink and nat */
void router_spec_done(struct router_spec *spec);

/* A spec with what a user may set, and nothing else. */
int router_spec_decode_user(const json_t *object, struct router_spec *spec, struct error *err);
json_t *router_spec_encode_user(const struct router_spec *spec);

int router_status_decode(const json_t *object, struct router_status *status, struct error *err);
json_t *router_status_encode(const struct router_status *status);
void router_status_done(struct router_status *status);

/*
 * Applies a JSON merge patch (RFC 7396) of what a user may set.  What control has set is lost, to
 * be completed again, but for the transit address.  After -EINVAL the spec is as it was.
 */
int router_patch(struct router *router, const json_t *patch, struct error *err);

/* The patch that gives a router back what `patch` would change now; a new reference. */
json_t *router_patch_undo(const struct router *router, const json_t *patch);

/* POST /1.0/routers: a name, labels, and what a user may set. */
int router_request_decode(const json_t *doc, struct router **ret, struct error *err);

/* NULL when it does not join that network. */
struct router_network *router_find_network(const struct router_spec *spec, const char *uid);

/* "8080/tcp", "192.0.2.10:53/udp", "[2001:db8::5]:80/tcp" */
void router_forward_key(const struct router_forward *forward, char ret[ROUTER_KEY_SIZE]);

/* [ADDRESS:]PORT:TARGET:PORT[/tcp|/udp] as people type it; TARGET is an instance or an address. */
int router_forward_parse(const char *text, struct router_forward *ret, struct error *err);

/* [ADDRESS:]PORT[/tcp|/udp] */
int router_forward_key_parse(const char *text, struct router_forward *ret, struct error *err);

/* The router's end of its transit /31. */
struct ip router_transit(const struct router_spec *spec);
