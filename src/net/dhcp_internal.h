#pragma once
/*
 * net/dhcp_internal.h - leases: what the dnsmasq reads that gives addresses in a network.
 *
 *	RUN/networks/UID/dhcp.conf
 *	RUN/networks/UID/dhcp/PORT	which addresses and which host name a port's MAC gets
 *
 * Addresses are control's: a MAC gets those of its port, always the same, and one that belongs to
 * no port gets no answer.  IPv6 by DHCPv6, which router advertisements send their hearers to; only
 * where the subnet is a /64, as dnsmasq wants it for these.
 *
 * It is not the dnsmasq that answers names: it needs CAP_NET_ADMIN and CAP_NET_RAW, and has to be
 * started again when a port has gone or changed, for it reads new files by itself but holds on to
 * what it has read.  (SIGHUP would do, but makes 2.90 abort once it has a lease for a host with
 * tags.)  It keeps no file of leases: these files say all that a lease would, and one that starts
 * anew confirms what its clients have (dhcp-authoritative).
 *
 * Used by dns.c, network.c and port.c.  Threads and crash: see dns_internal.h.
 */
struct error;
struct net;
struct network_dns;
struct network_plan;
struct port_plan;
struct port_spec;
struct strbuf;

/* Makes the folder, writes the configuration, and says how to run the server. */
int dhcp_ensure(struct net *net, const char *network_uid, const char *bridge,
		const struct network_plan *plan, struct network_dns *ret, struct error *err);

/* The configuration. */
void dhcp_put_config(struct strbuf *text, const char *networks_dir, const char *network_uid,
		     const char *bridge, const struct network_plan *plan);

/* What a port's MAC gets, in a network that serves DHCP. */
int dhcp_set_port(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		  struct error *err);

/* One that is not there is fine. */
int dhcp_remove_port(struct net *net, const char *network_uid, const char *port_uid,
		     struct error *err);
