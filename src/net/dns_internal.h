#pragma once
/*
 * net/dns_internal.h - names of instances: what dnsmasq reads.
 *
 *	RUN/networks/UID/dnsmasq.conf	written when it changes
 *	RUN/networks/UID/hosts/PORT	all names of a port: NAME.ZONE, NAME, NAME.DOMAIN
 *	RUN/networks/UID/project	a link to the next
 *	RUN/networks/projects/PROJECT/PORT	its full name, NAME.ZONE
 *
 * The resolver of a network reads its own ports' names and the full ones of all networks of its
 * project, and of no other.  Files are moved into place and removed; dnsmasq watches the folders
 * (inotify) and learns of both at once; nobody signals it.  It runs as nobody, so folders are 0755
 * and files 0644; RUN itself must let it pass.  Leases are dhcp_internal.h's.
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
struct strbuf;

/*
 * Makes the folders, writes the configuration, and says how to run the server: nothing for an
 * isolated network.
 */
int dns_ensure(struct net *net, const char *network_uid, const char *bridge,
	       const struct network_plan *plan, struct network_dns *ret, struct error *err);

/* Publishes a port's names for the addresses (`family` 0 = none). */
int dns_set_name(struct net *net, const char *network_uid, const char *port_uid, const char *name,
		 const struct network_plan *plan, const struct route_ip *ipv4,
		 const struct route_ip *ipv6, struct error *err);

/* Its names and its lease.  What is not there is fine. */
int dns_remove_name(struct net *net, const char *network_uid, const char *port_uid,
		    struct error *err);

/* Removes the network's folder, and what its ports have left in the project's. */
int dns_remove(struct net *net, const char *network_uid, struct error *err);

/* ---- for dhcp.c ---- */

/* The lines that all servers have. */
void dns_put_config(struct strbuf *text, const char *bridge);

/* Writes the configuration `file` of a network, if it says something else, and how it is run. */
int dns_write_config(struct net *net, const char *network_uid, const char *file, const char *text,
		     struct network_dns *ret, struct error *err);

/* Below RUN/networks. */
int dns_make_folder(struct net *net, const char *path, struct error *err);

/* A port's file in a folder of its network: in one step, and not when it says so already. */
int dns_write_file(struct net *net, const char *network_uid, const char *port_uid,
		   const char *folder, const char *text, struct error *err);
int dns_remove_file(struct net *net, const char *network_uid, const char *port_uid,
		    const char *folder, struct error *err);
