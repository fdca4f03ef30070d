#pragma once
/*
 * agent/image_actor.h - one image resource of the node: pulls it, imports it, forgets it.
 *
 * Used by agent/ on the loop's thread; the work is done by image/ on threads of the slow pool.
 */
#include "agent/actors.h"
#include "agent/plan.h"
#include "base/clock.h"
#include "base/json.h"

struct agent;
struct error;

extern const struct actor_ops image_actor_ops;

/* How far the image of this name is.  READY and WORKING fill ret_uid; see network_need(). */
enum plan_need image_need(struct agent *agent, const char *project, const char *name,
			  char ret_uid[UID_SIZE], const char **ret_error);

/*
 * Import: gives the image the bytes it waits for.  `done` is called once on the loop's thread when
 * all has been read or the import has failed (the image's status says the rest); not called when
 * this returns an error.  Takes over `input_fd` in any case.
 */
typedef void (*image_import_done_fn)(void *data, int result, const struct error *err);
int image_actor_import(struct agent *agent, const char *uid, int input_fd,
		       image_import_done_fn done, void *data, struct error *err);

/* The bytes end before their end: the import fails. */
void image_actor_import_cancel(struct agent *agent, const char *uid);

/* The agent ends: whoever pulls or imports stops as soon as possible. */
void image_actors_cancel(struct agent *agent);
