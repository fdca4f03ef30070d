#pragma once
/*
 * container/process_internal.h - shared by process.c (the child's steps) and process_plan.c.
 */

/* "RLIMIT_NOFILE" for a number of setrlimit(). */
const char *process_limit_name(int resource);
