#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/oci_spec_internal.h"

static void decode_device_rule(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			       void *ret)
{
	struct oci_device_rule *rule = ret;
	const char *type = "a", *access = "rwm";

	(void) spec;
	json_read_bool(in, object, "allow", &rule->allow);
	oci_read_text(in, object, "type", &type);
	oci_read_text(in, object, "access", &access);
	/* Some clients write "all numbers" as -1. */
	oci_read_opt(in, object, "major", -1, UINT32_MAX, &rule->major);
	oci_read_opt(in, object, "minor", -1, UINT32_MAX, &rule->minor);
	if (in->result < 0)
		return;
	if (type[0] == '\0')
		type = "a";
	if (!access[0])
		access = "rwm";
	if (strlen(type) != 1 || !strchr("abcu", type[0]))
		oci_fail(in, "type", "must be \"a\", \"b\" or \"c\"");
	else if (strlen(access) > 3 || strspn(access, "rwm") != strlen(access))
		oci_fail(in, "access", "must be made of r, w and m");
	rule->type = type[0] == 'u' ? 'c' : type[0];
	rule->access = access;
	rule->major.set = rule->major.set && rule->major.value >= 0;
	rule->minor.set = rule->minor.set && rule->minor.value >= 0;
}

static int decode_memory(struct oci_resources *resources, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.resources.memory" };
	bool hierarchy = false;
	json_t *present = NULL;

	oci_read_opt(&in, object, "limit", -1, INT64_MAX, &resources->memory.limit);
	oci_read_opt(&in, object, "reservation", -1, INT64_MAX, &resources->memory.reservation);
	oci_read_opt(&in, object, "swap", -1, INT64_MAX, &resources->memory.swap);
	oci_read_opt(&in, object, "kernel", -1, INT64_MAX, &resources->memory.kernel);
	oci_read_opt(&in, object, "kernelTCP", -1, INT64_MAX, &resources->memory.kernel_tcp);
	oci_read_opt(&in, object, "swappiness", 0, 200, &resources->memory.swappiness);
	json_read_bool(&in, object, "disableOOMKiller", &resources->memory.disable_oom_killer);
	json_read_bool(&in, object, "checkBeforeUpdate", &resources->memory.check_before_update);
	json_read_any(&in, object, "useHierarchy", &present);
	json_read_bool(&in, object, "useHierarchy", &hierarchy);
	resources->memory.use_hierarchy = (struct oci_opt){ present != NULL, hierarchy };
	return in.result;
}

static int decode_cpu(struct oci_resources *resources, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.resources.cpu" };

	oci_read_opt(&in, object, "shares", 0, INT64_MAX, &resources->cpu.shares);
	oci_read_opt(&in, object, "quota", INT64_MIN, INT64_MAX, &resources->cpu.quota);
	oci_read_opt(&in, object, "burst", 0, INT64_MAX, &resources->cpu.burst);
	oci_read_opt(&in, object, "period", 0, INT64_MAX, &resources->cpu.period);
	oci_read_opt(&in, object, "realtimeRuntime", INT64_MIN, INT64_MAX,
		     &resources->cpu.rt_runtime);
	oci_read_opt(&in, object, "realtimePeriod", 0, INT64_MAX, &resources->cpu.rt_period);
	oci_read_opt(&in, object, "idle", 0, 1, &resources->cpu.idle);
	oci_read_text(&in, object, "cpus", &resources->cpu.cpus);
	oci_read_text(&in, object, "mems", &resources->cpu.mems);
	return in.result;
}

static void decode_throttle(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			    void *ret)
{
	struct oci_throttle *throttle = ret;

	(void) spec;
	oci_read_device_number(in, object, &throttle->major, &throttle->minor);
	oci_require(in, object, "rate");
	oci_read_u64(in, object, "rate", &throttle->rate);
}

static void decode_weight_device(struct oci_spec *spec, struct json_reader *in,
				 const json_t *object, void *ret)
{
	struct oci_weight_device *device = ret;

	(void) spec;
	oci_read_device_number(in, object, &device->major, &device->minor);
	oci_read_opt(in, object, "weight", 0, 1000, &device->weight);
	oci_read_opt(in, object, "leafWeight", 0, 1000, &device->leaf_weight);
	if (in->result == 0 && !device->weight.set && !device->leaf_weight.set)
		oci_fail(in, "weight", "or leafWeight must be there");
}

