#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/oci_spec_internal.h"

static int decode_device_rule(const json_t *object, size_t index, struct oci_device_rule *rule,
			      struct error *err)
{
	char where[56];
	struct json_reader in = { .err = err, .where = where };
	const char *type = "a", *access = "rwm";

	snprintf(where, sizeof(where), "linux.resources.devices[%zu]", index);
	json_read_bool(&in, object, "allow", &rule->allow);
	oci_read_text(&in, object, "type", &type);
	oci_read_text(&in, object, "access", &access);
	/* Some clients write "all numbers" as -1. */
	oci_read_opt(&in, object, "major", -1, UINT32_MAX, &rule->major);
	oci_read_opt(&in, object, "minor", -1, UINT32_MAX, &rule->minor);
	if (in.result < 0)
		return in.result;
	if (type[0] == '\0')
		type = "a";
	if (strlen(type) != 1 || !strchr("abcu", type[0]))
		return oci_fail(&in, "type", "must be \"a\", \"b\" or \"c\"");
	if (!access[0])
		access = "rwm";
	if (strlen(access) > 3 || strspn(access, "rwm") != strlen(access))
		return oci_fail(&in, "access", "must be made of r, w and m");
	rule->type = type[0] == 'u' ? 'c' : type[0];
	rule->access = access;
	rule->major.set = rule->major.set && rule->major.value >= 0;
	rule->minor.set = rule->minor.set && rule->minor.value >= 0;
	return 0;
}

static int decode_devices(struct oci_spec *spec, struct oci_resources *resources,
			  const json_t *array, struct error *err)
{
	json_t *item;
	size_t i;

	resources->devices = oci_alloc(spec, json_array_size(array), sizeof(*resources->devices));
	json_array_foreach(array, i, item)
	{
		int r = decode_device_rule(item, i, &resources->devices[i], err);

		if (r < 0)
			return r;
	}
	resources->device_count = json_array_size(array);
	return 0;
}

