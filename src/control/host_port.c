#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "control/control_internal.h"

/* Ports of the host: each belongs to one instance that publishes it, or to one balancer
 * or router. */

/* "/hostport/NODE/tcp/80/": below it are the addresses, "*" for all of them. */
static void make_prefix(const struct control *control, const struct publish *publish,
			char ret[CLAIM_KEY_SIZE])
{
	snprintf(ret, CLAIM_KEY_SIZE, "/hostport/%.63s/%s/%u/", control->node,
		 protocol_name(publish->protocol), publish->host_port);
}

void host_port_key(const struct control *control, const struct publish *publish,
		   char ret[CLAIM_KEY_SIZE])
{
	char prefix[CLAIM_KEY_SIZE];

	make_prefix(control, publish, prefix);
	snprintf(ret, CLAIM_KEY_SIZE, "%.*s%s", CLAIM_KEY_SIZE - IP_TEXT_SIZE, prefix,
		 publish->host_ip[0] ? publish->host_ip : "*");
}

/* The claim that stands in the way of taking this port. */
static const struct claim *taken(struct control *control, const struct publish *publish,
				 const char *prefix, const char *key, const char *any)
{
	struct claim *claim, *next;

	if (publish->host_ip[0]) {
		claim = mirror_find_claim(control, key);
		return claim ? claim : mirror_find_claim(control, any);
	}
	HASH_ITER(by_key, control->claims, claim, next)
	{
		if (strncmp(claim->key, prefix, strlen(prefix)) == 0)
			return claim;
	}
	return NULL;
}

int host_port_take(struct draft *draft, const struct publish *publish, const char *uid,
		   struct error *err)
{
	struct control *control = draft->control;
	char prefix[CLAIM_KEY_SIZE], key[CLAIM_KEY_SIZE], any[CLAIM_KEY_SIZE + 1];
	const struct claim *claim;
	struct item *user;

	make_prefix(control, publish, prefix);
	host_port_key(control, publish, key);
	snprintf(any, sizeof(any), "%s*", prefix);
	claim = taken(control, publish, prefix, key, any);
	user = claim ? mirror_find_uid(control, claim->uid) : NULL;
	if (claim && strcmp(claim->uid, uid) == 0)
		return error_say(err, -EEXIST,
				 "port %u/%s is its own already, on other addresses: take those "
				 "away first",
				 publish->host_port, protocol_name(publish->protocol));
	if (claim && user && user->kind != KIND_INSTANCE)
		return error_say(err, -EEXIST, "port %u/%s is taken by %s \"%s\"",
				 publish->host_port, protocol_name(publish->protocol),
				 kind_name(user->kind), user->meta->name);
	if (claim)
		return error_say(err, -EEXIST, "port %u/%s is already published by instance \"%s\"",
				 publish->host_port, protocol_name(publish->protocol),
				 user ? user->meta->name : claim->uid);
	/* All addresses stand against each single one, so the compare must see them too. */
	if (publish->host_ip[0])
		store_txn_compare(&draft->txn, STORE_MOD_REVISION, any, 0);
	else
		store_txn_compare(&draft->txn, STORE_PREFIX_EMPTY, prefix, 0);
	draft_claim(draft, key, uid);
	return 0;
}
