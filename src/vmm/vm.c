#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "kern/kvm.h"
#include "vmm/acpi.h"
#include "vmm/cpuid.h"
#include "vmm/irq_kvm.h"
#include "vmm/loop.h"
#include "vmm/vcpu.h"
#include "vmm/vm_internal.h"

enum { MSR_MTRR_DEFAULT = 0x2ff, MTRR_WRITE_BACK = 0xc06, MIN_MIB_SHIFT = 20 };

const char *vm_end_name(enum vm_end end)
{
	static const char *const names[] = {
		[VM_POWERED_OFF] = "powered off",   [VM_RESET] = "reset", [VM_PANICKED] = "panic",
		[VM_TRIPLE_FAULT] = "triple fault", [VM_QUIT] = "quit",   [VM_FAILED] = "failed",
	};

	return names[end];
}

/* ---- making ---- */

static int check_memory(const struct vm_config *config, struct error *err)
{
	struct sysinfo info;
	uint64_t host;

	if (config->overcommit || config->memory.fd >= 0 || sysinfo(&info) < 0)
		return 0;
	host = ((uint64_t) info.totalram + info.totalswap) * info.mem_unit;
	if (config->memory.size_bytes <= host)
		return 0;
	return error_say(err, -ENOMEM,
			 "the guest's memory (%llu MiB) is more than this host has (%llu MiB); "
			 "\"overcommit\" allows it",
			 (unsigned long long) config->memory.size_bytes >> MIN_MIB_SHIFT,
			 (unsigned long long) host >> MIN_MIB_SHIFT);
}

