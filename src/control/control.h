#pragma once
/*
 * control/control.h - the deciding half of brumed: admission, names, addresses, operations.
 *
 * Does no host I/O.  What it knows lives in the store; it keeps a mirror of it in memory, filled by
 * a list and a watch.  Every change is one store transaction with compares, repeated when somebody
 * else was faster.  Time, randomness, the store and the links to the agents are arguments.
 *
 * Used by api/ (requests of people) and by brumed's main.  Uses store/, model/ and codec/.
 * Threads: the loop's only.  Callbacks come from the loop, never from inside the call that asked.
 * Crash: may be killed at any instruction; a new control on the same store derives what is left to
 * do and continues every operation.
 *
 * Results of requests, and the HTTP status they mean: -EINVAL 400 (malformed), -ENOENT 404,
 * -EEXIST and -EBUSY 409 (taken, in use, wrong state), -ESTALE 412 (If-Match), -ENOTCONN 503 (the
 * node is offline), -ENOSPC 507 (no free address), everything else 500.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/balancer.h"
#include "model/event.h"
#include "model/meta.h"
#include "model/request.h"
#include "model/trace.h"

struct clock;
struct control;
struct error;
struct rng;
struct store;
struct strbuf;

struct control_config {
	struct clock *clock;
	struct rng *rng;
	struct store *store;          /* borrowed; outlives the control */
	const char *node;             /* this node's name; NULL = "local" */
	const char *default_registry; /* completes short image names; NULL = none */
	const char *network_ipv4; /* of the network `default`; NULL = "10.90.0.0/24", "" = none */
	const char *network_ipv6; /* NULL = a random fd00::/8 /64, "" = none */
};

/* What control asks of its owner.  None of these may call back into control. */
struct control_ops {
	/* Frames for the node's agent; dropped when the node is not connected (after a hello
	 * everything is sent again).  `resource` is borrowed: kind, meta, spec. */
	void (*assign)(const char *node, const json_t *resource, void *data);
	void (*assigned_all)(const char *node, void *data);
	void (*forget)(const char *node, enum kind kind, const char *uid, void *data);

	/* Call control_tick() at this time of the monotonic clock; replaces the time asked for
	 * before; UINT64_MAX = no need. */
	void (*set_timer)(uint64_t monotonic_us, void *data);

	/* 0: the mirror is complete, first-start resources exist, requests are welcome.  Negative:
	 * the store cannot be read or lost us: the owner ends the process and starts again. */
	void (*state)(int result, const struct error *err, void *data);
};

int control_new(const struct control_config *config, const struct control_ops *ops, void *data,
		struct control **ret, struct error *err);

/* Requests that were not answered get -ECANCELED; subscriptions and waits must be gone before. */
void control_free(struct control *control);
DEFINE_AUTO(struct control *, control_free)

void control_tick(struct control *control);

/* ---- reading: from the mirror, at once --------------------------------------------------------
 */

/* Revision of the store that the mirror shows: the cursor for control_subscribe(). */
uint64_t control_revision(const struct control *control);

/* A resource as people see it (no secrets; state "unknown" while its node is offline).  *ret is a
 * new reference; its meta.revision is the ETag.  Projects and nodes ignore `project`. */
int control_get(struct control *control, enum kind kind, const char *project, const char *name,
		json_t **ret, struct error *err);

/* An array, sorted by name (operations: by time): whole resources, or names when not `full`. */
int control_list(struct control *control, enum kind kind, const char *project, bool full,
		 json_t **ret, struct error *err);

/* The list of whole resources as JSON text, appended to `out`: only what changed since the last
 * time is encoded again. */
int control_list_text(struct control *control, enum kind kind, const char *project,
		      struct strbuf *out, struct error *err);

/* Where an instance, image or network lives, for streams (exec, logs, import, export, flows). */
struct control_location {
	char node[64];
	char uid[UID_SIZE];
	bool running; /* instance: runs now (exec makes sense) */
	bool paused;  /* instance: runs, but is frozen */
};

/* -ENOENT when it is not there, -ENOTCONN when its node is offline. */
int control_locate(struct control *control, enum kind kind, const char *project, const char *name,
		   struct control_location *ret, struct error *err);

