#pragma once
/*
 * agent/exit_code.h - how a job ended, as the one number that shells made of it.
 *
 * Used by agent/ for what the keeper says of instances, exec and health checks.
 */
#include <stdbool.h>

#include "codec/keeper_wire.h"

enum {
	EXIT_CODE_UNUSABLE = 126, /* the program is there and cannot be executed */
	EXIT_CODE_MISSING = 127,  /* it is not there */
	EXIT_CODE_SIGNAL = 128,   /* and the signal's number */
};

/* `unknown` when nobody knows. */
static inline int exit_code_of(const struct keeper_msg *msg, int unknown)
{
	return msg->exit_kind == KEEPER_EXIT_SIGNAL ? EXIT_CODE_SIGNAL + msg->exit_value
	       : msg->exit_kind == KEEPER_EXIT_CODE ? msg->exit_value
						    : unknown;
}

/* A failure that is the program's and not ours, so that people know the code of it. */
static inline bool exit_code_is_programs(int64_t code)
{
	return code == EXIT_CODE_UNUSABLE || code == EXIT_CODE_MISSING;
}
