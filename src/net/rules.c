#include "net/rules_internal.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/nft.h"
#include "net/chains_internal.h"
#include "net/mix_internal.h"
#include "net/name.h"
#include "net/rules_text_internal.h"

/* uthash aborts with exit() unless told otherwise; memory for an index is our own choice of size.
 */
enum { LIST_ATTEMPTS = 20, KEY_SIZE = 1 + RULES_KEY_SIZE };

struct owner;

struct entry {
	struct rules_element element; /* its first KEY_SIZE bytes are the key */
	bool seen;                    /* scratch: by the walk or the call in progress */
	struct owner *owner;
	struct entry *prev, *next; /* of the owner */
	UT_hash_handle hh;
};

struct owner {
	char uid[RULES_OWNER_SIZE];
	struct entry *entries;
	UT_hash_handle hh;
};

struct rules {
	char prefix[NAME_PREFIX_MAX + 1];
	bool ipv6, bridge; /* what the kernel has */
	struct nft *nft;
	struct chains *chains;
	struct mix mix;
	struct entry *entries;
	struct owner *owners;
	size_t counts[RULES_SET_COUNT];
	uint32_t
		generation; /* of the ruleset when table and index were known to agree; 0 = never */
	uint64_t fingerprint; /* of the rules that are not chains' */
};

static enum rules_group group_of(uint8_t set)
{
	if (set < RULES_PUBLISH4)
		return RULES_OF_NETWORK;
	return set < RULES_PORTS4 ? RULES_OF_PUBLISH : RULES_OF_GUARD;
}

static bool is_there(const struct rules *rules, uint8_t set)
{
	const struct rules_shape *shape = &rules_shapes[set];

	return (rules->ipv6 || !shape->ipv6) && (rules->bridge || shape->family != NFPROTO_BRIDGE);
}

/* The elements whose value is a combination of groups. */
static void count_use(struct rules *rules, const struct rules_element *element, int change)
{
	uint32_t number;

	if (element->set != RULES_PORTS4 && element->set != RULES_PORTS6)
		return;
	memcpy(&number, element->value, sizeof(number));
	chains_use(rules->chains, number, change);
	mix_count(&rules->mix, (const char *) element->key, number, change);
}

static struct entry *entry_find(const struct rules *rules, const struct rules_element *element)
{
	struct entry *entry;

	HASH_FIND(hh, rules->entries, element, KEY_SIZE, entry);
	return entry;
}

static struct owner *owner_find(const struct rules *rules, const char *uid)
{
	struct owner *owner;

	HASH_FIND_STR(rules->owners, uid, owner);
	return owner;
}

static struct entry *entry_add(struct rules *rules, const char *uid,
			       const struct rules_element *element)
{
	struct entry *entry = mem_new0(struct entry);
	struct owner *owner = owner_find(rules, uid);

	if (!owner) {
		owner = mem_new0(struct owner);
		memcpy(owner->uid, uid, strnlen(uid, RULES_OWNER_SIZE - 1));
		HASH_ADD_STR(rules->owners, uid, owner);
	}
	entry->element = *element;
	entry->owner = owner;
	DL_APPEND(owner->entries, entry);
	HASH_ADD(hh, rules->entries, element, KEY_SIZE, entry);
	rules->counts[element->set]++;
	count_use(rules, element, 1);
	return entry;
}

static void entry_remove(struct rules *rules, struct entry *entry)
{
	struct owner *owner = entry->owner;

	count_use(rules, &entry->element, -1);
	HASH_DEL(rules->entries, entry);
	DL_DELETE(owner->entries, entry);
	rules->counts[entry->element.set]--;
	if (!owner->entries) {
		HASH_DEL(rules->owners, owner);
		free(owner);
	}
	free(entry);
}

void rules_free(struct rules *rules)
{
	struct entry *entry, *next;

	if (!rules)
		return;
	HASH_ITER(hh, rules->entries, entry, next)
	entry_remove(rules, entry);
	chains_free(rules->chains);
	mix_done(&rules->mix);
	nft_free(rules->nft);
	free(rules);
}

/* The form in which kern/nft takes an element. */
static struct nft_element to_nft(const struct rules_element *element, const char *owner)
{
	const struct rules_shape *shape = &rules_shapes[element->set];
	struct nft_element nft = { .family = shape->family,
				   .set = shape->name,
				   .key_size = shape->key_size,
				   .value_size = shape->value_size };

