#include <string.h>

#include "model/trace_internal.h"

/* Who has which address, and by which way an instance sends. */

const struct network *look_network(const struct trace_world *world, const char *uid)
{
	for (size_t i = 0; i < world->network_count; i++)
		if (strcmp(world->networks[i]->meta.uid, uid) == 0)
			return world->networks[i];
	return NULL;
}

const struct instance *look_instance(const struct trace_world *world, const char *project,
				     const char *name)
{
	for (size_t i = 0; i < world->instance_count; i++)
		if (strcmp(world->instances[i]->meta.project, project) == 0 &&
		    strcmp(world->instances[i]->meta.name, name) == 0)
			return world->instances[i];
	return NULL;
}

const struct security_group *look_group(const struct trace_world *world, const char *uid)
{
	for (size_t i = 0; i < world->group_count; i++)
		if (strcmp(world->groups[i]->meta.uid, uid) == 0)
			return world->groups[i];
	return NULL;
}

const struct subnet *network_subnet(const struct network *network, unsigned int family)
{
	return family == 4 ? &network->spec.ipv4 : &network->spec.ipv6;
}

static struct ip parsed(const char *text)
{
	struct ip ip = {};

	(void) ip_parse(text, &ip);
	return ip;
}

struct ip port_address(const struct port *port, unsigned int family)
{
	return parsed(family == 4 ? port->ipv4 : port->ipv6);
}

struct ip joined_address(const struct router_network *joined, unsigned int family)
{
	return parsed(family == 4 ? joined->ipv4 : joined->ipv6);
}

static const struct ip *gateway_of(const struct network *network, unsigned int family)
{
	return family == 4 ? &network->spec.gateway4 : &network->spec.gateway6;
}

bool network_has_node(const struct network *network)
{
	return network->spec.driver == NETWORK_DRIVER_BRIDGE && !network->spec.isolated;
}

bool instance_is_there(const struct instance *instance)
{
	return instance->status.state == INSTANCE_RUNNING ||
	       instance->status.state == INSTANCE_PAUSED;
}

/* The port of an instance that has the address on that network; NULL: none. */
static const struct port *port_with(const struct instance *instance, const struct network *network,
				    const struct ip *ip)
{
	for (size_t i = 0; i < instance->spec.port_count; i++) {
		const struct port *port = &instance->spec.ports[i];
		struct ip own = port_address(port, ip->family);

		if (strcmp(port->network_uid, network->meta.uid) == 0 && own.family &&
		    ip_equal(&own, ip))
			return port;
	}
	return NULL;
}

static bool is_vip(const struct balancer *balancer, const struct network *network,
		   const struct ip *ip)
{
	struct ip vip = parsed(ip->family == 4 ? balancer->spec.vip4 : balancer->spec.vip6);

	return strcmp(balancer->spec.network_uid, network->meta.uid) == 0 && vip.family &&
	       ip_equal(&vip, ip);
}

static const struct router *router_with(const struct trace_world *world,
					const struct network *network, const struct ip *ip)
{
	for (size_t i = 0; i < world->router_count; i++) {
		const struct router *router = world->routers[i];
		const struct router_network *joined =
			router->meta.deleted_ms
				? NULL
				: router_find_network(&router->spec, network->meta.uid);
		struct ip own = joined ? joined_address(joined, ip->family) : (struct ip){};

		if (own.family && ip_equal(&own, ip))
			return router;
	}
	return NULL;
}

struct owner look_owner(const struct trace_world *world, const struct network *network,
			const struct ip *ip)
{
	const struct router *router = router_with(world, network, ip);

	if (router)
		return (struct owner){ .kind = OWNER_ROUTER, .router = router };
	if (network_has_node(network) && ip_equal(gateway_of(network, ip->family), ip))
		return (struct owner){ .kind = OWNER_NODE };
	for (size_t i = 0; i < world->balancer_count; i++)
		if (is_vip(world->balancers[i], network, ip))
			return (struct owner){ .kind = OWNER_NODE };
	for (size_t i = 0; i < world->instance_count; i++) {
		const struct port *port = port_with(world->instances[i], network, ip);

		if (port)
			return (struct owner){ .kind = OWNER_INSTANCE,
					       .instance = world->instances[i],
					       .port = port };
	}
	return (struct owner){};
}

struct ip look_gateway(const struct trace_world *world, const struct network *network,
		       unsigned int family)
{
	const struct ip *gateway = gateway_of(network, family);

	if (!network_subnet(network, family)->base.family || !gateway->family)
		return (struct ip){};
	if (network->spec.isolated && !router_with(world, network, gateway))
		return (struct ip){};
	return *gateway;
}

static const struct port *first_outlet(const struct trace_world *world,
				       const struct instance *instance, bool routers)
{
	for (size_t i = 0; i < instance->spec.port_count; i++) {
		const struct port *port = &instance->spec.ports[i];
		const struct network *network = look_network(world, port->network_uid);

		if (!port->leaving && network && (routers || !network->spec.isolated) &&
		    (look_gateway(world, network, 4).family ||
		     look_gateway(world, network, 6).family))
			return port;
	}
	return NULL;
}

const struct port *look_outlet(const struct trace_world *world, const struct instance *instance,
			       bool published)
{
	const struct port *port = NULL;

	/* What is published is answered by the way that it came. */
	if (published || instance->spec.publish_count > 0)
		port = first_outlet(world, instance, false);
	return port || published ? port : first_outlet(world, instance, true);
}

const struct port *look_route(const struct trace_world *world, const struct instance *instance,
			      const struct ip *to, struct ip *ret_via)
{
	const struct network *network;
	const struct port *best = NULL;
	int longest = -1;

	*ret_via = (struct ip){};
	for (size_t i = 0; i < instance->spec.port_count; i++) {
		const struct port *port = &instance->spec.ports[i];
		const struct subnet *subnet;

		network = look_network(world, port->network_uid);
		if (port->leaving || !network || !port_address(port, to->family).family)
			continue;
		subnet = network_subnet(network, to->family);
		if (subnet_contains(subnet, to) && subnet->prefix > longest) {
			best = port;
			longest = subnet->prefix;
		}
	}
	if (best)
		return best;
	best = look_outlet(world, instance, false);
	network = best ? look_network(world, best->network_uid) : NULL;
	if (!network || !port_address(best, to->family).family)
		return NULL;
	*ret_via = look_gateway(world, network, to->family);
	return ret_via->family ? best : NULL;
}

struct ip router_own_end(const struct router *router, unsigned int family)
{
	struct ip own = router_transit(&router->spec), ip = {};

	if (!router->spec.uplink || !own.family || family == 4)
		return router->spec.uplink ? own : ip;
	if (ip_parse("fd62:7275:6d65:6400::", &ip) == 0)
		memcpy(ip.bytes + 14, own.bytes + 2, 2);
	return ip;
}

struct ip router_node_end(const struct router *router, unsigned int family)
{
	struct ip ip = router_own_end(router, family);

	if (ip.family)
		ip.bytes[ip.family == 4 ? 3 : 15] &= (uint8_t) ~1;
	return ip;
}
