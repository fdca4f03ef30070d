/*
 * Disks and network cards: those that a machine begins with, and those that come and go while it
 * runs.  A guest is asked to let go of a device (vmm/hotplug.h); when it has, the device is freed
 * with everything that belonged to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/blk.h"
#include "vmm/hotplug.h"
#include "vmm/loop.h"
#include "vmm/nic.h"
#include "vmm/power.h"
#include "vmm/ratelimit.h"
#include "vmm/virtio.h"
#include "vmm/virtio_pci.h"
#include "vmm/vm_internal.h"

enum { MAC_BYTES = 6, MAC_CHOICES = 256, NS_PER_MS = 1000000 };

/* A guest that boots does not hear yet: it is asked more than once. */
#define ASK_AGAIN_NS 1000000000ull

_Static_assert(VM_SERIAL_MAX == (int) BLK_SERIAL_MAX, "a serial number fits");
_Static_assert(VM_DISK_QUEUES_MAX == (int) BLK_QUEUES_MAX, "what is promised can be made");
_Static_assert(VM_NIC_QUEUES_MAX == (int) NIC_PAIRS_MAX, "what is promised can be made");

/* ---- which there are ---- */

static const char *device_id(const struct vm_device *device)
{
	return virtio_pci_device(device->pci)->id;
}

static struct vm_device *find_id(struct vm *vm, const char *id)
{
	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		if (vm->devices[i].pci && strcmp(device_id(&vm->devices[i]), id) == 0)
			return &vm->devices[i];
	return NULL;
}

static struct vm_device *find_serial(struct vm *vm, const char *serial)
{
	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		if (vm->devices[i].pci && vm->devices[i].kind == VM_DEVICE_DISK &&
		    strcmp(vm->devices[i].serial, serial) == 0)
			return &vm->devices[i];
	return NULL;
}

static struct vm_device *find_mac(struct vm *vm, const uint8_t *mac)
{
	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		if (vm->devices[i].pci && vm->devices[i].kind == VM_DEVICE_NIC &&
		    memcmp(vm->devices[i].mac, mac, MAC_BYTES) == 0)
			return &vm->devices[i];
	return NULL;
}

static int check_count(const struct vm *vm, enum vm_device_kind kind, unsigned int limit,
		       const char *what, struct error *err)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		count += vm->devices[i].pci && vm->devices[i].kind == kind;
	return count < limit ? 0 : error_say(err, -ENOSPC, "there can be %u %s", limit, what);
}

static bool is_name(const char *text, size_t limit)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t size = strlen(text);

	return size > 0 && size <= limit && strspn(text, letters) == size;
}

/* The one that was asked for, or the first free number. */
static int choose_id(struct vm *vm, const char *asked, const char *prefix, char ret[VM_ID_MAX + 1],
		     struct error *err)
{
	if (asked && !is_name(asked, VM_ID_MAX))
		return error_say(err, -EINVAL,
				 "'%.40s' is not an id: 1 to %d letters, digits, '.', '_' or '-'",
				 asked, VM_ID_MAX);
	if (asked && find_id(vm, asked))
		return error_say(err, -EEXIST, "there is a device %s already", asked);
	if (asked) {
		snprintf(ret, VM_ID_MAX + 1, "%s", asked);
		return 0;
	}
	for (unsigned int i = 0;; i++) {
		snprintf(ret, VM_ID_MAX + 1, "%s%u", prefix, i);
		if (!find_id(vm, ret) && !find_serial(vm, ret))
			return 0;
	}
}

static bool is_zero(const uint8_t *mac)
{
	static const uint8_t zero[MAC_BYTES];

	return memcmp(mac, zero, MAC_BYTES) == 0;
}

static int choose_mac(struct vm *vm, const uint8_t *asked, uint8_t *ret, struct error *err)
{
	uint8_t mac[MAC_BYTES] = { 0x02, 0x62, 0x72, 0x75, 0x6d, 0 };
	const struct vm_device *other;
	unsigned int i = 0;

	if (!is_zero(asked)) {
		other = find_mac(vm, asked);
		if (other)
			return error_say(err, -EEXIST, "%s has this MAC address already",
					 device_id(other));
		memcpy(ret, asked, MAC_BYTES);
		return 0;
	}
	/* There are fewer cards than these. */
	while (i < MAC_CHOICES - 1 && find_mac(vm, mac))
		mac[MAC_BYTES - 1] = (uint8_t) ++i;
	memcpy(ret, mac, MAC_BYTES);
	return 0;
}

