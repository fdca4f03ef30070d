#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "control/control_internal.h"

/*
 * The ports of an instance: which networks it joins, with which addresses; at its launch, and while
 * it lives.  An address is taken in the transaction that writes the port, and given back in the one
 * that removes it, after the node has said that it is not used any more.
 */

/* ---- addresses ---- */

static void claim_key(char key[CLAIM_KEY_SIZE], const char *network_uid, const char *what)
{
	snprintf(key, CLAIM_KEY_SIZE, "/address/%s/%s", network_uid, what);
}

static struct claim *find_claim(struct control *control, const struct item *network,
				const struct ip *ip)
{
	char text[IP_TEXT_SIZE], key[CLAIM_KEY_SIZE];

	ip_format(ip, text);
	claim_key(key, network->meta->uid, text);
	return mirror_find_claim(control, key);
}

/* Who has something, for messages. */
static const char *claimant(struct control *control, const struct claim *claim)
{
	const struct item *item = mirror_find_uid(control, claim->uid);

	return item ? item->meta->name : claim->uid;
}

static const char *claimant_kind(struct control *control, const struct claim *claim)
{
	const struct item *item = mirror_find_uid(control, claim->uid);

	return kind_name(item ? item->kind : KIND_INSTANCE);
}

/* The numbers that addresses are chosen from. */
struct span {
	uint64_t first, last;
};

static struct span span_of(const struct subnet *subnet, const struct ip_range *range)
{
	if (!range->first.family)
		return (struct span){ 1, subnet_host_count(subnet) };
	return (struct span){ subnet_index(subnet, &range->first),
			      subnet_index(subnet, &range->last) };
}

static bool is_free(struct control *control, const struct item *network,
		    const struct subnet *subnet, const struct ip *gateway, const struct span *span,
		    uint64_t n, struct ip *ret)
{
	if (n < span->first || n > span->last)
		return false;
	subnet_nth(subnet, n, ret);
	return !ip_equal(ret, gateway) && !find_claim(control, network, ret);
}

/* An address that was asked for: its place in the subnet goes to *ret_n. */
static int check_given(struct control *control, const struct item *network, const char *text,
		       const struct subnet *subnet, const struct ip *gateway, uint64_t *ret_n,
		       struct error *err)
{
	const char *name = network->meta->name;
	char range[SUBNET_TEXT_SIZE];
	struct claim *claim;
	struct ip ip;

	if (ip_parse(text, &ip) < 0)
		return error_say(err, -EINVAL, "address \"%.64s\" is not an IP address", text);
	if (!subnet->base.family)
		return error_say(err, -EINVAL, "address %s: network \"%s\" has no IPv%d subnet",
				 text, name, ip.family);
	subnet_format(subnet, range);
	if (!subnet_contains(subnet, &ip))
		return error_say(err, -EINVAL, "address %s is outside of %s, network \"%s\"", text,
				 range, name);
	*ret_n = subnet_index(subnet, &ip);
	if (*ret_n == 0)
		return error_say(err, -EINVAL,
				 "address %s is the network or the broadcast address of %s, not "
				 "one for an instance",
				 text, range);
	if (ip_equal(&ip, gateway))
		return error_say(err, -EINVAL, "address %s is the gateway of network \"%s\"", text,
				 name);
	claim = find_claim(control, network, &ip);
	if (claim)
		return error_say(err, -EADDRINUSE, "address %s is taken by %s \"%s\"", text,
				 claimant_kind(control, claim), claimant(control, claim));
	return 0;
}

/*
 * Those that were not asked for, the same host number in both families.  The search goes on where
 * the last one ended, so that an address rests before it is used again and launches at the same
 * time do not choose the same one.  `n`: the number to begin with, 0 = any.
 */
static int choose(struct control *control, const struct item *network, uint64_t n,
		  struct port *port, struct error *err)
{
	const struct network_spec *spec = &item_network(network)->spec;
	bool need4 = spec->ipv4.base.family && !port->ipv4[0];
	bool need6 = spec->ipv6.base.family && !port->ipv6[0];
	struct span span4 = span_of(&spec->ipv4, &spec->range4);
	struct span span6 = span_of(&spec->ipv6, &spec->range6);
	/* Of two ranges that do not begin alike, each address has its own number. */
	uint64_t offset6 = spec->range6.first.family ? span6.first - span4.first : 0;
	uint64_t first = need4 ? span4.first : span6.first - offset6;
	uint64_t count = need4 ? span4.last - span4.first + 1 : span6.last - span6.first + 1;
	struct ip ip4 = {}, ip6 = {};

