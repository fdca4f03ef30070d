#pragma once
/*
 * agent/balancer_round.h - one check of many members of a balancer, from its start to its result.
 *
 * The connections are brume-probe's: the agent reads no bytes of a network, only a letter for each
 * address.  One process checks many (jobs l-... of the keeper); those of an earlier agent are ended
 * and forgotten.  Thread: the loop's.
 */
#include <stdint.h>

#include "codec/keeper_wire.h"
#include "model/balancer.h"

struct agent;
struct balancer_round;
struct error;

enum { BALANCER_ROUND_MAX = 256 }; /* addresses */

/* `letters`: one for each address, as brume-probe has them ('+' passed); NULL: nobody knows. */
typedef void (*balancer_round_fn)(void *data, const char *letters);

/*
 * `done` is called once, from the loop, unless the round is cancelled before; it is gone then.
 * `addresses` (a strv) is borrowed for the call.  -EAGAIN: too many are under way on this node, or
 * the keeper is not there; try again.
 */
int balancer_round_start(struct agent *agent, const struct balancer_check *check, uint16_t port,
			 char *const *addresses, balancer_round_fn done, void *data,
			 struct balancer_round **ret, struct error *err);

/* What runs is killed; `done` is not called. */
void balancer_round_cancel(struct balancer_round *round);

/* What a letter means, for people; it continues "port 80: ". */
const char *balancer_round_words(char letter);

void balancer_round_keeper_event(struct agent *agent, const struct keeper_msg *msg);
void balancer_rounds_keeper_lost(struct agent *agent);
void balancer_rounds_free(struct agent *agent);
