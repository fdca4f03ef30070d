#include "net/chains_internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/mem.h"
#include "base/strv.h"
#include "kern/nft.h"
#include "kern/nft_rule.h"
#include "net/name.h"

enum { CHAIN_NAME_SIZE = NFT_NAME_MAX, UID_SIZE = NAME_UID_MAX + 1 };

/* The sets that have an element for each combination. */
enum where { WHERE_IN, WHERE_OUT, WHERE_LOUD, WHERE_COUNT };

static const struct {
	const char *set;
	uint8_t family;
} wheres[WHERE_COUNT] = {
	[WHERE_IN] = { "ways_in", NFPROTO_INET },
	[WHERE_OUT] = { "ways_out", NFPROTO_INET },
	[WHERE_LOUD] = { "loud", NFPROTO_BRIDGE },
};

struct chain {
	char name[CHAIN_NAME_SIZE];
	uint8_t family;
	bool exists;  /* in the kernel */
	bool known;   /* `rules` are what it has, or shall have */
	bool marked;  /* to be written */
	bool ending;  /* to be removed */
	bool changed; /* `before` is what to go back to */
	struct strbuf rules, before;
	uint64_t hash; /* of the rules as the kernel shows them */
	bool seen;     /* scratch: by the look in progress */
	uint64_t seen_hash;
	UT_hash_handle hh;
};

struct group {
	char uid[UID_SIZE];
	uint32_t number;
	bool set;
	bool loud, was_loud;
	bool open, was_open;
	bool told; /* what it lets through is known, not only in force */
	struct chain *in, *out;
	UT_hash_handle hh;
};

struct combination {
	uint32_t number;
	struct group *groups[CHAINS_GROUPS_MAX]; /* by number */
	size_t count, uses;
	bool mapped[WHERE_COUNT]; /* which of its elements are in the kernel */
	bool seen[WHERE_COUNT];
	struct chain *in, *out;
	UT_hash_handle hh;
};

struct chains {
	struct nft *nft;
	char prefix[NAME_PREFIX_MAX + 1];
	bool bridge, ipv6;
	struct chain *all;
	struct group *groups;
	struct combination *combinations;
	uint32_t next; /* the next number of either */
	bool pending;
};

/* How a rule stands in a text of rules: this, the comment, the expressions. */
struct record {
	uint16_t comment_size, size;
};

void chains_add_rule(struct strbuf *rules, const struct nft_rule *rule, const char *comment)
{
	size_t size;
	const void *data = nft_rule_data(rule, &size);
	struct record record = { .comment_size = (uint16_t) strlen(comment) + 1,
				 .size = (uint16_t) size };

	strbuf_append(rules, &record, sizeof(record));
	strbuf_append(rules, comment, record.comment_size);
	strbuf_append(rules, data, size);
}

static struct chain *chain_find(const struct chains *chains, const char *name)
{
	struct chain *chain;

	HASH_FIND_STR(chains->all, name, chain);
	return chain;
}

static struct chain *chain_add(struct chains *chains, uint8_t family, const char *name)
{
	struct chain *chain = mem_new0(struct chain);

	snprintf(chain->name, sizeof(chain->name), "%s", name);
	chain->family = family;
	HASH_ADD_STR(chains->all, name, chain);
	return chain;
}

static void chain_remove(struct chains *chains, struct chain *chain)
{
	HASH_DEL(chains->all, chain);
	strbuf_done(&chain->rules);
	strbuf_done(&chain->before);
	free(chain);
}

static void chain_mark(struct chains *chains, struct chain *chain)
{
	chain->marked = chain->known = true;
	chains->pending = true;
}

static struct chain *chain_named(struct chains *chains, const char *format, uint32_t number,
				 const char *uid) __attribute__((format(printf, 2, 0)));

static struct chain *chain_named(struct chains *chains, const char *format, uint32_t number,
				 const char *uid)
{
	char name[CHAIN_NAME_SIZE];
	struct chain *chain;

	snprintf(name, sizeof(name), format, number, uid);
	chain = chain_find(chains, name);
	return chain ? chain : chain_add(chains, NFPROTO_INET, name);
}