	memcpy(nft.key, element->key, shape->key_size);
	if (shape->interval) {
		nft.value_size = 0;
		nft.has_end = true;
		memcpy(nft.end, element->key, shape->key_size);
		memcpy(nft.end + shape->key_size - shape->value_size, element->value,
		       shape->value_size);
	} else {
		memcpy(nft.value, element->value, shape->value_size);
	}
	if (owner)
		memcpy(nft.comment, owner, strnlen(owner, RULES_OWNER_SIZE - 1));
	return nft;
}

/* A walk over the kernel's elements, compared with the index. */
struct walk {
	struct rules *rules;
	uint8_t set;
	bool adopt;            /* unknown elements with an owner are taken into the index */
	struct strbuf foreign; /* struct nft_element: what must go */
};

static void walk_element(const struct nft_element *found, void *data)
{
	struct walk *walk = data;
	const struct rules_shape *shape = &rules_shapes[walk->set];
	struct rules_element element = { .set = walk->set };
	struct nft_element foreign = *found;
	struct entry *entry;

	memcpy(element.key, found->key, shape->key_size);
	if (shape->interval)
		memcpy(element.value, found->end + shape->key_size - shape->value_size,
		       shape->value_size);
	else
		memcpy(element.value, found->value, shape->value_size);
	entry = entry_find(walk->rules, &element);
	if (!entry && walk->adopt && name_is_uid(found->comment))
		entry = entry_add(walk->rules, found->comment, &element);
	if (entry && memcmp(entry->element.value, element.value, sizeof(element.value)) == 0 &&
	    strcmp(entry->owner->uid, found->comment) == 0) {
		entry->seen = true;
		return;
	}
	foreign.set = shape->name;
	foreign.family = shape->family;
	foreign.key_size = shape->key_size;
	strbuf_append(&walk->foreign, &foreign, sizeof(foreign));
}

static int walk_sets(struct rules *rules, struct walk *walk)
{
	struct entry *entry, *next;
	int r = 0;

	HASH_ITER(hh, rules->entries, entry, next)
	entry->seen = false;
	walk->foreign.size = 0;
	for (walk->set = 0; walk->set < RULES_SET_COUNT && r == 0; walk->set++)
		if (is_there(rules, walk->set))
			r = nft_list(rules->nft, rules_family(&rules_shapes[walk->set]),
				     rules->prefix, rules_shapes[walk->set].name, walk_element,
				     walk);
	return r;
}

/* Makes the kernel's elements those of the index.  Returns 1 when it had to change something. */
static int sync_elements(struct rules *rules, bool adopt, struct error *err)
{
	AUTO(nft_batch_done) struct nft_batch batch = {};
	struct walk walk = { .rules = rules, .adopt = adopt };
	struct entry *entry, *next;
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++)
		r = walk_sets(rules, &walk);
	nft_batch_begin(rules->nft, &batch, rules->prefix);
	for (size_t at = 0; at < walk.foreign.size; at += sizeof(struct nft_element))
		nft_batch_delete(rules->nft, &batch, (void *) (walk.foreign.data + at));
	strbuf_done(&walk.foreign);
	if (r < 0)
		return error_set(err, r, "cannot read the elements of nft table %s", rules->prefix);
	HASH_ITER(hh, rules->entries, entry, next)
	{
		struct nft_element element = to_nft(&entry->element, entry->owner->uid);

		if (!entry->seen)
			nft_batch_add(rules->nft, &batch, &element);
	}
	if (batch.count == 0)
		return 0;
	r = nft_batch_commit(rules->nft, &batch);
	if (r < 0)
		return error_set(err, r, "cannot repair the elements of nft table %s",
				 rules->prefix);
	return 1;
}

/* Runs the script; tables of ours that do not fit it (an older version's) are replaced. */
static int write_rules(struct rules *rules, struct error *err)
{
	AUTO(free) char *text = rules_text(rules->prefix, rules->bridge, rules->ipv6);
	AUTO(free) char *bridge = NULL;
	AUTO(free) char *anew = NULL;
	const char *prefix = rules->prefix;
	struct error first = {};

	if (nft_run(text, &first) == 0)
		return 0;
	bridge = rules->bridge ? mem_printf("add table bridge %s\ndelete table bridge %s\n", prefix,
					    prefix)
			       : mem_strdup("");
	anew = mem_printf("add table inet %s\ndelete table inet %s\n%s%s", prefix, prefix, bridge,
			  text);
	return nft_run(anew, err);
}

static int look_at_chains(struct rules *rules, bool adopt, bool *ret_damaged, uint64_t *ret_fixed)
{
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++)
		r = chains_look(rules->chains, adopt, ret_damaged, ret_fixed);
	return r;
}

