#include "net/balance_wish_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/address.h"

void balance_wish_done(struct balance_wish *wish)
{
	free(wish->places);
	free(wish->members4);
	free(wish->members6);
	free(wish->slots4);
	free(wish->slots6);
	*wish = (struct balance_wish){};
}
static int parse_ip(const char *text, int family, const char *what, struct route_ip *ret,
		    struct error *err)
{
	if (!text || !text[0])
		return 0;
	if (address_parse(text, ret) < 0 || (family && ret->family != family))
		return error_say(err, -EINVAL, "%s '%.64s': must be an %s address", what, text,
				 family == AF_INET    ? "IPv4"
				 : family == AF_INET6 ? "IPv6"
						      : "IP");
	return 0;
}

static int parse_place(const struct balance_listen *listen, struct balance_place *ret,
		       struct error *err)
{
	struct balance_place place = { .port = listen->port,
				       .target_port = listen->target_port,
				       .vip = listen->vip };
	int r = parse_ip(listen->address, 0, "address", &place.address, err);

	if (r < 0)
		return r;
	if (!listen->protocol ||
	    (strcmp(listen->protocol, "tcp") != 0 && strcmp(listen->protocol, "udp") != 0))
		return error_say(err, -EINVAL, "protocol '%.16s': must be tcp or udp",
				 listen->protocol ? listen->protocol : "");
	if (listen->port == 0 || listen->target_port == 0)
		return error_say(err, -EINVAL, "a balancer's port must be 1 to 65535");
	if (listen->vip && place.address.family)
		return error_say(err, -EINVAL, "address '%.64s': the balancer's own was asked for",
				 listen->address);
	place.protocol = listen->protocol[0] == 't' ? IPPROTO_TCP : IPPROTO_UDP;
	*ret = place;
	return 0;
}

static int parse_places(const struct balance_spec *spec, struct balance_wish *wish,
			struct error *err)
{
	if (spec->listen_count == 0 || spec->listen_count > BALANCE_LISTEN_MAX)
		return error_say(err, -EINVAL, "a balancer listens at 1 to %d ports",
				 BALANCE_LISTEN_MAX);
	wish->places = mem_new0_array(struct balance_place, spec->listen_count);
	wish->place_count = spec->listen_count;
	for (size_t i = 0; i < spec->listen_count; i++) {
		int r = parse_place(&spec->listens[i], &wish->places[i], err);

		if (r < 0)
			return r;
		if (wish->places[i].vip && !wish->vip4.family && !wish->vip6.family)
			return error_say(err, -EINVAL, "the balancer has no address of its own");
	}
	return 0;
}

/* The members of one family, and the slots of its map. */
static int parse_members(const struct balance_spec *spec, int family, struct route_ip **ret,
			 uint16_t **ret_slots, size_t *ret_slot_count, struct error *err)
{
	AUTO(free)
	struct balance_share *shares = mem_new0_array(struct balance_share, spec->member_count + 1);
	AUTO(free)
	struct route_ip *members = mem_new0_array(struct route_ip, spec->member_count + 1);
	AUTO(free) uint16_t *slots = mem_new0_array(uint16_t, BALANCE_SLOTS_MAX);
	size_t count = 0;

	for (size_t i = 0; i < spec->member_count; i++) {
		const struct balance_member *member = &spec->members[i];
		int r = parse_ip(family == AF_INET ? member->ipv4 : member->ipv6, family, "member",
				 &members[count], err);

		if (r < 0)
			return r;
		if (!members[count].family)
			continue;
		shares[count].hash =
			balance_hash(members[count].bytes, route_ip_size(&members[count]));
		shares[count++].connections = member->connections;
	}
	*ret_slot_count = balance_fill(spec->algorithm, shares, count, slots);
	*ret = TAKE_PTR(members);
	*ret_slots = TAKE_PTR(slots);
	return 0;
}

int balance_wish_make(const struct balance_spec *spec, const char *prefix, bool ipv6,
		      struct balance_wish *wish, struct error *err)
{
	int r = 0;

	if (!name_is_uid(spec->uid) || !name_is_uid(spec->network_uid))
		return error_say(err, -EINVAL, "a balancer's uid must be 1 to 32 of 0-9 and a-f");
	if (spec->member_count > BALANCE_MEMBER_MAX)
		return error_say(err, -E2BIG, "a balancer has %d members at most",
				 BALANCE_MEMBER_MAX);
	wish->routed = spec->routed;
	wish->algorithm = spec->algorithm;
	name_bridge(prefix, spec->network_uid, wish->bridge);
	r = parse_ip(spec->vip4, AF_INET, "vip", &wish->vip4, err);
	if (r == 0)
		r = parse_ip(spec->vip6, AF_INET6, "vip", &wish->vip6, err);
	if (r == 0)
		r = parse_places(spec, wish, err);
	if (r == 0)
		r = parse_members(spec, AF_INET, &wish->members4, &wish->slots4, &wish->slot_count4,
				  err);
	if (r == 0 && ipv6)
		r = parse_members(spec, AF_INET6, &wish->members6, &wish->slots6,
				  &wish->slot_count6, err);
	return r;
}

