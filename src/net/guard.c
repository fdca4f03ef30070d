#include "net/guard.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/strv.h"
#include "kern/link.h"
#include "net/address.h"
#include "net/chains_internal.h"
#include "net/guard_internal.h"
#include "net/mix_internal.h"
#include "net/node_internal.h"
#include "net/rules_internal.h"

enum {
	MAC_SIZE = 6,
	MAC_ROOM = 8, /* parts of a key stand on borders of four bytes */
	ADDRESSES_MAX = 3,
	/* For each address what is its own, where it leads, and each group; a few for the port. */
	ELEMENTS_MAX = ADDRESSES_MAX * (2 + GUARD_GROUPS_MAX) + 4,
	/* A connection that is in use sends something in this time. */
	LEARN_MS = 300,
};

/* A checked guard_spec. */
struct guard_plan {
	const struct guard_spec *spec;
	struct route_ip addresses[ADDRESSES_MAX];
	size_t address_count;
};

static int add_address(struct guard_plan *plan, const char *text, int family, struct error *err)
{
	struct route_ip *ip = &plan->addresses[plan->address_count];

	if (!text || !text[0])
		return 0;
	if (address_parse(text, ip) < 0 || ip->family != family)
		return error_say(err, -EINVAL, "address '%.64s': must be an %s address", text,
				 family == AF_INET ? "IPv4" : "IPv6");
	plan->address_count++;
	return 0;
}

/* What IPv6 makes of a MAC by itself: fe80:: and the modified EUI-64. */
static void add_link_local(struct guard_plan *plan, const uint8_t *mac)
{
	struct route_ip *ip = &plan->addresses[plan->address_count++];
	const uint8_t bytes[16] = {
		0xfe,       0x80,   0,      0,    0,    0,      0,      0,
		mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]
	};

	*ip = (struct route_ip){ .family = AF_INET6, .prefix = 128 };
	memcpy(ip->bytes, bytes, sizeof(bytes));
}

static int check_interface(const char *what, const char *name, struct error *err)
{
	if (name && name[0] && strnlen(name, IF_NAMESIZE) < IF_NAMESIZE)
		return 0;
	return error_say(err, -EINVAL, "%s '%.32s': must be 1 to 15 characters", what,
			 name ? name : "");
}

static int check_port_uid(const char *uid, struct error *err)
{
	if (name_is_uid(uid))
		return 0;
	return error_say(err, -EINVAL, "port uid '%.40s': must be 1 to 32 of 0-9 and a-f",
			 uid ? uid : "");
}

static int make_plan(const struct net *net, const struct guard_spec *spec, struct guard_plan *ret,
		     struct error *err)
{
	struct guard_plan plan = { .spec = spec };
	int r = check_port_uid(spec->port_uid, err);

	if (r == 0)
		r = check_interface("interface", spec->interface, err);
	if (r == 0)
		r = check_interface("bridge", spec->bridge, err);
	if (r == 0 && spec->group_count > GUARD_GROUPS_MAX)
		r = error_say(err, -E2BIG, "%zu groups: a port may have %d", spec->group_count,
			      GUARD_GROUPS_MAX);
	for (size_t i = 0; i < spec->group_count && r == 0; i++)
		if (!name_is_uid(spec->groups[i]))
			r = error_say(err, -EINVAL,
				      "group uid '%.40s': must be 1 to 32 of 0-9 and a-f",
				      spec->groups[i]);
	if (r == 0)
		r = add_address(&plan, spec->ipv4, AF_INET, err);
	if (r == 0 && net->ipv6)
		r = add_address(&plan, spec->ipv6, AF_INET6, err);
	if (r < 0)
		return r;
	if (net->ipv6)
		add_link_local(&plan, spec->mac);
	*ret = plan;
	return 0;
}

static struct rules_element *add(struct rules_element *elements, size_t *count, enum rules_set set)
{
	elements[*count] = (struct rules_element){ .set = set };
	return &elements[(*count)++];
}

/* Copies the parts of a key, each to the next border. */
static void put_part(uint8_t **at, const void *data, size_t size, size_t room)
{
	memcpy(*at, data, size);
	*at += room;
}

static void put_name(uint8_t **at, const char *name)
{
	put_part(at, name, strlen(name), IF_NAMESIZE);
}

/* Which frames are the port's own. */
static void add_own(const struct guard_plan *plan, struct rules_element *elements, size_t *count,
		    uint32_t combination)
{
	const struct guard_spec *spec = plan->spec;
	struct rules_element *element;
	uint8_t *at = add(elements, count, RULES_GUARDED)->key;

	put_name(&at, spec->interface);
	at = add(elements, count, RULES_OWN_MAC)->key;
	put_name(&at, spec->interface);
	put_part(&at, spec->mac, MAC_SIZE, MAC_ROOM);
	at = add(elements, count, RULES_SELF)->key;
	put_name(&at, spec->interface);
	put_name(&at, spec->interface);
	element = add(elements, count, combination ? RULES_COMBINATION : RULES_OPEN);
	at = element->key;
	put_name(&at, spec->interface);
	memcpy(element->value, &combination, sizeof(combination));
	for (size_t i = 0; i < plan->address_count; i++) {
		const struct route_ip *ip = &plan->addresses[i];

		at = add(elements, count, ip->family == AF_INET ? RULES_OWN4 : RULES_OWN6)->key;
		put_name(&at, spec->interface);
		put_part(&at, spec->mac, MAC_SIZE, MAC_ROOM);
		put_part(&at, ip->bytes, route_ip_size(ip), route_ip_size(ip));
	}
}

