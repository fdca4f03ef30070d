#pragma once
/*
 * container/number_list.h - lists of processors and memory nodes as people write them: "0-3,7".
 *
 * Pure.  Used by container/process_plan.
 */
#include <stddef.h>

enum { NUMBER_LIST_MAX = 1024 }; /* numbers are below it */

/* A set of numbers, as sched_setaffinity() and set_mempolicy() take it. */
struct number_set {
	unsigned long words[NUMBER_LIST_MAX / (8 * sizeof(unsigned long))];
};

/* -EINVAL for what is not a list, -ERANGE for a number that is too high.  "" is the empty set. */
int number_list_parse(const char *text, struct number_set *ret);