	if (!need4 && !need6)
		return 0;
	for (uint64_t tried = 0; tried <= count; tried++) {
		if (tried > 0 || n == 0)
			n = control->address_cursor++ % count + first;
		if ((need4 &&
		     !is_free(control, network, &spec->ipv4, &spec->gateway4, &span4, n, &ip4)) ||
		    (need6 && !is_free(control, network, &spec->ipv6, &spec->gateway6, &span6,
				       n + offset6, &ip6)))
			continue;
		if (need4)
			ip_format(&ip4, port->ipv4);
		if (need6)
			ip_format(&ip6, port->ipv6);
		return 0;
	}
	return error_say(err, -EDQUOT, "network \"%s\" has no free address left",
			 network->meta->name);
}

static void make_mac(const struct port *port, char ret[MAC_TEXT_SIZE])
{
	unsigned int bytes[4] = {};
	struct ip ip;

	if (port->ipv4[0] && ip_parse(port->ipv4, &ip) == 0)
		for (int i = 0; i < 4; i++)
			bytes[i] = ip.bytes[i];
	else
		sscanf(port->uid, "%2x%2x%2x%2x", &bytes[0], &bytes[1], &bytes[2], &bytes[3]);
	snprintf(ret, MAC_TEXT_SIZE, PORT_OWN_MAC "%02x:%02x:%02x:%02x", bytes[0] & 0xff,
		 bytes[1] & 0xff, bytes[2] & 0xff, bytes[3] & 0xff);
}

/* Those that we make differ as the addresses do; others are reserved as the addresses are. */
static int take_mac(struct draft *draft, const struct item *network, const char *instance_uid,
		    struct port *port, struct error *err)
{
	char own[MAC_TEXT_SIZE], key[CLAIM_KEY_SIZE];
	struct claim *claim;

	make_mac(port, own);
	if (!port->mac[0] || strcmp(port->mac, own) == 0) {
		memcpy(port->mac, own, sizeof(own));
		return 0;
	}
	if (strncmp(port->mac, PORT_OWN_MAC, strlen(PORT_OWN_MAC)) == 0)
		return error_say(err, -EINVAL,
				 "mac %s: those that begin with " PORT_OWN_MAC
				 " are brume's own; choose another, or leave it out",
				 port->mac);
	claim_key(key, network->meta->uid, port->mac);
	claim = mirror_find_claim(draft->control, key);
	if (claim)
		return error_say(err, -EADDRINUSE, "mac %s is taken by instance \"%s\"", port->mac,
				 claimant(draft->control, claim));
	draft_claim_port(draft, key, instance_uid, port->uid);
	return 0;
}

/* Those that were asked for are free, and the others are chosen. */
static int find_addresses(struct control *control, const struct item *network, struct port *port,
			  struct error *err)
{
	const struct network_spec *spec = &item_network(network)->spec;
	uint64_t n = 0;
	int r = 0;

	if (port->ipv6[0])
		r = check_given(control, network, port->ipv6, &spec->ipv6, &spec->gateway6, &n,
				err);
	if (r == 0 && port->ipv4[0])
		r = check_given(control, network, port->ipv4, &spec->ipv4, &spec->gateway4, &n,
				err);
	return r < 0 ? r : choose(control, network, n, port, err);
}

static int take_addresses(struct draft *draft, const struct item *network, const char *instance_uid,
			  struct port *port, struct error *err)
{
	const char *const addresses[] = { port->ipv4, port->ipv6 };
	char key[CLAIM_KEY_SIZE];
	int r = find_addresses(draft->control, network, port, err);

	if (r == 0)
		r = take_mac(draft, network, instance_uid, port, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_COUNT(addresses); i++) {
		if (!addresses[i][0])
			continue;
		claim_key(key, network->meta->uid, addresses[i]);
		draft_claim_port(draft, key, instance_uid, port->uid);
	}
	return 0;
}

