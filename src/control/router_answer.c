#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "control/router_internal.h"

/*
 * Whether who is reached through a router answers through it.  Callers come with their own
 * addresses, so answers take the instance's default route: when that is another way, what a router
 * leads to the instance would be met with silence.  The rule of who gives the default route is the
 * node's (docs/design/0008-tenant-networks.md, Ports).
 */

static bool is_gateway(const struct router_spec *spec, const struct network *network)
{
	const struct router_network *joined = router_find_network(spec, network->meta.uid);
	struct ip ip;

	return joined && ((joined->ipv4[0] && ip_parse(joined->ipv4, &ip) == 0 &&
			   ip_equal(&ip, &network->spec.gateway4)) ||
			  (joined->ipv6[0] && ip_parse(joined->ipv6, &ip) == 0 &&
			   ip_equal(&ip, &network->spec.gateway6)));
}

static bool has_gateway(struct control *control, const struct router *router,
			const struct network *network)
{
	struct item *item;

	if (network_has_gateway(&network->spec) || is_gateway(&router->spec, network))
		return true;
	DL_FOREACH2(control->routers, item, routers_next)
	{
		if (strcmp(item->meta->uid, router->meta.uid) != 0 && !item->meta->deleted_ms &&
		    is_gateway(&item_router(item)->spec, network))
			return true;
	}
	return false;
}

static const struct network *network_of(struct control *control, const struct port *port)
{
	const struct item *item = mirror_find_uid(control, port->network_uid);

	return item && item->kind == KIND_NETWORK ? item_network(item) : NULL;
}

/* The port that the default route is by; NULL: there is none. */
static const struct port *find_outlet(struct control *control, const struct router *router,
				      const struct instance_spec *spec)
{
	const struct port *first = NULL;

	for (size_t i = 0; i < spec->port_count; i++) {
		const struct port *port = &spec->ports[i];
		const struct network *network = network_of(control, port);

		if (port->leaving || !network)
			continue;
		/* What is published is answered by the way that it came. */
		if (spec->publish_count > 0 && network_has_gateway(&network->spec))
			return port;
		if (!first && has_gateway(control, router, network))
			first = port;
	}
	return first;
}

/* `port`: by which the router reaches it. */
static int check_instance(struct control *control, const struct router *router,
			  const struct item *instance, const struct port *port, const char *what,
			  struct error *err)
{
	const struct instance_spec *spec = &item_instance(instance)->spec;
	const struct port *outlet = find_outlet(control, router, spec);
	const struct network *network = network_of(control, port);
	const char *name = instance->meta->name;
	char gateway[IP_TEXT_SIZE];

	if (!network)
		return 0;
	if (outlet && outlet != port)
		return error_say(err, -EINVAL,
				 "%s: instance \"%s\" answers by its default route, which is by "
				 "network \"%s\"%s and not by this router: brume network detach %s "
				 "%s first, or name its address if it has a route of its own",
				 what, name, outlet->network,
				 spec->publish_count > 0 ? " (it publishes ports)" : "",
				 outlet->network, name);
	if (is_gateway(&router->spec, network))
		return 0;
	ip_format(network->spec.gateway4.family ? &network->spec.gateway4 : &network->spec.gateway6,
		  gateway);
	return error_say(err, -EINVAL,
			 "%s: instance \"%s\" would not answer through this router, which is not "
			 "the gateway of network \"%s\" (%s): let it join with that address, or "
			 "name the instance's if it has a route of its own",
			 what, name, network->meta.name, gateway);
}

static bool is_same(const struct router_target *a, const struct router_target *b)
{
	return strcmp(a->instance, b->instance) == 0 && strcmp(a->network, b->network) == 0;
}

static bool had_floating(const struct router *before, const struct router_floating *floating)
{
	for (size_t i = 0; before && i < before->spec.floating_count; i++)
		if (ip_equal(&before->spec.floating[i].address, &floating->address) &&
		    is_same(&before->spec.floating[i].target, &floating->target))
			return true;
	return false;
}

static bool had_forward(const struct router *before, const struct router_forward *forward)
{
	for (size_t i = 0; before && i < before->spec.forward_count; i++) {
		const struct router_forward *old = &before->spec.forwards[i];

		if (ip_equal(&old->address, &forward->address) && old->port == forward->port &&
		    old->protocol == forward->protocol && is_same(&old->target, &forward->target))
			return true;
	}
	return false;
}

static int check_target(struct control *control, const struct router *router,
			const struct router_target *target, const char *what, struct error *err)
{
	const struct item *instance =
		target->instance[0] ? mirror_find_uid(control, target->uid) : NULL;
	const struct port *port = instance && instance->kind == KIND_INSTANCE
					  ? router_target_port(&router->spec, instance, target)
					  : NULL;

	return port ? check_instance(control, router, instance, port, what, err) : 0;
}

int router_check_answers(struct control *control, const struct router *router,
			 const struct router *before, struct error *err)
{
	const struct router_spec *spec = &router->spec;
	char text[ROUTER_KEY_SIZE], what[ROUTER_KEY_SIZE + 32];
	int r = 0;

	for (size_t i = 0; i < spec->floating_count && r == 0; i++) {
		ip_format(&spec->floating[i].address, text);
		snprintf(what, sizeof(what), "floating address %s", text);
		if (!had_floating(before, &spec->floating[i]))
			r = check_target(control, router, &spec->floating[i].target, what, err);
	}
	for (size_t i = 0; i < spec->forward_count && r == 0; i++) {
		router_forward_key(&spec->forwards[i], text);
		snprintf(what, sizeof(what), "forward %s", text);
		if (!had_forward(before, &spec->forwards[i]))
			r = check_target(control, router, &spec->forwards[i].target, what, err);
	}
	return r;
}