/* Writes what is marked of the chains; `removals`: takes away those that nobody uses. */
static int commit_chains(struct rules *rules, bool removals)
{
	AUTO(nft_batch_done) struct nft_batch batch = {};
	uint32_t generation;
	int r, written;

	nft_batch_begin(rules->nft, &batch, rules->prefix);
	chains_put(rules->chains, &batch);
	if (removals)
		chains_put_removals(rules->chains, &batch);
	r = batch.count > 0 ? nft_batch_commit(rules->nft, &batch) : 0;
	written = chains_written(rules->chains, r == 0);
	if (r == 0 && batch.count > 0 && nft_generation(rules->nft, &generation) == 0 &&
	    generation == rules->generation + 1)
		rules->generation = generation;
	return r < 0 ? r : written;
}

/* Brings tables, chains, elements and index together, whatever happened. */
static int rebuild(struct rules *rules, bool adopt, struct error *err)
{
	uint32_t generation;
	bool damaged = false;
	int r = write_rules(rules, err);

	if (r < 0)
		return error_wrap(err, r, "nft table %s", rules->prefix);
	r = look_at_chains(rules, adopt, &damaged, &rules->fingerprint);
	if (r == 0 && damaged)
		r = commit_chains(rules, false);
	if (r < 0)
		return error_set(err, r, "cannot repair the chains of nft table %s", rules->prefix);
	r = sync_elements(rules, adopt, err);
	if (r < 0)
		return r;
	/* What an earlier life has left and no port uses. */
	if (adopt)
		r = commit_chains(rules, true);
	if (r == 0)
		r = nft_generation(rules->nft, &generation);
	if (r < 0)
		return error_set(err, r, "cannot read nft table %s", rules->prefix);
	rules->generation = generation;
	return 0;
}

/* Kernels are built without, too. */
static bool try_bridge(const char *prefix)
{
	AUTO(free)
	char *text = mem_printf("add table inet %s\nadd table bridge %s", prefix, prefix);

	return nft_run(text, NULL) == 0;
}