int vm_parse_mac(const char *text, uint8_t ret[6], struct error *err)
{
	unsigned int bytes[MAC_BYTES], any = 0;
	char rest;

	if (strlen(text) != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &bytes[0], &bytes[1], &bytes[2], &bytes[3],
		   &bytes[4], &bytes[5], &rest) != MAC_BYTES ||
	    bytes[0] & 1)
		return error_say(err, -EINVAL, "'%.40s' is not a MAC address of one card", text);
	for (int i = 0; i < MAC_BYTES; i++)
		any |= bytes[i];
	if (any == 0)
		return error_say(err, -EINVAL, "'%s' is no card's MAC address", text);
	for (int i = 0; i < MAC_BYTES; i++)
		ret[i] = (uint8_t) bytes[i];
	return 0;
}

json_t *vm_device_json(const struct vm_device *device)
{
	const struct virtio_device *virtio = virtio_pci_device(device->pci);
	json_t *object = json_pack("{s:s, s:s, s:i}", "id", virtio->id, "type", virtio->ops->name,
				   "slot", (int) virtio_pci_slot(device->pci));
	const uint8_t *mac = device->mac;
	char text[24];

	if (device->removed)
		json_object_set_new(object, "leaving", json_true());
	if (device->kind == VM_DEVICE_DISK) {
		json_object_set_new(object, "serial", json_string(device->serial));
		json_object_set_new(object, "queues",
				    json_integer((json_int_t) virtio->queue_count));
	}
	if (device->kind == VM_DEVICE_NIC) {
		/* Pairs; one more is for control messages. */
		json_object_set_new(object, "queues",
				    json_integer((json_int_t) virtio->queue_count / 2));
		snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
			 mac[2], mac[3], mac[4], mac[5]);
		json_object_set_new(object, "mac", json_string(text));
	}
	return object;
}

/* ---- making ---- */

struct making {
	struct vm *vm;
	struct blk_options blk;
	struct nic_options nic;
	struct virtio_device *device;
	struct error *err;
	int result;
};

/* In the devices' thread: they watch descriptors there. */
static void make_disk(void *data)
{
	struct making *making = data;

	making->result = blk_new(&making->blk, making->vm->io_loop, &making->device, making->err);
}

static void make_nic(void *data)
{
	struct making *making = data;

	making->result = nic_new(&making->nic, making->vm->io_loop, &making->device, making->err);
}

/* The guest would only see that nothing can be written. */
static int check_disk_file(const struct vm_disk *disk, const char *id, struct error *err)
{
	int flags = fcntl(disk->fd, F_GETFL), mode = flags & O_ACCMODE;

	if (flags < 0 || (flags & O_PATH))
		return error_say(err, -EBADF, "%s: its descriptor is not an open file", id);
	if (mode == O_WRONLY)
		return error_say(err, -EACCES, "%s: its file is open for writing only", id);
	if (mode == O_RDONLY && !disk->read_only)
		return error_say(err, -EACCES,
				 "%s: its file is open for reading only, the disk must be "
				 "read-only then",
				 id);
	return 0;
}

static int check_nic_file(int fd, const char *id, struct error *err)
{
	struct ifreq request = {};
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "%s: its descriptor", id);
	if (S_ISSOCK(st.st_mode) || (S_ISCHR(st.st_mode) && ioctl(fd, TUNGETIFF, &request) == 0))
		return 0;
	return error_say(err, -EINVAL, "%s: its descriptor is neither a tap device nor a socket",
			 id);
}

static int add_disk(struct vm *vm, const struct vm_disk *disk, struct vm_device **ret,
		    struct error *err)
{
	char id[VM_ID_MAX + 1];
	struct making making = { .vm = vm, .err = err };
	const struct vm_device *other;
	const char *serial;
	int r = check_count(vm, VM_DEVICE_DISK, VM_DISKS_MAX, "disks", err);

