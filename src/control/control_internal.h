#pragma once
/*
 * control/control_internal.h - how the files of control/ work together.  Private to control/.
 *
 *	mirror.c	what the store says, as structs, kept by a list and a watch
 *	draft.c		copies of resources that a transaction changes
 *	work.c		prepare a draft -> commit -> conflict? prepare again -> finish
 *	settle.c	what follows from a resource's present state: the only place where
 *operations end and keys disappear; triggered by every change, derives all from the mirror judge.c
 *has an operation reached its target?  pure launch.c instance.c port.c image.c network.c group.c
 *operation.c
 *requests of people query.c subscribe.c node.c control.c	reading, following, the agent link,
 *start and timer
 */
#include <uthash.h>

#include "base/clock.h"
#include "control/control.h"
#include "model/balancer.h"
#include "model/group.h"
#include "model/image.h"
#include "model/instance.h"
#include "model/network.h"
#include "model/node.h"
#include "model/operation.h"
#include "model/project.h"
#include "model/router.h"
#include "store/store.h"

enum {
	STATUS_INTERVAL_US = 250 * 1000, /* passing states and progress: 4 writes a second */
	OPERATION_KEEP_MS = 3600 * 1000,
	OPERATION_KEEP_COUNT = 1000,
	COLLECT_INTERVAL_US = 60 * 1000 * 1000,
	STATUS_MAX_BYTES = 256 * 1024,   /* of one resource */
	RESOURCE_MAX_BYTES = 768 * 1024, /* fits the store and a frame of the agent link */
	CLAIM_KEY_SIZE = 256,
};

/* A resource in the mirror. */
struct item {
	char *key;
	enum kind kind;
	void *resource;    /* of that kind */
	struct meta *meta; /* of the resource */
	UT_hash_handle by_key;
	UT_hash_handle by_uid;

	/* What is not in the store. */
	char *shown;                  /* text of control_list_text(), NULL = not asked for yet */
	uint64_t shown_revision;      /* of meta when it was made */
	bool shown_connected;         /* whether the node was there then */
	json_t *status;               /* newest one from the node that is not written yet */
	uint64_t flush_us;            /* when it is written at the latest */
	uint64_t assigned_generation; /* what the node was told; 0 = nothing */
	bool dirty;                   /* on the list of items to settle */
	bool settling;                /* a transaction that settles it is on its way */
	bool dirty_again;             /* it changed while settling */
	struct item *dirty_next;
	struct item *flush_prev, *flush_next;     /* items with a status that waits */
	struct item *running_prev, *running_next; /* operations in progress */
	struct item *balancer_prev, *balancer_next;
	struct item *routers_prev, *routers_next; /* routers */
};

/* A key that is a reservation: an address, a port of the host, the use of an image. */
struct claim {
	char *key;
	char uid[UID_SIZE]; /* of the instance that has it */
	uint64_t revision;
	UT_hash_handle by_key;
};

struct work;

struct control {
	struct clock *clock;
	struct rng *rng;
	struct store *store;
	const struct control_ops *ops;
	void *data;
	char *node;
	char *default_registry;
	char *network_ipv4, *network_ipv6;

	struct store_watch *watch;
	uint64_t revision;
	struct item *items; /* by key */
	struct item *items_by_uid;
	struct claim *claims;
	struct item *dirty, **dirty_last;
	struct item *flush;     /* utlist */
	struct item *running;   /* utlist */
	struct item *balancers; /* utlist: all there are */
	struct item *routers;   /* utlist */
	unsigned int operation_count;
	unsigned int address_cursor; /* where the search for a free address goes on */

	struct loading *loading; /* the first list is on its way */
	struct work *works;      /* utlist */
	struct control_wait *waits;
	bool ready;
	bool failed;
	bool collecting;
	bool connected; /* the node */
	uint64_t collect_us;
	uint64_t recheck_us; /* after a failed write everything is settled again */
	uint64_t timer_us;
};

/* ---- mirror.c */

