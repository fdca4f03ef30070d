#pragma once
/*
 * model/request.h - the bodies of requests that create or change resources.
 *
 * Shared by the client (encode) and the API (decode), so that both mean the same.  Decoders refuse
 * what they do not know.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "model/group.h"
#include "model/image.h"
#include "model/instance.h"
#include "model/network.h"

enum pull_policy { PULL_MISSING, PULL_ALWAYS, PULL_NEVER };
extern const char *const pull_policy_names[];

/* POST /1.0/instances */
struct launch_request {
	char *name; /* NULL = one is made up */
	char **labels;
	struct instance_spec spec; /* only the members a user may set */
	bool start;
	enum pull_policy pull;
	bool insecure;  /* for the pull */
	char *platform; /* likewise: "linux/arm64"; NULL = the node's */
};

struct launch_request *launch_request_new(void); /* the defaults */
int launch_request_decode(const json_t *doc, struct launch_request **ret, struct error *err);
json_t *launch_request_encode(const struct launch_request *request);
void launch_request_free(struct launch_request *request);
DEFINE_AUTO(struct launch_request *, launch_request_free)

/* PUT /1.0/instances/N/state */
enum instance_action {
	INSTANCE_START,
	INSTANCE_STOP,
	INSTANCE_RESTART,
	INSTANCE_PAUSE,
	INSTANCE_RESUME,
};

struct action_request {
	enum instance_action action;
	int64_t timeout_s; /* of stop and restart; -1 = the instance's own */
	bool force;        /* kill at once */
};

int action_request_decode(const json_t *doc, struct action_request *request, struct error *err);
json_t *action_request_encode(const struct action_request *request);

/* POST /1.0/instances/N/rename: a new text, freed by the caller. */
int rename_request_decode(const json_t *doc, char **ret_name, struct error *err);

/* POST /1.0/images */
struct pull_request {
	char *reference;
	char *platform;
	bool insecure;
	char *username;
	char *password;
};

int pull_request_decode(const json_t *doc, struct pull_request **ret, struct error *err);
json_t *pull_request_encode(const struct pull_request *request);
void pull_request_free(struct pull_request *request);
DEFINE_AUTO(struct pull_request *, pull_request_free)

/* POST /1.0/images with "instance": an image of what it has changed */
struct commit_request {
	char *instance;
	char *name; /* of the image */
	char **changes;
	char *message;
	char *author;
	bool pause;
};

/* Does the body of POST /1.0/images ask for that? */
bool commit_request_is(const json_t *doc);
int commit_request_decode(const json_t *doc, struct commit_request **ret, struct error *err);
json_t *commit_request_encode(const struct commit_request *request);
void commit_request_free(struct commit_request *request);
DEFINE_AUTO(struct commit_request *, commit_request_free)

/* PUT /1.0/projects/NAME: what is not given stays as it is. */
struct project_request {
	char *description;    /* NULL: not given */
	int allow_privileged; /* -1: not given */
};

int project_request_decode(const json_t *doc, struct project_request *request, struct error *err);
json_t *project_request_encode(const struct project_request *request);
void project_request_done(struct project_request *request);

/* POST /1.0/networks */
struct network_request {
	char *name;
	char **labels;
	struct network_spec spec; /* only the members a user may set; no subnet = one is chosen */
};

struct network_request *network_request_new(void); /* the defaults */
int network_request_decode(const json_t *doc, struct network_request **ret, struct error *err);
json_t *network_request_encode(const struct network_request *request);
void network_request_free(struct network_request *request);
DEFINE_AUTO(struct network_request *, network_request_free)

/* POST /1.0/groups */
struct group_request {
	char *name;
	char **labels;
	struct security_group_spec spec; /* only the members a user may set */
};

int group_request_decode(const json_t *doc, struct group_request **ret, struct error *err);
json_t *group_request_encode(const struct group_request *request);
void group_request_free(struct group_request *request);
DEFINE_AUTO(struct group_request *, group_request_free)
