#pragma once
/*
 * agent/instance_ports.h - the ports of an instance: from its spec and its networks to net/.
 *
 * instance_networks_look() is for the loop's thread, when a step is chosen; what it returns goes
 * with the step to a worker, where the others run.  ATTACH makes the ports what the list in the
 * spec says, whatever is there: those that leave go, the others come or are repaired.  A crash at
 * any point is repaired by doing it again.  Used by agent/instance_*.c.
 */
#include "agent/network_actor.h"
#include "model/instance.h"
#include "net/network.h"
#include "net/port.h"

struct agent;
struct instance_task;

/* The networks of an instance's ports, in the ports' order. */
struct instance_networks {
	struct {
		bool ready;
		struct network_args args; /* known, when the need was not WAIT */
	} list[PORTS_MAX];
	char error[256]; /* why one of them is not ready */
};

/*
 * How far they are, and the groups of the ports: as the least of them is.  An instance that `runs`
 * goes on without those that have failed.  *ret_error (borrowed) says why one has.
 */
enum plan_need instance_networks_look(struct agent *agent, const struct instance_spec *spec,
				      bool runs, struct instance_networks *ret,
				      const char **ret_error);

/*
 * Which port leads out: the first whose network has a gateway (of an instance that publishes ports:
 * one that is no router, if it can be); -1: none.
 */
int instance_networks_outlet(const struct instance_spec *spec,
			     const struct instance_networks *networks);

/* The first port that is reached without a router: its network has a gateway of its own; -1: none.
 */
int instance_networks_reached(const struct instance_spec *spec,
			      const struct instance_networks *networks);

/* Which port leads out, and to whom, as a text: another one when a router has come or gone. */
enum { INSTANCE_WAY_SIZE = 160 };
void instance_networks_describe(const struct instance_spec *spec,
				const struct instance_networks *networks,
				char ret[INSTANCE_WAY_SIZE]);

/* Whom an instance asks for names. */
struct instance_names {
	char server4[IP_TEXT_SIZE], server6[IP_TEXT_SIZE]; /* "" = none */
	/* "" = none; what names are looked for in, the first one's first */
	char zone[NETWORK_ZONE_SIZE], domain[NETWORK_DOMAIN_SIZE];
};

/*
 * The node, on the first network where it is the gateway; without one, but with a way out: whom the
 * node itself asks.
 */
void instance_networks_names(const struct instance_spec *spec,
			     const struct instance_networks *networks, struct instance_names *ret);

/* Do both want the same ports to be there, in the same groups, as fast as each other? */
bool instance_ports_same(const struct instance_spec *a, const struct instance_spec *b);

/* For net/; the texts are borrowed, and `bridge` is, too. */
struct bridge_spec instance_bridge_spec(const struct network_args *network);
struct port_spec instance_port_spec(const struct instance_task *task, size_t i,
				    const struct bridge_spec *bridge);

/* The container's network namespace; -ESRCH when the pid is another process's by now. */
int instance_ports_open_namespace(pid_t pid);

/* ATTACH */
int instance_ports_attach(struct instance_task *task);

/* CLEAN: names and published ports, and what they have carried is put down; the interfaces end with
 * the run. */
int instance_ports_detach(struct instance_task *task);