static int decode_memory(struct oci_resources *resources, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.resources.memory" };
	bool hierarchy = false, check = false;
	json_t *present = NULL;

	oci_read_opt(&in, object, "limit", -1, INT64_MAX, &resources->memory.limit);
	oci_read_opt(&in, object, "reservation", -1, INT64_MAX, &resources->memory.reservation);
	oci_read_opt(&in, object, "swap", -1, INT64_MAX, &resources->memory.swap);
	oci_read_opt(&in, object, "kernel", -1, INT64_MAX, &resources->memory.kernel);
	oci_read_opt(&in, object, "kernelTCP", -1, INT64_MAX, &resources->memory.kernel_tcp);
	oci_read_opt(&in, object, "swappiness", 0, 200, &resources->memory.swappiness);
	json_read_bool(&in, object, "disableOOMKiller", &resources->memory.disable_oom_killer);
	/* Only updates of a running container can be below what is in use. */
	json_read_bool(&in, object, "checkBeforeUpdate", &check);
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

static int decode_throttles(struct oci_spec *spec, struct json_reader *outer, const json_t *object,
			    const char *name, struct oci_throttles *ret)
{
	json_t *array = NULL, *item;
	size_t i;

	json_read_array(outer, object, name, &array);
	if (outer->result < 0 || !array)
		return outer->result;
	ret->list = oci_alloc(spec, json_array_size(array), sizeof(*ret->list));
	json_array_foreach(array, i, item)
	{
		char where[96];
		struct json_reader in = { .err = outer->err, .where = where };

		snprintf(where, sizeof(where), "%s.%s[%zu]", outer->where, name, i);
		json_read_uint32(&in, item, "major", 4095, &ret->list[i].major);
		json_read_uint32(&in, item, "minor", 1048575, &ret->list[i].minor);
		oci_read_u64(&in, item, "rate", &ret->list[i].rate);
		if (in.result < 0) {
			outer->result = in.result;
			return in.result;
		}
	}
	ret->count = json_array_size(array);
	return 0;
}

static int decode_weight_devices(struct oci_spec *spec, struct oci_resources *resources,
				 const json_t *array, struct error *err)
{
	json_t *item;
	size_t i;

	resources->block_io.devices =
		oci_alloc(spec, json_array_size(array), sizeof(*resources->block_io.devices));
	json_array_foreach(array, i, item)
	{
		struct oci_weight_device *device = &resources->block_io.devices[i];
		char where[72];
		struct json_reader in = { .err = err, .where = where };

		snprintf(where, sizeof(where), "linux.resources.blockIO.weightDevice[%zu]", i);
		json_read_uint32(&in, item, "major", 4095, &device->major);
		json_read_uint32(&in, item, "minor", 1048575, &device->minor);
		oci_read_opt(&in, item, "weight", 0, 1000, &device->weight);
		oci_read_opt(&in, item, "leafWeight", 0, 1000, &device->leaf_weight);
		if (in.result < 0)
			return in.result;
	}
	resources->block_io.device_count = json_array_size(array);
	return 0;
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
	json_t *devices = NULL;

	oci_read_opt(&in, object, "weight", 0, 1000, &resources->block_io.weight);
	oci_read_opt(&in, object, "leafWeight", 0, 1000, &resources->block_io.leaf_weight);
	for (size_t i = 0; i < OCI_THROTTLE_COUNT; i++)
		decode_throttles(spec, &in, object, names[i], &resources->block_io.throttles[i]);
	json_read_array(&in, object, "weightDevice", &devices);
	if (in.result < 0 || !devices)
		return in.result;
	return decode_weight_devices(spec, resources, devices, err);
}

static int decode_hugepages(struct oci_spec *spec, struct oci_resources *resources,
			    const json_t *array, struct error *err)
{
	json_t *item;
	size_t i;

	resources->hugepages =
		oci_alloc(spec, json_array_size(array), sizeof(*resources->hugepages));
	json_array_foreach(array, i, item)
	{
		struct oci_hugepage *page = &resources->hugepages[i];
		char where[64];
		struct json_reader in = { .err = err, .where = where };

		snprintf(where, sizeof(where), "linux.resources.hugepageLimits[%zu]", i);
		oci_read_text(&in, item, "pageSize", &page->page_size);
		oci_read_u64(&in, item, "limit", &page->limit);
		/* The name becomes a part of a file name. */
		if (in.result == 0 &&
		    (!page->page_size || !page->page_size[0] || strlen(page->page_size) > 16 ||
		     strspn(page->page_size, "0123456789KMGB") != strlen(page->page_size)))
			oci_fail(&in, "pageSize", "must be like \"2MB\"");
		if (in.result < 0)
			return in.result;
	}
	resources->hugepage_count = json_array_size(array);
	return 0;
}

static int decode_network(struct oci_spec *spec, struct oci_resources *resources,
			  const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.resources.network" };
	json_t *array = NULL, *item;
	size_t i;

	oci_read_opt(&in, object, "classID", 0, UINT32_MAX, &resources->class_id);
	json_read_array(&in, object, "priorities", &array);
	if (in.result < 0 || !array)
		return in.result;
	resources->priorities =
		oci_alloc(spec, json_array_size(array), sizeof(*resources->priorities));
	json_array_foreach(array, i, item)
	{
		struct oci_priority *priority = &resources->priorities[i];
		struct json_reader one = { .err = err,
					   .where = "linux.resources.network.priorities" };

		oci_read_text(&one, item, "name", &priority->interface);
		json_read_uint32(&one, item, "priority", UINT32_MAX, &priority->priority);
		if (one.result == 0 && (!priority->interface || !priority->interface[0] ||
					strpbrk(priority->interface, " \t\n/")))
			oci_fail(&one, "name", "must be the name of a network interface");
		if (one.result < 0)
			return one.result;
	}
	resources->priority_count = json_array_size(array);
	return 0;
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
	json_t *devices = NULL, *memory = NULL, *cpu = NULL, *pids = NULL, *block = NULL;
	json_t *huge = NULL, *network = NULL, *rdma = NULL;
	int r;

	json_read_array(&in, object, "devices", &devices);
	json_read_object(&in, object, "memory", &memory);
	json_read_object(&in, object, "cpu", &cpu);
	json_read_object(&in, object, "pids", &pids);
	json_read_object(&in, object, "blockIO", &block);
	json_read_array(&in, object, "hugepageLimits", &huge);
	json_read_object(&in, object, "network", &network);
	json_read_object(&in, object, "rdma", &rdma);
	oci_read_pairs(spec, &in, object, "unified", &resources->unified,
		       &resources->unified_count);
	r = in.result;
	if (r == 0 && devices)
		r = decode_devices(spec, resources, devices, err);
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
	if (r == 0 && huge)
		r = decode_hugepages(spec, resources, huge, err);
	if (r == 0 && network)
		r = decode_network(spec, resources, network, err);
	if (r == 0 && rdma)
		r = decode_rdma(spec, resources, rdma, err);
	return r;
}
