#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/control_internal.h"
#include "control/resource.h"
#include "model/member.h"

/* The agent link's deciding side: who gets which assignment, and what becomes of a status. */

static bool belongs_to_node(const struct item *item)
{
	return item->kind == KIND_INSTANCE || item->kind == KIND_IMAGE ||
	       item->kind == KIND_NETWORK || item->kind == KIND_BALANCER ||
	       item->kind == KIND_GROUP || item->kind == KIND_ROUTER;
}

void node_assign(struct control *control, struct item *item)
{
	if (!control->connected || !belongs_to_node(item) ||
	    item->assigned_generation == item->meta->generation)
		return;
	AUTO(json_decref) json_t *doc = resource_encode(item->kind, item->resource, ENCODE_ASSIGN);
	item->assigned_generation = item->meta->generation;
	control->ops->assign(control->node, doc, control->data);
}

void node_forget(struct control *control, const struct item *item)
{
	if (control->connected && belongs_to_node(item))
		control->ops->forget(control->node, item->kind, item->meta->uid, control->data);
}

/* ---- the node's own resource */

struct node_update {
	struct work work;
	struct node_facts facts;
	bool online;
};

static int prepare_node(struct work *work, struct draft *draft, struct error *err)
{
	struct node_update *update = (struct node_update *) work;
	struct item *item = mirror_find(work->control, KIND_NODE, "_", work->control->node);
	struct node *node;

	(void) err;
	if (!item)
		return WORK_NOTHING;
	node = draft_edit(draft, item);
	if (update->online)
		node_facts_copy(&node->facts, &update->facts);
	/* What is true now, not what was when this was asked for. */
	node->state = work->control->connected ? NODE_ONLINE : NODE_OFFLINE;
	return WORK_COMMIT;
}

static void node_finish(struct work *work, int result, const struct error *err)
{
	if (result < 0 && result != -ECANCELED)
		log_error("node %s: cannot store its state: %s", work->control->node, err->msg);
}

static void node_update_free(struct work *work)
{
	struct node_update *update = (struct node_update *) work;

	node_facts_done(&update->facts);
	free(update);
}

/* `facts` are handed over; NULL when the node is lost. */
static void node_update(struct control *control, struct node_facts *facts)
{
	struct node_update *update = mem_new0(struct node_update);

	if (facts) {
		update->facts = *facts;
		update->online = true;
		*facts = (struct node_facts){};
	}
	update->work.prepare = prepare_node;
	update->work.finish = node_finish;
	update->work.free = node_update_free;
	work_start(control, &update->work);
}

static void assign_kind(struct control *control, enum kind kind)
{
	struct item *item, *next;

	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind != kind)
			continue;
		item->assigned_generation = 0;
		node_assign(control, item);
	}
}

int control_node_hello(struct control *control, const json_t *body, char **ret_node,
		       struct error *err)
{
	struct node_facts facts = {};
	AUTO(free) char *name = NULL;
	int r;

	if (!control->ready)
		return error_say(err, -ENOTCONN, "brume is still starting");
	r = node_hello_decode(body, &name, &facts, err);
	if (r == 0 && strcmp(name, control->node) != 0)
		r = error_say(err, -EACCES, "node \"%s\" is not known here, this is node \"%s\"",
			      name, control->node);
	if (r < 0) {
		node_facts_done(&facts);
		return r;
	}
	control->connected = true;
	node_update(control, &facts);
	/* What others need comes first. */
	assign_kind(control, KIND_NETWORK);
	assign_kind(control, KIND_GROUP);
	assign_kind(control, KIND_ROUTER);
	assign_kind(control, KIND_IMAGE);
	assign_kind(control, KIND_INSTANCE);
	assign_kind(control, KIND_BALANCER);
	control->ops->assigned_all(control->node, control->data);
	*ret_node = TAKE_PTR(name);
	return 0;
}

void control_node_lost(struct control *control, const char *node)
{
	if (!control->connected || strcmp(node, control->node) != 0)
		return;
	control->connected = false;
	node_update(control, NULL);
}

/* ---- status */

struct report {
	bool gone;
	bool passing; /* on its way to something else: need not be on disk at once */
};

static int read_instance(const json_t *status, struct report *ret, struct error *err)
{
	struct instance_status decoded;
	int r;

	instance_status_init(&decoded);
	r = instance_status_decode(status, &decoded, err);
	ret->gone = decoded.state == INSTANCE_GONE;
	/* Why a run ended is forgotten by the next one: whoever listens must have heard it. */
	ret->passing = !decoded.error &&
		       (decoded.state == INSTANCE_PENDING || decoded.state == INSTANCE_PULLING ||
			decoded.state == INSTANCE_CREATING || decoded.state == INSTANCE_STOPPING);
	if (r == 0 && decoded.state == INSTANCE_UNKNOWN)
		r = error_say(err, -EPROTO, "status.state: a node does not say \"unknown\"");
	instance_status_done(&decoded);
	return r;
}

static int read_image(const json_t *status, struct report *ret, struct error *err)
{
	struct image_status decoded = {};
	int r = image_status_decode(status, &decoded, err);

	ret->gone = decoded.state == IMAGE_GONE;
	ret->passing = decoded.state == IMAGE_PENDING || decoded.state == IMAGE_PULLING;
	image_status_done(&decoded);
	return r;
}