/*
 * The way of a packet from an instance (model/trace.h); everything of it is in *ret, which
 * trace_done() frees.  -ENOENT, -EINVAL, -ENOTCONN.
 */
int control_trace(struct control *control, const char *project, const char *instance,
		  const struct trace_request *request, struct trace *ret, struct error *err);

/* ---- requests: answered when they are on disk --------------------------------------------------
 */

/*
 * Called exactly once.  On success `operation` is the operation resource (borrowed), in progress or
 * already ended.  On failure `err` says why in one line and nothing was changed.
 */
typedef void (*control_done_fn)(int result, const struct error *err, const json_t *operation,
				void *data);

/* `if_match` is a revision that the resource must have; 0 = any. */
void control_instance_launch(struct control *control, const char *project,
			     const struct launch_request *request, control_done_fn done,
			     void *data);
void control_instance_action(struct control *control, const char *project, const char *name,
			     const struct action_request *request, uint64_t if_match,
			     control_done_fn done, void *data);
void control_instance_delete(struct control *control, const char *project, const char *name,
			     bool force, uint64_t if_match, control_done_fn done, void *data);

/*
 * `patch` is borrowed, see model/instance_patch.h.  When the node refuses the limits, the operation
 * fails and what was changed is as it was.
 */
void control_instance_update(struct control *control, const char *project, const char *name,
			     const json_t *patch, uint64_t if_match, control_done_fn done,
			     void *data);

/* Its uid, its addresses and what it does stay. */
void control_instance_rename(struct control *control, const char *project, const char *name,
			     const char *new_name, uint64_t if_match, control_done_fn done,
			     void *data);

/*
 * Joins it to one more network, or takes it off one, while it runs too; a paused virtual machine
 * is refused.  `port` is borrowed.  When the node cannot make the port the operation fails, and it
 * is as it was.
 */
void control_port_attach(struct control *control, const char *project, const char *instance,
			 const struct port *port, uint64_t if_match, control_done_fn done,
			 void *data);
void control_port_detach(struct control *control, const char *project, const char *instance,
			 const char *network, uint64_t if_match, control_done_fn done, void *data);

void control_image_pull(struct control *control, const char *project,
			const struct pull_request *request, control_done_fn done, void *data);

/*
 * Makes an image that waits for bytes.  After `done`, the caller opens a stream "import" to
 * control_locate(KIND_IMAGE, ..., target.name of the operation) and sends the body; when that
 * stream ends early, the agent reports the image as failed and the operation ends.
 */
struct image_import_request {
	const char *name;
	const char *platform; /* of a file that does not say; NULL = the node's */
	const char *format;   /* "raw", "qcow2"; NULL: it is found out */
};
void control_image_import(struct control *control, const char *project,
			  const struct image_import_request *import, control_done_fn done,
			  void *data);
/* Makes an image of what an instance has changed: the node does it. */
void control_image_commit(struct control *control, const char *project,
			  const struct commit_request *request, control_done_fn done, void *data);
void control_image_delete(struct control *control, const char *project, const char *name,
			  uint64_t if_match, control_done_fn done, void *data);
void control_image_prune(struct control *control, const char *project, control_done_fn done,
			 void *data);

/*
 * The name of the image resource that a text from a person means: an existing name as it is, else
 * the normalized reference.  Caller frees.
 */
int control_image_name(struct control *control, const char *project, const char *text, char **ret,
		       struct error *err);

void control_network_create(struct control *control, const char *project,
			    const struct network_request *request, control_done_fn done,
			    void *data);
/* `patch` as in model/network.h. */
void control_network_update(struct control *control, const char *project, const char *name,
			    const json_t *patch, uint64_t if_match, control_done_fn done,
			    void *data);
void control_network_delete(struct control *control, const char *project, const char *name,
			    uint64_t if_match, control_done_fn done, void *data);

void control_balancer_create(struct control *control, const char *project,
			     const struct balancer_request *request, control_done_fn done,
			     void *data);
/* `patch` as in model/balancer.h. */
void control_balancer_update(struct control *control, const char *project, const char *name,
			     const json_t *patch, uint64_t if_match, control_done_fn done,
			     void *data);