/* Loads the key (interface, address) into the registers from the first one on. */
static void put_place(struct nft_rule *rule, bool from, bool ipv6)
{
	uint8_t protocol = ipv6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
	uint32_t offset = ipv6 ? (from ? 8 : 24) : (from ? 12 : 16);

	nft_rule_meta(rule, NFT_META_NFPROTO, NFT_REG_1);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, &protocol, sizeof(protocol));
	nft_rule_meta(rule, from ? NFT_META_IIFNAME : NFT_META_OIFNAME, NFT_REG_1);
	nft_rule_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, offset, ipv6 ? 16 : 4, NFT_REG_2);
}

/*
 * A number from a map, to be looked up.  It passes through the packet's mark because nft (1.0.6)
 * cannot show a rule that looks a map's value up at once: it aborts.
 */
static void put_number(struct nft_rule *rule)
{
	nft_rule_meta_set(rule, NFT_META_MARK, NFT_REG_1);
	nft_rule_meta(rule, NFT_META_MARK, NFT_REG_1);
}

/* Behind such a rule the packet has no mark. */
static void put_unmark(struct nft_rule *rule)
{
	const uint32_t none = 0;

	nft_rule_constant(rule, &none, sizeof(none), NFT_REG_1);
	nft_rule_meta_set(rule, NFT_META_MARK, NFT_REG_1);
}

/* The way from a packet's address to its port's combination to that one's chain. */
static void add_dispatch(struct chains *chains, const char *name, bool from, const char *map)
{
	struct chain *chain = chain_add(chains, NFPROTO_INET, name);
	struct nft_rule rule;

	for (int ipv6 = 0; ipv6 <= chains->ipv6; ipv6++) {
		nft_rule_init(&rule);
		put_place(&rule, from, ipv6);
		nft_rule_map(&rule, ipv6 ? "ports6" : "ports4", NFT_REG_1, NFT_REG_1);
		put_number(&rule);
		nft_rule_map(&rule, map, NFT_REG_1, NFT_REG_VERDICT);
		chains_add_rule(&chain->rules, &rule, "");
	}
	chain_mark(chains, chain);
}

/* What is announced or asked for in IPv6's neighbour discovery is one of the port's addresses. */
static void add_target(struct chains *chains)
{
	struct chain *chain = chain_add(chains, NFPROTO_BRIDGE, "target6");
	struct nft_rule rule;

	nft_rule_init(&rule);
	nft_rule_meta(&rule, NFT_META_IIFNAME, NFT_REG32_00);
	nft_rule_payload(&rule, NFT_PAYLOAD_LL_HEADER, 6, 6, NFT_REG32_04);
	nft_rule_payload(&rule, NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, NFT_REG32_06);
	nft_rule_lookup(&rule, "own6", NFT_REG32_00, false);
	nft_rule_verdict(&rule, NFT_RETURN, NULL);
	chains_add_rule(&chain->rules, &rule, "");
	nft_rule_init(&rule);
	nft_rule_verdict(&rule, NF_DROP, NULL);
	chains_add_rule(&chain->rules, &rule, "");
	chain_mark(chains, chain);
}

static void add_loud(struct chains *chains)
{
	struct chain *chain = chain_add(chains, NFPROTO_BRIDGE, "hears");
	struct nft_rule rule;

	nft_rule_init(&rule);
	nft_rule_meta(&rule, NFT_META_OIFNAME, NFT_REG_1);
	nft_rule_map(&rule, "combination", NFT_REG_1, NFT_REG_1);
	put_number(&rule);
	nft_rule_lookup(&rule, "loud", NFT_REG_1, false);
	put_unmark(&rule);
	nft_rule_verdict(&rule, NF_ACCEPT, NULL);
	chains_add_rule(&chain->rules, &rule, "");
	chain_mark(chains, chain);
}

static void add_fixed(struct chains *chains)
{
	add_dispatch(chains, "from_port", true, "ways_out");
	add_dispatch(chains, "to_port", false, "ways_in");
	if (!chains->bridge)
		return;
	if (chains->ipv6)
		add_target(chains);
	add_loud(chains);
}

struct chains *chains_new(struct nft *nft, const char *prefix, bool bridge, bool ipv6)
{
	struct chains *chains = mem_new0(struct chains);

	chains->nft = nft;
	memcpy(chains->prefix, prefix, strnlen(prefix, NAME_PREFIX_MAX));
	chains->bridge = bridge;
	chains->ipv6 = ipv6;
	chains->next = 1;
	add_fixed(chains);
	return chains;
}