	if (r == 0)
		r = choose_id(vm, disk->id, "disk", id, err);
	if (r == 0)
		r = check_disk_file(disk, id, err);
	if (r < 0)
		return r;
	serial = disk->serial ? disk->serial : id;
	if (!is_name(serial, VM_SERIAL_MAX))
		return error_say(err, -EINVAL,
				 "'%.40s' is not a serial number: 1 to %d letters, digits, '.', "
				 "'_' or '-'",
				 serial, VM_SERIAL_MAX);
	other = find_serial(vm, serial);
	if (other)
		return error_say(err, -EEXIST, "%s has the serial number %s already",
				 device_id(other), serial);
	making.blk = (struct blk_options){
		.id = id,
		.serial = serial,
		.fd = disk->fd,
		.read_only = disk->read_only,
		.queues = disk->queues,
		.limit = { .ops_per_second = disk->ops_per_second,
			   .bytes_per_second = disk->bytes_per_second },
	};
	loop_call(vm->io_loop, make_disk, &making);
	r = making.result;
	if (r == 0)
		r = vm_add_virtio(vm, making.device, ret, err);
	if (r < 0)
		return r;
	(*ret)->kind = VM_DEVICE_DISK;
	snprintf((*ret)->serial, sizeof((*ret)->serial), "%s", serial);
	return 0;
}

static int add_nic(struct vm *vm, const struct vm_nic *nic, struct vm_device **ret,
		   struct error *err)
{
	struct ratelimit_options limit = { .ops_per_second = nic->ops_per_second,
					   .bytes_per_second = nic->bytes_per_second };
	char id[VM_ID_MAX + 1];
	struct making making = { .vm = vm, .err = err };
	int r = check_count(vm, VM_DEVICE_NIC, VM_NICS_MAX, "network cards", err);

	if (r == 0)
		r = choose_id(vm, nic->id, "net", id, err);
	if (r == 0)
		r = check_nic_file(nic->fd, id, err);
	for (unsigned int i = 0; r == 0 && i < nic->more_count; i++)
		r = check_nic_file(nic->more_fds[i], id, err);
	making.nic = (struct nic_options){
		.id = id,
		.fds = { nic->fd },
		.pairs = 1 + nic->more_count,
		.mtu = nic->mtu,
		.send = limit,
		.receive = limit,
	};
	memcpy(making.nic.fds + 1, nic->more_fds, nic->more_count * sizeof(nic->more_fds[0]));
	if (r == 0)
		r = choose_mac(vm, nic->mac, making.nic.mac, err);
	if (r < 0)
		return r;
	loop_call(vm->io_loop, make_nic, &making);
	r = making.result;
	if (r == 0)
		r = vm_add_virtio(vm, making.device, ret, err);
	if (r < 0)
		return r;
	(*ret)->kind = VM_DEVICE_NIC;
	memcpy((*ret)->mac, making.nic.mac, MAC_BYTES);
	return 0;
}

int vm_hotplug_add_first(struct vm *vm, struct error *err)
{
	struct vm_device *device;
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < vm->config.disk_count; i++)
		r = add_disk(vm, &vm->config.disks[i], &device, err);
	for (unsigned int i = 0; r == 0 && i < vm->config.nic_count; i++)
		r = add_nic(vm, &vm->config.nics[i], &device, err);
	return r;
}

/* ---- coming ---- */

static int check_hotplug(const struct vm *vm, struct error *err)
{
	int r = vm_check_running(vm, err);

	return r == 0 && !vm->hotplug ? error_say(err, -ENODEV, "the machine has no PCI bus") : r;
}

static json_t *announce(struct vm_device *device, int fd)
{
	device->fd = fd;
	hotplug_add(device->vm->hotplug, virtio_pci_slot(device->pci));
	log_info("%s has been added", device_id(device));
	return vm_device_json(device);
}

int vm_add_disk(struct vm *vm, const struct vm_disk *disk, json_t **ret, struct error *err)
{
	struct vm_device *device;
	int r = check_hotplug(vm, err);

	if (r == 0)
		r = add_disk(vm, disk, &device, err);
	if (r == 0)
		*ret = announce(device, disk->fd);
	return r;
}

int vm_add_nic(struct vm *vm, const struct vm_nic *nic, json_t **ret, struct error *err)
{
	struct vm_device *device;
	int r = check_hotplug(vm, err);

	if (r == 0 && nic->more_count > 0)
		r = error_say(err, -EINVAL, "a card that is added has one queue");
	if (r == 0)
		r = add_nic(vm, nic, &device, err);
	if (r == 0)
		*ret = announce(device, nic->fd);
	return r;
}

/* ---- going ---- */

void vm_device_free(struct vm_device *device)
{
	if (!device->pci)
		return;
	loop_source_free(device->timer);
	virtio_pci_free(device->pci);
	fd_close(device->fd);
	*device = (struct vm_device){ .fd = -1 };
}

