#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "control/control_internal.h"

/*
 * Load balancers: what they listen at is reserved like published ports and addresses of instances
 * are; their members follow from the labels, states and ports of instances, in settling.  What an
 * instance does costs a look for each balancer of its project, and a change of members one pass
 * over the instances, however many of them have changed by then.
 */

static const char host_ports[] = "/hostport/";

/* ---- members ---- */

/* Does this instance belong to it now?  *ret (may be NULL) is what the node is to know of it. */
static bool is_member(const struct balancer *balancer, const struct item *item,
		      struct balancer_member *ret)
{
	const struct instance *instance = item_instance(item);
	const struct instance_spec *spec = &instance->spec;
	const struct port *port = NULL;

	if (item->meta->deleted_ms || strcmp(item->meta->project, balancer->meta.project) != 0 ||
	    spec->target != INSTANCE_TARGET_RUNNING || instance->status.state != INSTANCE_RUNNING ||
	    instance->status.start_seq < spec->start_seq)
		return false;
	for (size_t i = 0; i < spec->port_count && !port; i++)
		if (!spec->ports[i].leaving &&
		    strcmp(spec->ports[i].network_uid, balancer->spec.network_uid) == 0)
			port = &spec->ports[i];
	if (!port || !balancer_selector_matches(balancer->spec.selector, item->meta->labels))
		return false;
	if (ret) {
		*ret = (struct balancer_member){};
		memcpy(ret->uid, item->meta->uid, UID_SIZE);
		snprintf(ret->instance, sizeof(ret->instance), "%s", item->meta->name);
		memcpy(ret->ipv4, port->ipv4, sizeof(ret->ipv4));
		memcpy(ret->ipv6, port->ipv6, sizeof(ret->ipv6));
	}
	return true;
}

static bool same_member(const struct balancer_member *a, const struct balancer_member *b)
{
	return strcmp(a->instance, b->instance) == 0 && strcmp(a->ipv4, b->ipv4) == 0 &&
	       strcmp(a->ipv6, b->ipv6) == 0;
}

void balancers_track(struct control *control, struct item *item, bool there)
{
	bool listed = item->balancer_prev != NULL;

	if (there && !listed)
		DL_APPEND2(control->balancers, item, balancer_prev, balancer_next);
	if (!there && listed) {
		DL_DELETE2(control->balancers, item, balancer_prev, balancer_next);
		item->balancer_prev = item->balancer_next = NULL;
	}
}

void balancers_notice(struct control *control, const struct item *instance, bool removed)
{
	struct item *item;

	DL_FOREACH2(control->balancers, item, balancer_next)
	{
		const struct balancer *balancer = item_balancer(item);
		const struct balancer_member *is =
			balancer_member_find(&balancer->spec, instance->meta->uid);
		struct balancer_member should;
		bool belongs = !removed && is_member(balancer, instance, &should);

		if (belongs != (is != NULL) || (belongs && !same_member(is, &should)) ||
		    (removed && balancer_drain_find(&balancer->spec, instance->meta->uid)))
			mark_dirty(control, item);
	}
}

static int by_uid(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* All that belong to it, by uid; the caller frees. */
static struct balancer_member *find_members(struct control *control,
					    const struct balancer *balancer, size_t *ret_count)
{
	struct balancer_member *list = NULL, member;
	struct item *item, *next;
	size_t count = 0, room = 0;

	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind != KIND_INSTANCE || !is_member(balancer, item, &member))
			continue;
		if (count == room) {
			room = room ? 2 * room : 16;
			list = mem_realloc(list, room, sizeof(*list));
		}
		list[count++] = member;
	}
	if (count > 0)
		qsort(list, count, sizeof(*list), by_uid);
	*ret_count = count;
	return list;
}

static int refuse_too_many(struct control *control, const struct balancer *balancer,
			   struct error *err)
{
	size_t count;

	free(find_members(control, balancer, &count));
	if (count <= BALANCER_MEMBERS_MAX)
		return 0;
	return error_say(err, -EINVAL,
			 "selector: %zu instances match, a balancer has %d members at most", count,
			 BALANCER_MEMBERS_MAX);
}

/* Makes its members those there are; true when it is another spec now. */
static bool refresh_members(struct control *control, struct balancer *balancer)
{
	struct balancer_spec *spec = &balancer->spec;
	size_t count;
	struct balancer_member *members = find_members(control, balancer, &count);
	bool same;

	if (count > BALANCER_MEMBERS_MAX)
		count = BALANCER_MEMBERS_MAX;
	same = count == spec->member_count;
	for (size_t i = 0; same && i < count; i++)
		same = strcmp(members[i].uid, spec->members[i].uid) == 0 &&
		       same_member(&members[i], &spec->members[i]);
	free(spec->members);
	spec->members = members;
	spec->member_count = count;
	for (size_t i = spec->drain_count; i > 0; i--)
		if (!mirror_find_uid(control, spec->drains[i - 1].uid)) {
			balancer_drain_remove(spec, spec->drains[i - 1].uid);
			same = false;
		}
	return !same;
}