struct item *mirror_find(struct control *control, enum kind kind, const char *project,
			 const char *name);
struct item *mirror_find_key(struct control *control, const char *key);
struct item *mirror_find_uid(struct control *control, const char *uid);
struct claim *mirror_find_claim(struct control *control, const char *key);
int mirror_put(struct control *control, const char *key, const char *value, uint64_t revision,
	       struct error *err);
void mirror_delete(struct control *control, const char *key);
void mirror_free(struct control *control);
char *resource_key(enum kind kind, const char *project, const char *name);

/* Does an instance other than `except` (NULL = none) use the image?  Those that are being deleted
 * count only when `with_deleted`.  Returns one of them or NULL. */
struct item *mirror_image_user(struct control *control, const struct item *image,
			       const char *except, bool with_deleted);

/* An item is looked at again soon: control_settle_dirty(). */
void mark_dirty(struct control *control, struct item *item);

static inline struct instance *item_instance(const struct item *item)
{
	return item->resource;
}
static inline struct image *item_image(const struct item *item)
{
	return item->resource;
}
static inline struct network *item_network(const struct item *item)
{
	return item->resource;
}
static inline struct balancer *item_balancer(const struct item *item)
{
	return item->resource;
}
static inline struct security_group *item_group(const struct item *item)
{
	return item->resource;
}
static inline struct project *item_project(const struct item *item)
{
	return item->resource;
}
static inline struct router *item_router(const struct item *item)
{
	return item->resource;
}
static inline struct operation *item_operation(const struct item *item)
{
	return item->resource;
}

/* ---- draft.c */

struct draft_item {
	struct item *item; /* NULL: a new resource */
	enum kind kind;
	char *key;
	char *old_key;  /* it had before this draft, NULL = the same */
	void *resource; /* the copy */
	bool remove;
	bool touch; /* write it though nothing changed: others that compare it must look again */
	struct draft_item *next;
};

struct draft {
	struct control *control;
	struct draft_item *items;
	struct store_txn txn;
};

/* The copy of an item that this transaction may change; the same one for every call. */
void *draft_edit(struct draft *draft, struct item *item);
struct draft_item *draft_find(struct draft *draft, const struct item *item);
void draft_remove(struct draft *draft, struct item *item);
void draft_touch(struct draft *draft, struct item *item);

/* Gives it another name, whose key must be absent. */
void draft_rename(struct draft *draft, struct item *item, const char *name);

/* The transaction holds only if the item is as it is now. */
void draft_require(struct draft *draft, const struct item *item);

/* A new resource; handed over.  Its key must be absent. */
void draft_create(struct draft *draft, enum kind kind, void *resource);

/* A new reservation; its key must be absent. */
void draft_claim(struct draft *draft, const char *key, const char *uid);
void draft_claim_port(struct draft *draft, const char *key, const char *uid, const char *port_uid);

/* Turns the copies into puts and deletes: WORK_COMMIT, WORK_NOTHING, or -EMSGSIZE. */
int draft_finish(struct draft *draft, struct error *err);
void draft_done(struct draft *draft);

/* A new operation of this draft, to be filled further. */
struct operation *draft_operation(struct draft *draft, enum operation_action action, enum kind kind,
				  const struct meta *target);

/* Sets meta.deleted, once. */
void draft_mark_deleted(struct draft *draft, struct meta *meta);

/* ---- work.c */

enum { WORK_NOTHING = 0, WORK_COMMIT = 1 };

struct work {
	struct control *control;
	/* Fills the draft from the mirror; WORK_*, or -errno.  Called again after a conflict. */
	int (*prepare)(struct work *work, struct draft *draft, struct error *err);
	/* Committed (0, and the mirror shows it) or not; the last call. */
	void (*finish)(struct work *work, int result, const struct error *err);
	void (*free)(struct work *work);

	bool conflict;
	int result;
	struct error *err;
	uint64_t revision;
	struct work *prev, *next;
	bool waiting;   /* for the mirror to show `revision` */
	bool cancelled; /* control is gone; only the store's answer is still to come */
};

