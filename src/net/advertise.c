#include "net/advertise.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/netlink.h"
#include "kern/route_mark.h"
#include "net/address.h"
#include "net/advertise_internal.h"
#include "net/name.h"
#include "net/network_internal.h"
#include "net/node_internal.h"

enum { LIST_ATTEMPTS = 20, SUBNETS_MAX = 2, FOUND_MAX = 256 };

/* A network that is advertised. */
struct entry {
	char uid[NAME_UID_MAX + 1];
	struct route_ip subnets[SUBNETS_MAX];
	size_t count;
	UT_hash_handle hh;
};

struct advertise {
	struct entry *entries;
};

struct advertise *advertise_new(void)
{
	return mem_new0(struct advertise);
}

static void entry_free(struct advertise *advertise, struct entry *entry)
{
	HASH_DEL(advertise->entries, entry);
	free(entry);
}

void advertise_free(struct advertise *advertise)
{
	struct entry *entry, *next;

	if (!advertise)
		return;
	HASH_ITER(hh, advertise->entries, entry, next)
	entry_free(advertise, entry);
	free(advertise);
}

static struct entry *find(struct advertise *advertise, const char *uid)
{
	struct entry *entry;

	HASH_FIND_STR(advertise->entries, uid, entry);
	return entry;
}

static int say(struct net *net, int r, const char *doing, const struct route_ip *subnet,
	       struct error *err)
{
	char text[ADDRESS_TEXT_SIZE];

	return error_set(err, r, "cannot %s the route that announces %s/%u%s", doing,
			 address_text(subnet, text), subnet->prefix, net_detail(net->nl));
}

static int add(struct net *net, const struct route_ip *subnet, struct error *err)
{
	int r = route_mark_add(net->nl, subnet);

	return r < 0 ? say(net, r, "add", subnet, err) : r;
}

static int drop(struct net *net, const struct route_ip *subnet, struct error *err)
{
	int r = route_mark_delete(net->nl, subnet);

	return r < 0 ? say(net, r, "remove", subnet, err) : 0;
}

static void remember(struct advertise *advertise, const char *uid,
		     const struct route_ip *const *subnets)
{
	struct entry *entry = find(advertise, uid);

	if (!entry) {
		entry = mem_new0(struct entry);
		memcpy(entry->uid, uid, strnlen(uid, NAME_UID_MAX));
		HASH_ADD_STR(advertise->entries, uid, entry);
	}
	entry->count = 0;
	for (size_t i = 0; i < SUBNETS_MAX; i++)
		if (subnets[i]->family)
			entry->subnets[entry->count++] = *subnets[i];
}

int advertise_ensure(struct net *net, const char *uid, const struct network_plan *plan,
		     struct error *err)
{
	const struct route_ip *subnets[SUBNETS_MAX] = { &plan->subnet4, &plan->subnet6 };
	struct entry *entry = find(net->advertise, uid);
	int r = 0;

	if (plan->advertise)
		remember(net->advertise, uid, subnets);
	else if (entry)
		entry_free(net->advertise, entry);
	/* The subnet of an isolated one may be another's, too. */
	if (plan->isolated)
		return 0;
	for (size_t i = 0; r >= 0 && i < SUBNETS_MAX; i++)
		if (subnets[i]->family)
			r = plan->advertise ? add(net, subnets[i], err)
					    : drop(net, subnets[i], err);
	return r < 0 ? r : 0;
}

/* Subnets that were found, by one walk through addresses or routes. */
struct found {
	struct route_ip list[FOUND_MAX];
	size_t count;
};

static void take_anchor(const struct route_ip *to, void *data)
{
	struct found *found = data;

	/* What does not fit is there the next time. */
	if (found->count < FOUND_MAX)
		found->list[found->count++] = *to;
}

static void take_marked(int link_index, const struct route_ip *ip, void *data)
{
	(void) link_index;
	if (ip->metric == ROUTE_MARK_METRIC) {
		struct route_ip subnet = address_subnet(ip);

		take_anchor(&subnet, data);
	}
}

int advertise_forget(struct net *net, const char *uid, int bridge_index, struct error *err)
{
	AUTO(free) struct found *found = mem_new0(struct found);
	struct entry *entry = find(net->advertise, uid);
	int r = bridge_index ? -EINTR : 0;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		found->count = 0;
		r = route_list_addresses(net->nl, bridge_index, take_marked, found);
	}
	if (r < 0)
		return error_set(err, r, "cannot list addresses%s", net_detail(net->nl));
	for (size_t i = 0; entry && i < entry->count; i++)
		take_anchor(&entry->subnets[i], found);
	for (size_t i = 0; r == 0 && i < found->count; i++)
		r = drop(net, &found->list[i], err);
	if (r == 0 && entry)
		entry_free(net->advertise, entry);
	return r;
}

static int list_anchors(struct net *net, struct found *found, struct error *err)
{
	const int families[] = { AF_INET, net->ipv6 ? AF_INET6 : 0 };
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		found->count = 0;
		r = 0;
		for (size_t k = 0; k < ARRAY_COUNT(families) && r == 0; k++)
			if (families[k])
				r = route_mark_list(net->nl, families[k], take_anchor, found);
	}
	return r < 0 ? error_set(err, r, "cannot list routes%s", net_detail(net->nl)) : 0;
}

/* Forgets those that are the subnet of an interface. */
static void spare_subnet(int link_index, const struct route_ip *ip, void *data)
{
	struct route_ip subnet = address_subnet(ip);
	struct found *found = data;

	(void) link_index;
	for (size_t i = 0; i < found->count; i++)
		if (address_equal(&found->list[i], &subnet))
			found->list[i--] = found->list[--found->count];
}

static bool is_wanted(const struct advertise *advertise, const struct route_ip *subnet)
{
	const struct entry *entry, *next;

	HASH_ITER(hh, advertise->entries, entry, next)
	for (size_t i = 0; i < entry->count; i++)
		if (address_equal(&entry->subnets[i], subnet))
			return true;
	return false;
}

int advertise_collect(struct net *net, struct error *err)
{
	AUTO(free) struct found *found = mem_new0(struct found);
	int r = list_anchors(net, found, err);

	if (r < 0 || found->count == 0)
		return r;
	/* A network that has not been made in this life yet still has its bridge. */
	r = route_list_addresses(net->nl, 0, spare_subnet, found);
	if (r == -EINTR)
		return 0;
	if (r < 0)
		return error_set(err, r, "cannot list addresses%s", net_detail(net->nl));
	for (size_t i = 0; r == 0 && i < found->count; i++)
		if (!is_wanted(net->advertise, &found->list[i]))
			r = drop(net, &found->list[i], err);
	return r;
}

int advertise_destroy(struct net *net, struct error *err)
{
	AUTO(free) struct found *found = mem_new0(struct found);
	int r;

	do {
		r = list_anchors(net, found, err);
		for (size_t i = 0; r == 0 && i < found->count; i++)
			r = drop(net, &found->list[i], err);
	} while (r == 0 && found->count == FOUND_MAX);
	return r;
}

int advertise_repair(struct net *net, bool *ret_damaged, struct error *err)
{
	const struct entry *entry, *next;
	bool damaged = false;

	NET_LOCKED(net);
	HASH_ITER(hh, net->advertise->entries, entry, next)
	for (size_t i = 0; i < entry->count; i++) {
		int r = add(net, &entry->subnets[i], err);

		if (r < 0)
			return r;
		damaged |= r > 0;
	}
	if (ret_damaged)
		*ret_damaged = damaged;
	return 0;
}