/* A member gets no new connections; !drain: it gets them again. */
void control_balancer_drain(struct control *control, const char *project, const char *name,
			    const char *instance, bool drain, uint64_t if_match,
			    control_done_fn done, void *data);
void control_balancer_delete(struct control *control, const char *project, const char *name,
			     uint64_t if_match, control_done_fn done, void *data);

void control_group_create(struct control *control, const char *project,
			  const struct group_request *request, control_done_fn done, void *data);
/* `body` (borrowed) as in model/group.h. */
void control_group_change(struct control *control, const char *project, const char *name,
			  enum security_group_change change, const json_t *body, uint64_t if_match,
			  control_done_fn done, void *data);
void control_group_delete(struct control *control, const char *project, const char *name,
			  uint64_t if_match, control_done_fn done, void *data);

/*
 * `body` and `patch` are borrowed, see model/router.h.  `root`: may give it new floating addresses.
 */
void control_router_create(struct control *control, const char *project, const char *name,
			   const json_t *body, bool root, control_done_fn done, void *data);
void control_router_update(struct control *control, const char *project, const char *name,
			   const json_t *patch, bool root, uint64_t if_match, control_done_fn done,
			   void *data);
void control_router_delete(struct control *control, const char *project, const char *name,
			   uint64_t if_match, control_done_fn done, void *data);

/* Sets what a project may and is; `project` is where the operation stands.  For root only: the
 * caller has checked that. */
void control_project_set(struct control *control, const char *project, const char *name,
			 const struct project_request *request, uint64_t if_match,
			 control_done_fn done, void *data);

/* Asks for the cancellation; the operation ends as cancelled when what it began is undone. */
void control_operation_cancel(struct control *control, const char *project, const char *id,
			      control_done_fn done, void *data);

/* ---- waiting and following ---------------------------------------------------------------------
 */

struct control_wait;

/*
 * `ready` is called once, from the loop: when the operation has ended, or (above_revision > 0) when
 * its revision is above that; at once when that is so already.  `operation` is borrowed and NULL
 * when it was removed meanwhile.  The wait still has to be freed; time-outs are the caller's: it
 * frees the wait and answers with control_get().
 */
typedef void (*control_wait_fn)(const json_t *operation, void *data);
int control_operation_wait(struct control *control, const char *project, const char *id,
			   uint64_t above_revision, control_wait_fn ready, void *data,
			   struct control_wait **ret, struct error *err);
void control_wait_free(struct control_wait *wait);
DEFINE_AUTO(struct control_wait *, control_wait_free)

struct control_subscription;

struct control_filter {
	const char *project; /* NULL = all */
	int kind;            /* enum kind, -1 = all */
	const char *name;    /* NULL = all */
};

/*
 * Every change after revision `cursor` (0 = from now on), in order, each exactly once.  `ended` is
 * called once when it cannot go on: -ESTALE = the cursor is older than the history (list again).
 * The subscription may be freed inside its callbacks.
 */
typedef void (*control_event_fn)(const struct event *event, void *data);
typedef void (*control_ended_fn)(int result, const struct error *err, void *data);
int control_subscribe(struct control *control, uint64_t cursor, const struct control_filter *filter,
		      control_event_fn event, control_ended_fn ended, void *data,
		      struct control_subscription **ret, struct error *err);
void control_subscription_free(struct control_subscription *subscription);
DEFINE_AUTO(struct control_subscription *, control_subscription_free)

/* ---- the agent link: called by its owner --------------------------------------------------------
 */

/*
 * The body of a hello.  On success *ret_node is the node's name (new), and assign for everything of
 * that node and then assigned_all follow before this returns.  A second hello of the same node
 * replaces the first: the owner closes the older connection.
 */
int control_node_hello(struct control *control, const json_t *body, char **ret_node,
		       struct error *err);

/* The node's connection is gone. */
void control_node_lost(struct control *control, const char *node);

/* The body of a status frame.  An error means that the peer does not follow the protocol. */
int control_node_status(struct control *control, const char *node, const json_t *body,
			struct error *err);
