#pragma once
/*
 * net/group_internal.h - group_remove() for those who hold the lock of struct net.
 *
 * Used by observe.c.
 */
#include "net/group.h"

int group_remove_locked(struct net *net, const char *uid, struct error *err);