int rules_new(const char *prefix, bool ipv6, struct rules **ret, struct error *err)
{
	AUTO(rules_free) struct rules *rules = mem_new0(struct rules);
	int r;

	memcpy(rules->prefix, prefix, strnlen(prefix, NAME_PREFIX_MAX));
	rules->ipv6 = ipv6;
	r = nft_new(&rules->nft);
	if (r < 0)
		return error_set(err, r, "cannot open nftables (kernel option NF_TABLES)");
	rules->bridge = try_bridge(prefix);
	rules->chains = chains_new(rules->nft, prefix, rules->bridge, ipv6);
	r = rebuild(rules, true, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(rules);
	return 0;
}

/* Somebody has changed something, somewhere. */
static int look_and_repair(struct rules *rules, bool *ret_damaged, struct error *err)
{
	uint64_t fingerprint = 0;
	bool damaged = false;
	int r = look_at_chains(rules, false, &damaged, &fingerprint);

	if (r < 0 || fingerprint != rules->fingerprint) {
		*ret_damaged = true;
		return rebuild(rules, false, err);
	}
	if (damaged) {
		r = commit_chains(rules, false);
		if (r < 0)
			return error_set(err, r, "cannot repair the chains of nft table %s",
					 rules->prefix);
	}
	r = sync_elements(rules, false, err);
	*ret_damaged = damaged || r > 0;
	return r < 0 ? r : 0;
}

int rules_repair(struct rules *rules, bool *ret_damaged, struct error *err)
{
	uint32_t generation;
	bool damaged = false;
	int r = nft_generation(rules->nft, &generation);

	if (r < 0)
		return error_set(err, r, "cannot talk to nftables");
	if (generation != rules->generation) {
		r = look_and_repair(rules, &damaged, err);
		if (r < 0)
			return r;
		/* A change between the look and now is noticed the next time. */
		if (!damaged)
			rules->generation = generation;
	}
	if (ret_damaged)
		*ret_damaged = damaged;
	return 0;
}

/* What one rules_assign() does to one entry. */
struct change {
	struct entry *entry;
	enum { CHANGE_ADD, CHANGE_REPLACE, CHANGE_REMOVE } what;
	struct rules_element wanted;
};

static void plan_add(struct strbuf *plan, struct entry *entry, int what,
		     const struct rules_element *wanted)
{
	struct change change = { .entry = entry, .what = what };

	if (wanted)
		change.wanted = *wanted;
	strbuf_append(plan, &change, sizeof(change));
}

#define EACH_CHANGE(change, plan)                                                                  \
	for (struct change *change = (void *) (plan)->data;                                        \
	     change && change < (struct change *) (void *) ((plan)->data + (plan)->size);          \
	     change++)

/* New entries are in the index already; this takes them out again. */
static void plan_undo(struct rules *rules, struct strbuf *plan)
{
	EACH_CHANGE(change, plan)
	if (change->what == CHANGE_ADD)
		entry_remove(rules, change->entry);
	plan->size = 0;
}

static int plan_make(struct rules *rules, const char *uid, enum rules_group group,
		     const struct rules_element *wanted, size_t count, size_t *ret_conflict,
		     struct strbuf *plan)
{
	struct owner *owner = owner_find(rules, uid);
	struct entry *entry;

	if (owner)
		DL_FOREACH(owner->entries, entry)
	entry->seen = group_of(entry->element.set) != group;
	for (size_t i = 0; i < count; i++) {
		entry = entry_find(rules, &wanted[i]);
		if (entry && (strcmp(entry->owner->uid, uid) != 0 || entry->seen)) {
			*ret_conflict = i;
			return strcmp(entry->owner->uid, uid) != 0 ? -EADDRINUSE : -EEXIST;
		}
		if (!entry) {
			entry = entry_add(rules, uid, &wanted[i]);
			plan_add(plan, entry, CHANGE_ADD, &wanted[i]);
		} else if (memcmp(entry->element.value, wanted[i].value, RULES_VALUE_SIZE) != 0) {
			plan_add(plan, entry, CHANGE_REPLACE, &wanted[i]);
		}
		entry->seen = true;
	}
	owner = owner_find(rules, uid);
	if (owner)
		DL_FOREACH(owner->entries, entry)
	if (!entry->seen)
		plan_add(plan, entry, CHANGE_REMOVE, NULL);
	return 0;
}

static int plan_commit(struct rules *rules, struct strbuf *plan)
{
	AUTO(nft_batch_done) struct nft_batch batch = {};
	uint32_t generation;
	int r;

	nft_batch_begin(rules->nft, &batch, rules->prefix);
	chains_put(rules->chains, &batch);
	EACH_CHANGE(change, plan)
	{
		struct nft_element element = to_nft(&change->entry->element, NULL);

		if (change->what != CHANGE_ADD)
			nft_batch_delete(rules->nft, &batch, &element);
	}
	EACH_CHANGE(change, plan)
	{
		struct nft_element element = to_nft(&change->wanted, change->entry->owner->uid);

		if (change->what != CHANGE_REMOVE)
			nft_batch_add(rules->nft, &batch, &element);
	}
	if (batch.count == 0)
		return 0;
	r = nft_batch_commit(rules->nft, &batch);
	if (chains_pending(rules->chains)) {
		int written = chains_written(rules->chains, r == 0);

		r = r < 0 ? r : written;
	}
	if (r < 0)
		return r;
	/* When somebody else committed too, the number stays behind and the next call looks closer.
	 */
	if (nft_generation(rules->nft, &generation) == 0 && generation == rules->generation + 1)
		rules->generation = generation;
	return 0;
}

static void plan_apply(struct rules *rules, struct strbuf *plan, struct strbuf *changed)
{
	EACH_CHANGE(change, plan)
	{
		if (changed)
			strbuf_append(changed, &change->entry->element,
				      sizeof(change->entry->element));
		if (change->what == CHANGE_REPLACE) {
			count_use(rules, &change->entry->element, -1);
			change->entry->element = change->wanted;
			count_use(rules, &change->entry->element, 1);
		} else if (change->what == CHANGE_REMOVE) {
			entry_remove(rules, change->entry);
		}
	}
}

/* What is wanted: as it is given, or made anew for each attempt. */
struct wish {
	const struct rules_element *wanted;
	size_t count;
	struct rules_element *room;
	rules_build_fn build;
	void *data;
};

static int assign(struct rules *rules, const char *owner, enum rules_group group, struct wish *wish,
		  size_t *ret_conflict, struct strbuf *changed, struct error *err)
{
	AUTO(strbuf_done) struct strbuf plan = {};
	int r = 0;

	/* A commit that fails was planned from an index that is no longer true: look and try again.
	 */
	for (int attempt = 0; attempt < 3; attempt++) {
		if (attempt > 0)
			rules->generation = 0;
		r = rules_repair(rules, NULL, err);
		if (r < 0)
			return r;
		if (wish->build)
			wish->build(rules->chains, wish->room, &wish->count, wish->data);
		r = plan_make(rules, owner, group, wish->wanted, wish->count, ret_conflict, &plan);
		if (r < 0) {
			plan_undo(rules, &plan);
			(void) chains_written(rules->chains, false);
			return r;
		}
		r = plan_commit(rules, &plan);
		if (r < 0) {
			plan_undo(rules, &plan);
			continue;
		}
		plan_apply(rules, &plan, changed);
		if (chains_pending(rules->chains))
			r = commit_chains(rules, true);
		return r < 0 ? error_set(err, r, "cannot tidy nft table %s", rules->prefix) : 0;
	}
	return error_set(err, r, "cannot change nft table %s", rules->prefix);
}

int rules_assign(struct rules *rules, const char *owner, enum rules_group group,
		 const struct rules_element *wanted, size_t count, size_t *ret_conflict,
		 struct strbuf *changed, struct error *err)
{
	struct wish wish = { .wanted = wanted, .count = count };

	return assign(rules, owner, group, &wish, ret_conflict, changed, err);
}

int rules_assign_built(struct rules *rules, const char *owner, enum rules_group group,
		       struct rules_element *wanted, rules_build_fn build, void *data,
		       size_t *ret_conflict, struct error *err)
{
	struct wish wish = { .wanted = wanted, .room = wanted, .build = build, .data = data };

	return assign(rules, owner, group, &wish, ret_conflict, NULL, err);
}

int rules_change_chains(struct rules *rules, rules_change_fn change, void *data, struct error *err)
{
	int r = 0;

	for (int attempt = 0; attempt < 3; attempt++) {
		if (attempt > 0)
			rules->generation = 0;
		r = rules_repair(rules, NULL, err);
		if (r < 0)
			return r;
		r = change(rules->chains, data);
		if (r < 0 || !chains_pending(rules->chains))
			return r;
		r = commit_chains(rules, true);
		if (r == 0)
			return 0;
	}
	return error_set(err, r, "cannot change nft table %s", rules->prefix);
}

const struct chains *rules_chains(const struct rules *rules)
{
	return rules->chains;
}

struct chains *rules_chains_to_change(struct rules *rules)
{
	return rules->chains;
}

struct mix *rules_mix(struct rules *rules)
{
	return &rules->mix;
}

bool rules_has_bridge(const struct rules *rules)
{
	return rules->bridge;
}

const char *rules_owner(const struct rules *rules, const struct rules_element *element)
{
	const struct entry *entry = entry_find(rules, element);

	return entry ? entry->owner->uid : NULL;
}

size_t rules_count(const struct rules *rules, enum rules_set set)
{
	return rules->counts[set];
}

void rules_each(const struct rules *rules,
		void (*fn)(const char *owner, const struct rules_element *element, void *data),
		void *data)
{
	const struct entry *entry;

	for (entry = rules->entries; entry; entry = entry->hh.next)
		fn(entry->owner->uid, &entry->element, data);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

char **rules_owners(const struct rules *rules, enum rules_group group)
{
	const struct entry *entry;
	struct owner *owner;
	char **uids = NULL;
	bool any;

	for (owner = rules->owners; owner; owner = owner->hh.next) {
		any = false;
		DL_FOREACH(owner->entries, entry)
		any = any || group_of(entry->element.set) == group;
		if (any)
			strv_append(&uids, owner->uid);
	}
	if (uids)
		qsort(uids, strv_count(uids), sizeof(uids[0]), compare);
	return uids;
}

uint32_t rules_generation(const struct rules *rules)
{
	return rules->generation;
}

void rules_passed(struct rules *rules, uint32_t before)
{
	uint32_t generation;

	if (rules->generation == before && nft_generation(rules->nft, &generation) == 0 &&
	    generation == before + 1)
		rules->generation = generation;
}

struct nft *rules_nft(struct rules *rules)
{
	return rules->nft;
}

int rules_destroy(struct rules *rules, struct error *err)
{
	struct entry *entry, *next;
	int r = nft_delete_table(rules->nft, NFPROTO_INET, rules->prefix);

	if (r == 0 && rules->bridge)
		r = nft_delete_table(rules->nft, NFPROTO_BRIDGE, rules->prefix);
	if (r < 0)
		return error_set(err, r, "cannot delete nft table %s", rules->prefix);
	HASH_ITER(hh, rules->entries, entry, next)
	entry_remove(rules, entry);
	chains_clear(rules->chains);
	rules->generation = 0;
	return 0;
}