int balance_check(const struct balance_spec *spec, struct error *err)
{
	AUTO(balance_wish_done) struct balance_wish wish = {};

	return balance_wish_make(spec, "check", true, &wish, err);
}

static bool same_place(const struct balance_place *a, const struct balance_place *b)
{
	return a->protocol == b->protocol && a->port == b->port &&
	       a->target_port == b->target_port && a->vip == b->vip &&
	       address_equal(&a->address, &b->address);
}

bool balance_wish_same_places(const struct balance_wish *a, const struct balance_wish *b)
{
	if (a->place_count != b->place_count || a->routed != b->routed ||
	    strcmp(a->bridge, b->bridge) != 0 || !address_equal(&a->vip4, &b->vip4) ||
	    !address_equal(&a->vip6, &b->vip6))
		return false;
	for (size_t i = 0; i < a->place_count; i++)
		if (!same_place(&a->places[i], &b->places[i]))
			return false;
	return true;
}

/* ---- elements ---- */

void balance_elements_done(struct balance_elements *elements)
{
	free(elements->list);
}

struct balance_element *balance_elements_add(struct balance_elements *elements)
{
	elements->list = mem_realloc(elements->list, elements->count + 1, sizeof(*elements->list));
	return &elements->list[elements->count++];
}

static void want_element(struct balance_elements *wanted, enum balance_set set,
			 const struct balance_wish *wish, const struct route_ip *ip,
			 const struct balance_place *place, const char *chain)
{
	struct balance_element *element = balance_elements_add(wanted);

	balance_element_make(element, set, wish->bridge, ip, place);
	if (chain)
		memcpy(element->chain, chain, strlen(chain) + 1);
}

static void want_vip(struct balance_elements *wanted, const struct balance_wish *wish,
		     const struct route_ip *vip, const struct balance_place *place,
		     const char *chain)
{
	bool ipv6 = vip->family == AF_INET6;

	if (!vip->family)
		return;
	want_element(wanted, ipv6 ? BALANCE_VIP6 : BALANCE_VIP4, wish, vip, place, chain);
	want_element(wanted, ipv6 ? BALANCE_OWN6 : BALANCE_OWN4, wish, vip, place, chain);
	if (wish->routed)
		want_element(wanted, ipv6 ? BALANCE_FAR6 : BALANCE_FAR4, wish, vip, place, chain);
}

void balance_wish_elements(const char *uid, const struct balance_wish *wish,
			   struct balance_elements *wanted)
{
	const struct route_ip *vips[] = { &wish->vip4, &wish->vip6 };
	char chain[BALANCE_CHAIN_SIZE];

	for (size_t i = 0; i < ARRAY_COUNT(vips); i++) {
		bool ipv6 = vips[i]->family == AF_INET6;

		if (!vips[i]->family)
			continue;
		want_element(wanted, ipv6 ? BALANCE_VIPS6 : BALANCE_VIPS4, wish, vips[i], NULL,
			     NULL);
		want_element(wanted, ipv6 ? BALANCE_HOME6 : BALANCE_HOME4, wish, vips[i], NULL,
			     NULL);
	}
	for (size_t i = 0; i < wish->place_count; i++) {
		const struct balance_place *place = &wish->places[i];

		balance_chain_name(uid, place, chain);
		if (place->vip) {
			want_vip(wanted, wish, &wish->vip4, place, chain);
			want_vip(wanted, wish, &wish->vip6, place, chain);
		} else if (place->address.family) {
			want_element(wanted,
				     place->address.family == AF_INET6 ? BALANCE_NODE6
								       : BALANCE_NODE4,
				     wish, &place->address, place, chain);
		} else {
			want_element(wanted, BALANCE_ANY, wish, NULL, place, chain);
		}
	}
}

bool balance_elements_have(const struct balance_elements *elements,
			   const struct balance_element *element)
{
	for (size_t i = 0; i < elements->count; i++)
		if (elements->list[i].set == element->set &&
		    elements->list[i].key_size == element->key_size &&
		    memcmp(elements->list[i].key, element->key, element->key_size) == 0)
			return true;
	return false;
}

/* Elements that lead to the chains, and chains that nothing leads to any more. */
