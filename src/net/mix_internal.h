#pragma once
/*
 * net/mix_internal.h - which combinations of groups share a bridge, and who else is on it.
 *
 * What a bridge forwards needs a judge (br_netfilter) unless all of its ports have one group in
 * common that lets its members do everything; that is for guard.c to say, here it is counted, so
 * that no list of ports has to be walked.  And it needs one when somebody keeps a log of who talks
 * with whom on it.  A stranger is an interface that sends with addresses
 * which are not its own: a tunnel, a router, a port that may spoof; or one without groups.
 *
 * Used by rules.c (which counts the elements it has) and guard.c.  Threads: under the lock of
 * struct net.  Crash: counted again.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mix_use;
struct mix_stranger;

struct mix {
	struct mix_use *uses;
	struct mix_stranger *strangers, *logged;
};

void mix_done(struct mix *mix);

/* An address on `bridge` begins (+1) or ceases (-1) to have this combination. */
void mix_count(struct mix *mix, const char *bridge, uint32_t combination, int change);

/*
 * `owner`: a uid, or a router's interface; it is on one bridge at most.  `bridge` NULL: it is gone.
 */
void mix_set_stranger(struct mix *mix, const char *owner, const char *bridge);

/* A network, `owner`, has a flow log on its bridge; `bridge` NULL: it has none any more. */
void mix_set_logged(struct mix *mix, const char *owner, const char *bridge);

/* The different combinations on a bridge; how many.  *ret (NULL when 0) is freed by the caller. */
size_t mix_combinations(const struct mix *mix, const char *bridge, uint32_t **ret);

bool mix_has_stranger(const struct mix *mix, const char *bridge);
bool mix_is_logged(const struct mix *mix, const char *bridge);

/* The bridges on which something has this combination, as a strv; NULL when there are none. */
char **mix_bridges(const struct mix *mix, uint32_t combination);
