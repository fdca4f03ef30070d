/*
 * The devices of a machine: which there are, in which order, on which buses.  Disks and cards,
 * which come and go, are in vm_hotplug.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "vmm/balloon.h"
#include "vmm/console.h"
#include "vmm/hotplug.h"
#include "vmm/irq_kvm.h"
#include "vmm/loop.h"
#include "vmm/power.h"
#include "vmm/rng.h"
#include "vmm/rtc.h"
#include "vmm/serial.h"
#include "vmm/virtio_pci.h"
#include "vmm/vm_internal.h"
#include "vmm/vsock.h"

/* How often its guest tells how much memory it uses; as under QEMU. */
enum { BALLOON_STATISTICS_MS = 5000 };

/* ---- the serial port's wires ---- */

static void serial_output(void *data, const void *text, size_t size)
{
	struct vm *vm = data;

	if (vm->config.serial_out_fd >= 0) {
		ssize_t n = write(vm->config.serial_out_fd, text, size);

		/* A reader that is too slow or gone loses text; the guest does not wait for it. */
		(void) n;
	}
}

static void serial_watch(void *data)
{
	struct vm *vm = data;

	if (vm->serial_source)
		loop_source_set_events(vm->serial_source, EPOLLIN);
}

static void serial_drained(void *data)
{
	struct vm *vm = data;

	if (vm->serial_source)
		loop_post(vm->loop, serial_watch, vm);
}

static void on_serial_input(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct vm *vm = data;
	char text[SERIAL_FIFO];
	ssize_t n = read(fd, text, sizeof(text));

	(void) events;
	if (n <= 0) {
		loop_source_free(source);
		vm->serial_source = NULL;
		return;
	}
	/* The port is empty whenever input is watched. */
	serial_input(vm->serial, text, (size_t) n);
	loop_source_set_events(source, 0);
}

static int add_serial(struct vm *vm, struct error *err)
{
	int r;

	if (!vm->config.serial)
		return 0;
	r = serial_new(vm->io, irq_kvm_chip(vm->irqs), serial_output, serial_drained, vm,
		       &vm->serial, err);
	if (r < 0 || vm->config.serial_in_fd < 0)
		return r;
	r = loop_add_fd(vm->loop, vm->config.serial_in_fd, EPOLLIN, on_serial_input, vm,
			&vm->serial_source);
	/* A file or /dev/null cannot be waited for: no input. */
	return r == -EPERM ? 0 : r < 0 ? error_set(err, r, "the serial port's input") : 0;
}

/* ---- power ---- */

static void power_off(void *data)
{
	vm_ask_end(data, VM_POWERED_OFF, "the guest has powered off");
}

static void power_asked_reset(void *data)
{
	vm_ask_end(data, VM_RESET, "the guest has asked for a reset");
}

static const struct power_ops power_ops = { power_off, power_asked_reset };

int vm_power_button(struct vm *vm, struct error *err)
{
	int r = vm_check_running(vm, err);

	if (r == 0)
		power_press_button(vm->power);
	return r;
}

/* ---- virtio ---- */

int vm_add_virtio(struct vm *vm, struct virtio_device *device, struct vm_device **ret,
		  struct error *err)
{
	struct virtio_pci_options options = {
		.memory = vm->memory,
		.pci = vm->pci,
		.irq_chip = irq_kvm_chip(vm->irqs),
		.doorbells = &vm->doorbells,
	};
	struct virtio_pci *pci;
	int r = virtio_pci_new(&options, device, &pci, err);

	if (r < 0)
		return r;
	*ret = &vm->devices[virtio_pci_slot(pci)];
	**ret = (struct vm_device){ .vm = vm, .pci = pci, .fd = -1 };
	return 0;
}

/* One that stays. */
static int add_virtio(struct vm *vm, struct virtio_device *device, struct error *err)
{
	struct vm_device *where;

	return vm_add_virtio(vm, device, &where, err);
}

static int add_console(struct vm *vm, struct error *err)
{
	struct console_options options = {
		.id = "console0",
		.ports = { { .in_fd = vm->config.console_in_fd,
			     .out_fd = vm->config.console_out_fd } },
		.port_count = 1,
		.ring_fd = vm->config.console_ring_fd,
	};
	struct virtio_device *device;
	int r;

	for (unsigned int i = 0; i < vm->config.port_count; i++) {
		const struct vm_port *port = &vm->config.ports[i];

		options.ports[options.port_count++] = (struct console_port_options){
			.name = port->name,
			.in_fd = port->in_fd,
			.out_fd = port->out_fd,
			.out_max_bytes = port->out_max_bytes,
		};
	}
	r = console_new(&options, vm->io_loop, &device, err);
	return r == 0 ? add_virtio(vm, device, err) : r;
}

static int add_vsock(struct vm *vm, struct error *err)
{
	struct vsock_options options = {
		.id = "vsock0",
		.guest_cid = vm->config.vsock_cid,
		.path = vm->config.vsock_path,
	};
	struct virtio_device *device;
	int r;

	if (!vm->config.vsock_path)
		return 0;
	vm->vsock_fd = vsock_listen(vm->config.vsock_path, err);
	if (vm->vsock_fd < 0)
		return vm->vsock_fd;
	options.listen_fd = vm->vsock_fd;
	r = vsock_new(&options, vm->io_loop, &device, err);
	return r == 0 ? add_virtio(vm, device, err) : r;
}

