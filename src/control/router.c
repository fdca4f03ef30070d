#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "control/router_internal.h"

/*
 * Routers: what leads through them, and what is asked of them.  A network's gateway address belongs
 * to the router that has it; it, and every other address of a router, is reserved like an
 * instance's (router_claim.c).  Which networks one joins: router_network.c.
 */

/* ---- targets */

static struct item *find_instance(struct control *control, const char *project,
				  const struct router_target *target)
{
	struct item *item = target->uid[0] ? mirror_find_uid(control, target->uid) : NULL;

	if (!item || item->kind != KIND_INSTANCE)
		item = mirror_find(control, KIND_INSTANCE, project, target->instance);
	return item && !item->meta->deleted_ms ? item : NULL;
}

const struct port *router_target_port(const struct router_spec *spec, const struct item *instance,
				      const struct router_target *target)
{
	const struct instance_spec *from = &item_instance(instance)->spec;

	for (size_t i = 0; i < from->port_count; i++) {
		const struct port *port = &from->ports[i];

		if (!port->leaving && router_find_network(spec, port->network_uid) &&
		    (!target->network[0] || strcmp(target->network, port->network) == 0))
			return port;
	}
	return NULL;
}

/* What it leads to now.  Where it leads nowhere the addresses are none, and *ret_why says why. */
static void resolve(struct control *control, const struct router *router,
		    struct router_target *target, const char **ret_why)
{
	const struct router_spec *spec = &router->spec;
	struct item *instance;
	const struct port *port;

	*ret_why = NULL;
	target->ipv4 = target->ipv6 = (struct ip){};
	if (!target->instance[0]) {
		if (target->address.family == 4)
			target->ipv4 = target->address;
		else
			target->ipv6 = target->address;
		if (target->address.family && !router_joined_with(control, spec, &target->address))
			*ret_why = "is on none of the router's networks";
		return;
	}
	instance = find_instance(control, router->meta.project, target);
	if (!instance) {
		*ret_why = "does not exist";
		return;
	}
	memcpy(target->uid, instance->meta->uid, UID_SIZE);
	snprintf(target->instance, sizeof(target->instance), "%s", instance->meta->name);
	port = router_target_port(spec, instance, target);
	if (!port) {
		*ret_why = target->network[0] ? "is not on that network of the router"
					      : "is on none of the router's networks";
		return;
	}
	if (port->ipv4[0])
		(void) ip_parse(port->ipv4, &target->ipv4);
	if (port->ipv6[0])
		(void) ip_parse(port->ipv6, &target->ipv6);
}

static int check_target(struct control *control, const struct router *router,
			struct router_target *target, const char *what, struct error *err)
{
	char text[IP_TEXT_SIZE] = "";
	const char *why;

	resolve(control, router, target, &why);
	if (!why)
		return 0;
	if (target->address.family)
		ip_format(&target->address, text);
	return error_say(
		err, target->instance[0] && strcmp(why, "does not exist") == 0 ? -ENOENT : -EINVAL,
		"%s: %s%s%s %s", what, target->instance[0] ? "instance \"" : "address ",
		target->instance[0] ? target->instance : text, target->instance[0] ? "\"" : "",
		why);
}

/* ---- floating addresses and forwards */

static int check_floating_range(struct control *control, const struct router_spec *spec,
				const struct ip *ip, const char *text, struct error *err)
{
	static const char *const others[] = { "0.0.0.0/8",     "127.0.0.0/8", "169.254.0.0/16",
					      "100.64.0.0/16", "224.0.0.0/3", "::/127",
					      "fe80::/10",     "ff00::/8" };
	struct subnet subnet = { .base = *ip, .prefix = ip->family == 4 ? 32 : 128 }, range;
	const struct router_network *joined = router_joined_with(control, spec, ip);
	const struct item *network = network_overlapping(control, &subnet, NULL);

	for (size_t i = 0; i < ARRAY_COUNT(others); i++)
		if (subnet_parse(others[i], 0, "", &range, NULL) == 0 &&
		    subnet_contains(&range, ip))
			return error_say(err, -EINVAL,
					 "floating address %s: nobody outside can send to %s", text,
					 others[i]);
	if (joined || network)
		return error_say(err, -EINVAL, "floating address %s: is inside of network \"%s\"",
				 text, joined ? joined->network : network->meta->name);
	return 0;
}