static void group_forget(struct chains *chains, struct group *group)
{
	HASH_DEL(chains->groups, group);
	free(group);
}

static void combination_forget(struct chains *chains, struct combination *combination)
{
	HASH_DEL(chains->combinations, combination);
	free(combination);
}

static void forget_all(struct chains *chains)
{
	struct combination *combination, *next_combination;
	struct group *group, *next_group;
	struct chain *chain, *next_chain;

	HASH_ITER(hh, chains->combinations, combination, next_combination)
	combination_forget(chains, combination);
	HASH_ITER(hh, chains->groups, group, next_group)
	group_forget(chains, group);
	HASH_ITER(hh, chains->all, chain, next_chain)
	chain_remove(chains, chain);
}

void chains_free(struct chains *chains)
{
	if (!chains)
		return;
	forget_all(chains);
	free(chains);
}

void chains_clear(struct chains *chains)
{
	forget_all(chains);
	add_fixed(chains);
}

static struct group *group_find(const struct chains *chains, const char *uid)
{
	struct group *group;

	HASH_FIND_STR(chains->groups, uid, group);
	return group;
}

static struct combination *combination_find(const struct chains *chains, uint32_t number)
{
	struct combination *combination;

	HASH_FIND(hh, chains->combinations, &number, sizeof(number), combination);
	return combination;
}

static struct group *group_add(struct chains *chains, const char *uid, uint32_t number)
{
	struct group *group = mem_new0(struct group);

	memcpy(group->uid, uid, strnlen(uid, NAME_UID_MAX));
	group->number = number;
	group->in = chain_named(chains, "g-%u-%s", number, uid);
	group->out = chain_named(chains, "x-%u-%s", number, uid);
	HASH_ADD_STR(chains->groups, uid, group);
	if (number >= chains->next)
		chains->next = number + 1;
	return group;
}

static struct group *group_get(struct chains *chains, const char *uid)
{
	struct group *group = group_find(chains, uid);

	if (!group) {
		group = group_add(chains, uid, chains->next);
		chain_mark(chains, group->in);
		chain_mark(chains, group->out);
	}
	return group;
}

uint32_t chains_group_number(struct chains *chains, const char *uid)
{
	return group_get(chains, uid)->number;
}

bool chains_has_group(const struct chains *chains, const char *uid)
{
	const struct group *group = group_find(chains, uid);

	return group && group->set;
}

static void chain_set(struct chains *chains, struct chain *chain, const struct strbuf *rules)
{
	if (chain->known && chain->exists && !chain->marked && chain->rules.size == rules->size &&
	    (rules->size == 0 || memcmp(chain->rules.data, rules->data, rules->size) == 0))
		return;
	if (!chain->changed) {
		chain->before = chain->rules;
		chain->rules = (struct strbuf){};
		chain->changed = true;
	}
	chain->rules.size = 0;
	strbuf_append(&chain->rules, rules->data, rules->size);
	chain_mark(chains, chain);
}

void chains_set_group(struct chains *chains, const char *uid, const struct strbuf *in,
		      const struct strbuf *out, bool loud, bool open)
{
	struct group *group = group_get(chains, uid);

	chain_set(chains, group->in, in);
	chain_set(chains, group->out, out);
	group->set = true;
	group->was_loud = group->loud;
	group->loud = loud;
	group->was_open = group->open;
	group->open = open;
	group->told = true;
	chains->pending = chains->pending || group->loud != group->was_loud;
}

static bool is_member(const struct combination *combination, const struct group *group)
{
	for (size_t i = 0; i < combination->count; i++)
		if (combination->groups[i] == group)
			return true;
	return false;
}

int chains_remove_group(struct chains *chains, const char *uid)
{
	struct group *group = group_find(chains, uid);
	struct combination *combination;

	if (!group)
		return 0;
	for (combination = chains->combinations; combination; combination = combination->hh.next)
		if (combination->uses > 0 && is_member(combination, group))
			return -EBUSY;
	group->in->ending = group->out->ending = true;
	chains->pending = true;
	return 0;
}

void chains_close_group(struct chains *chains, const char *uid)
{
	struct group *group = group_find(chains, uid);

	if (!group)
		return;
	group->told = true;
	group->open = group->was_open = false;
}