/* `why`: NULL, or what is wrong and it stays. */
static void answer(struct vm_device *device, const char *why)
{
	vm_removed_fn removed = device->removed;
	void *data = device->removed_data;

	loop_source_free(device->timer);
	device->timer = NULL;
	device->removed = NULL;
	if (!why) {
		log_info("%s has been removed", device_id(device));
		vm_device_free(device);
	}
	removed(data, why);
}

static void take_out(struct vm_device *device)
{
	/* It may have been asked once more since it let go. */
	hotplug_cancel(device->vm->hotplug, virtio_pci_slot(device->pci));
	answer(device, NULL);
}

static void handle_ejected(void *data)
{
	struct vm *vm = data;
	uint32_t slots = __atomic_exchange_n(&vm->ejected, 0, __ATOMIC_SEQ_CST);

	for (; slots; slots &= slots - 1) {
		struct vm_device *device = &vm->devices[__builtin_ctz(slots)];

		if (device->removed)
			take_out(device);
	}
}

/* In a vCPU's thread, from within an access: a device must not be freed here. */
static void on_ejected(void *data, unsigned int slot)
{
	struct vm *vm = data;

	pci_hide(vm->pci, slot);
	__atomic_or_fetch(&vm->ejected, 1u << slot, __ATOMIC_SEQ_CST);
	loop_post(vm->loop, handle_ejected, vm);
}

static void tell(void *data)
{
	struct vm *vm = data;

	power_tell_slots(vm->power);
}

static void ask(struct vm_device *device, uint64_t now_ns)
{
	uint64_t next = now_ns + ASK_AGAIN_NS;

	hotplug_ask(device->vm->hotplug, virtio_pci_slot(device->pci));
	loop_source_set_timer(device->timer,
			      next < device->deadline_ns ? next : device->deadline_ns);
}

static void on_timer(struct loop_source *source, void *data)
{
	struct vm_device *device = data;
	uint64_t now_ns = ratelimit_now_ns();
	char why[VM_WHY_MAX];

	(void) source;
	if (now_ns < device->deadline_ns) {
		ask(device, now_ns);
		return;
	}
	/* When it has let go at the last moment, handle_ejected() is about to be called. */
	if (!hotplug_cancel(device->vm->hotplug, virtio_pci_slot(device->pci)))
		return;
	snprintf(why, sizeof(why), "the guest did not let go of %s within %u ms; it stays",
		 device_id(device), device->timeout_ms);
	answer(device, why);
}

int vm_remove(struct vm *vm, const char *id, unsigned int timeout_ms, vm_removed_fn fn, void *data,
	      struct error *err)
{
	struct vm_device *device;
	uint64_t now_ns;
	int r = check_hotplug(vm, err);

	if (r < 0)
		return r;
	device = find_id(vm, id);
	if (!device)
		return error_say(err, -ENOENT, "there is no device '%.40s'", id);
	if (device->kind == VM_DEVICE_FIXED)
		return error_say(err, -EPERM, "%s stays: only disks and network cards can go", id);
	if (device->removed)
		return error_say(err, -EBUSY, "%s is being removed already", id);
	now_ns = ratelimit_now_ns();
	r = loop_add_timer(vm->loop, 0, on_timer, device, &device->timer);
	if (r < 0)
		return error_set(err, r, "%s", id);
	device->removed = fn;
	device->removed_data = data;
	device->timeout_ms = timeout_ms;
	device->deadline_ns = now_ns + (uint64_t) timeout_ms * NS_PER_MS;
	ask(device, now_ns);
	return 0;
}

/* ---- the machine ---- */

int vm_hotplug_new(struct vm *vm, struct error *err)
{
	static const struct hotplug_ops ops = { tell, on_ejected };

	return hotplug_new(vm->mmio, &ops, vm, &vm->hotplug, err);
}

void vm_hotplug_reset(struct vm *vm)
{
	__atomic_store_n(&vm->ejected, 0, __ATOMIC_SEQ_CST);
	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		if (vm->devices[i].removed)
			take_out(&vm->devices[i]);
	hotplug_reset(vm->hotplug);
}

void vm_hotplug_end(struct vm *vm)
{
	for (unsigned int i = 0; i < PCI_SLOTS; i++)
		if (vm->devices[i].removed)
			answer(&vm->devices[i], "the machine has ended");
}

uint32_t vm_hotplug_slots(const struct vm *vm)
{
	uint32_t slots = 0;

	for (unsigned int i = 1; i < PCI_SLOTS; i++)
		if (!vm->devices[i].pci || vm->devices[i].kind != VM_DEVICE_FIXED)
			slots |= 1u << i;
	return vm->hotplug ? slots : 0;
}
