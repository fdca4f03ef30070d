#pragma once
/*
 * net/flow_internal.h - for net_destroy(): what stays as it is made when nobody logs any more.
 */
#include "net/flow.h"

/* flow_account() of the node; takes no lock. */
int flow_account_node(const struct net *net, bool on, bool *ret_changed, struct error *err);
