#include "net/router_internal.h"

#include <string.h>
#include <sys/socket.h>

#include "base/strbuf.h"
#include "net/address.h"

/*
 * The rules in a router's namespace.  One text, run as one transaction: the chains stay, what is in
 * them is replaced.  Connections keep the translation that their first packet got.
 *
 * enter: doors (protocol and port) come before what stands behind the whole address.
 *
 * leave: what is sent to a public address or a door and comes back into the network it came from
 * must return through us, hence gets our address.  Then the way out: those with a public address
 * have it, the others ours.
 *
 * guard: nobody sends with an address that we would not answer there.  A connection's first packet
 * decides.
 *
 * forward: with `nat` nothing comes in from outside but answers and what was translated.
 */

static const char *family_name(int family)
{
	return family == AF_INET ? "ip" : "ip6";
}

static void put_address(struct strbuf *text, const struct route_ip *ip)
{
	char buffer[ADDRESS_TEXT_SIZE];

	strbuf_puts(text, address_text(ip, buffer));
}

static void put_subnet(struct strbuf *text, const struct route_ip *subnet)
{
	put_address(text, subnet);
	strbuf_printf(text, "/%u", subnet->prefix);
}

/* One entry of a map: the first one begins it, and what `head` says stands before. */
static void begin_entry(struct strbuf *text, bool *begun, int family, const char *head)
{
	if (*begun)
		strbuf_puts(text, ", ");
	else
		strbuf_printf(text, head, family_name(family), family_name(family));
	*begun = true;
}

static void end_map(struct strbuf *text, bool begun)
{
	if (begun)
		strbuf_puts(text, " }\n");
}

static void put_doors(struct strbuf *text, const struct router_plan *plan, int family)
{
	bool begun = false;

	for (size_t i = 0; i < plan->door_count; i++) {
		const struct router_door_plan *door = &plan->doors[i];
		const struct route_ip *own = family == AF_INET ? &plan->own4 : &plan->own6;
		const struct route_ip *address = door->address.family ? &door->address : own;
		const struct route_ip *target = family == AF_INET ? &door->target4 : &door->target6;

		if (address->family != family || !target->family)
			continue;
		begin_entry(text, &begun, family,
			    "dnat %s to %s daddr . meta l4proto . th dport map { ");
		put_address(text, address);
		strbuf_printf(text, " . %s . %u : ", door->protocol, door->port);
		put_address(text, target);
		strbuf_printf(text, " . %u", door->target_port);
	}
	end_map(text, begun);
}

static void put_publics_in(struct strbuf *text, const struct router_plan *plan, int family)
{
	bool begun = false;

	for (size_t i = 0; i < plan->public_count; i++) {
		const struct router_public_plan *public = &plan->publics[i];

		if (public->address.family != family || !public->target.family)
			continue;
		begin_entry(text, &begun, family, "dnat %s to %s daddr map { ");
		put_address(text, &public->address);
		strbuf_puts(text, " : ");
		put_address(text, &public->target);
	}
	end_map(text, begun);
}

/* Who has several public addresses goes out with the first. */
static bool is_first(const struct router_plan *plan, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (address_equal(&plan->publics[i].target, &plan->publics[at].target))
			return false;
	return true;
}

static void put_publics_out(struct strbuf *text, const struct router_plan *plan, int family)
{
	bool begun = false;

	for (size_t i = 0; i < plan->public_count; i++) {
		const struct router_public_plan *public = &plan->publics[i];

		if (public->address.family != family || !public->target.family ||
		    !is_first(plan, i))
			continue;
		begin_entry(text, &begun, family,
			    "oifname \"" ROUTER_UPLINK "\" snat %s to %s saddr map { ");
		put_address(text, &public->target);
		strbuf_puts(text, " : ");
		put_address(text, &public->address);
	}
	end_map(text, begun);
}

static void put_returns(struct strbuf *text, const struct router_plan *plan, bool ipv6)
{
	for (size_t i = 0; i < plan->leg_count; i++) {
		const struct router_leg_plan *leg = &plan->legs[i];
		const struct route_ip *subnets[] = { &leg->subnet4, ipv6 ? &leg->subnet6 : NULL };

		for (size_t k = 0; k < ARRAY_COUNT(subnets); k++) {
			if (!subnets[k] || !subnets[k]->family)
				continue;
			strbuf_printf(text, "ct status dnat oifname \"%s\" %s saddr ", leg->inside,
				      family_name(subnets[k]->family));
			put_subnet(text, subnets[k]);
			strbuf_puts(text, " masquerade\n");
		}
	}
}

static void put_rules(struct strbuf *text, const struct router_plan *plan, bool ipv6)
{
	strbuf_puts(text, "chain guard {\n"
			  "ct state established,related accept\n"
			  "ct state new iifname != { \"lo\", \"" ROUTER_UPLINK
			  "\" } fib saddr . iif oif missing drop\n"
			  "}\n");
	strbuf_puts(text, "chain enter {\n");
	put_doors(text, plan, AF_INET);
	put_publics_in(text, plan, AF_INET);
	if (ipv6) {
		put_doors(text, plan, AF_INET6);
		put_publics_in(text, plan, AF_INET6);
	}
	strbuf_puts(text, "}\nchain leave {\n");
	put_returns(text, plan, ipv6);
	put_publics_out(text, plan, AF_INET);
	if (ipv6)
		put_publics_out(text, plan, AF_INET6);
	if (plan->uplink && plan->nat)
		strbuf_puts(text, "oifname \"" ROUTER_UPLINK "\" masquerade\n");
	strbuf_puts(text, "}\nchain forward {\nct state established,related accept\n"
			  "ct status dnat accept\n");
	if (plan->uplink && plan->nat)
		strbuf_puts(text, "iifname \"" ROUTER_UPLINK "\" drop\n");
	strbuf_puts(text, "}\n");
}

char *router_text(const char *prefix, const struct router_plan *plan, bool ipv6)
{
	static const char chains[] =
		"chain guard { type filter hook prerouting priority mangle; policy accept; }\n"
		"chain enter { type nat hook prerouting priority dstnat; policy accept; }\n"
		"chain leave { type nat hook postrouting priority srcnat; policy accept; }\n"
		"chain forward { type filter hook forward priority filter; policy accept; }\n";
	AUTO(strbuf_done) struct strbuf text = {};

	strbuf_printf(&text, "table inet %s {\n%s}\nflush table inet %s\ntable inet %s {\n", prefix,
		      chains, prefix, prefix);
	put_rules(&text, plan, ipv6);
	strbuf_puts(&text, "}\n");
	return strbuf_take(&text);
}
