#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "control/control_internal.h"

/* Whoever makes a network writes this key, so that two at once cannot choose overlapping subnets.
 */
static const char networks_key[] = "/lock/networks";

enum { USERS_SHOWN = 5 };

void subnet_random6(struct control *control, struct subnet *ret)
{
	*ret = (struct subnet){ .base.family = 6, .prefix = 64 };
	control->rng->fill(control->rng, ret->base.bytes, 8);
	ret->base.bytes[0] = 0xfd;
}

/*
 * Those whose gateway is the node must differ; of isolated ones the node has no address, and what
 * an outside LAN has is not ours to say.
 */
static bool is_gateway(const struct network_spec *spec)
{
	return !spec->isolated && spec->driver == NETWORK_DRIVER_BRIDGE;
}

struct item *network_overlapping(struct control *control, const struct subnet *subnet,
				 const struct item *except)
{
	struct item *item, *next;

	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind != KIND_NETWORK || item == except)
			continue;
		const struct network_spec *spec = &item_network(item)->spec;

		if (!subnet_overlaps(&spec->ipv4, subnet) && !subnet_overlaps(&spec->ipv6, subnet))
			continue;
		if (is_gateway(spec) || router_exposes(control, item))
			return item;
	}
	return NULL;
}

void networks_lock(struct draft *draft)
{
	struct claim *lock = mirror_find_claim(draft->control, networks_key);

	store_txn_compare(&draft->txn, STORE_MOD_REVISION, networks_key, lock ? lock->revision : 0);
	store_ops_put(&draft->txn.then, networks_key, "{}", 0);
}

/* The first free 10.X.Y.0/24 from 10.90.1.0 on. */
static int choose_subnet4(struct control *control, struct subnet *ret, struct error *err)
{
	struct subnet subnet = { .base = { 4, { 10, 90, 0, 0 } }, .prefix = 24 };

	for (unsigned int n = 90 * 256 + 1; n < 256 * 256; n++) {
		subnet.base.bytes[1] = (uint8_t) (n >> 8);
		subnet.base.bytes[2] = (uint8_t) n;
		if (!network_overlapping(control, &subnet, NULL)) {
			*ret = subnet;
			return 0;
		}
	}
	return error_say(err, -ENOSPC, "no free IPv4 subnet is left, name one");
}

/* A VNI at one port, or a key of GRE, is one network: the kernel has one device for it. */
static int refuse_taken_vni(struct control *control, const struct network *network,
			    struct error *err)
{
	const struct network_tunnel *tunnel = &network->spec.tunnel;
	struct item *item, *next;

	if (!tunnel->vni)
		return 0;
	HASH_ITER(by_key, control->items, item, next)
	{
		const struct network *other =
			item->kind == KIND_NETWORK ? item_network(item) : NULL;

		if (other && other->spec.tunnel.vni == tunnel->vni &&
		    other->spec.tunnel.port == tunnel->port &&
		    other->spec.tunnel.gre == tunnel->gre &&
		    strcmp(other->meta.uid, network->meta.uid) != 0)
			return error_say(
				err, -EEXIST,
				"tunnel.%s: %u belongs to network \"%s\" already: choose another",
				tunnel->gre ? "key" : "vni", tunnel->vni, other->meta.name);
	}
	return 0;
}

static int refuse_overlapping(struct control *control, const char *project, const char *member,
			      const struct subnet *subnet, struct error *err)
{
	const struct item *other =
		subnet->base.family ? network_overlapping(control, subnet, NULL) : NULL;
	bool own = other && strcmp(other->meta->project, project) == 0;
	char text[SUBNET_TEXT_SIZE];

	if (!other)
		return 0;
	subnet_format(subnet, text);
	return error_say(err, -EEXIST,
			 "%s: %s overlaps with %s%s%s: choose another, or an isolated network, "
			 "which may have it, with a router as its gateway",
			 member, text, own ? "network \"" : "a network of another project",
			 own ? other->meta->name : "", own ? "\"" : "");
}

/* Nobody but the node is the gateway, and where it is said by the subnet. */
static int set_gateways(struct network_spec *spec, struct error *err)
{
	const struct ip given4 = spec->gateway4, given6 = spec->gateway6;

	if (spec->driver != NETWORK_DRIVER_BRIDGE)
		return 0;
	network_default_gateways(spec);
	if ((!given4.family || ip_equal(&given4, &spec->gateway4)) &&
	    (!given6.family || ip_equal(&given6, &spec->gateway6)))
		return 0;
	return error_say(err, -EINVAL,
			 "gateway%d: with driver bridge it is the first address of the subnet",
			 given4.family && !ip_equal(&given4, &spec->gateway4) ? 4 : 6);
}

static int complete_spec(struct control *control, const char *project, struct network_spec *spec,
			 struct error *err)
{
	int r;

	if (!spec->ipv4.base.family && !spec->ipv6.base.family) {
		r = choose_subnet4(control, &spec->ipv4, err);
		if (r < 0)
			return r;
		subnet_random6(control, &spec->ipv6);
	}
	if (spec->isolated && spec->dns_domain && !network_domain_is_default(spec))
		return error_say(
			err, -EINVAL,
			"dns_domain: an isolated network has no name server; others of the "
			"project know the full names of its instances");
	if (spec->dhcp && !spec->ipv4.base.family && spec->ipv6.prefix != 64)
		return error_say(
			err, -EINVAL,
			"dhcp: guests are sent to DHCPv6 by router advertisements, which need "
			"a subnet with a prefix of 64");
	r = set_gateways(spec, err);
	if (r < 0 || !is_gateway(spec))
		return r;
	r = refuse_overlapping(control, project, "ipv4", &spec->ipv4, err);
	return r < 0 ? r : refuse_overlapping(control, project, "ipv6", &spec->ipv6, err);
}

