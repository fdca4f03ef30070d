#include "net/router_internal.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "kern/netlink.h"
#include "kern/nft.h"

/* What is done inside a router's namespace, by a thread that has entered it. */

enum { LIST_ATTEMPTS = 20 };

#define RULES_NOTE "rules"

static int ensure_inner_link(struct netlink *nl, const char *name, uint32_t mtu, const uint8_t *mac,
			     const struct route_ip *ipv4, const struct route_ip *ipv6,
			     struct error *err)
{
	struct link_change change = { .mtu = mtu, .mac = mac, .up = true };
	struct link link;
	int r = link_find(nl, name, &link);

	if (r < 0)
		return error_set(err, r, "the router has no %s", name);
	if (link.mtu != mtu || !(link.flags & IFF_UP) ||
	    memcmp(link.mac, mac, sizeof(link.mac)) != 0)
		r = link_set(nl, link.index, &change);
	if (r < 0)
		return error_set(err, r, "cannot turn on %s%s", name, net_detail(nl));
	r = router_addresses_ensure(nl, link.index, ipv4, ipv6, err);
	if (r == 0)
		(void) link_settle(nl, name);
	return r;
}

static int ensure_inner_links(struct netlink *nl, struct router_ensure_data *ensure,
			      struct error *err)
{
	const struct router_plan *plan = ensure->plan;
	uint8_t mac[LINK_MAC_SIZE];
	int r = 0;

	for (size_t i = 0; i < plan->leg_count && r == 0; i++) {
		const struct router_leg_plan *leg = &plan->legs[i];

		r = ensure_inner_link(nl, leg->inside, leg->mtu, leg->mac, &leg->ipv4, &leg->ipv6,
				      err);
		if (r == -ENODEV)
			ensure->lost = leg->outside;
	}
	if (r < 0 || !plan->uplink)
		return r;
	name_router_mac(plan->uid, ROUTER_UPLINK, mac);
	r = ensure_inner_link(nl, ROUTER_UPLINK, ROUTER_UPLINK_MTU, mac, &plan->own4, &plan->own6,
			      err);
	if (r == -ENODEV)
		ensure->lost = plan->outside;
	return r;
}

static int find_index(struct netlink *nl, const char *name, int *ret, struct error *err)
{
	struct link link;
	int r = link_find(nl, name, &link);

	if (r < 0)
		return error_set(err, r, "the router has no %s", name);
	*ret = link.index;
	return 0;
}

static int ensure_inner_routes(struct netlink *nl, const struct router_plan *plan, bool ipv6,
			       struct error *err)
{
	static const struct route_ip all4 = { .family = AF_INET }, all6 = { .family = AF_INET6 };
	AUTO(router_routes_done) struct router_routes routes;
	int index = 0, r = 0;

	router_routes_init(&routes, ROUTER_ITEMS_MAX + 2);
	for (size_t i = 0; i < plan->static_count && r == 0; i++) {
		const struct router_static_plan *line = &plan->statics[i];

		r = find_index(nl, plan->legs[line->leg].inside, &index, err);
		if (r == 0)
			router_routes_want(&routes, index, &line->to, &line->via);
	}
	if (r == 0 && plan->uplink) {
		r = find_index(nl, ROUTER_UPLINK, &index, err);
		if (r == 0)
			router_routes_want(&routes, index, &all4, &plan->node4);
		if (r == 0 && plan->node6.family)
			router_routes_want(&routes, index, &all6, &plan->node6);
	}
	return r < 0 ? r : router_routes_ensure(nl, 0, ipv6, &routes, err);
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
	for (const uint8_t *byte = data; size > 0; byte++, size--)
		hash = (hash ^ *byte) * 0x100000001b3ULL;
	return hash;
}

#define HASH_BEGIN 0xcbf29ce484222325ULL

static void add_rule(const struct nft_seen_rule *rule, void *data)
{
	uint64_t *hash = data;

	*hash = hash_bytes(*hash, rule->chain, strlen(rule->chain));
	*hash = hash_bytes(*hash, &rule->hash, sizeof(rule->hash));
}

/* Of the rules as they are in there: none are 0. */
static int read_fingerprint(struct nft *nft, const char *prefix, uint64_t *ret)
{
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		*ret = HASH_BEGIN;
		r = nft_list_rules(nft, NFPROTO_INET, prefix, NULL, add_rule, ret);
	}
	if (r == -ENOENT)
		*ret = 0;
	return r == -ENOENT ? 0 : r;
}

static char *make_note(const char *text, uint64_t fingerprint)
{
	return mem_printf("%016llx %016llx",
			  (unsigned long long) hash_bytes(HASH_BEGIN, text, strlen(text)),
			  (unsigned long long) fingerprint);
}

/* The note says which text was written last, and what the kernel made of it. */
static int ensure_rules(struct net *net, const struct router_plan *plan, struct error *err)
{
	AUTO(free) char *text = router_text(net->prefix, plan, net->ipv6);
	AUTO(free) char *note = router_space_read(net, plan->uid, RULES_NOTE);
	AUTO(free) char *wanted = NULL, *anew = NULL, *written = NULL;
	AUTO(nft_free) struct nft *nft = NULL;
	uint64_t fingerprint;
	int r = nft_new(&nft);

	if (r == 0)
		r = read_fingerprint(nft, net->prefix, &fingerprint);
	if (r < 0)
		return error_set(err, r, "cannot read a router's rules");
	wanted = make_note(text, fingerprint);
	if (fingerprint && strcmp(wanted, note) == 0)
		return 0;
	r = nft_run(text, NULL);
	if (r < 0) {
		/* Somebody has put something else there under that name. */
		anew = mem_printf("table inet %s\ndelete table inet %s\n%s", net->prefix,
				  net->prefix, text);
		r = nft_run(anew, err);
	}
	if (r < 0)
		return error_wrap(err, r, "a router's rules");
	r = read_fingerprint(nft, net->prefix, &fingerprint);
	if (r == 0) {
		written = make_note(text, fingerprint);
		r = router_space_write(net, plan->uid, RULES_NOTE, written);
	}
	return r < 0 ? error_set(err, r, "cannot note a router's rules") : 0;
}

int router_ensure_inside(struct net *net, void *data, struct error *err)
{
	struct router_ensure_data *ensure = data;
	AUTO(netlink_free) struct netlink *nl = NULL;
	int r = netlink_open(NETLINK_ROUTE, &nl);

	if (r < 0)
		return error_set(err, r, "cannot open a netlink socket");
	/* Rules come before addresses: nobody gets past them. */
	r = ensure_rules(net, ensure->plan, err);
	if (r == 0)
		r = ensure_inner_links(nl, ensure, err);
	return r < 0 ? r : ensure_inner_routes(nl, ensure->plan, net->ipv6, err);
}
