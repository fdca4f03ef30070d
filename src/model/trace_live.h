#pragma once
/*
 * model/trace_live.h - what the kernel did with a packet, beside what model/trace expected.
 *
 * The node's agent sends one and tells the rules that it met (docs/design/0001-contracts.md, stream
 * "trace").  Here it is said whether both agree, and if not, in which rule they differ.  Pure, no
 * state, thread-safe.
 */
#include <jansson.h>

#include "model/trace.h"

struct error;

/* Of the agent's answer. */
enum { TRACE_STEPS_SHOWN_MAX = 512, TRACE_LIVE_TIMEOUT_MS = 2000 };

/* What the agent is asked; NULL when the trace sends nothing. `uid` is the instance's. */
json_t *trace_live_question(const struct trace *trace, const char *uid);

/*
 * Adds "agrees" and "text", a line for people, to the agent's answer.  -EPROTO when that is no
 * answer.
 */
int trace_live_judge(const struct trace *trace, json_t *answer, struct error *err);
