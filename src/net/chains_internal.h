#pragma once
/*
 * net/chains_internal.h - the chains of our tables that change: security groups and their
 * combinations.
 *
 *	g-NUMBER-UID	what a group lets in, a rule each
 *	x-NUMBER-UID	what it lets out
 *	c-NUMBER	a combination: jumps to the g- chains of its groups, then drop
 *	e-NUMBER	the same of the x- chains
 *
 * A port's addresses are mapped to the number of its combination by plain elements (rules.c), and
 * two small maps lead from there to chains.  Were the ports' elements verdicts, then the kernel,
 * which follows every jump of a table before it takes a change of rules, would follow each group
 * once for each port.  Groups have numbers because their members stand in one set, keyed by number,
 * bridge and address; names and comments carry what a new agent needs to know them again.  A few
 * chains of rules that nft's language has no words for (a map's value looked up in a map) are kept
 * here too.
 *
 * Calls only mark; chains_put() writes what is marked into a batch and chains_written() says how
 * that went.  Used by rules.c.  Threads: under the lock of struct net.  Crash: read again from the
 * kernel; the rules of a group are not known then until it is set again, but they are in force.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

struct chains;
struct nft;
struct nft_batch;
struct nft_rule;

enum { CHAINS_GROUPS_MAX = 16 }; /* of one port */

struct chains *chains_new(struct nft *nft, const char *prefix, bool bridge, bool ipv6);
void chains_free(struct chains *chains);
DEFINE_AUTO(struct chains *, chains_free)

/* Appends a rule to a text of rules, as chains_set_group() takes it. */
void chains_add_rule(struct strbuf *rules, const struct nft_rule *rule, const char *comment);

/*
 * The number of a group, for rules that name it.  One that is not known gets a number, and chains
 * that let nothing pass.
 */
uint32_t chains_group_number(struct chains *chains, const char *uid);

/* Whether chains_set_group() was called for it, by us or before a crash. */
bool chains_has_group(const struct chains *chains, const char *uid);

/* `loud`: broadcasts may reach its members; `open`: these may do everything among themselves. */
void chains_set_group(struct chains *chains, const char *uid, const struct strbuf *in,
		      const struct strbuf *out, bool loud, bool open);

/* From now on it is not open, whatever its rules in force are. */
void chains_close_group(struct chains *chains, const char *uid);

/*
 * Whether all these combinations have a group in common that is open; when `uids` are given, one of
 * these (then `numbers` may be none).  What a new agent has not been told yet is as good as
 * `unknown` says.
 */
bool chains_share_open(const struct chains *chains, const uint32_t *numbers, size_t number_count,
		       const char *const *uids, size_t uid_count, bool unknown);

/* The numbers of the combinations with this group; how many.  *ret is freed by the caller. */
size_t chains_combinations_of(const struct chains *chains, const char *uid, uint32_t **ret);

/* -EBUSY: a port is in it.  An unknown one is fine. */
int chains_remove_group(struct chains *chains, const char *uid);

/* The uids of all groups, sorted; the caller frees (base/strv.h). */
char **chains_groups(const struct chains *chains);

/* The number of this combination of known groups. */
uint32_t chains_combination(struct chains *chains, const char *const *uids, size_t count);

/* A port begins (+1) or ceases (-1) to have a combination; who has no port ends at the next batch.
 */
void chains_use(struct chains *chains, uint32_t number, int change);

/* Whether anything is marked. */
bool chains_pending(const struct chains *chains);

/* In two parts: what elements need comes before them, what they needed behind them. */
void chains_put(struct chains *chains, struct nft_batch *batch);
void chains_put_removals(struct chains *chains, struct nft_batch *batch);

/* `done`: the batch was committed; else all marks are taken back. */
int chains_written(struct chains *chains, bool done);

/*
 * Looks at the kernel's rules.  What of ours is not as it was written is marked; *ret_damaged says
 * so.  *ret_fixed is a number that changes when any other rule of our tables does.  `adopt`: takes
 * over chains of an earlier life.  -EINTR: changed meanwhile, begin anew.
 */
int chains_look(struct chains *chains, bool adopt, bool *ret_damaged, uint64_t *ret_fixed);

/* Forgets everything: the tables are gone. */
void chains_clear(struct chains *chains);