/* Where its addresses lead, and which groups they are members of. */
static void add_groups(struct chains *chains, const struct guard_plan *plan,
		       struct rules_element *elements, size_t *count, uint32_t combination)
{
	const struct guard_spec *spec = plan->spec;

	for (size_t i = 0; i < plan->address_count; i++) {
		const struct route_ip *ip = &plan->addresses[i];
		bool ipv4 = ip->family == AF_INET;
		struct rules_element *element =
			add(elements, count, ipv4 ? RULES_PORTS4 : RULES_PORTS6);
		uint8_t *at = element->key;

		put_name(&at, spec->bridge);
		put_part(&at, ip->bytes, route_ip_size(ip), route_ip_size(ip));
		memcpy(element->value, &combination, sizeof(combination));
		for (size_t g = 0; g < spec->group_count; g++) {
			uint32_t number = chains_group_number(chains, spec->groups[g]);

			at = add(elements, count, ipv4 ? RULES_MEMBERS4 : RULES_MEMBERS6)->key;
			put_part(&at, &number, sizeof(number), sizeof(number));
			put_name(&at, spec->bridge);
			put_part(&at, ip->bytes, route_ip_size(ip), route_ip_size(ip));
		}
	}
}

static void build(struct chains *chains, struct rules_element *wanted, size_t *ret_count,
		  void *data)
{
	const struct guard_plan *plan = data;
	const struct guard_spec *spec = plan->spec;
	uint32_t combination =
		spec->group_count ? chains_combination(chains, spec->groups, spec->group_count) : 0;
	size_t count = 0;

	if (!spec->spoofing)
		add_own(plan, wanted, &count, combination);
	if (spec->group_count)
		add_groups(chains, plan, wanted, &count, combination);
	*ret_count = count;
}

static int check_filter(const struct net *net, struct error *err)
{
	return net->filter ? 0
			   : error_say(err, -EOPNOTSUPP,
				       "this kernel has no br_netfilter (option BRIDGE_NETFILTER, "
				       "or 'modprobe br_netfilter'): security groups need it, all "
				       "but one that lets its members do everything");
}

static int check_kernel(const struct net *net, const struct guard_spec *spec, bool judged,
			struct error *err)
{
	if (!spec->spoofing && !rules_has_bridge(net->rules))
		return error_say(err, -EOPNOTSUPP,
				 "this kernel cannot keep ports from sending with addresses of "
				 "others (option NF_TABLES_BRIDGE)");
	return judged ? check_filter(net, err) : 0;
}

/* `uids`: of a port that is about to be there; `unknown`: see chains_share_open(). */
static bool needs_judge(struct net *net, const char *bridge, const char *const *uids, size_t count,
			bool unknown)
{
	const struct mix *mix = rules_mix(net->rules);
	AUTO(free) uint32_t *numbers = NULL;
	size_t number_count = mix_combinations(mix, bridge, &numbers);

	if (mix_is_logged(mix, bridge))
		return true;
	if (number_count == 0 && count == 0)
		return false;
	return mix_has_stranger(mix, bridge) ||
	       !chains_share_open(rules_chains(net->rules), numbers, number_count, uids, count,
				  unknown);
}

bool guard_needs_filter(struct net *net, const char *bridge)
{
	return net->filter && needs_judge(net, bridge, NULL, 0, true);
}

/* 1: it was off.  A bridge that is made later is made so: guard_needs_filter(). */
static int switch_on(struct net *net, const char *name, struct error *err)
{
	struct link bridge;
	int r = check_filter(net, err);

	if (r < 0)
		return r;
	r = link_find(net->nl, name, &bridge);

	if (r == -ENODEV || (r == 0 && bridge.filters))
		return 0;
	if (r == 0)
		r = link_filter_bridge(net->nl, bridge.index, true);
	return r < 0 ? error_set(err, r, "cannot set up bridge %s%s", name, net_detail(net->nl))
		     : 1;
}

int guard_set_stranger(struct net *net, const char *name, const char *bridge, struct error *err)
{
	int r = 0;

	mix_set_stranger(rules_mix(net->rules), name, bridge);
	if (bridge && guard_needs_filter(net, bridge))
		r = switch_on(net, bridge, err);
	return r < 0 ? r : 0;
}

struct others {
	int bridge;
	const char *except;
	bool found;
};

static int look_for_others(const struct link *link, void *data)
{
	struct others *others = data;

	if (link->master == others->bridge && strcmp(link->name, others->except) != 0)
		others->found = true;
	return 0;
}

