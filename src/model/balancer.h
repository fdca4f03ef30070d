#pragma once
/*
 * model/balancer.h - a load balancer of layer 4: ports of the node, or of an address of its own in
 * a network, that lead to instances which are chosen by their labels.
 *
 * The user says where it listens, which instances are its members and how it is found out that they
 * work; control/ completes that by the members there are at present, agent/ checks them and net/
 * makes the rules.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/address.h"
#include "model/health.h"
#include "model/meta.h"
#include "model/publish.h"

struct error;
struct json_reader;

enum {
	BALANCER_LISTEN_MAX = 64,
	BALANCER_MEMBERS_MAX = 1000,
	BALANCER_TERMS_MAX = 16,
	BALANCER_NAME_SIZE = 64, /* of an instance, or a network */
	BALANCER_WHY_MAX_BYTES = 120,
	BALANCER_INTERVAL_MS = 5000,
	BALANCER_TIMEOUT_MS = 2000,
	BALANCER_RISE = 2,
	BALANCER_FALL = 3,
	BALANCER_COUNT_MAX = 100, /* rise and fall */
	BALANCER_DRAIN_S = 60,
	BALANCER_DRAIN_MAX_S = 24 * 3600,
};

enum balancer_algorithm {
	BALANCER_ROUND_ROBIN,
	BALANCER_LEAST_CONNECTIONS,
	BALANCER_SOURCE_HASH,
};
extern const char *const balancer_algorithm_names[];

enum balancer_check_type { BALANCER_CHECK_NONE, BALANCER_CHECK_TCP, BALANCER_CHECK_HTTP };
extern const char *const balancer_check_names[];

enum balancer_state {
	BALANCER_PENDING,
	BALANCER_READY,
	BALANCER_DOWN, /* it is there, but nobody takes connections: they are refused */
	BALANCER_FAILED,
	BALANCER_GONE,
};

struct balancer_listen {
	enum protocol protocol;
	bool vip;                   /* at the balancer's own address */
	char address[IP_TEXT_SIZE]; /* else of the node; "" = all it has */
	uint16_t port;
	uint16_t target_port; /* of the members */
};

struct balancer_check {
	enum balancer_check_type type;
	uint16_t port; /* 0 = the target_port of the first listen */
	char *path;    /* http */
	uint32_t interval_ms, timeout_ms;
	uint32_t rise, fall; /* passes and failures in a row that change its health */
};

/* An instance that runs, has the labels and a port on the network. */
struct balancer_member {
	char uid[UID_SIZE]; /* of the instance */
	char instance[BALANCER_NAME_SIZE];
	char ipv4[IP_TEXT_SIZE], ipv6[IP_TEXT_SIZE];
};

/* An instance that shall get no new connections. */
struct balancer_drain {
	char uid[UID_SIZE];
	int64_t since_ms;
};

struct balancer_spec {
	char *network;   /* where its members' ports are; its name */
	char **selector; /* terms "KEY=value", or "KEY" for any value; all must hold */
	struct balancer_listen *listens;
	size_t listen_count;
	enum balancer_algorithm algorithm;
	struct balancer_check check;
	uint32_t drain_s; /* how long a drained member's connections are waited for */
	bool vip;         /* it has an address of its own in the network */
	char vip4[IP_TEXT_SIZE], vip6[IP_TEXT_SIZE]; /* control chooses what the user has not */

	/* Set by control. */
	char network_uid[UID_SIZE];
	char *node;
	struct balancer_member *members; /* by uid */
	size_t member_count;
	struct balancer_drain *drains; /* by uid */
	size_t drain_count;
};

struct balancer_member_status {
	char instance[BALANCER_NAME_SIZE];
	char address[IP_TEXT_SIZE];
	enum health_state health; /* HEALTH_NONE: there is no check */
	bool draining;
	bool drained;         /* it has no connections any more, or drain_s has passed */
	uint32_t connections; /* when they were counted */
	uint32_t weight;      /* of 1000; least_connections */
	char why[BALANCER_WHY_MAX_BYTES + 1]; /* what is wrong with it */
};

struct balancer_status {
	uint64_t generation;
	enum balancer_state state;
	char *error; /* of DOWN, too */
	struct balancer_member_status *members;
	size_t member_count;
};

struct balancer {
	struct meta meta;
	struct balancer_spec spec;
	struct balancer_status status;
};

int balancer_decode(const json_t *doc, struct balancer **ret, struct error *err);
json_t *balancer_encode(const struct balancer *balancer, unsigned int parts); /* enum encode */
void balancer_free(struct balancer *balancer);
DEFINE_AUTO(struct balancer *, balancer_free)

json_t *balancer_spec_encode(const struct balancer_spec *spec);
void balancer_spec_init(struct balancer_spec *spec); /* the defaults */
void balancer_spec_done(struct balancer_spec *spec);

/* Status alone, as it travels over the agent link.  `status` may be zeroed. */
int balancer_status_decode(const json_t *object, struct balancer_status *status, struct error *err);
json_t *balancer_status_encode(const struct balancer_status *status);
void balancer_status_done(struct balancer_status *status);

/*
 * Applies a JSON merge patch (RFC 7396) of what may change: listen, selector, algorithm, check and
 * drain_s.  After -EINVAL the balancer is half changed, to be thrown away.
 */
int balancer_patch(struct balancer *balancer, const json_t *patch, struct error *err);

/* The patch that gives it back what `patch` would change now; a new reference. */
json_t *balancer_patch_undo(const struct balancer *balancer, const json_t *patch);

/* "role=web,tier": terms of a selector; *ret is new. */
int balancer_selector_parse(const char *text, char ***ret, struct error *err);
bool balancer_selector_matches(char *const *selector, char *const *labels);

/* "[ADDRESS:]PORT[:TARGET][/udp]"; the address may be * or vip; TARGET is PORT when it is left out.
 */
int balancer_listen_parse(const char *text, struct balancer_listen *ret, struct error *err);

/* "tcp[:PORT]" or "http:[PORT]/PATH". */
int balancer_check_parse(const char *text, struct balancer_check *check, struct error *err);

/* Lists are sorted by uid; NULL when it is not there. */
struct balancer_member *balancer_member_find(const struct balancer_spec *spec, const char *uid);
struct balancer_drain *balancer_drain_find(const struct balancer_spec *spec, const char *uid);
void balancer_drain_add(struct balancer_spec *spec, const char *uid, int64_t since_ms);
void balancer_drain_remove(struct balancer_spec *spec, const char *uid);

/* POST /1.0/balancers */
struct balancer_request {
	char *name;
	char **labels;
	struct balancer_spec spec; /* only the members a user may set */
};

struct balancer_request *balancer_request_new(void); /* the defaults */
int balancer_request_decode(const json_t *doc, struct balancer_request **ret, struct error *err);
json_t *balancer_request_encode(const struct balancer_request *request);
void balancer_request_free(struct balancer_request *request);
DEFINE_AUTO(struct balancer_request *, balancer_request_free)

/* PUT /1.0/balancers/NAME/members/INSTANCE: {"drain": true} */
int balancer_member_request_decode(const json_t *doc, bool *ret_drain, struct error *err);