static int prepare_create(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct control *control = work->control;
	const struct network_request *body = request->body;
	AUTO(network_free) struct network *network = NULL;
	struct network wrapped = { .spec = body->spec };
	struct operation *operation;
	struct item *item;
	int r = require_project(control, request->project, err);

	if (r < 0)
		return r;
	if (strcmp(body->name, "none") == 0)
		return error_say(err, -EINVAL, "name: \"none\" means no network");
	item = mirror_find(control, KIND_NETWORK, request->project, body->name);
	if (item)
		return error_say(err, -EEXIST, "network \"%s\" %s", body->name,
				 item->meta->deleted_ms ? "is still being deleted"
							: "exists already");
	network = network_copy(&wrapped);
	meta_new(control, &network->meta, request->project, body->name, body->labels);
	mem_replace(&network->spec.node, control->node);
	r = complete_spec(control, request->project, &network->spec, err);
	if (r == 0)
		r = refuse_taken_vni(control, network, err);
	if (r < 0)
		return r;
	networks_lock(draft);
	operation = draft_operation(draft, OPERATION_CREATE, KIND_NETWORK, &network->meta);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	draft_create(draft, KIND_NETWORK, TAKE_PTR(network));
	return WORK_COMMIT;
}

static void body_free(void *body)
{
	network_request_free(body);
}

void control_network_create(struct control *control, const char *project,
			    const struct network_request *body, control_done_fn done, void *data)
{
	struct request *request = request_new(project, body->name, done, data);
	struct network_request *copy = mem_new0(struct network_request);

	copy->name = mem_strdup(body->name);
	copy->labels = strv_copy(body->labels);
	network_spec_copy(&copy->spec, &body->spec);
	request->body = copy;
	request->body_free = body_free;
	request_start(control, request, prepare_create);
}

static int prepare_update(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const json_t *patch = request->body;
	AUTO(json_decref) json_t *before = NULL, *after = NULL, *undo = NULL;
	struct network *network;
	struct item *item;
	int r = request_item(request, KIND_NETWORK, &item, err);

	if (r < 0)
		return r;
	if (item->meta->deleted_ms)
		return error_say(err, -EBUSY, "network \"%s\" is being deleted", request->name);
	network = draft_edit(draft, item);
	before = network_spec_encode(&network->spec);
	undo = network_patch_undo(network, patch);
	r = network_patch(network, patch, err);
	if (r == 0)
		r = refuse_taken_vni(work->control, network, err);
	if (r < 0)
		return r;
	after = network_spec_encode(&network->spec);
	return request_update(request, draft, item, &network->meta, !json_equal(before, after),
			      undo);
}

void control_network_update(struct control *control, const char *project, const char *name,
			    const json_t *patch, uint64_t if_match, control_done_fn done,
			    void *data)
{
	request_start(control, request_of_patch(project, name, patch, if_match, done, data),
		      prepare_update);
}

static int refuse_used(struct control *control, const struct item *network, struct error *err)
{
	AUTO(strbuf_done) struct strbuf names = {};
	struct item *item, *next, *router = router_of_network(control, network);
	unsigned int count = 0;

	DL_FOREACH2(control->balancers, item, balancer_next)
	{
		if (strcmp(item_balancer(item)->spec.network_uid, network->meta->uid) == 0)
			return error_say(
				err, -EBUSY,
				"network \"%s\" is used by balancer \"%s\": brume balancer "
				"delete %s first",
				network->meta->name, item->meta->name, item->meta->name);
	}
	if (router)
		return error_say(
			err, -EBUSY,
			"network \"%s\" is joined by router \"%s\": brume router detach %s "
			"%s first",
			network->meta->name, router->meta->name, router->meta->name,
			network->meta->name);
	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind != KIND_INSTANCE ||
		    !ports_use(&item_instance(item)->spec, network->meta->uid))
			continue;
		if (count++ < USERS_SHOWN)
			strbuf_printf(&names, "%s%s", count > 1 ? ", " : "", item->meta->name);
	}
	if (count == 0)
		return 0;
	if (count > USERS_SHOWN)
		strbuf_printf(&names, " and %u more", count - USERS_SHOWN);
	return error_say(err, -EBUSY, "network \"%s\" is used by %s %s: detach or delete %s first",
			 network->meta->name, count == 1 ? "instance" : "instances",
			 strbuf_str(&names), count == 1 ? "it" : "them");
}

static int prepare_delete(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	AUTO(free) char *prefix = NULL;
	struct item *item;
	int r = request_item(request, KIND_NETWORK, &item, err);

	if (r == 0)
		r = refuse_used(work->control, item, err);
	if (r < 0)
		return r;
	prefix = mem_printf("/address/%s/", item->meta->uid);
	store_txn_compare(&draft->txn, STORE_PREFIX_EMPTY, prefix, 0);
	return request_delete(request, draft, item);
}

void control_network_delete(struct control *control, const char *project, const char *name,
			    uint64_t if_match, control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->if_match = if_match;
	request_start(control, request, prepare_delete);
}