static bool is_open(const struct group *group, bool unknown)
{
	return group && (group->told ? group->open : unknown);
}

bool chains_share_open(const struct chains *chains, const uint32_t *numbers, size_t number_count,
		       const char *const *uids, size_t uid_count, bool unknown)
{
	const struct combination *combination, *first;
	const struct group *group;
	bool shared;

	first = number_count > 0 ? combination_find(chains, numbers[0]) : NULL;
	for (size_t i = 0; i < (uid_count ? uid_count : first ? first->count : 0); i++) {
		group = uid_count ? group_find(chains, uids[i]) : first->groups[i];
		shared = is_open(group, unknown);
		for (size_t k = 0; k < number_count && shared; k++) {
			combination = combination_find(chains, numbers[k]);
			shared = combination && is_member(combination, group);
		}
		if (shared)
			return true;
	}
	return false;
}

size_t chains_combinations_of(const struct chains *chains, const char *uid, uint32_t **ret)
{
	const struct group *group = group_find(chains, uid);
	const struct combination *combination;
	uint32_t *list = NULL;
	size_t count = 0;

	for (combination = chains->combinations; group && combination;
	     combination = combination->hh.next) {
		if (!is_member(combination, group))
			continue;
		list = mem_realloc(list, count + 1, sizeof(*list));
		list[count++] = combination->number;
	}
	*ret = list;
	return count;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

char **chains_groups(const struct chains *chains)
{
	const struct group *group;
	char **uids = NULL;

	for (group = chains->groups; group; group = group->hh.next)
		strv_append(&uids, group->uid);
	if (uids)
		qsort(uids, strv_count(uids), sizeof(uids[0]), compare);
	return uids;
}

/* Each group, then nothing else. */
static void write_combination(struct combination *combination)
{
	struct nft_rule rule;

	combination->in->rules.size = combination->out->rules.size = 0;
	nft_rule_init(&rule);
	put_unmark(&rule);
	chains_add_rule(&combination->in->rules, &rule, "");
	chains_add_rule(&combination->out->rules, &rule, "");
	for (size_t i = 0; i < combination->count; i++) {
		const struct group *group = combination->groups[i];

		nft_rule_init(&rule);
		nft_rule_verdict(&rule, NFT_JUMP, group->in->name);
		chains_add_rule(&combination->in->rules, &rule, group->uid);
		nft_rule_init(&rule);
		nft_rule_verdict(&rule, NFT_JUMP, group->out->name);
		chains_add_rule(&combination->out->rules, &rule, group->uid);
	}
	nft_rule_init(&rule);
	nft_rule_verdict(&rule, NF_DROP, NULL);
	chains_add_rule(&combination->in->rules, &rule, "");
	chains_add_rule(&combination->out->rules, &rule, "");
	combination->in->known = combination->out->known = true;
}

static struct combination *combination_add(struct chains *chains, uint32_t number)
{
	struct combination *combination = mem_new0(struct combination);

	combination->number = number;
	combination->in = chain_named(chains, "c-%u%s", number, "");
	combination->out = chain_named(chains, "e-%u%s", number, "");
	HASH_ADD(hh, chains->combinations, number, sizeof(number), combination);
	if (number >= chains->next)
		chains->next = number + 1;
	return combination;
}

static int compare_groups(const void *a, const void *b)
{
	const struct group *first = *(struct group *const *) a,
			   *second = *(struct group *const *) b;

	return first->number < second->number ? -1 : first->number > second->number;
}

uint32_t chains_combination(struct chains *chains, const char *const *uids, size_t count)
{
	struct group *groups[CHAINS_GROUPS_MAX] = {};
	struct combination *combination;

	assert(count <= CHAINS_GROUPS_MAX);
	for (size_t i = 0; i < count; i++)
		groups[i] = group_get(chains, uids[i]);
	qsort(groups, count, sizeof(groups[0]), compare_groups);
	for (combination = chains->combinations; combination; combination = combination->hh.next)
		if (combination->count == count &&
		    memcmp(combination->groups, groups, sizeof(groups)) == 0)
			return combination->number;
	combination = combination_add(chains, chains->next);
	memcpy(combination->groups, groups, sizeof(groups));
	combination->count = count;
	write_combination(combination);
	chain_mark(chains, combination->in);
	chain_mark(chains, combination->out);
	return combination->number;
}

void chains_use(struct chains *chains, uint32_t number, int change)
{
	struct combination *combination = combination_find(chains, number);

	if (!combination)
		return;
	combination->uses += (size_t) change;
	chains->pending = chains->pending || combination->uses == 0;
}

bool chains_pending(const struct chains *chains)
{
	return chains->pending;
}

static void put_chain(struct chains *chains, struct nft_batch *batch, const struct chain *chain)
{
	if (chain->exists)
		nft_batch_flush_chain(chains->nft, batch, chain->family, chain->name);
	for (size_t at = 0; at < chain->rules.size;) {
		const char *data = chain->rules.data + at;
		_Alignas(8) uint8_t copy[NFT_RULE_SIZE_MAX];
		struct record record;

		memcpy(&record, data, sizeof(record));
		memcpy(copy, data + sizeof(record) + record.comment_size, record.size);
		nft_batch_add_rule(chains->nft, batch, chain->family, chain->name, copy,
				   record.size, data + sizeof(record));
		at += sizeof(record) + record.comment_size + record.size;
	}
}

static bool is_loud(const struct combination *combination)
{
	for (size_t i = 0; i < combination->count; i++)
		if (combination->groups[i]->loud)
			return true;
	return false;
}

static bool is_wanted(const struct chains *chains, const struct combination *combination, int where)
{
	return where != WHERE_LOUD || (chains->bridge && is_loud(combination));
}

static void put_element(struct chains *chains, struct nft_batch *batch,
			const struct combination *combination, int where, bool add)
{
	struct nft_element element = { .family = wheres[where].family,
				       .set = wheres[where].set,
				       .key_size = sizeof(combination->number) };

	if (where != WHERE_LOUD)
		element.jump = (where == WHERE_IN ? combination->in : combination->out)->name;
	memcpy(element.key, &combination->number, sizeof(combination->number));
	(add ? nft_batch_add : nft_batch_delete)(chains->nft, batch, &element);
}

void chains_put(struct chains *chains, struct nft_batch *batch)
{
	struct combination *combination;
	struct chain *chain;

	/* All chains first: rules jump to them. */
	for (chain = chains->all; chain; chain = chain->hh.next)
		if (chain->marked && !chain->exists)
			nft_batch_add_chain(chains->nft, batch, chain->family, chain->name);
	for (chain = chains->all; chain; chain = chain->hh.next)
		if (chain->marked)
			put_chain(chains, batch, chain);
	for (combination = chains->combinations; combination; combination = combination->hh.next)
		for (int i = 0; i < WHERE_COUNT; i++) {
			bool wanted = is_wanted(chains, combination, i);

			if (wanted != combination->mapped[i])
				put_element(chains, batch, combination, i, wanted);
		}
}

void chains_put_removals(struct chains *chains, struct nft_batch *batch)
{
	struct combination *combination;
	struct chain *chain;

	for (combination = chains->combinations; combination; combination = combination->hh.next) {
		if (combination->uses > 0)
			continue;
		for (int i = 0; i < WHERE_COUNT; i++)
			if (is_wanted(chains, combination, i))
				put_element(chains, batch, combination, i, false);
		combination->in->ending = combination->out->ending = true;
	}
	for (chain = chains->all; chain; chain = chain->hh.next)
		if (chain->ending)
			nft_batch_flush_chain(chains->nft, batch, chain->family, chain->name);
	for (chain = chains->all; chain; chain = chain->hh.next)
		if (chain->ending)
			nft_batch_delete_chain(chains->nft, batch, chain->family, chain->name);
}

static uint64_t fold(uint64_t hash, uint64_t more)
{
	return (hash ^ more) * 0x100000001b3ULL + 1;
}

static void add_hash(const struct nft_seen_rule *rule, void *data)
{
	*(uint64_t *) data = fold(*(uint64_t *) data, rule->hash);
}

/* Remembers how the kernel shows what was written. */
static int remember_hash(struct chains *chains, struct chain *chain)
{
	int r = -EINTR;

	for (int i = 0; i < 10 && r == -EINTR; i++) {
		chain->hash = 0;
		r = nft_list_rules(chains->nft, chain->family, chains->prefix, chain->name,
				   add_hash, &chain->hash);
	}
	return r;
}

static void forget_ended(struct chains *chains)
{
	struct combination *combination, *next_combination;
	struct group *group, *next_group;
	struct chain *chain, *next_chain;

	HASH_ITER(hh, chains->combinations, combination, next_combination)
	if (combination->in->ending)
		combination_forget(chains, combination);
	HASH_ITER(hh, chains->groups, group, next_group)
	if (group->in->ending)
		group_forget(chains, group);
	HASH_ITER(hh, chains->all, chain, next_chain)
	if (chain->ending)
		chain_remove(chains, chain);
}

static int written(struct chains *chains)
{
	struct combination *combination;
	struct group *group;
	struct chain *chain;
	int r = 0;

	forget_ended(chains);
	for (chain = chains->all; chain; chain = chain->hh.next) {
		if (!chain->marked)
			continue;
		chain->exists = true;
		chain->marked = chain->changed = false;
		strbuf_done(&chain->before);
		if (r == 0)
			r = remember_hash(chains, chain);
	}
	for (combination = chains->combinations; combination; combination = combination->hh.next)
		for (int i = 0; i < WHERE_COUNT; i++)
			combination->mapped[i] = is_wanted(chains, combination, i);
	for (group = chains->groups; group; group = group->hh.next) {
		group->was_loud = group->loud;
		group->was_open = group->open;
	}
	return r;
}

/* Back to what the kernel has. */
static void undo(struct chains *chains)
{
	struct combination *combination;
	struct group *group;
	struct chain *chain;

	for (chain = chains->all; chain; chain = chain->hh.next) {
		chain->ending = false;
		if (chain->changed) {
			strbuf_done(&chain->rules);
			chain->rules = chain->before;
			chain->before = (struct strbuf){};
			chain->changed = chain->marked = false;
			/* An earlier life's rules are in the kernel only. */
			chain->known = chain->known && chain->rules.size > 0;
		}
	}
	for (group = chains->groups; group; group = group->hh.next) {
		group->loud = group->was_loud;
		group->open = group->was_open;
	}
	/* What is new and was not written is of no use to anybody. */
	for (combination = chains->combinations; combination; combination = combination->hh.next)
		if (!combination->in->exists)
			combination->in->ending = combination->out->ending = true;
	for (group = chains->groups; group; group = group->hh.next)
		if (!group->in->exists)
			group->in->ending = group->out->ending = true;
	forget_ended(chains);
	for (chain = chains->all; chain; chain = chain->hh.next)
		chains->pending = chains->pending || chain->marked;
}

int chains_written(struct chains *chains, bool done)
{
	int r = 0;

	chains->pending = false;
	if (done)
		r = written(chains);
	else
		undo(chains);
	return r;
}

/* ---- what the kernel has ---- */

struct look {
	struct chains *chains;
	bool adopt;
	uint64_t fixed;
	int where;
};

/* "g-7-UID" or "x-7-UID" */
static bool parse_group(const char *name, uint32_t *number, const char **uid)
{
	char *end;

	if ((name[0] != 'g' && name[0] != 'x') || name[1] != '-')
		return false;
	*number = (uint32_t) strtoul(name + 2, &end, 10);
	*uid = end + 1;
	return end > name + 2 && *end == '-' && name_is_uid(*uid);
}

/* "c-7" or "e-7" */
static bool parse_combination(const char *name, uint32_t *number)
{
	char *end;

	if ((name[0] != 'c' && name[0] != 'e') || name[1] != '-')
		return false;
	*number = (uint32_t) strtoul(name + 2, &end, 10);
	return end > name + 2 && !*end;
}

static bool is_ours(const char *name)
{
	const char *uid;
	uint32_t number;

	return parse_group(name, &number, &uid) || parse_combination(name, &number);
}

static void see_chain(const char *name, void *data)
{
	struct look *look = data;
	struct chain *chain = chain_find(look->chains, name);
	struct combination *combination;
	const char *uid;
	uint32_t number;

	if (!chain && look->adopt && parse_group(name, &number, &uid) &&
	    !group_find(look->chains, uid)) {
		struct group *group = group_add(look->chains, uid, number);

		group->set = true;
		group->in->exists = group->out->exists = true;
	} else if (!chain && look->adopt && parse_combination(name, &number) &&
		   !combination_find(look->chains, number)) {
		combination = combination_add(look->chains, number);
		combination->in->exists = combination->out->exists = true;
	}
	chain = chain_find(look->chains, name);
	if (chain)
		chain->seen = true;
}

static void see_rule(const struct nft_seen_rule *rule, void *data)
{
	struct look *look = data;
	struct chain *chain = chain_find(look->chains, rule->chain);
	struct combination *combination;
	struct group *group;
	uint32_t number;

	if (!chain) {
		if (!is_ours(rule->chain))
			look->fixed = fold(look->fixed, rule->hash);
		return;
	}
	chain->seen_hash = fold(chain->seen_hash, rule->hash);
	if (!look->adopt || rule->chain[0] != 'c' || !parse_combination(rule->chain, &number))
		return;
	/* A jump names its group. */
	combination = combination_find(look->chains, number);
	group = group_find(look->chains, rule->comment);
	if (combination && group && !combination->in->known &&
	    combination->count < CHAINS_GROUPS_MAX)
		combination->groups[combination->count++] = group;
}

static void see_element(const struct nft_element *element, void *data)
{
	const struct look *look = data;
	struct combination *combination;
	uint32_t number;

	memcpy(&number, element->key, sizeof(number));
	combination = combination_find(look->chains, number);
	if (combination)
		combination->seen[look->where] = true;
}

static int look_at(struct chains *chains, struct look *look)
{
	static const uint8_t families[] = { NFPROTO_INET, NFPROTO_BRIDGE };
	struct combination *combination;
	int r = 0;

	for (int i = 0; i <= chains->bridge && r == 0; i++) {
		r = nft_list_chains(chains->nft, families[i], chains->prefix, see_chain, look);
		if (r == 0)
			r = nft_list_rules(chains->nft, families[i], chains->prefix, NULL, see_rule,
					   look);
	}
	for (combination = chains->combinations; combination; combination = combination->hh.next)
		memset(combination->seen, 0, sizeof(combination->seen));
	for (look->where = 0; look->where < WHERE_COUNT && r == 0; look->where++)
		if (look->where != WHERE_LOUD || chains->bridge)
			r = nft_list(chains->nft, wheres[look->where].family, chains->prefix,
				     wheres[look->where].set, see_element, look);
	return r;
}

/* Combinations of an earlier life: their chains are known, for their groups are. */
static void know_combinations(struct chains *chains)
{
	struct combination *combination;

	for (combination = chains->combinations; combination; combination = combination->hh.next) {
		if (combination->in->known)
			continue;
		qsort(combination->groups, combination->count, sizeof(combination->groups[0]),
		      compare_groups);
		write_combination(combination);
		for (size_t i = 0; i < combination->count; i++) {
			struct group *group = combination->groups[i];

			group->loud = group->loud || combination->seen[WHERE_LOUD];
			group->was_loud = group->loud;
		}
	}
}

/* Returns whether something has to be written. */
static bool compare_all(struct chains *chains, bool adopt)
{
	struct combination *combination;
	struct chain *chain;
	bool damaged = false;

	for (chain = chains->all; chain; chain = chain->hh.next) {
		if (adopt && !chain->marked && chain->seen)
			chain->hash = chain->seen_hash;
		chain->exists = chain->seen;
		if (chain->seen && chain->seen_hash == chain->hash && !chain->marked)
			continue;
		/* Nobody knows the rules of a group that is not set yet: until it is, none apply.
		 */
		chain_mark(chains, chain);
		damaged = true;
	}
	for (combination = chains->combinations; combination; combination = combination->hh.next)
		for (int i = 0; i < WHERE_COUNT; i++) {
			combination->mapped[i] = combination->seen[i];
			damaged = damaged ||
				  combination->seen[i] != is_wanted(chains, combination, i);
		}
	chains->pending = chains->pending || damaged;
	return damaged;
}

int chains_look(struct chains *chains, bool adopt, bool *ret_damaged, uint64_t *ret_fixed)
{
	struct look look = { .chains = chains, .adopt = adopt };
	struct chain *chain;
	int r;

	for (chain = chains->all; chain; chain = chain->hh.next) {
		chain->seen = false;
		chain->seen_hash = 0;
	}
	r = look_at(chains, &look);
	if (r < 0)
		return r;
	if (adopt)
		know_combinations(chains);
	*ret_damaged = compare_all(chains, adopt);
	*ret_fixed = look.fixed;
	return 0;
}