int vip_take(struct draft *draft, const struct item *network, const char *uid,
	     char ipv4[IP_TEXT_SIZE], char ipv6[IP_TEXT_SIZE], struct error *err)
{
	const char *const addresses[] = { ipv4, ipv6 };
	char key[CLAIM_KEY_SIZE];
	struct port port = {};
	int r;

	memcpy(port.ipv4, ipv4, IP_TEXT_SIZE);
	memcpy(port.ipv6, ipv6, IP_TEXT_SIZE);
	r = find_addresses(draft->control, network, &port, err);
	if (r < 0)
		return r;
	memcpy(ipv4, port.ipv4, IP_TEXT_SIZE);
	memcpy(ipv6, port.ipv6, IP_TEXT_SIZE);
	for (size_t i = 0; i < ARRAY_COUNT(addresses); i++) {
		if (!addresses[i][0])
			continue;
		claim_key(key, network->meta->uid, addresses[i]);
		draft_claim(draft, key, uid);
	}
	return 0;
}

static void release_address(struct draft *draft, const struct port *port, const char *address)
{
	char key[CLAIM_KEY_SIZE];

	claim_key(key, port->network_uid, address);
	if (address[0] && mirror_find_claim(draft->control, key))
		store_ops_delete(&draft->txn.then, key);
}

/* ---- ports ---- */

static int find_network(struct draft *draft, const char *project, const char *name,
			struct item **ret, struct error *err)
{
	struct item *item = mirror_find(draft->control, KIND_NETWORK, project, name);

	if (!item)
		return error_say(err, -ENOENT, "network \"%s\" does not exist", name);
	if (item->meta->deleted_ms)
		return error_say(err, -EBUSY, "network \"%s\" is being deleted", name);
	*ret = item;
	return 0;
}

/* The lowest name that no other port has. */
static void choose_interface(const struct instance_spec *spec, struct port *port)
{
	for (unsigned int n = 0; n < PORTS_MAX; n++) {
		bool taken = false;

		snprintf(port->interface, sizeof(port->interface), "eth%u", n);
		for (size_t i = 0; i < spec->port_count; i++)
			taken = taken || (&spec->ports[i] != port &&
					  strcmp(spec->ports[i].interface, port->interface) == 0);
		if (!taken)
			return;
	}
}

/* What a network of another driver than ours cannot give the port. */
static int check_driver(struct control *control, const struct item *network,
			const struct port *port, struct error *err)
{
	const struct network_spec *spec = &item_network(network)->spec;
	struct item *item, *next;

	if (port->groups && port->groups[0]) {
		int r = network_require(spec, network->meta->name, NETWORK_CAN_GROUPS, err);

		if (r < 0)
			return r;
	}
	if (port_limits_any(&port->limits)) {
		int r = network_require(spec, network->meta->name, NETWORK_CAN_LIMIT, err);

		if (r < 0)
			return r;
	}
	if (spec->driver != NETWORK_DRIVER_MACVLAN || spec->mode != MACVLAN_PASSTHRU)
		return 0;
	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind == KIND_INSTANCE &&
		    ports_use(&item_instance(item)->spec, network->meta->uid))
			return error_say(err, -EBUSY,
					 "network \"%s\" (macvlan passthru) takes one instance "
					 "only, and \"%s\" has it; mode bridge takes many",
					 network->meta->name, item->meta->name);
	}
	return 0;
}

/*
 * A disk that boots by itself may know nothing but DHCP: a network that can answers from then on.
 * The network's new spec is in the same transaction, and comes to the node before the instance.
 */
static void serve_addresses(struct draft *draft, const struct instance *instance,
			    struct item *network)
{
	const struct network_spec *spec = &item_network(network)->spec;
	const struct item *image =
		instance->spec.type == INSTANCE_VM && instance->spec.image_name
			? mirror_find(draft->control, KIND_IMAGE, instance->meta.project,
				      instance->spec.image_name)
			: NULL;
	struct network *changed;

	if (!image || !item_image(image)->status.disk_format || spec->dhcp || spec->isolated ||
	    !network_can(spec, NETWORK_CAN_NAMES))
		return;
	changed = draft_edit(draft, network);
	changed->spec.dhcp = true;
	changed->meta.generation++;
}

/* What a user has said of a port that is in the instance's list becomes the whole. */
static int complete(struct draft *draft, struct instance *instance, struct port *port,
		    struct error *err)
{
	struct item *network = NULL;
	int r = find_network(draft, instance->meta.project, port->network, &network, err);

	if (r == 0)
		r = check_driver(draft->control, network, port, err);
	if (r < 0)
		return r;
	rng_uid(draft->control->rng, port->uid);
	memcpy(port->network_uid, network->meta->uid, UID_SIZE);
	choose_interface(&instance->spec, port);
	r = take_addresses(draft, network, instance->meta.uid, port, err);
	if (r == 0)
		r = groups_take(draft, instance, NULL, port, err);
	if (r < 0)
		return r;
	draft_require(draft, network);
	serve_addresses(draft, instance, network);
	return 0;
}