/* ---- what it has reserved ---- */

static void listen_as_publish(const struct balancer_listen *listen, struct publish *ret)
{
	*ret = (struct publish){ .host_port = listen->port, .protocol = listen->protocol };
	memcpy(ret->host_ip, listen->address, sizeof(ret->host_ip));
}

static int take_ports(struct draft *draft, const struct balancer *balancer, struct error *err)
{
	struct control *control = draft->control;
	int r = 0;

	for (size_t i = 0; r == 0 && i < balancer->spec.listen_count; i++) {
		char key[CLAIM_KEY_SIZE];
		const struct claim *claim;
		struct publish publish;

		if (balancer->spec.listens[i].vip)
			continue;
		listen_as_publish(&balancer->spec.listens[i], &publish);
		host_port_key(control, &publish, key);
		claim = mirror_find_claim(control, key);
		if (!claim || strcmp(claim->uid, balancer->meta.uid) != 0)
			r = host_port_take(draft, &publish, balancer->meta.uid, err);
	}
	return r;
}

static bool uses_port(const struct control *control, const struct balancer *balancer,
		      const char *key)
{
	for (size_t i = 0; i < balancer->spec.listen_count; i++) {
		char own[CLAIM_KEY_SIZE];
		struct publish publish;

		if (balancer->spec.listens[i].vip)
			continue;
		listen_as_publish(&balancer->spec.listens[i], &publish);
		host_port_key(control, &publish, own);
		if (strcmp(own, key) == 0)
			return true;
	}
	return false;
}

/*
 * What it listened at before is kept until the node has carried the change out: so it can be taken
 * back when the node refuses it.
 */
static void release_ports(struct draft *draft, struct item *item, const struct balancer *balancer)
{
	struct claim *claim, *next;

	HASH_ITER(by_key, draft->control->claims, claim, next)
	{
		if (strcmp(claim->uid, balancer->meta.uid) != 0 ||
		    strncmp(claim->key, host_ports, strlen(host_ports)) != 0 ||
		    uses_port(draft->control, balancer, claim->key))
			continue;
		store_ops_delete(&draft->txn.then, claim->key);
		/* A request that counts on it must look again. */
		draft_touch(draft, item);
	}
}

void balancer_settle(struct draft *draft, struct item *item, struct balancer *balancer,
		     bool carried_out)
{
	if (balancer->meta.deleted_ms)
		return;
	if (refresh_members(draft->control, balancer))
		balancer->meta.generation++;
	if (carried_out)
		release_ports(draft, item, balancer);
}

/* ---- create ---- */

static int check_network(struct draft *draft, const char *project, struct balancer *balancer,
			 struct item **ret, struct error *err)
{
	const char *name = balancer->spec.network;
	struct item *network = mirror_find(draft->control, KIND_NETWORK, project, name);

	if (!network)
		return error_say(err, -ENOENT, "network: \"%s\" does not exist", name);
	if (network->meta->deleted_ms)
		return error_say(err, -EBUSY, "network: \"%s\" is being deleted", name);
	if (item_network(network)->spec.isolated)
		return error_say(err, -EINVAL,
				 "network: \"%s\" is isolated, so the node has no address there by "
				 "which it could balance: use a network with nat or a routed one",
				 name);
	if (network_require(&item_network(network)->spec, name, NETWORK_CAN_BALANCE, err) < 0)
		return -EINVAL;
	memcpy(balancer->spec.network_uid, network->meta->uid, UID_SIZE);
	draft_require(draft, network);
	*ret = network;
	return 0;
}

/* The network is not deleted as long as something below its addresses is claimed. */
static void claim_network(struct draft *draft, const struct balancer *balancer)
{
	char key[CLAIM_KEY_SIZE];

	snprintf(key, sizeof(key), "/address/%s/balancer-%s", balancer->spec.network_uid,
		 balancer->meta.uid);
	draft_claim(draft, key, balancer->meta.uid);
}