/* Starts; `work` was allocated by the caller and is released with work->free. */
void work_start(struct control *control, struct work *work);

/* The mirror has reached a newer revision. */
void work_mirror_moved(struct control *control);
void work_cancel_all(struct control *control);

/* A request of a person: a work that ends by telling them. */
struct request {
	struct work work;
	char *project;
	char *name;
	uint64_t if_match;
	bool force;
	char operation_uid[UID_SIZE]; /* set by prepare */
	control_done_fn done;
	void *data;
	void *body; /* of the request, by kind */
	void (*body_free)(void *body);
};

/* For request.body_free. */
void request_body_decref(void *json);

struct request *request_new(const char *project, const char *name, control_done_fn done,
			    void *data);

/* One whose body is a copy of `patch`. */
struct request *request_of_patch(const char *project, const char *name, const json_t *patch,
				 uint64_t if_match, control_done_fn done, void *data);
void request_start(struct control *control, struct request *request,
		   int (*prepare)(struct work *work, struct draft *draft, struct error *err));

/* The item that a request is about: there, not being deleted, and If-Match holds. */
int request_item(struct request *request, enum kind kind, struct item **ret, struct error *err);

/* The end of every request to delete: the item goes, and an operation waits for that. */
int request_delete(struct request *request, struct draft *draft, struct item *item);

/*
 * The end of every request to change a spec that draft_edit() gave: `changed` says whether the spec
 * is another now, which the node has to hear of; `undo` (borrowed) is the patch that takes it back.
 */
int request_update(struct request *request, struct draft *draft, struct item *item,
		   struct meta *meta, bool changed, json_t *undo);
int require_project(struct control *control, const char *project, struct error *err);

/* Copies the meta of a new resource together. */
void meta_new(struct control *control, struct meta *meta, const char *project, const char *name,
	      char *const *labels);

/* ---- judge.c */

struct verdict {
	enum operation_state state;
	bool undo; /* what was begun must be taken away */
	char error[512];
	int64_t exit_code; /* -1 = nothing to say */
	const char *text;  /* progress */
};

/* `image` may be NULL: it is not there. */
void judge_instance(const struct operation *operation, const struct instance *instance,
		    const struct image *image, struct verdict *ret);
void judge_image(const struct operation *operation, const struct image *image, struct verdict *ret);
void judge_network(const struct operation *operation, const struct network *network,
		   struct verdict *ret);

void judge_balancer(const struct operation *operation, const struct balancer *balancer,
		    struct verdict *ret);
void judge_group(const struct operation *operation, const struct security_group *group,
		 struct verdict *ret);
void judge_router(const struct operation *operation, const struct router *router,
		  struct verdict *ret);

/* Is the instance running or about to be? */
bool instance_is_active(const struct instance *instance);

/* ---- settle.c */

void settle_dirty(struct control *control);

/* Ends `launch`, `pull` or `import` and takes away what it began. */
void settle_undo(struct draft *draft, struct operation *operation, enum operation_state ending,
		 const char *error);
void operation_end(struct draft *draft, struct operation *operation, enum operation_state state,
		   const char *error);

/* ---- image.c */

/* What a launch needs of an image: an existing item, or a new one in the draft. */
int image_for_launch(struct draft *draft, const char *project, const struct launch_request *launch,
		     char **ret_name, char ret_uid[UID_SIZE], struct error *err);

/* ---- port.c */

/* Joins a new instance to its networks: completes its ports and takes their addresses. */
int ports_take(struct draft *draft, struct instance *instance, struct error *err);

/* Whether the networks of its ports can do what the limits say. */
int ports_check_limits(struct control *control, const struct instance_spec *spec,
		       struct error *err);

/*
 * The node has carried out the present generation: what was to leave is not there any more, and its
 * addresses are free.  True when something has changed.
 */
bool ports_settle(struct draft *draft, struct instance *instance);