static int open_kvm(struct vm *vm, struct error *err)
{
	static const struct {
		int capability;
		const char *name;
	} needed[] = {
		{ KVM_CAP_IRQCHIP, "interrupt controllers" },
		{ KVM_CAP_USER_MEMORY, "memory slots" },
		{ KVM_CAP_EXT_CPUID, "CPUID" },
		{ KVM_CAP_IRQFD, "irqfd" },
		{ KVM_CAP_IOEVENTFD, "ioeventfd" },
		{ KVM_CAP_IOEVENTFD_ANY_LENGTH, "ioeventfd of any size" },
		{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
		{ KVM_CAP_XCRS, "XSAVE" },
	};

	vm->kvm_fd = kvm_open(vm->config.kvm_fd);
	if (vm->kvm_fd < 0)
		return error_set(err, vm->kvm_fd, "/dev/kvm");
	for (size_t i = 0; i < ARRAY_COUNT(needed); i++)
		if (kvm_check(vm->kvm_fd, needed[i].capability) <= 0)
			return error_say(err, -ENOTSUP, "this host's KVM has no %s",
					 needed[i].name);
	vm->vm_fd = kvm_vm_new(vm->kvm_fd);
	if (vm->vm_fd < 0)
		return error_set(err, vm->vm_fd, "making a virtual machine");
	return 0;
}

static int add_memory(struct vm *vm, struct error *err)
{
	const struct guest_memory_range *ranges;
	unsigned int count;
	int r = guest_memory_new(&vm->config.memory, &vm->memory, err);

	if (r < 0)
		return r;
	ranges = guest_memory_ranges(vm->memory, &count);
	for (unsigned int i = 0; i < count; i++) {
		r = kvm_memory_set(vm->vm_fd, i, ranges[i].start, ranges[i].size_bytes,
				   ranges[i].host, 0);
		if (r < 0)
			return error_set(err, r, "giving memory to the guest");
	}
	return 0;
}

static int assign_doorbell(void *data, uint64_t address, unsigned int size, int fd, int match)
{
	struct vm *vm = data;

	return kvm_ioeventfd(vm->vm_fd, address, size, fd, match, false, true);
}

static void deassign_doorbell(void *data, uint64_t address, unsigned int size, int fd, int match)
{
	struct vm *vm = data;

	kvm_ioeventfd(vm->vm_fd, address, size, fd, match, false, false);
}

static const struct doorbell_ops doorbell_ops = { assign_doorbell, deassign_doorbell };

static int add_irqs(struct vm *vm, struct error *err)
{
	int r = kvm_irqchip_new(vm->vm_fd, LAYOUT_TSS, LAYOUT_IDENTITY_MAP);

	if (r < 0)
		return error_set(err, r, "making interrupt controllers");
	return irq_kvm_new(vm->vm_fd, &vm->irqs, err);
}

static void on_vcpu_end(void *data, enum vcpu_end end, const char *why)
{
	enum vm_end ends[] = { [VCPU_TRIPLE_FAULT] = VM_TRIPLE_FAULT,
			       [VCPU_RESET_EVENT] = VM_RESET,
			       [VCPU_FAILED] = VM_FAILED };

	vm_ask_end(data, ends[end], why);
}

static void on_vcpu_begin(void *data)
{
	struct vm *vm = data;

	if (vm->config.on_cpu_thread)
		vm->config.on_cpu_thread(vm->config.thread_data);
}

static int set_memory_type(struct vcpu *vcpu)
{
	struct kvm_msr_entry entry = { .index = MSR_MTRR_DEFAULT, .data = MTRR_WRITE_BACK };

	return kvm_msr_set(vcpu_fd(vcpu), &entry);
}

static int add_cpus(struct vm *vm, struct error *err)
{
	AUTO(free) struct kvm_cpuid2 *cpuid = NULL;
	struct cpuid_options options = {
		.cpus = vm->config.cpus,
		.baseline = vm->config.baseline,
		.tsc_deadline = kvm_check(vm->kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
	};
	int limit = kvm_check(vm->vm_fd, KVM_CAP_MAX_VCPUS);
	int r = kvm_cpuid_supported(vm->kvm_fd, &cpuid);

	if (r < 0)
		return error_set(err, r, "asking for this host's CPU features");
	if (limit > 0 && vm->config.cpus > (unsigned int) limit)
		return error_say(err, -ENOTSUP, "this host's KVM allows %d CPUs", limit);
	r = cpuid_shape(cpuid, &options, err);
	for (unsigned int i = 0; r == 0 && i < vm->config.cpus; i++) {
		struct vcpu_options vcpu = {
			.kvm_fd = vm->kvm_fd,
			.vm_fd = vm->vm_fd,
			.id = i,
			.io = vm->io,
			.mmio = vm->mmio,
			.cpuid = cpuid,
			.on_begin = on_vcpu_begin,
			.on_end = on_vcpu_end,
			.data = vm,
		};

		cpuid_number(cpuid, i);
		r = vcpu_new(&vcpu, &vm->vcpus[i], err);
		if (r < 0)
			return r;
		vm->vcpu_count++;
		set_memory_type(vm->vcpus[i]);
	}
	return r;
}

static int load_boot_registers(struct vm *vm, struct error *err)
{
	int fd = vcpu_fd(vm->vcpus[0]);
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int r = kvm_ioctl(fd, KVM_GET_SREGS, &sregs);

	if (r == 0) {
		boot_registers(&vm->entry, &regs, &sregs);
		r = kvm_ioctl(fd, KVM_SET_SREGS, &sregs);
	}
	if (r == 0)
		r = kvm_ioctl(fd, KVM_SET_REGS, &regs);
	return r < 0 ? error_set(err, r, "the first CPU's registers") : 0;
}

static int load_guest(struct vm *vm, struct error *err)
{
	struct acpi_options acpi = { .cpus = vm->config.cpus,
				     .pci = vm->pci != NULL,
				     .serial = vm->config.serial,
				     .slots = vm_hotplug_slots(vm) };
	int r;

	if (!vm->config.has_kernel)
		return 0;
	r = boot_load(vm->memory, &vm->config.boot, &vm->entry, err);
	if (r == 0)
		r = acpi_write(vm->memory, &acpi, err);
	return r == 0 ? load_boot_registers(vm, err) : r;
}

static int save_first_state(struct vm *vm, struct error *err)
{
	int r = 0;

	if (vm->config.no_reboot)
		return 0;
	vm->first_states = mem_new0_array(struct vcpu_state, vm->vcpu_count);
	for (unsigned int i = 0; r == 0 && i < vm->vcpu_count; i++)
		r = vcpu_get_state(vm->vcpus[i], &vm->first_states[i], err);
	for (uint32_t i = 0; r == 0 && i < VM_IRQCHIPS; i++) {
		vm->first_irqchips[i].chip_id = i;
		r = kvm_ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &vm->first_irqchips[i]);
		if (r < 0)
			error_set(err, r, "reading the interrupt controllers");
	}
	return r;
}

int vm_new(const struct vm_config *config, struct loop *loop, vm_end_fn on_end, void *data,
	   struct vm **ret, struct error *err)
{
	AUTO(vm_free) struct vm *vm = mem_new0(struct vm);
	int r;

	vm->config = *config;
	vm->loop = loop;
	vm->on_end = on_end;
	vm->data = data;
	vm->kvm_fd = vm->vm_fd = vm->vsock_fd = -1;
	vm->io = bus_new();
	vm->mmio = bus_new();
	vm->doorbells = (struct doorbells){ &doorbell_ops, vm };
	if (config->cpus < 1 || config->cpus > VM_CPUS_MAX)
		return error_say(err, -EINVAL, "a machine has 1 to %d CPUs, not %u", VM_CPUS_MAX,
				 config->cpus);
	r = check_memory(config, err);
	if (r == 0)
		r = open_kvm(vm, err);
	if (r == 0)
		r = add_memory(vm, err);
	if (r == 0)
		r = add_irqs(vm, err);
	if (r == 0)
		r = loop_new(&vm->io_loop, err);
	if (r == 0)
		r = vm_devices_new(vm, err);
	if (r == 0)
		r = add_cpus(vm, err);
	if (r == 0)
		r = save_first_state(vm, err);
	if (r == 0)
		r = load_guest(vm, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(vm);
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		vcpu_stop(vm->vcpus[i]);
	if (vm->io_loop)
		loop_stop_thread(vm->io_loop);
	vm_devices_free(vm);
	loop_free(vm->io_loop);
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		vcpu_free(vm->vcpus[i]);
	irq_kvm_free(vm->irqs);
	bus_free(vm->io);
	bus_free(vm->mmio);
	fd_close(vm->vm_fd);
	fd_close(vm->kvm_fd);
	guest_memory_free(vm->memory);
	free(vm->first_states);
	free(vm);
}

/* ---- life ---- */

static void begin_io_thread(void *data)
{
	struct vm *vm = data;

	vm->config.on_io_thread(vm->config.thread_data);
}

int vm_start(struct vm *vm, bool paused, struct error *err)
{
	int r = loop_start_thread(vm->io_loop, "io", err);

	if (r < 0)
		return r;
	if (vm->config.on_io_thread)
		loop_call(vm->io_loop, begin_io_thread, vm);
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		r = vcpu_start(vm->vcpus[i], paused, err);
		if (r < 0)
			return r;
	}
	vm->started = true;
	vm->paused = paused;
	return 0;
}

static void halt(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		vcpu_pause(vm->vcpus[i]);
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		vcpu_wait_paused(vm->vcpus[i]);
}

static void go_on(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		vcpu_resume(vm->vcpus[i]);
}

static int restart(struct vm *vm, struct error *err)
{
	const struct guest_memory_range *ranges;
	unsigned int count;
	int r = 0;

	vm_devices_reset(vm);
	ranges = guest_memory_ranges(vm->memory, &count);
	for (unsigned int i = 0; r == 0 && i < count; i++) {
		r = guest_memory_discard(vm->memory, ranges[i].start, ranges[i].size_bytes);
		if (r < 0)
			error_set(err, r, "clearing the guest's memory");
	}
	for (unsigned int i = 0; r == 0 && i < vm->vcpu_count; i++)
		r = vcpu_set_state(vm->vcpus[i], &vm->first_states[i], err);
	for (unsigned int i = 0; r == 0 && i < VM_IRQCHIPS; i++) {
		r = kvm_ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &vm->first_irqchips[i]);
		if (r < 0)
			error_set(err, r, "resetting the interrupt controllers");
	}
	return r == 0 ? load_guest(vm, err) : r;
}

