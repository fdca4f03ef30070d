#pragma once
/*
 * agent/instance_cards.h - the network cards of a virtual machine: one for each port, also those
 * that come and go while it runs.
 *
 * Which cards a machine has, its monitor says: nothing is remembered, so an agent that begins in
 * the middle sees what another one has done.  What the interfaces are to be the guest is told over
 * its channel, when it has a brume-init.  The first part is for a worker, the second one for the
 * loop's thread.  Used by agent/instance_*.c.
 */
#include <stdbool.h>
#include <stddef.h>

#include "agent/bundle_vm.h"
#include "machine/machine.h"

struct error;
struct instance_actor;
struct instance_task;

/* A tap for port `i`, and the card that leads to it; the descriptor is the caller's. */
int instance_card_open(struct instance_task *task, size_t i, struct machine_nic *ret,
		       struct bundle_nic *ret_told, struct error *err);

/* What its guest has to know of port `i`; the texts are the task's. */
int instance_card_describe(struct instance_task *task, size_t i, struct bundle_nic *ret,
			   struct error *err);

/* Of a machine that runs. */
int instance_cards_look(struct instance_task *task, struct machine_cards *ret, struct error *err);
/* Port `i` has a card, and its tap is as it should be. */
int instance_card_attach(struct instance_task *task, size_t i, const struct machine_cards *cards,
			 struct error *err);
/* The guest lets go of the card of port `i`, if there is one. */
int instance_card_detach(struct instance_task *task, size_t i, const struct machine_cards *cards,
			 struct error *err);

/* task->network becomes what the guest is to be told. */
int instance_cards_describe(struct instance_task *task, struct error *err);

/* -- the loop's ---------------------------------------------------------------------------------
 */

/*
 * Tells the guest, and calls `done` later with what became of it (code 0: it went well), also when
 * the machine ends meanwhile.  False: there is nobody to be told (now).
 */
struct instance_telling;
typedef void (*instance_told_fn)(struct instance_actor *actor, const struct error *failure);
bool instance_cards_tell(struct instance_actor *actor, json_t *network, instance_told_fn done);

/* `done` is not called any more. */
void instance_telling_free(struct instance_telling *telling);