/* An attachment that the node could not make: `undo` of its operation. */
void ports_take_back(struct instance *instance, const json_t *undo);

/* Has it a port on that network? */
bool ports_use(const struct instance_spec *spec, const char *network_uid);

/*
 * Takes addresses of a network for something else than an instance; those that are "" and that the
 * network has a subnet for are chosen.
 */
int vip_take(struct draft *draft, const struct item *network, const char *uid,
	     char ipv4[IP_TEXT_SIZE], char ipv6[IP_TEXT_SIZE], struct error *err);

/* ---- host_port.c */

/* Reserves a port of the node, or says who has it. */
int host_port_take(struct draft *draft, const struct publish *publish, const char *uid,
		   struct error *err);
void host_port_key(const struct control *control, const struct publish *publish,
		   char ret[CLAIM_KEY_SIZE]);

/* ---- balancer.c */

/* A balancer is there, or is not any more. */
void balancers_track(struct control *control, struct item *item, bool there);

/* An instance has changed: those balancers look again whose member it is or should be. */
void balancers_notice(struct control *control, const struct item *instance, bool removed);

/* Its members become those there are; `carried_out`: the node has done what it was told. */
void balancer_settle(struct draft *draft, struct item *item, struct balancer *balancer,
		     bool carried_out);

/* ---- group.c */

/* The group that ports without groups are in, for a project that has none yet. */
void group_create_default(struct draft *draft, const char *project);

/*
 * The groups that a port names become uids, or that of the default one, and are reserved: what is
 * in use cannot be deleted.  `before` is the port as it was, NULL for a new one.
 */
int groups_take(struct draft *draft, const struct instance *instance, const struct port *before,
		struct port *port, struct error *err);

/* The same for all ports of an instance after a change; `before` is as long, in the same order. */
int groups_update(struct draft *draft, struct instance *instance, const struct port *before,
		  struct error *err);

/* The port goes: its groups are used once less. */
void groups_release(struct draft *draft, const struct port *port);

/*
 * Ports of a store that knew no groups yet are put into the default one.  True when something has
 * changed.
 */
bool groups_settle(struct draft *draft, struct instance *instance);

/*
 * Takes the change of an instance back that the node has refused.  Ports and groups that are gone
 * by now are left out.
 */
int groups_take_back(struct draft *draft, struct instance *instance, const json_t *undo,
		     struct error *err);

/* Back to the rules in `undo`, without those about groups that are gone. */
void group_restore(struct draft *draft, struct security_group *group, const json_t *undo);

/* ---- network.c */

void subnet_random6(struct control *control, struct subnet *ret);

/*
 * The network, other than `except`, whose addresses the node must keep apart from these: one whose
 * gateway it is, or which a router without NAT leads to.  NULL: none.
 */
struct item *network_overlapping(struct control *control, const struct subnet *subnet,
				 const struct item *except);

/* Whoever chooses subnets writes one key, so that two at once cannot choose the same. */
void networks_lock(struct draft *draft);

/* ---- router.c, router_claim.c */

/* Does a router lead to the addresses of this network from outside as they are? */
bool router_exposes(struct control *control, const struct item *network);

/* The router that joins a network, or has an address there still; NULL: none. */
struct item *router_of_network(struct control *control, const struct item *network);

/*
 * What follows for a router from what its instances are now; true when its spec has changed.  And
 * when the node has carried out what is wanted, what it does not use any more is free.
 */
bool router_settle(struct draft *draft, struct router *router);

/* An update that the node has refused: the spec is again as it was. */
void router_take_back(struct draft *draft, struct router *router, const json_t *undo);

/* ---- operation.c */

void operations_collect(struct control *control);

/* ---- query.c */

void wait_notify(struct control *control, const struct item *item, bool removed);

/* ---- node.c */

void node_assign(struct control *control, struct item *item);
void node_forget(struct control *control, const struct item *item);
void status_schedule(struct control *control);
void status_drop(struct control *control, struct item *item);

/* ---- control.c */

void control_fail(struct control *control, int result, const struct error *err);
