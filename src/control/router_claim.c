#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/strv.h"
#include "control/router_internal.h"

/*
 * What a router has reserved: its addresses, floating ones, ports of the node, and the link to the
 * node.  It is given back when the node has carried out a spec that does not need it.
 */

/* One router has a /31 of 100.64.0.0/16. */
enum { TRANSIT_COUNT = 32768 };

void router_address_key(char key[CLAIM_KEY_SIZE], const char *network_uid, const char *address)
{
	snprintf(key, CLAIM_KEY_SIZE, "/address/%s/%s", network_uid, address);
}

void router_floating_key(struct control *control, char key[CLAIM_KEY_SIZE], const struct ip *ip)
{
	char text[IP_TEXT_SIZE];

	ip_format(ip, text);
	snprintf(key, CLAIM_KEY_SIZE, "/floating/%.63s/%s", control->node, text);
}

static void transit_key(struct control *control, char key[CLAIM_KEY_SIZE], const struct ip *ip)
{
	char text[IP_TEXT_SIZE];

	ip_format(ip, text);
	snprintf(key, CLAIM_KEY_SIZE, "/transit/%.63s/%s", control->node, text);
}

struct publish router_forward_publish(const struct router_forward *forward)
{
	return (struct publish){ .host_port = forward->port, .protocol = forward->protocol };
}

static const char *claimant(struct control *control, const struct claim *claim)
{
	const struct item *item = mirror_find_uid(control, claim->uid);

	return item ? item->meta->name : claim->uid;
}

int router_claim(struct draft *draft, const struct router *router, const char *key,
		 const char *what, struct error *err)
{
	struct claim *claim = mirror_find_claim(draft->control, key);

	if (claim && strcmp(claim->uid, router->meta.uid) == 0)
		return 0;
	if (claim)
		return error_say(err, -EADDRINUSE, "%s is taken by \"%s\"", what,
				 claimant(draft->control, claim));
	draft_claim_port(draft, key, router->meta.uid, router->meta.uid);
	return 0;
}

int router_claim_transit(struct draft *draft, struct router *router, struct error *err)
{
	char key[CLAIM_KEY_SIZE];

	if (router->spec.transit.family)
		return 0;
	for (unsigned int n = 0; n < TRANSIT_COUNT; n++) {
		struct ip ip = { 4, { 100, 64, (uint8_t) (n >> 7), (uint8_t) (n << 1) } };

		transit_key(draft->control, key, &ip);
		if (mirror_find_claim(draft->control, key))
			continue;
		draft_claim_port(draft, key, router->meta.uid, router->meta.uid);
		router->spec.transit = ip;
		return 0;
	}
	return error_say(err, -EDQUOT, "there are %d routers already, no more fit", TRANSIT_COUNT);
}

struct item *router_of_network(struct control *control, const struct item *network)
{
	char prefix[CLAIM_KEY_SIZE];
	struct claim *claim, *next;
	struct item *item;

	DL_FOREACH2(control->routers, item, routers_next)
	{
		if (router_find_network(&item_router(item)->spec, network->meta->uid))
			return item;
	}
	if (!control->routers)
		return NULL;
	router_address_key(prefix, network->meta->uid, "");
	HASH_ITER(by_key, control->claims, claim, next)
	{
		if (strncmp(claim->key, prefix, strlen(prefix)) != 0)
			continue;
		item = mirror_find_uid(control, claim->uid);
		if (item && item->kind == KIND_ROUTER)
			return item;
	}
	return NULL;
}

/* The keys that a router needs, as a strv. */
static char **needed_keys(struct control *control, const struct router *router)
{
	const struct router_spec *spec = &router->spec;
	char **keys = NULL, key[CLAIM_KEY_SIZE];

	transit_key(control, key, &spec->transit);
	strv_append(&keys, key);
	for (size_t i = 0; i < spec->network_count; i++) {
		router_address_key(key, spec->networks[i].uid, spec->networks[i].ipv4);
		strv_append(&keys, key);
		router_address_key(key, spec->networks[i].uid, spec->networks[i].ipv6);
		strv_append(&keys, key);
	}
	for (size_t i = 0; i < spec->floating_count; i++) {
		router_floating_key(control, key, &spec->floating[i].address);
		strv_append(&keys, key);
	}
	for (size_t i = 0; i < spec->forward_count; i++) {
		struct publish publish = router_forward_publish(&spec->forwards[i]);

		host_port_key(control, &publish, key);
		if (!spec->forwards[i].address.family)
			strv_append(&keys, key);
	}
	return keys;
}

void router_release_unused(struct draft *draft, const struct router *router)
{
	AUTO(strv_free) char **keys = needed_keys(draft->control, router);
	struct claim *claim, *next;

	HASH_ITER(by_key, draft->control->claims, claim, next)
	{
		if (strcmp(claim->uid, router->meta.uid) == 0 && !strv_contains(keys, claim->key))
			store_ops_delete(&draft->txn.then, claim->key);
	}
}
