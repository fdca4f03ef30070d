#include "net/rules_internal.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/nft.h"
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
	bool ipv6;
	struct nft *nft;
	struct entry *entries;
	struct owner *owners;
	size_t counts[RULES_SET_COUNT];
	uint32_t
		generation; /* of the ruleset when table and index were known to agree; 0 = never */
	uint64_t fingerprint;
};

static enum rules_group group_of(uint8_t set)
{
	return set < RULES_PUBLISH4 ? RULES_OF_NETWORK : RULES_OF_PUBLISH;
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
	return entry;
}

static void entry_remove(struct rules *rules, struct entry *entry)
{
	struct owner *owner = entry->owner;

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
	nft_free(rules->nft);
	free(rules);
}

/* The form in which kern/nft takes an element. */
static struct nft_element to_nft(const struct rules_element *element, const char *owner)
{
	const struct rules_shape *shape = &rules_shapes[element->set];
	struct nft_element nft = { .set = shape->name,
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
		if (rules->ipv6 || !rules_shapes[walk->set].ipv6)
			r = nft_list(rules->nft, rules->prefix, rules_shapes[walk->set].name,
				     walk_element, walk);
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
		return error_set(err, r, "cannot read the elements of nft table inet %s",
				 rules->prefix);
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
		return error_set(err, r, "cannot repair the elements of nft table inet %s",
				 rules->prefix);
	return 1;
}

/* Runs the script; a table of ours that does not fit it (an older version's) is replaced. */
static int write_rules(struct rules *rules, struct error *err)
{
	AUTO(free) char *text = rules_text(rules->prefix, rules->ipv6);
	AUTO(free) char *anew = NULL;
	struct error first = {};

	if (nft_run(text, &first) == 0)
		return 0;
	anew = mem_printf("add table inet %s\ndelete table inet %s\n%s", rules->prefix,
			  rules->prefix, text);
	return nft_run(anew, err);
}

/* Brings table, elements and index together, whatever happened. */
static int rebuild(struct rules *rules, bool adopt, struct error *err)
{
	uint32_t generation;
	int r = write_rules(rules, err);

	if (r < 0)
		return error_wrap(err, r, "nft table inet %s", rules->prefix);
	r = sync_elements(rules, adopt, err);
	if (r < 0)
		return r;
	r = nft_fingerprint(rules->nft, rules->prefix, &rules->fingerprint);
	if (r == 0)
		r = nft_generation(rules->nft, &generation);
	if (r < 0)
		return error_set(err, r, "cannot read nft table inet %s", rules->prefix);
	rules->generation = generation;
	return 0;
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
	r = rebuild(rules, true, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(rules);
	return 0;
}

int rules_repair(struct rules *rules, bool *ret_damaged, struct error *err)
{
	uint64_t fingerprint = 0;
	uint32_t generation;
	bool damaged = false;
	int r = nft_generation(rules->nft, &generation);

	if (r < 0)
		return error_set(err, r, "cannot talk to nftables");
	if (generation != rules->generation) {
		r = nft_fingerprint(rules->nft, rules->prefix, &fingerprint);
		damaged = r < 0 || fingerprint != rules->fingerprint;
		r = damaged ? rebuild(rules, false, err) : sync_elements(rules, false, err);
		if (r < 0)
			return r;
		damaged = damaged || r > 0;
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
		if (change->what == CHANGE_REPLACE)
			change->entry->element = change->wanted;
		else if (change->what == CHANGE_REMOVE)
			entry_remove(rules, change->entry);
	}
}

int rules_assign(struct rules *rules, const char *owner, enum rules_group group,
		 const struct rules_element *wanted, size_t count, size_t *ret_conflict,
		 struct strbuf *changed, struct error *err)
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
		r = plan_make(rules, owner, group, wanted, count, ret_conflict, &plan);
		if (r < 0) {
			plan_undo(rules, &plan);
			return r;
		}
		r = plan_commit(rules, &plan);
		if (r == 0) {
			plan_apply(rules, &plan, changed);
			return 0;
		}
		plan_undo(rules, &plan);
	}
	return error_set(err, r, "cannot change the elements of nft table inet %s", rules->prefix);
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

struct nft *rules_nft(struct rules *rules)
{
	return rules->nft;
}

int rules_destroy(struct rules *rules, struct error *err)
{
	struct entry *entry, *next;
	int r = nft_delete_table(rules->nft, rules->prefix);

	if (r < 0)
		return error_set(err, r, "cannot delete nft table inet %s", rules->prefix);
	HASH_ITER(hh, rules->entries, entry, next)
	entry_remove(rules, entry);
	rules->generation = 0;
	return 0;
}
