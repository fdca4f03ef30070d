#include "net/router_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "kern/route_table.h"
#include "net/address.h"
#include "net/rules_internal.h"

/* What the node does for a router beyond its links: elements of rules, routes, answers to ARP. */

enum { LIST_ATTEMPTS = 20 };

/* ---- elements */

static struct rules_element *add(struct rules_element *elements, size_t *count, enum rules_set set)
{
	elements[*count] = (struct rules_element){ .set = set };
	return &elements[(*count)++];
}

static void add_pair(struct rules_element *elements, size_t *count, enum rules_set set4,
		     enum rules_set set6, const char *interface, const struct route_ip *ip)
{
	struct rules_element *element = add(elements, count, ip->family == AF_INET ? set4 : set6);

	memcpy(element->key, interface, strlen(interface));
	memcpy(element->key + IF_NAMESIZE, ip->bytes, route_ip_size(ip));
}

static void add_subnet(struct rules_element *elements, size_t *count, const char *interface,
		       const struct route_ip *subnet)
{
	struct route_ip last = address_last(subnet);

	add_pair(elements, count, RULES_SUBNETS4, RULES_SUBNETS6, interface, subnet);
	memcpy(elements[*count - 1].value, last.bytes, route_ip_size(&last));
}

static void add_gateway(struct rules_element *elements, size_t *count, const char *interface,
			const struct route_ip *ip)
{
	struct rules_element *element;

	if (!ip->family)
		return;
	element = add(elements, count, ip->family == AF_INET ? RULES_GATEWAYS4 : RULES_GATEWAYS6);
	memcpy(element->key, ip->bytes, route_ip_size(ip));
	add_pair(elements, count, RULES_OWN_GATEWAYS4, RULES_OWN_GATEWAYS6, interface, ip);
	add_subnet(elements, count, interface, ip);
}

/* The link to the router stands where a bridge stands whose gateway is the node. */
static size_t list_elements(const struct router_plan *plan, struct rules_element *elements)
{
	const char *name = plan->outside;
	size_t count = 0;

	if (!plan->uplink)
		return 0;
	memcpy(add(elements, &count, RULES_BRIDGES)->key, name, strlen(name));
	if (plan->nat)
		memcpy(add(elements, &count, RULES_NAT_BRIDGES)->key, name, strlen(name));
	add_gateway(elements, &count, name, &plan->node4);
	add_gateway(elements, &count, name, &plan->node6);
	for (size_t i = 0; i < plan->leg_count && !plan->nat; i++) {
		if (plan->legs[i].ipv4.family)
			add_subnet(elements, &count, name, &plan->legs[i].subnet4);
		if (plan->legs[i].ipv6.family && plan->node6.family)
			add_subnet(elements, &count, name, &plan->legs[i].subnet6);
	}
	for (size_t i = 0; i < plan->public_count; i++)
		if (plan->publics[i].address.family == AF_INET || plan->node6.family)
			add_pair(elements, &count, RULES_FLOATING4, RULES_FLOATING6, name,
				 &plan->publics[i].address);
	return count;
}

int router_ensure_elements(struct net *net, const struct router_plan *plan, struct error *err)
{
	AUTO(free)
	struct rules_element *elements =
		mem_new0_array(struct rules_element, 8 + 2 * ROUTER_LEGS_MAX + ROUTER_ITEMS_MAX);
	size_t count = list_elements(plan, elements), conflict = 0;
	int r = rules_assign(net->rules, plan->uid, RULES_OF_NETWORK, elements, count, &conflict,
			     NULL, err);

	return r == -EADDRINUSE ? error_say(err, r, "an address of router %s is %s's already",
					    plan->uid, rules_owner(net->rules, &elements[conflict]))
				: r;
}

/* ---- answering for its floating addresses, and routes to it */

/* What the node's links say about an address. */
struct home {
	const struct route_ip *ip;
	int own_index;  /* the transit link: not looked at */
	int link_index; /* whose subnet has it; 0 = none */
	bool is_own;    /* an address of the node itself */
};

static void look_for_home(int link_index, const struct route_ip *subnet, void *data)
{
	struct home *home = data;
	struct route_ip own = *subnet;

	if (link_index == home->own_index || own.family != home->ip->family ||
	    !address_inside(&own, home->ip))
		return;
	home->link_index = link_index;
	own.prefix = home->ip->prefix;
	home->is_own |= address_equal(&own, home->ip);
}

static int find_home(struct net *net, const struct route_ip *ip, int own_index, struct home *ret)
{
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		*ret = (struct home){ .ip = ip, .own_index = own_index };
		r = route_list_addresses(net->nl, 0, look_for_home, ret);
	}
	return r;
}

struct clash {
	const struct route_ip *subnet;
	int own_index;
	bool found;
};

static void look_for_clash(int link_index, const struct route_ip *ip, void *data)
{
	struct clash *clash = data;

	clash->found |= link_index != clash->own_index && address_overlap(clash->subnet, ip);
}

