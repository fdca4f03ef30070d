#pragma once
/*
 * kern/module.h - loads a module of the kernel: for the few that it does not load by itself when
 * they are used.
 *
 * Used by net/.  Runs `modprobe`, which knows where modules lie and what they need.  Blocks until
 * that has ended.  Returns 0 or -errno; -ENOENT: there is no modprobe, or it finds no such module.
 */

int module_load(const char *name);

/* With a parameter, "numifbs=0"; it has no effect on one that is loaded already. */
int module_load_with(const char *name, const char *parameter);
