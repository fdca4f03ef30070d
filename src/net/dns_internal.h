#pragma once
/*
 * net/dns_internal.h - names of instances: what dnsmasq reads.
 *
 *	RUN/networks/UID/dnsmasq.conf	written when it changes
 *	RUN/networks/UID/hosts/PORT	one file per port, moved into place and removed
 *
 * dnsmasq watches the hosts folder (inotify) and learns of both at once; nobody signals it.  It
 *runs as nobody, so folders are 0755 and files 0644; RUN itself must let it pass.
 *
 * Used by network.c, port.c and observe.c, with the lock of struct net held or on files that belong
 * to one port.  Crash: a file is there or not; temporary ones start with a dot, outside hosts/.
 */
#include <stdbool.h>

struct error;
struct net;
struct network_dns;
struct network_plan;
struct route_ip;

/* Writes the configuration, makes the hosts folder, and says how to run the server. */
int dns_ensure(struct net *net, const char *network_uid, const char *bridge,
	       const struct network_plan *plan, struct network_dns *ret, struct error *err);

/* Publishes `name` and `name.domain` for the addresses (`family` 0 = none). */
int dns_set_name(struct net *net, const char *network_uid, const char *port_uid, const char *name,
		 const char *domain, const struct route_ip *ipv4, const struct route_ip *ipv6,
		 struct error *err);

/* A name that is not there is fine. */
int dns_remove_name(struct net *net, const char *network_uid, const char *port_uid,
		    struct error *err);

/* Removes the network's folder. */
int dns_remove(struct net *net, const char *network_uid, struct error *err);
