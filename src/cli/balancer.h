#pragma once
/*
 * cli/balancer.h - what the verbs of `brume balancer` share.
 *
 * Used by cli/balancer.c and cli/balancer_show.c.
 */
#include <jansson.h>

#include "base/strbuf.h"
#include "cli/verb.h"

extern const struct verb balancer_verb_list, balancer_verb_show;

/* "80->8080, vip:53->53/udp" */
void balancer_put_listens(struct strbuf *out, const json_t *balancer);

/* "10.90.0.200, fd00::c8"; nothing when it has no address of its own. */
void balancer_put_vip(struct strbuf *out, const json_t *balancer);

/* "2/3": how many members take connections, of how many. */
void balancer_put_up(struct strbuf *out, const json_t *balancer);