static int decode_block_io(struct oci_spec *spec, struct oci_resources *resources,
			   const json_t *object, struct error *err)
{
	static const char *const names[OCI_THROTTLE_COUNT] = {
		"throttleReadBpsDevice",
		"throttleWriteBpsDevice",
		"throttleReadIOPSDevice",
		"throttleWriteIOPSDevice",
	};
	struct json_reader in = { .err = err, .where = "linux.resources.blockIO" };

	oci_read_opt(&in, object, "weight", 0, 1000, &resources->block_io.weight);
	oci_read_opt(&in, object, "leafWeight", 0, 1000, &resources->block_io.leaf_weight);
	for (size_t i = 0; i < OCI_THROTTLE_COUNT; i++) {
		struct oci_throttles *list = &resources->block_io.throttles[i];

		list->list = oci_read_list(spec, &in, object, names[i], sizeof(*list->list),
					   decode_throttle, &list->count);
	}
	resources->block_io.devices = oci_read_list(
		spec, &in, object, "weightDevice", sizeof(*resources->block_io.devices),
		decode_weight_device, &resources->block_io.device_count);
	return in.result;
}

static void decode_hugepage(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			    void *ret)
{
	struct oci_hugepage *page = ret;

	(void) spec;
	oci_read_text(in, object, "pageSize", &page->page_size);
	/* The name becomes a part of a file name. */
	if (in->result == 0 &&
	    (!page->page_size || !page->page_size[0] || strlen(page->page_size) > 16 ||
	     strspn(page->page_size, "0123456789KMGB") != strlen(page->page_size)))
		oci_fail(in, "pageSize", "must be like \"2MB\"");
	oci_require(in, object, "limit");
	oci_read_u64(in, object, "limit", &page->limit);
}

static void decode_priority(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			    void *ret)
{
	struct oci_priority *priority = ret;

	(void) spec;
	oci_read_text(in, object, "name", &priority->interface);
	json_read_uint32(in, object, "priority", UINT32_MAX, &priority->priority);
	if (in->result == 0 && (!priority->interface || !priority->interface[0] ||
				strpbrk(priority->interface, " \t\n/")))
		oci_fail(in, "name", "must be the name of a network interface");
}

static int decode_network(struct oci_spec *spec, struct oci_resources *resources,
			  const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.resources.network" };

	oci_read_opt(&in, object, "classID", 0, UINT32_MAX, &resources->class_id);
	resources->priorities =
		oci_read_list(spec, &in, object, "priorities", sizeof(*resources->priorities),
			      decode_priority, &resources->priority_count);
	return in.result;
}

static int decode_rdma(struct oci_spec *spec, struct oci_resources *resources, const json_t *object,
		       struct error *err)
{
	const char *device;
	json_t *value;

	resources->rdma = oci_alloc(spec, json_object_size(object), sizeof(*resources->rdma));
	json_object_foreach((json_t *) object, device, value)
	{
		struct oci_rdma *rdma = &resources->rdma[resources->rdma_count++];
		struct json_reader in = { .err = err, .where = "linux.resources.rdma" };

		rdma->device = device;
		oci_read_opt(&in, value, "hcaHandles", 0, UINT32_MAX, &rdma->handles);
		oci_read_opt(&in, value, "hcaObjects", 0, UINT32_MAX, &rdma->objects);
		if (in.result == 0 && (!device[0] || strpbrk(device, " \t\n")))
			oci_fail(&in, device, "must be the name of a device");
		if (in.result == 0 && !rdma->handles.set && !rdma->objects.set)
			oci_fail(&in, device, "needs hcaHandles or hcaObjects");
		if (in.result < 0)
			return in.result;
	}
	return 0;
}

int oci_decode_resources(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.resources" };
	struct json_reader pids_in = { .err = err, .where = "linux.resources.pids" };
	struct oci_resources *resources = &spec->linux_.resources;
	json_t *memory = NULL, *cpu = NULL, *pids = NULL, *block = NULL, *network = NULL;
	json_t *rdma = NULL;
	int r;

	resources->devices =
		oci_read_list(spec, &in, object, "devices", sizeof(*resources->devices),
			      decode_device_rule, &resources->device_count);
	json_read_object(&in, object, "memory", &memory);
	json_read_object(&in, object, "cpu", &cpu);
	json_read_object(&in, object, "pids", &pids);
	json_read_object(&in, object, "blockIO", &block);
	resources->hugepages =
		oci_read_list(spec, &in, object, "hugepageLimits", sizeof(*resources->hugepages),
			      decode_hugepage, &resources->hugepage_count);
	json_read_object(&in, object, "network", &network);
	json_read_object(&in, object, "rdma", &rdma);
	oci_read_pairs(spec, &in, object, "unified", &resources->unified,
		       &resources->unified_count);
	r = in.result;
	if (r == 0 && memory)
		r = decode_memory(resources, memory, err);
	if (r == 0 && cpu)
		r = decode_cpu(resources, cpu, err);
	if (r == 0 && pids) {
		oci_read_opt(&pids_in, pids, "limit", INT64_MIN, INT64_MAX, &resources->pids_limit);
		r = pids_in.result;
	}
	if (r == 0 && block)
		r = decode_block_io(spec, resources, block, err);
	if (r == 0 && network)
		r = decode_network(spec, resources, network, err);
	if (r == 0 && rdma)
		r = decode_rdma(spec, resources, rdma, err);
	return r;
}
