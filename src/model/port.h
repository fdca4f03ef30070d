#pragma once
/*
 * model/port.h - an instance's attachment to one network: a MAC, addresses and an interface.
 *
 * The user names the network and may say which addresses it shall have; control/ completes it,
 * agent/ and net/ make it.  The text form is what people type: NETWORK[,ip=ADDRESS][,ip6=ADDRESS]
 * [,mac=ADDRESS][,group=NAME]...[,ingress=RATE][,egress=RATE][,burst=SIZE].  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"
#include "model/address.h"
#include "model/port_limits.h"

struct error;
struct json_reader;

enum {
	PORTS_MAX = 8, /* of an instance */
	PORT_GROUPS_MAX = 16,
	PORT_NETWORK_SIZE = 64,
	PORT_INTERFACE_SIZE = 8,
};

/* What brume makes of an IPv4 address begins so; nobody else's MAC does. */
#define PORT_OWN_MAC "02:62:"

struct port {
	char network[PORT_NETWORK_SIZE]; /* its name */
	char ipv4[IP_TEXT_SIZE];         /* set by control when the user has not; "" = none */
	char ipv6[IP_TEXT_SIZE];
	char mac[MAC_TEXT_SIZE]; /* likewise */
	char **groups;           /* names of security groups; NULL = absent: the default one */
	bool spoofing;           /* may send with any address */
	struct port_limits limits;

	/* Set by control. */
	char uid[UID_SIZE];
	char network_uid[UID_SIZE];
	char **group_uids; /* of `groups`, or of the default one; NULL: not known yet */
	char interface[PORT_INTERFACE_SIZE]; /* "eth0": its name inside, as long as it lives */
	bool leaving; /* to be taken away by the node; then control forgets it, and its addresses */
};

int port_parse(const char *text, struct port *ret, struct error *err);

/* One that a request is about: only what a user may set. */
int port_request_decode(const json_t *doc, struct port *ret, struct error *err);
json_t *port_encode(const struct port *port);

/* Names of groups, as a strv, NULL for none: what `groups` may be. */
int port_groups_check(char *const *groups, const char *where, struct error *err);

/* "a,b": appended to *groups, which is freed and NULL after an error. */
int port_groups_parse(const char *text, char ***groups, struct error *err);

void port_copy(struct port *to, const struct port *from); /* `to` is overwritten */
void port_done(struct port *port);
static inline void port_done_autop(struct port *port)
{
	port_done(port);
}

/*
 * A list.  `user`: only what a user may set is known.  An absent one leaves *ret NULL; an empty one
 * does not.
 */
int ports_read(struct json_reader *in, const json_t *object, const char *name, bool user,
	       struct port **ret, size_t *ret_count);
json_t *ports_encode(const struct port *ports, size_t count);
struct port *ports_copy(const struct port *ports, size_t count); /* NULL of NULL */
void ports_free(struct port *ports, size_t count);

/* Adds a port, which is handed over. */
void ports_append(struct port **ports, size_t *count, struct port *port);
void ports_remove(struct port *ports, size_t *count, size_t at);

/* The port on this network, NULL when there is none.  The list may be one of const ports. */
struct port *ports_find(const struct port *ports, size_t count, const char *network);

/* A unicast address in lower case; 0 or -EINVAL. */
int mac_canonical(const char *text, char ret[MAC_TEXT_SIZE]);
