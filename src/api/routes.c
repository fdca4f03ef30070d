#include "api/routes.h"

#include "api/handlers.h"
#include "base/cleanup.h"

/* Within a path the rows with a selector come first. */
static const struct route routes[] = {
	{ "GET", "/1.0", NULL, ROUTE_PLAIN, server_show },
};

const struct route *routes_all(size_t *ret_count)
{
	*ret_count = ARRAY_COUNT(routes);
	return routes;
}
