#include "control/resource.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/balancer.h"
#include "model/group.h"
#include "model/image.h"
#include "model/instance.h"
#include "model/network.h"
#include "model/node.h"
#include "model/operation.h"
#include "model/project.h"
#include "model/router.h"

enum { TEXT_MAX_BYTES = 1024 * 1024 };

static int decode(enum kind kind, const json_t *doc, void **ret, struct error *err)
{
	switch (kind) {
	case KIND_INSTANCE:
		return instance_decode(doc, (struct instance **) ret, err);
	case KIND_NETWORK:
		return network_decode(doc, (struct network **) ret, err);
	case KIND_GROUP:
		return security_group_decode(doc, (struct security_group **) ret, err);
	case KIND_IMAGE:
		return image_decode(doc, (struct image **) ret, err);
	case KIND_OPERATION:
		return operation_decode(doc, (struct operation **) ret, err);
	case KIND_BALANCER:
		return balancer_decode(doc, (struct balancer **) ret, err);
	case KIND_PROJECT:
		return project_decode(doc, (struct project **) ret, err);
	case KIND_ROUTER:
		return router_decode(doc, (struct router **) ret, err);
	default:
		return node_decode(doc, (struct node **) ret, err);
	}
}

int resource_decode(enum kind kind, const char *text, uint64_t revision, void **ret,
		    struct error *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	int r = json_parse(text, strlen(text), TEXT_MAX_BYTES, &doc, err);

	if (r == 0)
		r = decode(kind, doc, ret, err);
	if (r == 0)
		resource_meta(kind, *ret)->revision = revision;
	return r;
}

json_t *resource_encode(enum kind kind, const void *resource, unsigned int parts)
{
	switch (kind) {
	case KIND_INSTANCE:
		return instance_encode(resource, parts);
	case KIND_NETWORK:
		return network_encode(resource, parts);
	case KIND_GROUP:
		return security_group_encode(resource, parts);
	case KIND_IMAGE:
		return image_encode(resource, parts);
	case KIND_OPERATION:
		return operation_encode(resource);
	case KIND_BALANCER:
		return balancer_encode(resource, parts);
	case KIND_PROJECT:
		return project_encode(resource);
	case KIND_ROUTER:
		return router_encode(resource, parts);
	default:
		return node_encode(resource);
	}
}

char *resource_text(enum kind kind, void *resource)
{
	struct meta *meta = resource_meta(kind, resource);
	uint64_t revision = meta->revision;

	meta->revision = 0;
	AUTO(json_decref) json_t *doc = resource_encode(kind, resource, ENCODE_STORE);
	meta->revision = revision;
	return json_text(doc);
}

void *resource_copy(enum kind kind, void *resource)
{
	AUTO(json_decref) json_t *doc = resource_encode(kind, resource, ENCODE_STORE);
	void *copy = NULL;

	/* What was decoded once can be decoded again. */
	if (decode(kind, doc, &copy, NULL) < 0)
		abort();
	return copy;
}

struct meta *resource_meta(enum kind kind, void *resource)
{
	switch (kind) {
	case KIND_INSTANCE:
		return &((struct instance *) resource)->meta;
	case KIND_NETWORK:
		return &((struct network *) resource)->meta;
	case KIND_GROUP:
		return &((struct security_group *) resource)->meta;
	case KIND_IMAGE:
		return &((struct image *) resource)->meta;
	case KIND_OPERATION:
		return &((struct operation *) resource)->meta;
	case KIND_BALANCER:
		return &((struct balancer *) resource)->meta;
	case KIND_PROJECT:
		return &((struct project *) resource)->meta;
	case KIND_ROUTER:
		return &((struct router *) resource)->meta;
	default:
		return &((struct node *) resource)->meta;
	}
}

int resource_set_status(enum kind kind, void *resource, const json_t *status, struct error *err)
{
	struct instance *instance = resource;
	struct network *network = resource;
	struct security_group *group = resource;
	struct image *image = resource;
	struct balancer *balancer = resource;
	struct router *router = resource;

	switch (kind) {
	case KIND_BALANCER:
		balancer_status_done(&balancer->status);
		return balancer_status_decode(status, &balancer->status, err);
	case KIND_INSTANCE:
		instance_status_done(&instance->status);
		return instance_status_decode(status, &instance->status, err);
	case KIND_NETWORK:
		network_status_done(&network->status);
		return network_status_decode(status, &network->status, err);
	case KIND_GROUP:
		security_group_status_done(&group->status);
		return security_group_status_decode(status, &group->status, err);
	case KIND_IMAGE:
		image_status_done(&image->status);
		return image_status_decode(status, &image->status, err);
	case KIND_ROUTER:
		router_status_done(&router->status);
		return router_status_decode(status, &router->status, err);
	default:
		return error_say(err, -EPROTO, "a node has no status for a %s", kind_name(kind));
	}
}

bool resource_is_gone(enum kind kind, const void *resource)
{
	const struct instance *instance = resource;
	const struct network *network = resource;
	const struct security_group *group = resource;
	const struct image *image = resource;
	const struct balancer *balancer = resource;
	const struct router *router = resource;

	switch (kind) {
	case KIND_BALANCER:
		return balancer->meta.deleted_ms && balancer->status.state == BALANCER_GONE;
	case KIND_INSTANCE:
		return instance->meta.deleted_ms && instance->status.state == INSTANCE_GONE;
	case KIND_NETWORK:
		return network->meta.deleted_ms && network->status.state == NETWORK_GONE;
	case KIND_GROUP:
		return group->meta.deleted_ms && group->status.state == SECURITY_GROUP_GONE;
	case KIND_IMAGE:
		return image->meta.deleted_ms && image->status.state == IMAGE_GONE;
	case KIND_ROUTER:
		return router->meta.deleted_ms && router->status.state == ROUTER_GONE;
	default:
		return false;
	}
}

void resource_free(enum kind kind, void *resource)
{
	switch (kind) {
	case KIND_INSTANCE:
		instance_free(resource);
		break;
	case KIND_NETWORK:
		network_free(resource);
		break;
	case KIND_GROUP:
		security_group_free(resource);
		break;
	case KIND_IMAGE:
		image_free(resource);
		break;
	case KIND_OPERATION:
		operation_free(resource);
		break;
	case KIND_BALANCER:
		balancer_free(resource);
		break;
	case KIND_PROJECT:
		project_free(resource);
		break;
	case KIND_ROUTER:
		router_free(resource);
		break;
	default:
		node_free(resource);
	}
}
