#include "model/trace.h"
#include "base/error.h"
#include "base/mem.h"
#include "control/control_internal.h"

/* Hands over to model/trace what the mirror has. */

static void world_done(struct trace_world *world)
{
	free(world->instances);
	free(world->networks);
	free(world->groups);
	free(world->routers);
	free(world->balancers);
}
static void world_done_autop(struct trace_world *world)
{
	world_done(world);
}

static void world_add(struct trace_world *world, const struct item *item)
{
	switch (item->kind) {
	case KIND_INSTANCE:
		world->instances[world->instance_count++] = item_instance(item);
		break;
	case KIND_NETWORK:
		world->networks[world->network_count++] = item_network(item);
		break;
	case KIND_GROUP:
		world->groups[world->group_count++] = item_group(item);
		break;
	case KIND_ROUTER:
		world->routers[world->router_count++] = item_router(item);
		break;
	case KIND_BALANCER:
		world->balancers[world->balancer_count++] = item_balancer(item);
		break;
	case KIND_IMAGE:
	case KIND_OPERATION:
	case KIND_PROJECT:
	case KIND_NODE:
	case KIND_COUNT:
		break;
	}
}

static void world_make(const struct control *control, const char *project,
		       struct trace_world *world)
{
	size_t count[KIND_COUNT] = {};
	struct item *item, *next;

	HASH_ITER(by_key, control->items, item, next)
	count[item->kind]++;
	*world = (struct trace_world){
		.project = project,
		.instances = mem_new0_array(const struct instance *, count[KIND_INSTANCE] + 1),
		.networks = mem_new0_array(const struct network *, count[KIND_NETWORK] + 1),
		.groups = mem_new0_array(const struct security_group *, count[KIND_GROUP] + 1),
		.routers = mem_new0_array(const struct router *, count[KIND_ROUTER] + 1),
		.balancers = mem_new0_array(const struct balancer *, count[KIND_BALANCER] + 1),
	};
	HASH_ITER(by_key, control->items, item, next)
	world_add(world, item);
}

int control_trace(struct control *control, const char *project, const char *instance,
		  const struct trace_request *request, struct trace *ret, struct error *err)
{
	AUTO(world_done) struct trace_world world = {};
	struct control_location location;
	/* For what it says about names that do not exist, and nodes that are away. */
	int r = control_locate(control, KIND_INSTANCE, project, instance, &location, err);

	if (r < 0)
		return r;
	world_make(control, project, &world);
	return trace_walk(&world, item_instance(mirror_find_uid(control, location.uid)), request,
			  ret, err);
}