/*
 * Whoever has a floating address gets what this node and its instances send there, so root gives
 * them away.  Where one leads is the project's business.
 */
static int check_leave(struct control *control, const char *key, const char *what, bool root,
		       struct error *err)
{
	if (root || mirror_find_claim(control, key))
		return 0;
	return error_say(err, -EACCES,
			 "%s: only root of the node may give floating addresses to routers, on its "
			 "Unix socket",
			 what);
}

static int take_floating(struct draft *draft, struct router *router, bool root, struct error *err)
{
	struct control *control = draft->control;

	for (size_t i = 0; i < router->spec.floating_count; i++) {
		struct router_floating *floating = &router->spec.floating[i];
		char key[CLAIM_KEY_SIZE], text[IP_TEXT_SIZE], what[IP_TEXT_SIZE + 32];
		int r;

		ip_format(&floating->address, text);
		snprintf(what, sizeof(what), "floating address %s", text);
		r = check_floating_range(control, &router->spec, &floating->address, text, err);
		if (r == 0)
			r = check_target(control, router, &floating->target, what, err);
		if (r == 0 && floating->target.instance[0] &&
		    !(floating->address.family == 4 ? &floating->target.ipv4
						    : &floating->target.ipv6)
			     ->family)
			r = error_say(err, -EINVAL,
				      "%s: instance \"%s\" has no IPv%d address there", what,
				      floating->target.instance, floating->address.family);
		router_floating_key(control, key, &floating->address);
		if (r == 0)
			r = check_leave(control, key, what, root, err);
		if (r == 0)
			r = router_claim(draft, router, key, what, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool has_floating(const struct router_spec *spec, const struct ip *ip)
{
	for (size_t i = 0; i < spec->floating_count; i++)
		if (ip_equal(&spec->floating[i].address, ip))
			return true;
	return false;
}

static int take_forwards(struct draft *draft, struct router *router, struct error *err)
{
	for (size_t i = 0; i < router->spec.forward_count; i++) {
		struct router_forward *forward = &router->spec.forwards[i];
		char text[ROUTER_KEY_SIZE], what[ROUTER_KEY_SIZE + 16], key[CLAIM_KEY_SIZE];
		struct publish publish = router_forward_publish(forward);
		const struct claim *claim;
		int r;

		router_forward_key(forward, text);
		snprintf(what, sizeof(what), "forward %s", text);
		if (forward->address.family && !has_floating(&router->spec, &forward->address))
			return error_say(err, -EINVAL,
					 "%s: is not a floating address of the router; give it one "
					 "first, or leave the address out for the node's",
					 what);
		r = check_target(draft->control, router, &forward->target, what, err);
		if (r < 0)
			return r;
		if (forward->address.family)
			continue;
		host_port_key(draft->control, &publish, key);
		claim = mirror_find_claim(draft->control, key);
		if (claim && strcmp(claim->uid, router->meta.uid) == 0)
			continue;
		r = host_port_take(draft, &publish, router->meta.uid, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the whole */

/* What a user has said becomes the whole, and what it needs is reserved. */
static int complete(struct draft *draft, struct router *router, bool root, struct error *err)
{
	int r = router_claim_transit(draft, router, err);

	networks_lock(draft);
	if (r == 0)
		r = router_complete_networks(draft, router, err);
	if (r == 0)
		r = router_check_routes(draft->control, &router->spec, err);
	if (r == 0)
		r = take_floating(draft, router, root, err);
	return r < 0 ? r : take_forwards(draft, router, err);
}

bool router_exposes(struct control *control, const struct item *network)
{
	struct item *item;

	DL_FOREACH2(control->routers, item, routers_next)
	{
		const struct router_spec *spec = &item_router(item)->spec;

		if (spec->uplink && !spec->nat && router_find_network(spec, network->meta->uid))
			return true;
	}
	return false;
}

/* ---- what follows */

static bool resolve_again(struct draft *draft, const struct router *router,
			  struct router_target *target)
{
	struct router_target before = *target;
	const char *why;

	resolve(draft->control, router, target, &why);
	return !ip_equal(&before.ipv4, &target->ipv4) || !ip_equal(&before.ipv6, &target->ipv6) ||
	       strcmp(before.instance, target->instance) != 0 ||
	       strcmp(before.uid, target->uid) != 0;
}

bool router_settle(struct draft *draft, struct router *router)
{
	struct router_spec *spec = &router->spec;
	bool changed = false;

	if (router->status.generation >= router->meta.generation &&
	    router->status.state == ROUTER_READY)
		router_release_unused(draft, router);
	for (size_t i = 0; i < spec->floating_count; i++)
		changed |= resolve_again(draft, router, &spec->floating[i].target);
	for (size_t i = 0; i < spec->forward_count; i++)
		changed |= resolve_again(draft, router, &spec->forwards[i].target);
	return changed;
}

void router_take_back(struct draft *draft, struct router *router, const json_t *undo)
{
	/* What was in force before was good once, and is reserved still. */
	(void) router_patch(router, undo, NULL);
	for (size_t i = 0; i < router->spec.network_count; i++) {
		struct router_network *joined = &router->spec.networks[i];
		const struct item *item = mirror_find(draft->control, KIND_NETWORK,
						      router->meta.project, joined->network);

		if (item)
			memcpy(joined->uid, item->meta->uid, UID_SIZE);
	}
	(void) router_settle(draft, router);
	router->meta.generation++;
}

/* ---- requests */

static int prepare_create(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct control *control = work->control;
	const json_t *body = request->body;
	AUTO(router_free) struct router *router = NULL;
	AUTO(strv_free) char **labels = NULL;
	struct operation *operation;
	struct item *item;
	int r = require_project(control, request->project, err);

	if (r == 0)
		r = router_request_decode(body, &router, err);
	if (r < 0)
		return r;
	item = mirror_find(control, KIND_ROUTER, request->project, router->meta.name);
	if (item)
		return error_say(err, -EEXIST, "router \"%s\" %s", router->meta.name,
				 item->meta->deleted_ms ? "is still being deleted"
							: "exists already");
	labels = TAKE_PTR(router->meta.labels);
	meta_done(&router->meta);
	meta_new(control, &router->meta, request->project, request->name, labels);
	mem_replace(&router->spec.node, control->node);
	r = complete(draft, router, request->force, err);
	if (r == 0)
		r = router_check_answers(control, router, NULL, err);
	if (r < 0)
		return r;
	operation = draft_operation(draft, OPERATION_CREATE, KIND_ROUTER, &router->meta);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	draft_create(draft, KIND_ROUTER, TAKE_PTR(router));
	return WORK_COMMIT;
}

void control_router_create(struct control *control, const char *project, const char *name,
			   const json_t *body, bool root, control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->force = root;
	request->body = json_deep_copy(body);
	request->body_free = request_body_decref;
	request_start(control, request, prepare_create);
}

static int prepare_update(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	AUTO(json_decref) json_t *before = NULL, *after = NULL, *undo = NULL;
	const json_t *patch = request->body;
	struct router *router;
	struct item *item;
	int r = request_item(request, KIND_ROUTER, &item, err);

	if (r < 0)
		return r;
	if (item->meta->deleted_ms)
		return error_say(err, -EBUSY, "router \"%s\" is being deleted", request->name);
	router = draft_edit(draft, item);
	before = router_encode(router, 0);
	undo = router_patch_undo(router, patch);
	r = router_patch(router, patch, err);
	if (r == 0)
		r = complete(draft, router, request->force, err);
	/* What was said before stays, whatever has become of it. */
	if (r == 0)
		r = router_check_answers(work->control, router, item_router(item), err);
	if (r < 0)
		return r;
	after = router_encode(router, 0);
	return request_update(request, draft, item, &router->meta, !json_equal(before, after),
			      undo);
}

void control_router_update(struct control *control, const char *project, const char *name,
			   const json_t *patch, bool root, uint64_t if_match, control_done_fn done,
			   void *data)
{
	struct request *request = request_of_patch(project, name, patch, if_match, done, data);

	request->force = root;
	request_start(control, request, prepare_update);
}

static int prepare_delete(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct item *item;
	int r = request_item(request, KIND_ROUTER, &item, err);

	(void) work;
	return r < 0 ? r : request_delete(request, draft, item);
}

void control_router_delete(struct control *control, const char *project, const char *name,
			   uint64_t if_match, control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->if_match = if_match;
	request_start(control, request, prepare_delete);
}
