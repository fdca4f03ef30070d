#pragma once
/*
 * model/meta.h - what every resource has: its kind, its name and its identity.
 *
 * A resource is {"kind", "meta", "spec", "status"}.  Structs of model/ own their strings; they are
 * values without behaviour, used by every folder above.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/clock.h"

struct error;

enum kind {
	KIND_INSTANCE,
	KIND_NETWORK,
	KIND_IMAGE,
	KIND_OPERATION,
	KIND_PROJECT,
	KIND_NODE,
	KIND_BALANCER,
	KIND_GROUP,
	KIND_ROUTER,
	KIND_COUNT,
};

extern const char *const kind_names[];            /* NULL-terminated */
const char *kind_name(enum kind kind);            /* "instance" */
int kind_parse(const char *text, enum kind *ret); /* 0 or -EINVAL */

/* Which parts an encoder writes. */
enum encode {
	ENCODE_STATUS = 1,  /* the status, too: everything but the agent's assignments */
	ENCODE_SECRETS = 2, /* passwords: for the store and the agent, never for people */
	ENCODE_STORE = ENCODE_STATUS | ENCODE_SECRETS,
	ENCODE_ASSIGN = ENCODE_SECRETS,
	ENCODE_SHOW = ENCODE_STATUS,
};

struct meta {
	char *name;
	char *project;
	char uid[UID_SIZE]; /* "" = not set */
	uint64_t revision;  /* of the store; 0 = not written yet */
	uint64_t generation;
	int64_t created_ms;
	int64_t deleted_ms; /* when deletion was asked for, 0 = it lives */
	char **labels;      /* "KEY=value" */
};

/*
 * Takes a resource apart: checks that `doc` has the kind and no unknown members, decodes meta.
 * *ret_spec and *ret_status are borrowed, NULL when absent.
 */
int meta_decode_resource(const json_t *doc, enum kind kind, struct meta *meta, json_t **ret_spec,
			 json_t **ret_status, struct error *err);
int meta_decode(const json_t *object, struct meta *meta, struct error *err);

/* A new resource with kind and meta; spec and status are handed over, NULL leaves one out. */
json_t *meta_encode_resource(enum kind kind, const struct meta *meta, json_t *spec, json_t *status);
json_t *meta_encode(const struct meta *meta);
void meta_copy(struct meta *to, const struct meta *from); /* `to` is overwritten */
void meta_done(struct meta *meta);

/* [a-z][a-z0-9-]{0,61}[a-z0-9], or one letter.  `what` names it in the message ("name"). */
int name_check(const char *name, const char *what, struct error *err);

/* Keys [A-Za-z0-9][A-Za-z0-9._/-]{0,127}, values up to 1024 bytes, 64 labels. */
int labels_check(char *const *labels, struct error *err);
