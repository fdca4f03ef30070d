#pragma once
/*
 * kern/nft.h - one nftables table of family inet: its rules as text, its elements as transactions.
 *
 *	AUTO(nft_batch_done) struct nft_batch batch = {};
 *	nft_batch_begin(nft, &batch, "brume");
 *	nft_batch_add(&batch, &element); nft_batch_delete(&batch, &other);
 *	r = nft_batch_commit(nft, &batch, &failed);
 *
 * Rules are written rarely, as text for libnftables.  Elements come and go with instances: they are
 * built here and cost microseconds.  A batch is done as a whole or not at all.
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

enum { NFT_KEY_MAX = 32, NFT_VALUE_MAX = 24, NFT_COMMENT_MAX = 40, NFT_NAME_MAX = 32 };

/*
 * One element of a set or (with a value) map.  Parts of a key or value stand on 4-byte borders.  In
 * a set of intervals it has an end: the greatest value of each part, `key` being the least.
 */
struct nft_element {
	const char *set; /* borrowed; NULL when it was read from a set that the caller named */
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
	int open_type;
	size_t open_at, list_at;
	uint32_t first_seq, last_seq;
	size_t count; /* elements so far */
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

/*
 * A number that changes when rules of the table are added, removed or changed.  -ENOENT: there is
 * no such table.
 */
int nft_fingerprint(struct nft *nft, const char *table, uint64_t *ret);

/* Hands every element of a set to `fn`.  -ENOENT: no such set.  -EINTR: changed meanwhile, begin
 * anew. */
int nft_list(struct nft *nft, const char *table, const char *set,
	     void (*fn)(const struct nft_element *element, void *data), void *data);

/* Names are borrowed until the batch is done.  Order counts: delete a key before it is added anew.
 */
void nft_batch_begin(struct nft *nft, struct nft_batch *batch, const char *table);
void nft_batch_add(struct nft *nft, struct nft_batch *batch, const struct nft_element *element);
void nft_batch_delete(struct nft *nft, struct nft_batch *batch, const struct nft_element *element);
int nft_batch_commit(struct nft *nft, struct nft_batch *batch);
void nft_batch_done(struct nft_batch *batch);
static inline void nft_batch_done_autop(struct nft_batch *batch)
{
	nft_batch_done(batch);
}

/* Removes the whole table; one that is not there is fine. */
int nft_delete_table(struct nft *nft, const char *table);

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
