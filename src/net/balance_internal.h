#pragma once
/*
 * net/balance_internal.h - what node.c and observe.c know of balancers.
 *
 * Used with the lock of struct net held.
 */
#include <stdbool.h>

#include "base/cleanup.h"

struct balance;
struct error;
struct net;

struct balance *balance_new(void);
void balance_free(struct balance *balance);
DEFINE_AUTO(struct balance *, balance_free)

/* Somebody has changed something somewhere: what balancers there should be is put back. */
int balance_repair(struct net *net, bool *ret_damaged, struct error *err);

/* The uids of balancers that there are in the kernel, as a strv. */
int balance_list(struct net *net, char ***ret, struct error *err);

int balance_destroy(struct net *net, struct error *err);