static void finish(struct vm *vm, enum vm_end end, const char *why)
{
	vm->ended = true;
	vm_hotplug_end(vm);
	vm->on_end(vm->data, end, why);
}

static void handle_end(void *data)
{
	struct vm *vm = data;
	unsigned int ending = __atomic_load_n(&vm->ending, __ATOMIC_ACQUIRE);
	enum vm_end end = ending - 1;
	struct error err = {};
	char why[VM_WHY_MAX];

	if (ending == 0 || vm->ended)
		return;
	if (vm->started)
		halt(vm);
	snprintf(why, sizeof(why), "%s", vm->why);
	if (end == VM_RESET && vm->config.has_kernel && boot_was_panic(vm->memory)) {
		finish(vm, VM_PANICKED, "the guest's kernel panicked");
		return;
	}
	if (end != VM_RESET || vm->config.no_reboot) {
		finish(vm, end, why);
		return;
	}
	if (restart(vm, &err) < 0) {
		finish(vm, VM_FAILED, err.msg);
		return;
	}
	vm->resets++;
	log_info("the guest has restarted itself");
	__atomic_store_n(&vm->ending, 0, __ATOMIC_RELEASE);
	vm->paused = false;
	go_on(vm);
}

void vm_ask_end(struct vm *vm, enum vm_end end, const char *why)
{
	unsigned int none = 0;

	/* No more guest code in the CPU that asked; the others are stopped by the main loop. */
	vcpu_pause_self();
	if (!__atomic_compare_exchange_n(&vm->ending, &none, UINT32_MAX, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return;
	snprintf(vm->why, sizeof(vm->why), "%s", why);
	__atomic_store_n(&vm->ending, 1 + (unsigned int) end, __ATOMIC_RELEASE);
	loop_post(vm->loop, handle_end, vm);
}

int vm_check_running(const struct vm *vm, struct error *err)
{
	return vm->ended || !vm->started ? error_say(err, -ESHUTDOWN, "the machine has ended") : 0;
}

int vm_pause(struct vm *vm, struct error *err)
{
	int r = vm_check_running(vm, err);

	if (r < 0 || vm->paused)
		return r;
	halt(vm);
	vm->paused = true;
	return 0;
}

int vm_resume(struct vm *vm, struct error *err)
{
	int r = vm_check_running(vm, err);

	if (r < 0 || !vm->paused)
		return r;
	vm->paused = false;
	/* The guest's watchdogs shall not take the pause for a hang; without kvmclock it cannot
	 * hear. */
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		kvm_ioctl(vcpu_fd(vm->vcpus[i]), KVM_KVMCLOCK_CTRL, NULL);
	/* A CPU that has ended stays where it is until the main loop has heard of it. */
	if (__atomic_load_n(&vm->ending, __ATOMIC_ACQUIRE) == 0)
		go_on(vm);
	return 0;
}

int vm_reset(struct vm *vm, struct error *err)
{
	int r = vm_check_running(vm, err);

	if (r == 0)
		vm_ask_end(vm, VM_RESET, "asked from outside");
	return r;
}

void vm_quit(struct vm *vm)
{
	vm_ask_end(vm, VM_QUIT, "asked from outside");
}
