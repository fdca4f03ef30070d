#pragma once
/*
 * model/group.h - a security group: what its members let in, and what they let out.
 *
 * A rule names who is at the other end: a range of addresses, the members of a group of the same
 * project ("self" means the group that the rule is in), or anybody.  The user names groups,
 * control/ adds their uids, net/group.h carries it out.  The text form of what a rule lets through
 * is what people type: "tcp:80", "udp:5000-5010", "icmp", "any".  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "model/address.h"
#include "model/meta.h"

struct error;
struct json_reader;

enum {
	SECURITY_RULES_MAX = 256, /* each way */
	SECURITY_NAME_SIZE = 64,
	SECURITY_PORTS_SIZE = 12,
	SECURITY_TEXT_SIZE = 24,
};

/* The group that a port without groups is in; every project has it. */
#define SECURITY_GROUP_DEFAULT "default"
#define SECURITY_GROUP_SELF "self"

enum security_protocol { SECURITY_ANY, SECURITY_TCP, SECURITY_UDP, SECURITY_ICMP };

extern const char *const security_protocol_names[]; /* NULL-terminated */

struct security_rule {
	enum security_protocol protocol;
	uint16_t port, last_port;       /* tcp and udp; 0 = all */
	char cidr[SUBNET_TEXT_SIZE];    /* who is at the other end; "" = not told by address */
	char group[SECURITY_NAME_SIZE]; /* or the members of this one; both "" = anybody */
	char group_uid[UID_SIZE];       /* set by control */
	char *description;              /* or NULL */
};

struct security_rules {
	struct security_rule *list;
	size_t count;
};

struct security_group_spec {
	struct security_rules ingress, egress;
	bool egress_limited; /* only what `egress` names goes out; else everything does */
	char *description;   /* or NULL */
	char *node;
};

enum security_group_state {
	SECURITY_GROUP_PENDING,
	SECURITY_GROUP_READY,
	SECURITY_GROUP_FAILED,
	SECURITY_GROUP_GONE,
};

struct security_group_status {
	uint64_t generation;
	enum security_group_state state;
	char *error;
};

struct security_group {
	struct meta meta;
	struct security_group_spec spec;
	struct security_group_status status;
};

int security_group_decode(const json_t *doc, struct security_group **ret, struct error *err);
json_t *security_group_encode(const struct security_group *group, unsigned int parts);
void security_group_free(struct security_group *group);
DEFINE_AUTO(struct security_group *, security_group_free)

void security_group_spec_copy(struct security_group_spec *to,
			      const struct security_group_spec *from); /* `to` is overwritten */
void security_group_spec_done(struct security_group_spec *spec);
static inline void security_group_spec_done_autop(struct security_group_spec *spec)
{
	security_group_spec_done(spec);
}
json_t *security_group_spec_encode(const struct security_group_spec *spec);

/* Members that a user may set, for requests; see instance_spec_read_user(). */
int security_group_spec_read_user(struct json_reader *in, const json_t *object,
				  struct security_group_spec *spec);
void security_group_spec_put_user(json_t *object, const struct security_group_spec *spec);

/* Status alone, as it travels over the agent link.  `status` may be zeroed. */
int security_group_status_decode(const json_t *object, struct security_group_status *status,
				 struct error *err);
json_t *security_group_status_encode(const struct security_group_status *status);
void security_group_status_done(struct security_group_status *status);

/* What may be done to the rules of a group. */
enum security_group_change {
	SECURITY_GROUP_REPLACE, /* a user's whole spec */
	SECURITY_GROUP_PATCH,   /* a JSON merge patch (RFC 7396) of that */
	SECURITY_GROUP_ADD,     /* {"way": "ingress"|"egress", ...a rule} */
	SECURITY_GROUP_REMOVE,  /* {"number": N} */
};

/*
 * Applies it; after an error the spec is half changed, to be thrown away.  Rules are numbered from
 * 1, those of `ingress` first, then those of `egress`.
 */
int security_group_change(struct security_group_spec *spec, enum security_group_change change,
			  const json_t *body, struct error *err);

/* "tcp:80": what is let through.  Only protocol and ports of *ret are set. */
int security_rule_parse(const char *text, struct security_rule *ret, struct error *err);
void security_rule_format(const struct security_rule *rule, char ret[SECURITY_TEXT_SIZE]);
json_t *security_rule_encode(const struct security_rule *rule, bool ingress);