static int add_rng(struct vm *vm, struct error *err)
{
	struct rng_options options = { .id = "rng0", .bytes_per_second = 1 << 20 };
	struct virtio_device *device;
	int r = rng_new(&options, vm->io_loop, &device, err);

	return r == 0 ? add_virtio(vm, device, err) : r;
}

/* ---- balloon ---- */

static int add_balloon(struct vm *vm, struct error *err)
{
	struct balloon_options options = {
		.id = "balloon0",
		/* What the balloon holds is not the guest's: its limit is one, as under QEMU. */
		.deflate_on_oom = false,
		.reporting = true,
		.statistics_interval_ms = BALLOON_STATISTICS_MS,
	};
	struct virtio_device *device;
	int r;

	if (!vm->config.balloon)
		return 0;
	r = balloon_new(&options, vm->memory, vm->io_loop, &device, err);
	if (r == 0)
		r = add_virtio(vm, device, err);
	if (r == 0)
		vm->balloon = device;
	return r;
}

struct balloon_call {
	struct vm *vm;
	const uint64_t *target_bytes;
	struct balloon_statistics statistics;
	uint64_t held, discarded;
};

/* In the device's thread. */
static void call_balloon(void *data)
{
	struct balloon_call *call = data;
	struct virtio_device *device = call->vm->balloon;
	uint64_t size = guest_memory_size(call->vm->memory);

	if (call->target_bytes)
		balloon_set_target(device,
				   *call->target_bytes < size ? size - *call->target_bytes : 0);
	balloon_statistics(device, &call->statistics);
	balloon_request_statistics(device); /* for the next one who asks */
	call->held = balloon_actual(device);
	call->discarded = balloon_discarded(device);
}

static json_t *statistics_json(const struct balloon_statistics *statistics)
{
	const struct {
		const char *name;
		uint64_t value;
	} all[] = {
		{ "free_bytes", statistics->free_bytes },
		{ "total_bytes", statistics->total_bytes },
		{ "available_bytes", statistics->available_bytes },
		{ "cache_bytes", statistics->cache_bytes },
		{ "swap_in_bytes", statistics->swap_in_bytes },
		{ "swap_out_bytes", statistics->swap_out_bytes },
		{ "major_faults", statistics->major_faults },
		{ "minor_faults", statistics->minor_faults },
		{ "updates", statistics->updates },
	};
	json_t *object = json_object();

	for (size_t i = 0; statistics->updates > 0 && i < ARRAY_COUNT(all); i++)
		if (all[i].value <= INT64_MAX)
			json_object_set_new(object, all[i].name,
					    json_integer((json_int_t) all[i].value));
	return object;
}

int vm_balloon(struct vm *vm, const uint64_t *target_bytes, json_t **ret, struct error *err)
{
	struct balloon_call call = { .vm = vm, .target_bytes = target_bytes };
	uint64_t size = guest_memory_size(vm->memory);

	if (!vm->balloon)
		return error_say(err, -ENODEV, "the machine has no balloon");
	if (target_bytes && (*target_bytes > size || *target_bytes < size / 16))
		return error_say(err, -ERANGE,
				 "\"target_bytes\" must be from %llu to %llu, the guest's memory",
				 (unsigned long long) size / 16, (unsigned long long) size);
	loop_call(vm->io_loop, call_balloon, &call);
	*ret = json_pack("{s:I, s:I, s:I, s:o}", "memory_bytes", (json_int_t) size, "balloon_bytes",
			 (json_int_t) call.held, "given_back_bytes", (json_int_t) call.discarded,
			 "guest", statistics_json(&call.statistics));
	return 0;
}

int vm_devices_new(struct vm *vm, struct error *err)
{
	int r = power_new(vm->io, vm->mmio, irq_kvm_chip(vm->irqs), &power_ops, vm, &vm->power,
			  err);

	if (r == 0)
		r = rtc_new(vm->io, clock_system(), &vm->rtc, err);
	if (r == 0)
		r = add_serial(vm, err);
	if (r == 0 && vm->config.has_kernel)
		r = pci_new(vm->io, vm->mmio, &vm->pci, err);
	if (r < 0 || !vm->config.has_kernel)
		return r;
	r = vm_hotplug_new(vm, err);
	if (r == 0)
		r = add_console(vm, err);
	if (r == 0)
		r = vm_hotplug_add_first(vm, err);
	if (r == 0)
		r = add_vsock(vm, err);
	if (r == 0)
		r = add_rng(vm, err);
	return r == 0 ? add_balloon(vm, err) : r;
}

void vm_devices_reset(struct vm *vm)
{
	if (vm->hotplug)
		vm_hotplug_reset(vm);
	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		if (vm->devices[i].pci)
			virtio_pci_reset(vm->devices[i].pci);
	if (vm->serial)
		serial_reset(vm->serial);
	power_reset(vm->power);
}

void vm_devices_free(struct vm *vm)
{
	loop_source_free(vm->serial_source);
	vm_hotplug_end(vm);
	for (unsigned int i = PCI_SLOTS; i-- > 0;)
		vm_device_free(&vm->devices[i]);
	fd_close(vm->vsock_fd);
	hotplug_free(vm->hotplug);
	pci_free(vm->pci);
	serial_free(vm->serial);
	rtc_free(vm->rtc);
	power_free(vm->power);
}
