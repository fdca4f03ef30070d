#pragma once
/*
 * model/network_driver.h - what a network is made of, and what each kind can do.
 *
 * `bridge` is a bridge of ours and has everything.  The others put instances on a segment that is
 * somebody else's: `macvlan` on an interface of the node, `physical` on a bridge of the node, `ovs`
 * on a bridge of Open vSwitch (its own, or one that is there).  Whatever one of them lacks is
 * refused when it is asked for, in a line that names a driver which has it; control/ asks here.
 *
 * Used by model/network and control/.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>

#include "model/address.h"

struct error;
struct json_reader;
struct network_spec;

enum network_driver {
	NETWORK_DRIVER_BRIDGE,
	NETWORK_DRIVER_MACVLAN,
	NETWORK_DRIVER_PHYSICAL,
	NETWORK_DRIVER_OVS,
};

/* Who hears whom of the macvlans on one interface. */
enum macvlan_mode {
	MACVLAN_PRIVATE, /* nobody */
	MACVLAN_VEPA,    /* those that the switch outside sends back */
	MACVLAN_BRIDGED, /* all */
	MACVLAN_PASSTHRU /* there is only one */
};

/* What not every driver has. */
enum network_ability {
	NETWORK_CAN_PUBLISH,
	NETWORK_CAN_GROUPS,
	NETWORK_CAN_NAMES,
	NETWORK_CAN_TUNNEL,
	NETWORK_CAN_ISOLATE,
	NETWORK_CAN_TRANSLATE, /* nat */
	NETWORK_CAN_BALANCE,
	NETWORK_CAN_LIMIT, /* rates */
	NETWORK_CAN_LOG_FLOWS,
};

struct ip_range {
	struct ip first, last; /* family 0: all of the subnet */
};

extern const char *const network_driver_names[]; /* NULL-terminated, by enum network_driver */
extern const char *const macvlan_mode_names[];

bool network_can(const struct network_spec *spec, enum network_ability ability);

/* 0, or -EINVAL and a line that says who can. `name` is the network's. */
int network_require(const struct network_spec *spec, const char *name, enum network_ability ability,
		    struct error *err);

/* Whether it leads further than to itself. */
bool network_has_gateway(const struct network_spec *spec);

/* The first address of each subnet; nobody has it in a bridge of Open vSwitch that we make. */
void network_default_gateways(struct network_spec *spec);

/* "192.0.2.10-192.0.2.99" of `subnet`; `what` names the place in messages. */
int ip_range_parse(const char *text, const struct subnet *subnet, const char *what,
		   struct ip_range *ret, struct error *err);

/*
 * What of a spec depends on the driver; the rest was read before.  network_driver_put() writes what
 * a user may set.
 */
void network_driver_read(struct json_reader *in, const json_t *object, struct network_spec *spec);
void network_driver_put(json_t *object, const struct network_spec *spec);
