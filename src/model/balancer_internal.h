#pragma once
/*
 * model/balancer_internal.h - the lists of a balancer, apart from the rest for their length.
 *
 * balancer.c reads and writes the whole, balancer_members.c what control has put into it and what
 * the node says of it, balancer_text.c what people type.
 */
#include "model/balancer.h"

void balancer_members_read(struct json_reader *in, const json_t *object,
			   struct balancer_spec *spec);
void balancer_members_put(json_t *object, const struct balancer_spec *spec);
void balancer_drains_read(struct json_reader *in, const json_t *object, struct balancer_spec *spec);
void balancer_drains_put(json_t *object, const struct balancer_spec *spec);