/*
 * The network that the default route leads to, and published ports have to: the first one with a
 * gateway.  NULL: there is none.  `except` may be NULL.
 */
static const struct item *find_outlet(struct control *control, const struct instance_spec *spec,
				      const struct port *except)
{
	for (size_t i = 0; i < spec->port_count; i++) {
		const struct port *port = &spec->ports[i];
		const struct item *network = mirror_find_uid(control, port->network_uid);

		if (port != except && !port->leaving && network &&
		    network_has_gateway(&item_network(network)->spec))
			return network;
	}
	return NULL;
}

static bool can_publish(struct control *control, const struct instance_spec *spec,
			const struct port *except)
{
	const struct item *outlet = find_outlet(control, spec, except);

	return outlet && network_can(&item_network(outlet)->spec, NETWORK_CAN_PUBLISH);
}

/* With the words that do it by the network's router, when it has one that leads outside. */
static int refuse_isolated(struct control *control, const struct instance *instance,
			   struct error *err)
{
	const struct port *port = &instance->spec.ports[0];
	const struct publish *publish = &instance->spec.publish[0];
	const struct item *network = mirror_find_uid(control, port->network_uid);
	const struct item *router = network ? router_of_network(control, network) : NULL;

	if (!router || !item_router(router)->spec.uplink)
		return error_say(err, -EINVAL,
				 "publish: network \"%s\" is isolated, nothing outside reaches it; "
				 "through a router it can: brume router forward add",
				 port->network);
	return error_say(err, -EINVAL,
			 "publish: network \"%s\" is isolated, its router leads there: launch it "
			 "without, then brume router forward add %s %u:%s:%u%s",
			 port->network, router->meta->name, publish->host_port, instance->meta.name,
			 publish->port, publish->protocol == PROTOCOL_UDP ? "/udp" : "");
}

static int check_publish(struct control *control, const struct instance *instance,
			 struct error *err)
{
	const struct instance_spec *spec = &instance->spec;
	const struct item *outlet = find_outlet(control, spec, NULL);
	int r;

	if (!outlet)
		return refuse_isolated(control, instance, err);
	r = network_require(&item_network(outlet)->spec, outlet->meta->name, NETWORK_CAN_PUBLISH,
			    err);
	return r < 0 ? error_wrap(err, r, "publish") : 0;
}

int ports_take(struct draft *draft, struct instance *instance, struct error *err)
{
	struct instance_spec *spec = &instance->spec;
	int r = 0;

	if (!spec->ports) {
		struct port port = { .network = "default" };

		ports_append(&spec->ports, &spec->port_count, &port);
	}
	if (spec->port_count == 0 && spec->publish_count > 0)
		return error_say(err, -EINVAL,
				 "publish: an instance without a network has no ports");
	for (size_t i = 0; r == 0 && i < spec->port_count; i++)
		r = complete(draft, instance, &spec->ports[i], err);
	if (r == 0 && spec->publish_count > 0)
		r = check_publish(draft->control, instance, err);
	return r;
}

int ports_check_limits(struct control *control, const struct instance_spec *spec, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < spec->port_count && r == 0; i++) {
		const struct port *port = &spec->ports[i];
		const struct item *network = mirror_find_uid(control, port->network_uid);

		if (network && port_limits_any(&port->limits))
			r = network_require(&item_network(network)->spec, network->meta->name,
					    NETWORK_CAN_LIMIT, err);
	}
	return r;
}

bool ports_settle(struct draft *draft, struct instance *instance)
{
	struct instance_spec *spec = &instance->spec;
	bool changed = false;

	for (size_t i = spec->port_count; i > 0; i--) {
		const struct port *port = &spec->ports[i - 1];

		if (!port->leaving)
			continue;
		release_address(draft, port, port->ipv4);
		release_address(draft, port, port->ipv6);
		release_address(draft, port, port->mac);
		groups_release(draft, port);
		ports_remove(spec->ports, &spec->port_count, i - 1);
		changed = true;
	}
	return changed;
}

void ports_take_back(struct instance *instance, const json_t *undo)
{
	const char *uid = json_string_value(json_object_get(undo, "port"));
	struct instance_spec *spec = &instance->spec;

	for (size_t i = 0; uid && i < spec->port_count; i++)
		if (strcmp(spec->ports[i].uid, uid) == 0)
			spec->ports[i].leaving = true;
}

