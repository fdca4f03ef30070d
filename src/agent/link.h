#pragma once
/*
 * agent/link.h - the connection to brumed: connects by itself, again and again, and carries frames.
 *
 * Used by agent/ on the loop's thread.  Frames that arrive are handed to agent_*() and stream_*().
 * While there is no connection what is sent is dropped: after a reconnect everything is told anew.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "codec/frame.h"

struct agent;
struct error;
struct link;

int link_new(struct agent *agent, struct link **ret, struct error *err);
bool link_connected(const struct link *link);

void link_send_status(struct link *link, const char *kind, const char *uid, json_t *status);
void link_send_json(struct link *link, enum frame_type type, uint64_t id, const json_t *body);
void link_send_data(struct link *link, uint64_t id, enum frame_channel channel, const void *data,
		    size_t size);
void link_send_credit(struct link *link, uint64_t id, uint32_t bytes);

void link_free(struct link *link);
DEFINE_AUTO(struct link *, link_free)
