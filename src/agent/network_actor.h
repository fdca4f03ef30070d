#pragma once
/*
 * agent/network_actor.h - one network of the node: its bridge, its rules and its servers.
 *
 * Makes what is assigned, takes away what is deleted or unknown, keeps its servers running
 * (agent/network_server.h).  Used by agent/ on the loop's thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "agent/actors.h"
#include "agent/plan.h"
#include "base/clock.h"
#include "base/json.h"
#include "model/address.h"
#include "model/network.h"

struct agent;
struct keeper_msg;
struct link;

extern const struct actor_ops network_actor_ops;

enum { NETWORK_DOMAIN_SIZE = 254, NETWORK_WORD_SIZE = 16, NETWORK_PROJECT_SIZE = 64 };

/* A network as steps on worker threads need it: nothing in here belongs to the loop. */
struct network_args {
	char uid[UID_SIZE];
	char ipv4[SUBNET_TEXT_SIZE], ipv6[SUBNET_TEXT_SIZE]; /* "" = none */
	char gateway4[IP_TEXT_SIZE],
		gateway6[IP_TEXT_SIZE]; /* of isolated ones: the router, or "" */
	char dns_domain[NETWORK_DOMAIN_SIZE];
	char driver[NETWORK_WORD_SIZE], mode[NETWORK_WORD_SIZE], uplink[NETWORK_WORD_SIZE];
	char zone[NETWORK_ZONE_SIZE]; /* what full names end in */
	char project[NETWORK_PROJECT_SIZE];
	bool nat, isolated, dhcp, advertise, flow_log;
	bool named;   /* the gateway is the node, which knows names */
	uint32_t mtu; /* of its ports; while it is being made: that was asked for */
};

/*
 * An interface of the node has changed, or is `gone`; NULL: any may have.  Networks that depend on
 * it are looked at, and their ports made good when it is back.
 */
void network_actors_link_changed(struct agent *agent, const struct link *link, bool gone);

void network_actor_keeper_event(struct agent *agent, const struct keeper_msg *msg);
void network_actors_keeper_listed(struct agent *agent);
void network_actors_keeper_lost(struct agent *agent);

/*
 * How far it is.  READY and FAILED fill *ret (may be NULL); *ret_error (borrowed) says why it
 * FAILED.
 */
enum plan_need network_need(struct agent *agent, const char *uid, struct network_args *ret,
			    const char **ret_error);

/* A port has left the network, or is another: who gives leases starts anew, soon. */
void network_ports_changed(struct agent *agent, const char *uid);

/* Calls `fn` for every network that is wanted; `zone`: of its flows, 0 until it was made once. */
struct network;
typedef void (*network_fn)(const struct network *network, uint16_t zone, void *data);
void network_actors_each(struct agent *agent, network_fn fn, void *data);
