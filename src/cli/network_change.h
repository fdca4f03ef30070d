#pragma once
/*
 * cli/network_change.h - a change of a network, which several verbs ask for.
 *
 * Used by cli/network_update and cli/network_peer.
 */
#include "base/json.h"

struct cli;
struct error;

/*
 * Asks for it, waits until it is carried out, and gets the network as it is then (*ret, the
 * caller's).  1: it was printed as --format or --quiet want it.  0: what is to be said is the
 * caller's.
 */
int network_change(struct cli *cli, const char *name, const json_t *patch, json_t **ret,
		   struct error *err);