bool ports_use(const struct instance_spec *spec, const char *network_uid)
{
	for (size_t i = 0; i < spec->port_count; i++)
		if (strcmp(spec->ports[i].network_uid, network_uid) == 0)
			return true;
	return false;
}

/* ---- requests ---- */

/* The instance of a request, when its ports can be changed now. */
static int find_instance(struct request *request, struct item **ret, struct error *err)
{
	const struct instance *instance;
	struct item *item;
	int r = request_item(request, KIND_INSTANCE, &item, err);

	if (r < 0)
		return r;
	instance = item_instance(item);
	if (instance->meta.deleted_ms)
		return error_say(err, -EBUSY, "instance \"%s\" is being deleted", request->name);
	/* Its guest has to help. */
	if (instance->spec.type == INSTANCE_VM && instance->status.state == INSTANCE_PAUSED)
		return error_say(err, -EBUSY,
				 "instance \"%s\" is a virtual machine that is paused: resume it "
				 "first",
				 request->name);
	*ret = item;
	return 0;
}

static int prepare_attach(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const struct port *wanted = request->body;
	struct operation *operation;
	struct instance *instance;
	struct instance_spec *spec;
	struct port port, *added;
	struct item *item = NULL;
	int r = find_instance(request, &item, err);

	if (r < 0)
		return r;
	spec = &item_instance(item)->spec;
	added = ports_find(spec->ports, spec->port_count, wanted->network);
	if (added)
		return error_say(err, added->leaving ? -EBUSY : -EEXIST,
				 "instance \"%s\" is %s network \"%s\"", request->name,
				 added->leaving ? "still being detached from"
						: "attached already to",
				 wanted->network);
	if (spec->port_count == PORTS_MAX)
		return error_say(err, -EDQUOT, "instance \"%s\" has %d ports already, no more fit",
				 request->name, PORTS_MAX);
	instance = draft_edit(draft, item);
	spec = &instance->spec;
	port_copy(&port, wanted);
	ports_append(&spec->ports, &spec->port_count, &port);
	added = &spec->ports[spec->port_count - 1];
	r = complete(draft, instance, added, err);
	if (r < 0)
		return r;
	instance->meta.generation++;
	draft_require(draft, item);
	operation = draft_operation(draft, OPERATION_ATTACH, KIND_INSTANCE, &instance->meta);
	operation->undo = json_pack("{s:s}", "port", added->uid);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	return WORK_COMMIT;
}

static void body_free(void *body)
{
	struct port *port = body;

	port_done(port);
	free(port);
}

void control_port_attach(struct control *control, const char *project, const char *instance,
			 const struct port *port, uint64_t if_match, control_done_fn done,
			 void *data)
{
	struct request *request = request_new(project, instance, done, data);
	struct port *copy = mem_new0(struct port);

	port_copy(copy, port);
	request->body = copy;
	request->body_free = body_free;
	request->if_match = if_match;
	request_start(control, request, prepare_attach);
}

static int prepare_detach(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const char *network = request->body;
	struct operation *operation;
	struct instance *instance;
	struct instance_spec *spec;
	struct item *item = NULL;
	struct port *port;
	int r = find_instance(request, &item, err);

	if (r < 0)
		return r;
	instance = draft_edit(draft, item);
	spec = &instance->spec;
	port = ports_find(spec->ports, spec->port_count, network);
	if (!port)
		return error_say(err, -ENOENT, "instance \"%s\" is not attached to network \"%s\"",
				 request->name, network);
	if (spec->publish_count > 0 && can_publish(work->control, spec, NULL) &&
	    !can_publish(work->control, spec, port))
		return error_say(err, -EBUSY,
				 "instance \"%s\" publishes ports, and network \"%s\" is the only "
				 "one that they can lead to",
				 request->name, network);
	if (!port->leaving)
		instance->meta.generation++;
	port->leaving = true;
	draft_require(draft, item);
	operation = draft_operation(draft, OPERATION_DETACH, KIND_INSTANCE, &instance->meta);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	return WORK_COMMIT;
}

void control_port_detach(struct control *control, const char *project, const char *instance,
			 const char *network, uint64_t if_match, control_done_fn done, void *data)
{
	struct request *request = request_new(project, instance, done, data);

	request->body = mem_strdup(network);
	request->body_free = free;
	request->if_match = if_match;
	request_start(control, request, prepare_detach);
}
