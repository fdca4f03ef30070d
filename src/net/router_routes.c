#include "net/router_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "net/address.h"

/* Routes and addresses as they are to be, inside a router and at its end of the node. */

enum { LIST_ATTEMPTS = 20 };

void router_routes_done(struct router_routes *routes)
{
	free(routes->wanted);
	free(routes->found);
}
void router_routes_init(struct router_routes *routes, size_t max)
{
	*routes = (struct router_routes){ .wanted = mem_new0_array(struct route_line, max),
					  .found = mem_new0_array(bool, max) };
}

void router_routes_want(struct router_routes *routes, int link_index, const struct route_ip *to,
			const struct route_ip *via)
{
	struct route_line *line = &routes->wanted[routes->count++];

	*line = (struct route_line){
		.to = *to, .via = *via, .link_index = link_index, .marked = routes->marked
	};
	line->via.prefix = (uint8_t) (8 * route_ip_size(via));
}

static void look_at_route(const struct route_line *line, void *data)
{
	struct router_routes *routes = data;

	for (size_t i = 0; i < routes->count; i++) {
		const struct route_line *wanted = &routes->wanted[i];

		if (wanted->link_index == line->link_index && wanted->marked == line->marked &&
		    address_equal(&wanted->to, &line->to) &&
		    address_equal(&wanted->via, &line->via)) {
			routes->found[i] = true;
			return;
		}
	}
	if (routes->extra_count < ROUTER_EXTRA_MAX)
		routes->extra[routes->extra_count++] = *line;
}

int router_routes_ensure(struct netlink *nl, int link_index, bool ipv6,
			 struct router_routes *routes, struct error *err)
{
	const int families[] = { AF_INET, ipv6 ? AF_INET6 : 0 };
	char text[ADDRESS_TEXT_SIZE];
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		routes->extra_count = 0;
		r = 0;
		for (size_t k = 0; k < ARRAY_COUNT(families) && r == 0; k++)
			if (families[k])
				r = route_line_list(nl, families[k], link_index, look_at_route,
						    routes);
	}
	for (size_t i = 0; i < routes->extra_count && r == 0; i++)
		r = route_line_delete(nl, &routes->extra[i]);
	if (r < 0)
		return error_set(err, r, "cannot tidy up routes%s", net_detail(nl));
	for (size_t i = 0; i < routes->count; i++) {
		const struct route_line *line = &routes->wanted[i];

		if (routes->found[i])
			continue;
		r = route_line_add(nl, line);
		if (r < 0)
			return error_set(err, r, "cannot add the route to %s/%u%s",
					 address_text(&line->to, text), line->to.prefix,
					 net_detail(nl));
	}
	return 0;
}

struct addresses {
	const struct route_ip *ipv4, *ipv6; /* wanted; `family` 0 = none */
	struct route_ip extra[ROUTER_EXTRA_MAX];
	size_t extra_count;
};

static void look_for_extra(int link_index, const struct route_ip *ip, void *data)
{
	struct addresses *addresses = data;

	(void) link_index;
	if (!address_equal(ip, addresses->ipv4) && !address_equal(ip, addresses->ipv6) &&
	    addresses->extra_count < ROUTER_EXTRA_MAX)
		addresses->extra[addresses->extra_count++] = *ip;
}

int router_addresses_ensure(struct netlink *nl, int index, const struct route_ip *ipv4,
			    const struct route_ip *ipv6, struct error *err)
{
	struct addresses addresses = { .ipv4 = ipv4, .ipv6 = ipv6 };
	const struct route_ip *wanted[] = { ipv4, ipv6 };
	char text[ADDRESS_TEXT_SIZE];
	int r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		addresses.extra_count = 0;
		r = route_list_addresses(nl, index, look_for_extra, &addresses);
	}
	for (size_t i = 0; i < addresses.extra_count && r == 0; i++)
		r = route_delete_address(nl, index, &addresses.extra[i]);
	if (r < 0)
		return error_set(err, r, "cannot tidy up addresses%s", net_detail(nl));
	for (size_t i = 0; i < ARRAY_COUNT(wanted); i++) {
		r = wanted[i]->family ? route_add_address(nl, index, wanted[i]) : 0;
		if (r < 0)
			return error_set(err, r, "cannot add address %s%s",
					 address_text(wanted[i], text), net_detail(nl));
	}
	return 0;
}
