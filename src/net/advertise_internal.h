#pragma once
/*
 * net/advertise_internal.h - anchors of networks, for the files of net/.  With the lock held.
 */
#include "net/advertise.h"

struct advertise;
struct network_plan;

struct advertise *advertise_new(void);
void advertise_free(struct advertise *advertise);

/* Makes the anchors of a network what `plan` says. */
int advertise_ensure(struct net *net, const char *uid, const struct network_plan *plan,
		     struct error *err);

/* The network goes: with it its anchors, and those of the subnets of its bridge (0: there is none).
 */
int advertise_forget(struct net *net, const char *uid, int bridge_index, struct error *err);

/* Removes anchors that no network wants, and that are of no subnet of an interface either. */
int advertise_collect(struct net *net, struct error *err);

/* Removes all of them. */
int advertise_destroy(struct net *net, struct error *err);
