#pragma once
/*
 * agent/network_server.h - the servers of a network: dnsmasq for names, and one more for leases.
 *
 * Two, because they are started again at different times: names come and go without that, while
 * the other holds on to leases of ports that are gone; and who answers names needs no capabilities.
 * The keeper runs them (jobs d-UID and a-UID), so they outlive the agent.  A part of
 * agent/network_actor.c; on the loop's thread.
 */
#include <stdbool.h>

struct agent;
struct error;
struct keeper_client;
struct keeper_msg;

enum network_server_kind { NETWORK_NAMES, NETWORK_LEASES, NETWORK_SERVER_COUNT };

enum network_server_state { NETWORK_SERVER_NONE, NETWORK_SERVER_RUNNING, NETWORK_SERVER_ENDED };

struct network_server {
	char **argv; /* NULL: none is needed */
	enum network_server_state state;
	bool listed; /* the keeper has spoken of it */
	bool old;    /* it runs with an old configuration */
	bool killed;
};

/*
 * Starts it, or ends one that is old or not needed.  Returns 1 when it is as it should be, running
 * or not, 0 when something is to be waited for, < 0 when it could not be started.
 */
int network_server_advance(struct network_server *server, const struct agent *agent,
			   struct keeper_client *keeper, const char *uid,
			   enum network_server_kind kind, bool needed, bool may_start,
			   struct error *err);

/* Whose job it is. */
enum network_server_kind network_server_kind_of(const struct keeper_msg *msg);

/* Takes what the keeper says.  True when it has ended and nobody of us has ended it. */
bool network_server_keeper_event(struct network_server *server, const struct keeper_msg *msg);
