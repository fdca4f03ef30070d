/*
 * What a machine has done, in numbers: exits of its CPUs, accesses to its devices, KVM's own
 * counters.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "kern/kvm.h"
#include "vmm/irq_kvm.h"
#include "vmm/vcpu.h"
#include "vmm/virtio.h"
#include "vmm/virtio_pci.h"
#include "vmm/vm_internal.h"

static void put(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t) value));
}

json_t *vm_info(const struct vm *vm)
{
	const char *state = vm->ended ? "ended" : vm->paused ? "paused" : "running";
	json_t *info = json_pack("{s:s, s:s, s:s}", "backend", "brume-vmm", "version",
				 BRUME_VERSION, "state", state);
	json_t *devices = json_array();

	put(info, "cpus", vm->vcpu_count);
	put(info, "memory_bytes", guest_memory_size(vm->memory));
	put(info, "resets", vm->resets);
	json_object_set_new(info, "cpu_baseline", json_string(vm->config.baseline));
	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		if (vm->devices[i].pci)
			json_array_append_new(devices, vm_device_json(&vm->devices[i]));
	json_object_set_new(info, "devices", devices);
	return info;
}

static json_t *cpu_metrics(const struct vcpu *vcpu)
{
	struct vcpu_counters counters;
	json_t *cpu = json_object(), *exits = json_object();
	uint64_t others = 0;

	vcpu_read_counters(vcpu, &counters);
	for (unsigned int i = 0; i < VCPU_EXITS; i++) {
		const char *name = vcpu_exit_name(i);

		if (name && counters.exits[i] > 0)
			put(exits, name, counters.exits[i]);
		else
			others += counters.exits[i];
	}
	if (others > 0)
		put(exits, "other", others);
	json_object_set_new(cpu, "exits", exits);
	put(cpu, "runs", counters.runs);
	put(cpu, "guest_ns", counters.guest_ns);
	return cpu;
}

static void add_range(void *data, const char *name, uint64_t start, uint64_t reads, uint64_t writes)
{
	json_t *entry;

	/* What nobody touched says nothing. */
	if (reads == 0 && writes == 0)
		return;
	entry = json_pack("{s:s}", "name", name);
	put(entry, "start", start);
	put(entry, "reads", reads);
	put(entry, "writes", writes);
	json_array_append_new(data, entry);
}

static json_t *bus_metrics(struct bus *bus)
{
	json_t *ranges = json_array();
	json_t *result = json_object();

	bus_count(bus, add_range, ranges);
	json_object_set_new(result, "ranges", ranges);
	put(result, "lost", bus_lost(bus));
	return result;
}

static json_t *device_metrics(struct virtio_pci *pci)
{
	struct virtio_device *device = virtio_pci_device(pci);
	struct virtio_counters *counters = &device->counters;
	json_t *entry = json_pack("{s:s, s:s}", "id", device->id, "type", device->ops->name);

	put(entry, "notifications", counters->notifications);
	put(entry, "interrupts", counters->interrupts);
	put(entry, "requests", counters->requests);
	put(entry, "read_bytes", counters->read_bytes);
	put(entry, "written_bytes", counters->written_bytes);
	put(entry, "errors", counters->errors);
	put(entry, "throttled", counters->throttled);
	return entry;
}

/* Counters of several CPUs add up. */
static void add_stat(void *data, const char *name, uint64_t value)
{
	json_t *object = data;

	put(object, name, (uint64_t) json_integer_value(json_object_get(object, name)) + value);
}

/* Kernels before 5.14 have none. */
static void read_stats(int stats_fd, json_t *object)
{
	if (stats_fd >= 0)
		kvm_stats_read(stats_fd, add_stat, object);
}

json_t *vm_metrics(const struct vm *vm)
{
	json_t *metrics = json_object(), *cpus = json_array(), *devices = json_array();
	json_t *kvm = json_object(), *kvm_cpus = json_object(), *memory = json_object();
	AUTO(fd_close) int vm_stats_fd = kvm_stats_open(vm->vm_fd);
	struct stat st;

	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		json_array_append_new(cpus, cpu_metrics(vm->vcpus[i]));
		read_stats(vcpu_stats_fd(vm->vcpus[i]), kvm_cpus);
	}
	read_stats(vm_stats_fd, kvm);
	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		if (vm->devices[i].pci)
			json_array_append_new(devices, device_metrics(vm->devices[i].pci));
	put(memory, "size_bytes", guest_memory_size(vm->memory));
	if (guest_memory_fd(vm->memory) >= 0 && fstat(guest_memory_fd(vm->memory), &st) == 0)
		put(memory, "used_bytes", (uint64_t) st.st_blocks * 512);
	json_object_set_new(metrics, "cpus", cpus);
	json_object_set_new(metrics, "devices", devices);
	json_object_set_new(metrics, "io", bus_metrics(vm->io));
	json_object_set_new(metrics, "mmio", bus_metrics(vm->mmio));
	put(metrics, "interrupts", irq_kvm_raised(vm->irqs));
	json_object_set_new(metrics, "kvm", kvm);
	json_object_set_new(metrics, "kvm_cpus", kvm_cpus);
	json_object_set_new(metrics, "memory", memory);
	return metrics;
}
