#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/nft.h"
#include "net/address.h"
#include "net/balance_internal.h"
#include "net/balance_wish_internal.h"
#include "net/node_internal.h"
#include "net/rules_internal.h"

/* What the kernel has of balancers: nothing else says who owns what after a crash. */

void balance_table_name(const struct net *net, char ret[BALANCE_TABLE_SIZE])
{
	snprintf(ret, BALANCE_TABLE_SIZE, "%s-b", net->prefix);
}

static void take_element(const struct nft_element *element, void *data)
{
	struct balance_elements *elements = data;
	struct balance_element *added;

	if (strcmp(element->comment, elements->uid) != 0)
		return;
	added = balance_elements_add(elements);
	*added = (struct balance_element){ .set = elements->set, .key_size = element->key_size };
	if (added->key_size > BALANCE_KEY_MAX)
		added->key_size = BALANCE_KEY_MAX;
	memcpy(added->key, element->key, added->key_size);
}

static int read_elements_once(struct net *net, struct balance_elements *elements)
{
	char table[BALANCE_TABLE_SIZE];
	int r = 0;

	balance_table_name(net, table);
	elements->count = 0;
	for (int i = 0; i < BALANCE_SET_COUNT && (r == 0 || r == -ENOENT); i++) {
		elements->set = (enum balance_set) i;
		r = nft_list(rules_nft(net->rules), NFPROTO_INET, table,
			     balance_set_name(elements->set), take_element, elements);
	}
	return r;
}

int balance_read_elements(struct net *net, struct balance_elements *elements, struct error *err)
{
	int r = BALANCE_AGAIN(read_elements_once(net, elements));

	return r < 0 ? error_set(err, r, "cannot read nft table %s-b", net->prefix) : 0;
}

struct chain_names {
	const char *start; /* that they begin with */
	char **list;
};

static void take_chain(const char *chain, void *data)
{
	struct chain_names *names = data;

	if (strncmp(chain, names->start, strlen(names->start)) == 0)
		strv_append(&names->list, chain);
}

int balance_read_chains(struct net *net, const char *start, char ***ret, struct error *err)
{
	struct chain_names names = { .start = start };
	char table[BALANCE_TABLE_SIZE];
	int r = -EINTR;

	balance_table_name(net, table);
	for (int i = 0; i < BALANCE_ATTEMPTS && r == -EINTR; i++) {
		strv_free(names.list);
		names.list = NULL;
		r = nft_list_chains(rules_nft(net->rules), NFPROTO_INET, table, take_chain, &names);
	}
	if (r < 0 && r != -ENOENT) {
		strv_free(names.list);
		return error_set(err, r, "cannot read nft table %s", table);
	}
	*ret = names.list;
	return 0;
}

int balance_list(struct net *net, char ***ret, struct error *err)
{
	AUTO(strv_free) char **chains = NULL;
	char **uids = NULL;
	int r = balance_read_chains(net, "b-", &chains, err);

	if (r < 0)
		return r;
	for (size_t i = 0; chains && chains[i]; i++) {
		AUTO(free) char *uid = mem_strndup(chains[i] + 2, strcspn(chains[i] + 2, "-"));

		if (name_is_uid(uid) && !strv_contains(uids, uid))
			strv_append(&uids, uid);
	}
	*ret = uids;
	return 0;
}

static void take_member(const struct nft_element *element, void *data)
{
	char ***list = data;
	char text[ADDRESS_TEXT_SIZE];
	struct route_ip ip = { .family = element->value_size == 16 ? AF_INET6 : AF_INET };

	memcpy(ip.bytes, element->value, route_ip_size(&ip));
	address_text(&ip, text);
	if (!strv_contains(*list, text))
		strv_append(list, text);
}

int balance_members(struct net *net, const char *uid, char ***ret, struct error *err)
{
	char table[BALANCE_TABLE_SIZE], map[8 + NAME_UID_MAX];
	char **list = NULL;
	int r = 0;

	if (!name_is_uid(uid))
		return error_say(err, -EINVAL, "a balancer's uid must be 1 to 32 of 0-9 and a-f");
	NET_LOCKED(net);
	balance_table_name(net, table);
	for (int family = 4; r == 0 && family <= (net->ipv6 ? 6 : 4); family += 2) {
		snprintf(map, sizeof(map), "m%d-%s", family, uid);
		r = BALANCE_AGAIN(nft_list(rules_nft(net->rules), NFPROTO_INET, table, map,
					   take_member, &list));
	}
	if (r < 0) {
		strv_free(list);
		return error_set(err, r, "cannot read nft table %s", table);
	}
	*ret = list;
	return 0;
}