static int read_network(const json_t *status, struct report *ret, struct error *err)
{
	struct network_status decoded = {};
	int r = network_status_decode(status, &decoded, err);

	ret->gone = decoded.state == NETWORK_GONE;
	ret->passing = decoded.state == NETWORK_PENDING;
	network_status_done(&decoded);
	return r;
}

static int read_balancer(const json_t *status, struct report *ret, struct error *err)
{
	struct balancer_status decoded = {};
	int r = balancer_status_decode(status, &decoded, err);

	ret->gone = decoded.state == BALANCER_GONE;
	ret->passing = decoded.state == BALANCER_PENDING;
	balancer_status_done(&decoded);
	return r;
}

static int read_group(const json_t *status, struct report *ret, struct error *err)
{
	struct security_group_status decoded = {};
	int r = security_group_status_decode(status, &decoded, err);

	ret->gone = decoded.state == SECURITY_GROUP_GONE;
	ret->passing = decoded.state == SECURITY_GROUP_PENDING;
	security_group_status_done(&decoded);
	return r;
}

static int read_router(const json_t *status, struct report *ret, struct error *err)
{
	struct router_status decoded = {};
	int r = router_status_decode(status, &decoded, err);

	ret->gone = decoded.state == ROUTER_GONE;
	ret->passing = decoded.state == ROUTER_PENDING;
	router_status_done(&decoded);
	return r;
}

static int read_report(enum kind kind, const json_t *status, struct report *ret, struct error *err)
{
	switch (kind) {
	case KIND_INSTANCE:
		return read_instance(status, ret, err);
	case KIND_IMAGE:
		return read_image(status, ret, err);
	case KIND_NETWORK:
		return read_network(status, ret, err);
	case KIND_BALANCER:
		return read_balancer(status, ret, err);
	case KIND_GROUP:
		return read_group(status, ret, err);
	case KIND_ROUTER:
		return read_router(status, ret, err);
	default:
		return error_say(err, -EPROTO, "a node has no status for a %s", kind_name(kind));
	}
}

void status_drop(struct control *control, struct item *item)
{
	if (!item->status)
		return;
	json_decref(item->status);
	item->status = NULL;
	item->flush_us = 0;
	DL_DELETE2(control->flush, item, flush_prev, flush_next);
	item->flush_prev = item->flush_next = NULL;
}

/*
 * Keeps the newest status.  A passing one is written when it has stood for a while, so that a fast
 * launch costs one write and progress four a second; one that will last is written now.
 */
static void status_keep(struct control *control, struct item *item, json_t *status, bool passing)
{
	uint64_t now = clock_monotonic_us(control->clock);

	if (item->status)
		json_decref(item->status);
	else
		DL_APPEND2(control->flush, item, flush_prev, flush_next);
	item->status = json_incref(status);
	if (!passing)
		item->flush_us = now;
	else if (item->flush_us == 0)
		item->flush_us = now + STATUS_INTERVAL_US;
	if (item->flush_us <= now)
		mark_dirty(control, item);
}

/* A status too large to be kept (an image's config, say) is a failure in few words. */
static json_t *status_bounded(json_t *status)
{
	static const char *const kept[] = { "generation", "pull_seq", "start_seq" };
	json_t *small;

	if (json_dumpb(status, NULL, 0, JSON_COMPACT) <= STATUS_MAX_BYTES)
		return json_incref(status);
	small = json_pack("{s:s, s:s}", "state", "failed", "error",
			  "what the node says about it is too large");
	for (size_t i = 0; i < ARRAY_COUNT(kept); i++)
		if (json_object_get(status, kept[i]))
			json_object_set(small, kept[i], json_object_get(status, kept[i]));
	return small;
}

int control_node_status(struct control *control, const char *node, const json_t *body,
			struct error *err)
{
	struct json_reader in = { .err = err };
	unsigned int kind = 0;
	char uid[UID_SIZE] = "";
	struct report report = {};
	json_t *status = NULL;
	struct item *item;
	int r;

	if (!control->connected || strcmp(node, control->node) != 0)
		return error_say(err, -EPROTO, "a status before the hello");
	member_read_enum(&in, body, "kind", kind_names, &kind);
	member_read_uid(&in, body, "uid", uid);
	json_read_object(&in, body, "status", &status);
	if (json_reader_finish(&in, body) < 0)
		return in.result;
	if (!status || !uid[0])
		return error_say(err, -EPROTO, "status: uid and status must be there");
	r = read_report((enum kind) kind, status, &report, err);
	if (r < 0)
		return r;
	item = mirror_find_uid(control, uid);
	if (!item || item->kind != (enum kind) kind) {
		control->ops->forget(control->node, (enum kind) kind, uid, control->data);
		return 0;
	}
	if (report.gone && !item->meta->deleted_ms) {
		log_warning("%s %s: the node does not have it, telling it again",
			    kind_name(item->kind), uid);
		item->assigned_generation = 0;
		node_assign(control, item);
		return 0;
	}
	AUTO(json_decref) json_t *kept = status_bounded(status);
	status_keep(control, item, kept, report.passing && kept == status);
	settle_dirty(control);
	status_schedule(control);
	return 0;
}