int router_check_clash(struct net *net, const struct route_ip *subnet, int own_index,
		       struct error *err)
{
	struct clash clash = { .subnet = subnet, .own_index = own_index };
	char text[ADDRESS_TEXT_SIZE];
	int r = -EINTR;

	if (!subnet->family)
		return 0;
	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		clash.found = false;
		r = route_list_addresses(net->nl, 0, look_for_clash, &clash);
	}
	if (r < 0)
		return error_set(err, r, "cannot list addresses%s", net_detail(net->nl));
	if (clash.found)
		return error_say(err, -EADDRINUSE, "%s/%u meets the host's own addresses",
				 address_text(subnet, text), subnet->prefix);
	return 0;
}

static int set_proxy(struct net *net, const struct route_ip *ip, int own_index, bool on,
		     struct error *err)
{
	char text[ADDRESS_TEXT_SIZE];
	struct link link;
	struct home home;
	int r = find_home(net, ip, own_index, &home);

	if (r == 0 && on && home.is_own)
		return error_say(err, -EADDRINUSE,
				 "floating address %s is an address of the node itself",
				 address_text(ip, text));
	if (r == 0 && home.link_index && on && ip->family == AF_INET6) {
		r = link_find_index(net->nl, home.link_index, &link);
		if (r == 0)
			r = link_sysctl(AF_INET6, link.name, "proxy_ndp", "1");
	}
	if (r == 0 && home.link_index)
		r = route_set_proxy(net->nl, home.link_index, ip, on);
	return r < 0 ? error_set(err, r, "cannot %s for floating address %s%s",
				 on ? "answer" : "stop answering", address_text(ip, text),
				 net_detail(net->nl))
		     : 0;
}

/* The floating addresses that a router had until now. */
struct former {
	const char *uid;
	const struct router_plan *plan; /* NULL: it wants none any more */
	struct route_ip gone[ROUTER_ITEMS_MAX];
	size_t count;
};

static void look_for_former(const char *owner, const struct rules_element *element, void *data)
{
	struct former *former = data;
	bool ipv4 = element->set == RULES_FLOATING4;
	struct route_ip ip = { .family = ipv4 ? AF_INET : AF_INET6, .prefix = ipv4 ? 32 : 128 };

	if ((!ipv4 && element->set != RULES_FLOATING6) || strcmp(owner, former->uid) != 0 ||
	    former->count == ROUTER_ITEMS_MAX)
		return;
	memcpy(ip.bytes, element->key + IF_NAMESIZE, route_ip_size(&ip));
	for (size_t i = 0; former->plan && i < former->plan->public_count; i++)
		if (address_equal(&former->plan->publics[i].address, &ip))
			return;
	former->gone[former->count++] = ip;
}

/* While the elements still say which they were: so a crash leaves none behind. */
int router_drop_proxies(struct net *net, const char *uid, const struct router_plan *plan,
			struct error *err)
{
	AUTO(free) struct former *former = mem_new0(struct former);
	char name[IF_NAMESIZE];
	struct link link = {};
	int r = 0;

	name_router_uplink(net->prefix, uid, name);
	(void) link_find(net->nl, name, &link);
	former->uid = uid;
	former->plan = plan;
	rules_each(net->rules, look_for_former, former);
	for (size_t i = 0; i < former->count && r == 0; i++)
		r = set_proxy(net, &former->gone[i], link.index, false, err);
	return r;
}

int router_ensure_ways(struct net *net, const struct router_plan *plan, struct error *err)
{
	AUTO(router_routes_done) struct router_routes routes;
	struct link link;
	int r = link_find(net->nl, plan->outside, &link);

	router_routes_init(&routes, ROUTER_ITEMS_MAX + 2 * ROUTER_LEGS_MAX);
	if (r < 0)
		return error_set(err, r, "cannot find %s%s", plan->outside, net_detail(net->nl));
	routes.marked = plan->advertise;
	for (size_t i = 0; i < plan->leg_count && !plan->nat; i++) {
		const struct router_leg_plan *leg = &plan->legs[i];

		if (leg->ipv4.family)
			router_routes_want(&routes, link.index, &leg->subnet4, &plan->own4);
		if (leg->ipv6.family && plan->node6.family)
			router_routes_want(&routes, link.index, &leg->subnet6, &plan->own6);
	}
	for (size_t i = 0; i < plan->public_count; i++) {
		const struct route_ip *ip = &plan->publics[i].address;

		if (ip->family == AF_INET || plan->node6.family)
			router_routes_want(&routes, link.index, ip,
					   ip->family == AF_INET ? &plan->own4 : &plan->own6);
	}
	r = router_routes_ensure(net->nl, link.index, net->ipv6, &routes, err);
	for (size_t i = 0; i < plan->public_count && r == 0; i++)
		r = set_proxy(net, &plan->publics[i].address, link.index, true, err);
	return r;
}