/*
 * The first port of a network needs no judge for what others send it: there are none.  Only then is
 * it switched off: connections that are known by now would not be followed any further, and not be
 * known again when it is switched on.
 */
static int switch_off(struct net *net, const struct guard_spec *spec, struct error *err)
{
	struct others others = { .except = spec->interface };
	struct link bridge;
	int r = link_find(net->nl, spec->bridge, &bridge);

	if (r == -ENODEV || (r == 0 && !bridge.filters))
		return 0;
	others.bridge = bridge.index;
	if (r == 0)
		r = link_list(net->nl, NULL, look_for_others, &others);
	/* Somebody is there, or comes and goes: it is no loss to leave it on. */
	if (r == -EINTR || others.found)
		return 0;
	if (r == 0)
		r = link_filter_bridge(net->nl, bridge.index, false);
	return r < 0 ? error_set(err, r, "cannot set up bridge %s%s", spec->bridge,
				 net_detail(net->nl))
		     : 0;
}

/*
 * While the old rules still let everything through, connections that are there become known by the
 * packets they send, so that the new ones find them established.
 */
static void get_to_know(struct net *net)
{
	const struct timespec time = { .tv_nsec = LEARN_MS * 1000000L };

	net_unlock(net);
	nanosleep(&time, NULL);
	net_lock(net);
}

int guard_group_closes(struct net *net, const char *uid, struct error *err)
{
	AUTO(free) uint32_t *numbers = NULL;
	size_t count = chains_combinations_of(rules_chains(net->rules), uid, &numbers);
	bool learn = false;

	chains_close_group(rules_chains_to_change(net->rules), uid);
	for (size_t i = 0; i < count; i++) {
		AUTO(strv_free)
		char **bridges = mix_bridges(rules_mix(net->rules), numbers[i]);

		for (char **bridge = bridges; bridge && *bridge; bridge++) {
			int r = needs_judge(net, *bridge, NULL, 0, true)
					? switch_on(net, *bridge, err)
					: 0;

			if (r < 0)
				return r;
			learn = learn || r > 0;
		}
	}
	if (learn)
		get_to_know(net);
	return 0;
}

static bool is_guarded_already(const struct net *net, const struct guard_spec *spec)
{
	struct rules_element element = { .set = RULES_GUARDED };
	uint8_t *at = element.key;
	const char *owner;

	put_name(&at, spec->interface);
	owner = rules_owner(net->rules, &element);
	return owner && strcmp(owner, spec->port_uid) == 0;
}

/* Switches the judge on or off, as this port among the others needs it. */
static int prepare_bridge(struct net *net, const struct guard_spec *spec, struct error *err)
{
	AUTO(free) uint32_t *numbers = NULL;
	bool judged;
	int r;

	/* Who is in no group is a stranger to those who are in one. */
	mix_set_stranger(rules_mix(net->rules), spec->port_uid,
			 spec->spoofing || !spec->group_count ? spec->bridge : NULL);
	judged = needs_judge(net, spec->bridge, spec->groups, spec->group_count, false);
	r = check_kernel(net, spec, judged, err);
	if (r < 0)
		return r;
	if (!judged)
		return spec->group_count && !mix_combinations(rules_mix(net->rules), spec->bridge,
							      &numbers)
			       ? switch_off(net, spec, err)
			       : 0;
	r = switch_on(net, spec->bridge, err);
	if (r > 0 && is_guarded_already(net, spec))
		get_to_know(net);
	return r < 0 ? r : 0;
}

int guard_set_port(struct net *net, const struct guard_spec *spec, struct error *err)
{
	struct rules_element wanted[ELEMENTS_MAX];
	struct guard_plan plan;
	size_t conflict = 0;
	int r = make_plan(net, spec, &plan, err);

	if (r < 0)
		return r;
	NET_LOCKED(net);
	r = prepare_bridge(net, spec, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < spec->group_count; i++)
		if (!chains_has_group(rules_chains(net->rules), spec->groups[i]))
			return error_say(err, -ENOENT, "security group %s is not on this node yet",
					 spec->groups[i]);
	r = rules_assign_built(net->rules, spec->port_uid, RULES_OF_GUARD, wanted, build, &plan,
			       &conflict, err);
	if (r == -EADDRINUSE)
		return error_say(err, r, "an address of port %s is port %s's on %s", spec->port_uid,
				 rules_owner(net->rules, &wanted[conflict]), spec->bridge);
	if (r == -EEXIST)
		return error_say(err, -EINVAL, "port %s has a group or an address twice",
				 spec->port_uid);
	return r;
}

int guard_remove_port(struct net *net, const char *port_uid, struct error *err)
{
	size_t conflict;
	int r = check_port_uid(port_uid, err);

	if (r < 0)
		return r;
	NET_LOCKED(net);
	mix_set_stranger(rules_mix(net->rules), port_uid, NULL);
	return rules_assign(net->rules, port_uid, RULES_OF_GUARD, NULL, 0, &conflict, NULL, err);
}
