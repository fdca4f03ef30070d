#pragma once
/*
 * kern/nft.h - nftables: rules as text, elements and chains as transactions.
 *
 *	AUTO(nft_batch_done) struct nft_batch batch = {};
 *	nft_batch_begin(nft, &batch, "brume");
 *	nft_batch_add(nft, &batch, &element); nft_batch_delete(nft, &batch, &other);
 *	r = nft_batch_commit(nft, &batch);
 *
 * Rules that never change are written as text for libnftables.  Elements, and chains that people
 * change, come and go with instances: they are built here and cost microseconds.  A batch is done
 * as a whole or not at all.  It is about the tables of one name, of whichever family: `family` is
 * NFPROTO_INET or NFPROTO_BRIDGE of linux/netfilter.h everywhere, 0 in an element is the first.
 *
 * Used by net/.  The socket stays open with the struct, because closing one after a delete waits
 *for the kernel's grace period (10 ms).  Returns 0 or -errno.  Threads: one at a time.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

struct error;
struct netlink;
struct nft;

enum { NFT_KEY_MAX = 48, NFT_VALUE_MAX = 24, NFT_COMMENT_MAX = 48, NFT_NAME_MAX = 48 };

/*
 * One element of a set or (with a value) map.  Parts of a key or value stand on 4-byte borders.  In
 * a set of intervals it has an end: the greatest value of each part, `key` being the least.
 */
struct nft_element {
	const char *set; /* borrowed; NULL when it was read from a set that the caller named */
	const char
		*jump; /* borrowed; of a map of verdicts, instead of a value: the chain.  Not read
			*/
	uint8_t family;
	uint8_t key_size, value_size;
	bool has_end;
	uint8_t key[NFT_KEY_MAX];
	uint8_t end[NFT_KEY_MAX];
	uint8_t value[NFT_VALUE_MAX];
	char comment[NFT_COMMENT_MAX]; /* "" = none; shown by `nft list` */
};

struct nft_batch {
	struct strbuf data;
	const char *table;
	const char *open_set; /* of the message being built */
	uint8_t open_family;
	int open_type;
	size_t open_at, list_at;
	uint32_t first_seq, last_seq;
	size_t count; /* elements, chains and rules so far */
};

int nft_new(struct nft **ret);
void nft_free(struct nft *nft);
DEFINE_AUTO(struct nft *, nft_free)

/* Its socket, borrowed: for other requests to netfilter (kern/nft_flow.h). */
struct netlink *nft_netlink(struct nft *nft);

/* Runs a script as `nft -f` does: all of it or nothing. */
int nft_run(const char *script, struct error *err);

/* The number of the ruleset of this namespace: every committed change, by anybody, adds one. */
int nft_generation(struct nft *nft, uint32_t *ret);

/* A rule as it stands in the kernel; all borrowed for the call. */
struct nft_seen_rule {
	const char *chain, *comment; /* "" = none */
	uint64_t hash;               /* another one when the rule was replaced by whatever */
};

/*
 * Hands the rules of a table, or of one chain of it (NULL: all), in their order to `fn`.  -ENOENT:
 * there is no such table or chain.  -EINTR: changed meanwhile, begin anew.
 */
int nft_list_rules(struct nft *nft, uint8_t family, const char *table, const char *chain,
		   void (*fn)(const struct nft_seen_rule *rule, void *data), void *data);

/* Hands the names of all chains to `fn`.  -EINTR as above. */
int nft_list_chains(struct nft *nft, uint8_t family, const char *table,
		    void (*fn)(const char *chain, void *data), void *data);

/* Hands every element of a set to `fn`.  -ENOENT: no such set.  -EINTR: changed meanwhile, begin
 * anew. */
int nft_list(struct nft *nft, uint8_t family, const char *table, const char *set,
	     void (*fn)(const struct nft_element *element, void *data), void *data);

/* Names are borrowed until the batch is done.  Order counts: delete a key before it is added anew.
 */
void nft_batch_begin(struct nft *nft, struct nft_batch *batch, const char *table);
void nft_batch_add(struct nft *nft, struct nft_batch *batch, const struct nft_element *element);
void nft_batch_delete(struct nft *nft, struct nft_batch *batch, const struct nft_element *element);

/*
 * A table that lives no longer than the socket of this struct nft: the kernel takes it away with
 * everything in it when that is closed, whoever dies how, and nobody else can change it.  It must
 * not be there.
 */
void nft_batch_add_own_table(struct nft *nft, struct nft_batch *batch, uint8_t family);

/* A chain that packets come to by themselves, and that lets them pass. */
struct nft_place {
	uint32_t hook; /* NF_NETDEV_..., else NF_INET_..., which bridges have too */
	int32_t priority;
	const char *device; /* of the family netdev; else NULL */
};
void nft_batch_add_hook(struct nft *nft, struct nft_batch *batch, uint8_t family, const char *chain,
			const struct nft_place *place);

/* A chain without a hook.  Adding one that is there, and emptying one, are fine. */
void nft_batch_add_chain(struct nft *nft, struct nft_batch *batch, uint8_t family,
			 const char *chain);
void nft_batch_flush_chain(struct nft *nft, struct nft_batch *batch, uint8_t family,
			   const char *chain);
void nft_batch_delete_chain(struct nft *nft, struct nft_batch *batch, uint8_t family,
			    const char *chain);

/* Appends a rule; `expressions` are those of a struct nft_rule (kern/nft_rule.h). */
void nft_batch_add_rule(struct nft *nft, struct nft_batch *batch, uint8_t family, const char *chain,
			const void *expressions, size_t size, const char *comment);

int nft_batch_commit(struct nft *nft, struct nft_batch *batch);
void nft_batch_done(struct nft_batch *batch);
static inline void nft_batch_done_autop(struct nft_batch *batch)
{
	nft_batch_done(batch);
}

/* Removes the whole table; one that is not there is fine. */
int nft_delete_table(struct nft *nft, uint8_t family, const char *table);

/*
 * Looks for a chain, outside `table`, that drops forwarded packets unless a rule accepts them.
 * Returns 1 and words for it ("table ip filter, chain FORWARD"; the caller frees), 0 when there is
 * none. Chains of the older xtables are not seen.
 */
int nft_find_forward_drop(struct nft *nft, const char *table, char **ret);

/*
 * A non-blocking fd that becomes readable when anybody has changed the ruleset of this namespace.
 * nft_watch_read() empties it and returns the newest number (see nft_generation()), or 0 when that
 * is not known (nothing there, or too much).
 */
int nft_watch(void);
uint32_t nft_watch_read(int watch_fd);