static int prepare_create(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct control *control = work->control;
	json_t *body = request->body;
	AUTO(balancer_request_free) struct balancer_request *wanted = NULL;
	AUTO(balancer_free) struct balancer *balancer = mem_new0(struct balancer);
	struct balancer_spec *spec = &balancer->spec;
	struct operation *operation;
	struct item *item, *network = NULL;
	int r = require_project(control, request->project, err);

	if (r == 0)
		r = balancer_request_decode(body, &wanted, err);
	if (r < 0)
		return r;
	item = mirror_find(control, KIND_BALANCER, request->project, wanted->name);
	if (item)
		return error_say(err, -EEXIST, "balancer \"%s\" %s", wanted->name,
				 item->meta->deleted_ms ? "is still being deleted"
							: "exists already");
	*spec = wanted->spec;
	wanted->spec = (struct balancer_spec){};
	meta_new(control, &balancer->meta, request->project, wanted->name, wanted->labels);
	mem_replace(&spec->node, control->node);
	r = check_network(draft, request->project, balancer, &network, err);
	if (r == 0 && spec->vip)
		r = vip_take(draft, network, balancer->meta.uid, spec->vip4, spec->vip6, err);
	if (r == 0)
		r = take_ports(draft, balancer, err);
	if (r == 0)
		r = refuse_too_many(control, balancer, err);
	if (r < 0)
		return r;
	claim_network(draft, balancer);
	(void) refresh_members(control, balancer);
	operation = draft_operation(draft, OPERATION_CREATE, KIND_BALANCER, &balancer->meta);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	draft_create(draft, KIND_BALANCER, TAKE_PTR(balancer));
	return WORK_COMMIT;
}

void control_balancer_create(struct control *control, const char *project,
			     const struct balancer_request *body, control_done_fn done, void *data)
{
	struct request *request = request_new(project, body->name, done, data);

	request->body = balancer_request_encode(body);
	request->body_free = request_body_decref;
	request_start(control, request, prepare_create);
}

/* ---- update, drain, delete ---- */

static int find_balancer(struct request *request, struct item **ret, struct error *err)
{
	int r = request_item(request, KIND_BALANCER, ret, err);

	if (r == 0 && (*ret)->meta->deleted_ms)
		r = error_say(err, -EBUSY, "balancer \"%s\" is being deleted", request->name);
	return r;
}

static int prepare_update(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const json_t *patch = request->body;
	AUTO(json_decref) json_t *before = NULL, *after = NULL, *undo = NULL;
	struct balancer *balancer;
	struct item *item = NULL;
	int r = find_balancer(request, &item, err);

	if (r < 0)
		return r;
	balancer = draft_edit(draft, item);
	before = balancer_spec_encode(&balancer->spec);
	undo = balancer_patch_undo(balancer, patch);
	r = balancer_patch(balancer, patch, err);
	if (r == 0)
		r = take_ports(draft, balancer, err);
	if (r == 0)
		r = refuse_too_many(work->control, balancer, err);
	if (r < 0)
		return r;
	(void) refresh_members(work->control, balancer);
	after = balancer_spec_encode(&balancer->spec);
	return request_update(request, draft, item, &balancer->meta, !json_equal(before, after),
			      undo);
}

void control_balancer_update(struct control *control, const char *project, const char *name,
			     const json_t *patch, uint64_t if_match, control_done_fn done,
			     void *data)
{
	request_start(control, request_of_patch(project, name, patch, if_match, done, data),
		      prepare_update);
}

static int prepare_drain(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const char *name = request->body;
	AUTO(json_decref) json_t *nothing = json_object();
	const struct item *instance;
	struct balancer *balancer;
	struct item *item = NULL;
	bool drains;
	int r = find_balancer(request, &item, err);

	if (r < 0)
		return r;
	instance = mirror_find(work->control, KIND_INSTANCE, request->project, name);
	if (!instance)
		return error_say(err, -ENOENT, "instance \"%s\" does not exist", name);
	balancer = draft_edit(draft, item);
	drains = balancer_drain_find(&balancer->spec, instance->meta->uid) != NULL;
	if (!drains && !balancer_member_find(&balancer->spec, instance->meta->uid))
		return error_say(err, -ENOENT,
				 "instance \"%s\" is no member of balancer \"%s\": it has not its "
				 "labels, does not run, or is not on network \"%s\"",
				 name, request->name, balancer->spec.network);
	if (request->force)
		balancer_drain_add(&balancer->spec, instance->meta->uid,
				   clock_realtime_ms(work->control->clock));
	else
		balancer_drain_remove(&balancer->spec, instance->meta->uid);
	return request_update(request, draft, item, &balancer->meta, drains != request->force,
			      nothing);
}

void control_balancer_drain(struct control *control, const char *project, const char *name,
			    const char *instance, bool drain, uint64_t if_match,
			    control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->body = mem_strdup(instance);
	request->body_free = free;
	request->force = drain;
	request->if_match = if_match;
	request_start(control, request, prepare_drain);
}

static int prepare_delete(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct item *item = NULL;
	int r = request_item(request, KIND_BALANCER, &item, err);

	return r < 0 ? r : request_delete(request, draft, item);
}

void control_balancer_delete(struct control *control, const char *project, const char *name,
			     uint64_t if_match, control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->if_match = if_match;
	request_start(control, request, prepare_delete);
}
