#include "model/node.h"

#include <errno.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/member.h"

enum { TEXT_MAX_BYTES = 256 };

static const char *const state_names[] = { "offline", "online", NULL };

static void read_virtualization(struct json_reader *in, const json_t *facts,
				struct node_virtualization *ret)
{
	char path[MEMBER_PATH_MAX];
	struct json_reader part = { .err = in->err,
				    .where = member_path(path, in->where, "virtualization") };
	json_t *object = NULL;

	json_read_object(in, facts, "virtualization", &object);
	if (!object || in->result < 0)
		return;
	member_read_text(&part, object, "backend", TEXT_MAX_BYTES, &ret->backend);
	member_read_text(&part, object, "why", TEXT_MAX_BYTES, &ret->why);
	json_read_bool(&part, object, "usable", &ret->usable);
	json_read_bool(&part, object, "nested_paging", &ret->nested_paging);
	json_read_bool(&part, object, "apicv", &ret->apicv);
	json_read_bool(&part, object, "iommu", &ret->iommu);
	json_read_number(&part, object, "ring0_mips", &ret->ring0_mips);
	json_read_number(&part, object, "ring3_mips", &ret->ring3_mips);
	in->result = json_reader_finish(&part, object);
}

static void put_virtualization(json_t *object, const struct node_virtualization *value)
{
	if (!value->why)
		return;
	json_object_set_new(object, "virtualization",
			    json_pack("{s:s*, s:s, s:b, s:b, s:b, s:b, s:f, s:f}", "backend",
				      value->backend, "why", value->why, "usable", value->usable,
				      "nested_paging", value->nested_paging, "apicv", value->apicv,
				      "iommu", value->iommu, "ring0_mips", value->ring0_mips,
				      "ring3_mips", value->ring3_mips));
}

static void read_facts(struct json_reader *in, const json_t *object, struct node_facts *facts)
{
	member_read_text(in, object, "version", TEXT_MAX_BYTES, &facts->version);
	member_read_text(in, object, "kernel", TEXT_MAX_BYTES, &facts->kernel);
	member_read_text(in, object, "cgroup", TEXT_MAX_BYTES, &facts->cgroup);
	json_read_uint32(in, object, "cpus", 65536, &facts->cpus);
	json_read_uint64(in, object, "memory_bytes", &facts->memory_bytes);
	member_read_text(in, object, "boot_id", TEXT_MAX_BYTES, &facts->boot_id);
	read_virtualization(in, object, &facts->virtualization);
}

static void put_facts(json_t *object, const struct node_facts *facts)
{
	json_put_string(object, "version", facts->version);
	json_put_string(object, "kernel", facts->kernel);
	json_put_string(object, "cgroup", facts->cgroup);
	member_put_uint(object, "cpus", facts->cpus);
	member_put_uint(object, "memory_bytes", facts->memory_bytes);
	json_put_string(object, "boot_id", facts->boot_id);
	put_virtualization(object, &facts->virtualization);
}

int node_hello_decode(const json_t *object, char **ret_name, struct node_facts *facts,
		      struct error *err)
{
	struct json_reader in = { .err = err, .where = "hello" };
	AUTO(free) char *name = NULL;

	member_read_text(&in, object, "node", TEXT_MAX_BYTES, &name);
	read_facts(&in, object, facts);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	int r = name_check(name, "hello.node", err);
	if (r < 0)
		return r;
	*ret_name = TAKE_PTR(name);
	return 0;
}

json_t *node_hello_encode(const char *name, const struct node_facts *facts)
{
	json_t *object = json_object();

	json_put_string(object, "node", name);
	put_facts(object, facts);
	return object;
}

int node_decode(const json_t *doc, struct node **ret, struct error *err)
{
	AUTO(node_free) struct node *node = mem_new0(struct node);
	struct json_reader in = { .err = err, .where = "status" };
	unsigned int state = NODE_OFFLINE;
	json_t *spec, *status;
	int r;

	r = meta_decode_resource(doc, KIND_NODE, &node->meta, &spec, &status, err);
	if (r == 0 && status) {
		read_facts(&in, status, &node->facts);
		member_read_enum(&in, status, "state", state_names, &state);
		r = json_reader_finish(&in, status);
	}
	if (r == 0 && json_object_size(spec) > 0)
		r = error_say(err, -EINVAL, "spec: a node has none");
	if (r < 0)
		return r;
	node->state = state;
	*ret = TAKE_PTR(node);
	return 0;
}

json_t *node_encode(const struct node *node)
{
	json_t *status = json_object();

	put_facts(status, &node->facts);
	json_put_string(status, "state", state_names[node->state]);
	return meta_encode_resource(KIND_NODE, &node->meta, NULL, status);
}

void node_facts_copy(struct node_facts *to, const struct node_facts *from)
{
	struct node_facts copy = *from;

	copy.version = mem_strdup(from->version);
	copy.kernel = mem_strdup(from->kernel);
	copy.cgroup = mem_strdup(from->cgroup);
	copy.boot_id = mem_strdup(from->boot_id);
	copy.virtualization.backend = mem_strdup(from->virtualization.backend);
	copy.virtualization.why = mem_strdup(from->virtualization.why);
	node_facts_done(to);
	*to = copy;
}

void node_facts_done(struct node_facts *facts)
{
	free(facts->virtualization.backend);
	free(facts->virtualization.why);
	free(facts->version);
	free(facts->kernel);
	free(facts->cgroup);
	free(facts->boot_id);
	*facts = (struct node_facts){};
}

void node_free(struct node *node)
{
	if (!node)
		return;
	meta_done(&node->meta);
	node_facts_done(&node->facts);
	free(node);
}
